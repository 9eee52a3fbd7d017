"""`zdce serve`."""

import click

from zdce.commands import options
from zdce.models import weights
from zdce.runtime import packages
from zdce.serving.limits import MEGABYTE, MEGAPIXEL, Limits


@click.command()
@click.option(
    "--model",
    "-m",
    "models",
    multiple=True,
    help="A network that `zdce variants` lists with weights, or a .safetensors file; may be repeated.  [default: all]",
)
@options.listening
@click.option("--most-megabytes", type=click.IntRange(min=1), default=Limits.file // MEGABYTE, help="Of an upload.")
@click.option("--most-megapixels", type=click.IntRange(min=1), default=Limits.pixels // MEGAPIXEL, help="Of a picture.")
@click.option("--most-pictures", type=click.IntRange(min=1), default=Limits.pictures, help="Held at once, of all visitors.")
@click.option("--memory", type=click.IntRange(min=256), default=Limits.memory // MEGABYTE, help="Megabytes for previews.")
@click.option("--keep", type=click.FloatRange(min=0.1), default=Limits.idle / 60, help="Minutes that unused previews are held.")
@click.option("--workers", type=click.IntRange(min=1), default=Limits.workers, help="Pictures that are worked on at once.")
@click.option("--queue", type=click.IntRange(min=0), default=Limits.queue, help="Requests that wait; more get status 503.")
@options.device
def serve(
    models: tuple[str, ...],
    host: str,
    port: int,
    names: tuple[str, ...],
    in_browser: bool,
    most_megabytes: int,
    most_megapixels: int,
    most_pictures: int,
    memory: int,
    keep: float,
    workers: int,
    queue: int,
    device: str,
) -> None:
    """A page to try networks on: drop photographs, compare, download. Also an interface for programs (docs/serve.md).

    Pictures stay in memory and are never written to disk. Ctrl-C ends it, after the answers that are due.
    """
    packages.require("fastapi", "uvicorn", extra="serve")
    from zdce.serving import networks, server

    limits = Limits(
        most_megabytes * MEGABYTE, most_megapixels * MEGAPIXEL, most_pictures, memory * MEGABYTE, 60 * keep, workers, queue
    )
    offered = networks.Networks(models or sorted(weights.names(), key=weights.DEFAULT.__ne__), device)
    with server.listen(host, port) as listening:
        address = server.address(listening)
        options.warn_of_visitors(host)

        def ready() -> None:
            click.echo(f"{address} (Ctrl-C ends it)")
            if in_browser:
                click.launch(address)

        server.serve(server.server(offered, limits, (*names, host), ready), listening)
