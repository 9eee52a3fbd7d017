"""`zdce live`."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from zdce.commands import options
from zdce.commands.group import PanelCommand
from zdce.enhancement import live as live_video
from zdce.enhancement.enhancer import Enhancer, load
from zdce.errors import InputError
from zdce.runtime import packages, signals
from zdce.settings import VIDEO_SCALE, EnhanceSettings

_PANELS = {
    "Source": ("input_format", "timeout"),
    "Brightness": (
        "model", "only_if_dark", "strength", "brightness", "shadows", "highlights", "noise", "smoothing", "transfer",
    ),
    "Where it is shown": ("host", "port", "names", "in_browser", "virtual_camera"),
    "Speed": ("scale", "precision", "device"),
}  # fmt: skip


@click.command(cls=PanelCommand, panels=_PANELS)
@click.argument("source")
@click.option("--input-format", help="FFmpeg input format with which to open SOURCE: v4l2, dshow, x11grab, ...")
@click.option(
    "--timeout", type=options.FiniteRange(min=0, min_open=True), default=10.0, help="Seconds without a frame before giving up."
)
@options.listening
@click.option("--virtual-camera", is_flag=True, help="Also send the result to a virtual camera (the extra `virtualcamera`).")
@options.model
@options.device
@options.settings("pixels", "frames", unset={"noise": "0", "scale": f"the network's own, but at least {VIDEO_SCALE}"})
@click.option("--json", "as_json", is_flag=True, help="Print frame counts and latency as JSON at the end.")
def live(
    source: str, input_format: str | None, timeout: float, host: str, port: int, names: tuple[str, ...], in_browser: bool,
    virtual_camera: bool, model: str, device: str, settings: EnhanceSettings, as_json: bool,
) -> None:  # fmt: skip
    """Brighten live video from a camera (0, /dev/video0), an address (rtsp://, http://) or a file played in real time.

    A page at --host and --port shows the result. Other programs can read the streams /after.mjpg and /before.mjpg, and the
    newest frame at /after.jpg. When frames arrive faster than they can be enhanced, only the newest is enhanced and the others
    are dropped. --only-if-dark shows lit scenes as they are; it switches when light or darkness has lasted for a second. The
    curve is estimated on an image 12 times smaller unless --scale is given, and noise is smoothed only if --noise is given.
    Ctrl-C ends the command.
    """
    packages.require("fastapi", "uvicorn", extra="serve")
    reading = live_video.reading()
    found = reading.Source.of(source, input_format)
    network = load(model, device)
    enhancer = Enhancer(network, live_video.settings_for(network.variant, settings))
    with (
        signals.stop_requested() as stop,
        reading.LiveReader(found, timeout) as reader,
        _virtual(virtual_camera, reader) as sent,
    ):
        meter = _shown(reader, enhancer, stop, sent, host, port, names, in_browser, as_json)
    _tell(meter, as_json)


def _shown(
    reader: Any, enhancer: Enhancer, stop: threading.Event, sent: "_Sink", host: str, port: int, names: tuple[str, ...],
    in_browser: bool, as_json: bool,
) -> live_video.Meter:  # fmt: skip
    """Serves the page while frames arrive; returns their counts and latencies."""
    from zdce.serving import live as live_serving
    from zdce.serving import server

    views = live_serving.Views()

    def show(shown: live_video.EnhancedFrame) -> None:
        views.show(shown)
        sent(shown)
        if views.meter.shown == 1:  # Before the first frame there is nothing to see.
            click.echo(f"{address} (Ctrl-C ends it)", err=as_json)
            if in_browser:
                click.launch(address)

    with server.listen(host, port) as listening:
        address = server.address(listening)
        options.warn_of_visitors(host)
        with server.in_background(live_serving.application(views, (*names, host)), listening):
            try:
                return live_video.run(reader, enhancer, show, stop, views.meter)
            finally:
                views.close()


_Sink = Callable[[live_video.EnhancedFrame], object]


@contextmanager
def _virtual(wanted: bool, reader: Any) -> Iterator[_Sink]:
    """A function that sends frames to a virtual camera, which starts with the first one; without ``wanted`` it does nothing.

    Raises:
        ValueError: pyvirtualcam is missing; or, from the function, the system has no virtual camera.
    """
    if not wanted:
        yield lambda shown: None
        return
    packages.require("pyvirtualcam", extra="virtualcamera")
    import pyvirtualcam

    cameras: list[Any] = []

    def send(shown: live_video.EnhancedFrame) -> None:
        height, width = shown.after.shape[:2]
        if not cameras:
            try:
                cameras.append(pyvirtualcam.Camera(width, height, reader.rate))
            except RuntimeError as error:
                raise InputError(f"--virtual-camera: {' '.join(str(error).split())}") from None
            click.echo(f"virtual camera: {cameras[0].device}", err=True)
        cameras[0].send(shown.after)

    try:
        yield send
    finally:
        for camera in cameras:
            camera.close()


def _tell(meter: live_video.Meter, as_json: bool) -> None:
    summary = meter.summary()
    if as_json:
        click.echo(json.dumps(summary))
    elif meter.shown:
        click.echo(
            f"{meter.shown} frames, {meter.dropped} dropped; latency {summary['latency_ms']} ms, 95 % within"
            f" {summary['latency_p95_ms']} ms"
        )
