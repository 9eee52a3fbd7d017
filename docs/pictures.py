"""Makes the pictures of the pages in use from docs/dark.jpg and docs/examples: `python docs/pictures.py [NAME...]`.

It takes Chromium with Playwright, the extras `serve` and `video`, `web/build` before, and for `gimp` GIMP 2.10 and Xvfb.
"""

import ast
import contextlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image, ImageGrab

DOCS = Path(__file__).parent

# Upper bound of a picture's size in bytes.
MOST = 60_000

# Windows of the size in which pages are shown.
WINDOW = {"width": 900, "height": 620}

RATE = 15


def save(picture: Image.Image, name: str) -> None:
    """Writes a JPEG in the highest quality that is small enough."""
    for quality in range(88, 30, -4):
        content = io.BytesIO()
        picture.convert("RGB").save(content, "JPEG", quality=quality, optimize=True)
        if content.tell() <= MOST:
            break
    (DOCS / f"{name}.jpg").write_bytes(content.getvalue())


def dark(example: str) -> Image.Image:
    """The left half of an example: before."""
    pair = Image.open(DOCS / "examples" / f"{example}.jpg")
    return pair.crop((0, 0, pair.width // 2, pair.height))


def film(path: Path, frames: int) -> None:
    """A camera that moves over the dark room, as H.264."""
    room = dark("indoor")
    wide, high = room.width // 2 * 2, 224
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "12"})
        stream.width, stream.height, stream.pix_fmt = wide, high, "yuv420p"
        for frame in range(frames):
            top = round((room.height - high) * frame / (frames - 1))
            pixels = np.asarray(room.crop((0, top, wide, top + high)))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        container.mux(stream.encode())


@contextmanager
def running(*arguments: str) -> Iterator[str]:
    """Address that a command of zdce prints, which runs meanwhile."""
    process = subprocess.Popen(
        [sys.executable, "-m", "zdce", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.search(r"http://127\.0\.0\.1:\d+/", line):
                yield found[0]
                return
        raise RuntimeError(f"zdce {arguments[0]} said no address")
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


@contextmanager
def page(address: str) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        shown = browser.new_page(viewport=WINDOW)
        shown.goto(address, wait_until="commit")  # a page of live video is never wholly loaded
        yield shown
        browser.close()


def photographed(shown: Any, name: str) -> None:
    save(Image.open(io.BytesIO(shown.screenshot())), name)


def files(*names: str) -> list[dict[str, Any]]:
    pictures = [(name, Image.open(DOCS / "dark.jpg") if name == "rocket" else dark(name)) for name in names]
    found = []
    for name, picture in pictures:
        content = io.BytesIO()
        picture.save(content, "PNG")
        found.append({"name": f"{name}.png", "mimeType": "image/png", "buffer": content.getvalue()})
    return found


def serve() -> None:
    with running("serve", "--port", "0") as address, page(address) as shown:
        given = files("indoor", "rocket", "backlit", "dusk")
        shown.locator("#model option").first.wait_for(state="attached")
        shown.set_input_files("#files", given)
        shown.locator("#film li.ready").nth(len(given) - 1).wait_for()
        shown.locator("#veil").wait_for(state="hidden")
        photographed(shown, "serve")


def browser() -> None:
    with running("serve", "--port", "0") as address, page(f"{address}browser/") as shown:
        shown.set_input_files("#file", files("backlit"))
        shown.locator("#said", has_text="megapixels").wait_for()
        photographed(shown, "browser")


def live() -> None:
    with tempfile.TemporaryDirectory() as folder:
        film(Path(folder) / "room.mp4", frames=60 * RATE)
        with running("live", f"{folder}/room.mp4", "--port", "0") as address, page(address) as shown:
            shown.get_by_label("Compare").check()
            shown.wait_for_function("[...document.images].every(image => image.naturalWidth)")
            time.sleep(4)
            photographed(shown, "live")


def video() -> None:
    """Three frames of a film above the same of its result."""
    from zdce.cli import main

    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "room.mp4", Path(folder) / "bright.mp4"
        film(before, frames=6 * RATE)
        main(["enhance", str(before), "-o", str(after)], standalone_mode=False)
        rows = []
        for path in (before, after):
            with av.open(str(path)) as container:
                frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
            rows.append(np.concatenate([frames[0], frames[len(frames) // 2], frames[-1]], axis=1))
    save(Image.fromarray(np.concatenate(rows)), "video")


def notebook() -> None:
    """What the notebook's third cell shows."""
    cells = json.loads((DOCS / "notebook.ipynb").read_text(encoding="utf-8"))["cells"]
    names: dict[str, Any] = {}
    with contextlib.chdir(DOCS):
        for cell in [cell for cell in cells if cell["cell_type"] == "code"][:3]:
            *statements, shown = ast.parse("".join(cell["source"])).body
            exec(compile(ast.Module(statements, []), "notebook", "exec"), names)
            assert isinstance(shown, ast.Expr)
            value = eval(compile(ast.Expression(shown.value), "notebook", "eval"), names)
    save(value, "notebook")


def gimp() -> None:
    """GIMP 2.10 with the layer that its plug-in adds."""
    with tempfile.TemporaryDirectory() as name:
        folder, display = Path(name), ":77"
        (folder / "profile" / "plug-ins").mkdir(parents=True)
        shutil.copy(DOCS.parent / "integrations" / "gimp-2.10" / "zdce_layer.py", folder / "profile" / "plug-ins")
        (folder / "zdce").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m zdce "$@"\n')
        (folder / "zdce").chmod(0o755)
        dark("backlit").save(folder / "dandelion.png")
        session = Path("/etc/gimp/2.0/sessionrc").read_text()
        place = '(factory-entry "gimp-single-image-window")\n    (position 0 0)\n    (size 1000 700)'
        session = re.sub(r'\(factory-entry "gimp-single-image-window"\)(\s*\((position|size)[^)]*\))*', place, session)
        (folder / "profile" / "sessionrc").write_text(session)
        own = {"HOME": name, "GIMP2_DIRECTORY": f"{name}/profile", "ZDCE": f"{name}/zdce", "DISPLAY": display}
        brighten = """(let* ((image (car (gimp-file-load RUN-NONINTERACTIVE "dandelion.png" "dandelion.png"))))
            (plug-in-zdce-enhance RUN-NONINTERACTIVE image (car (gimp-image-get-active-layer image)) "")
            (gimp-display-new image))"""
        screen = subprocess.Popen(["Xvfb", display, "-screen", "0", "1000x700x24"], stderr=subprocess.DEVNULL)
        time.sleep(2)
        program = subprocess.Popen(["gimp", "-n", "-s", "-b", brighten], cwd=folder, env=os.environ | own)
        try:
            time.sleep(float(os.environ.get("SECONDS_FOR_GIMP", "90")))
            save(ImageGrab.grab(xdisplay=display), "gimp")
        finally:
            for process in (program, screen):
                process.terminate()
                process.wait(30)


PICTURES: dict[str, Callable[[], None]] = {
    function.__name__: function for function in (browser, gimp, live, notebook, serve, video)
}

if __name__ == "__main__":
    for chosen in sys.argv[1:] or PICTURES:
        PICTURES[chosen]()
