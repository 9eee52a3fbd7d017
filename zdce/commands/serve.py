"""`zdce serve`."""

import click

from zdce.commands import options
from zdce.models import weights
from zdce.runtime import packages
from zdce.serving.limits import MEGABYTE, MEGAPIXEL, Limits


@click.command()
@options.models("Network to offer", note="  [default: all]")
@options.listening
@click.option(
    "--most-megabytes", type=click.IntRange(min=1), default=Limits.file // MEGABYTE, help="Largest upload, in megabytes."
)
@click.option(
    "--most-megapixels", type=click.IntRange(min=1), default=Limits.pixels // MEGAPIXEL, help="Largest picture, in megapixels."
)
@click.option(
    "--most-pictures", type=click.IntRange(min=1), default=Limits.pictures, help="Most previews in memory, of all visitors."
)
@click.option(
    "--memory", type=click.IntRange(min=256), default=Limits.memory // MEGABYTE, help="Memory for previews, in megabytes."
)
@click.option(
    "--keep",
    type=options.FiniteRange(min=0.1),
    default=Limits.idle / 60,
    help="Minutes after which unused previews are deleted.",
)
@click.option("--workers", type=click.IntRange(min=1), default=Limits.workers, help="Number of pictures to work on at once.")
@click.option(
    "--queue", type=click.IntRange(min=0), default=Limits.queue, help="Most requests that wait; others are answered 503."
)
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
    """Serve a page to brighten photographs on (drop, compare, download), and an HTTP interface for programs (docs/serve.md).

    Pictures stay in memory and are never written to disk. Ctrl-C ends the server after it has answered open requests.
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
