"""``zdce bench browser``: the engine for browsers beside onnxruntime-web, in Chromium."""

import functools
import http.server
import io
import json
import mimetypes
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zdce
from zdce.convert import exporting
from zdce.errors import InputError
from zdce.models import weights
from zdce.runtime import packages, system
from zdce.version import __version__

from .processes import Outcome
from .rows import Row
from .startup import photograph

SUITE = "browser"

# Default output of web/build.
FOLDER = Path(zdce.__file__).parent / "serving" / "browser"

# Largest mean difference of results, in levels of 255: the exported file rounds after smoothing noise, the engine also before.
_TOLERANCE = 0.5

# Script of a worker of the page. A round is one picture by each library; the first does not count.
_SCRIPT = """
import { load, PictureWorker } from "/zdce/zdce.js";

const colors = (rgba) => {
  const rgb = new Uint8Array((rgba.length / 4) * 3);
  copy(rgba, 4, rgb, 3);
  return rgb;
};

const copy = (from, pitch, to, step) => {
  for (let i = 0, j = 0; j < to.length; i += pitch, j += step) {
    to[j] = from[i];
    to[j + 1] = from[i + 1];
    to[j + 2] = from[i + 2];
  }
};

const onnxruntime = async (threads) => {
  const runtime = await import("/onnxruntime-web/dist/ort.wasm.min.mjs");
  runtime.env.wasm.numThreads = threads;
  const session = await runtime.InferenceSession.create("/network.onnx");
  return async ({ data, width, height }) => {
    const image = new runtime.Tensor("uint8", colors(data), [1, height, width, 3]);
    const { enhanced } = await session.run({ image }), result = new Uint8ClampedArray(data);
    copy(enhanced.data, 3, result, 4);
    return result;
  };
};

const measured = async ({ file, threads, rounds, peer }) => {
  const bitmap = await createImageBitmap(await (await fetch(file)).blob());
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const picture = context.getImageData(0, 0, bitmap.width, bitmap.height);
  const network = await load({ threads });
  const { noise } = network.settings; // what the exported file assumes
  const engines = { zdce: async (given) => network.enhance(given, { noise }).data };
  if (peer) engines["onnxruntime-web"] = await onnxruntime(threads);
  const times = {}, results = {}, notes = [];
  for (let round = 0; round <= rounds; ++round) {
    for (const name of Object.keys(engines)) {
      try {
        const began = performance.now();
        results[name] = await engines[name](picture);
        if (round) (times[name] ??= []).push(performance.now() - began);
      } catch (error) {
        notes.push(`${name} can't: ${error.message}`);
        delete engines[name];
      }
    }
  }
  if (!results.zdce) return { times, notes, mean: 0, most: 0 };
  let sum = 0, most = 0;
  const [one, other] = [results.zdce, results["onnxruntime-web"] ?? results.zdce];
  for (let i = 0; i < one.length; ++i) {
    const off = Math.abs(one[i] - other[i]);
    sum += off;
    most = Math.max(most, off);
  }
  return { times, notes, mean: sum / ((one.length / 4) * 3), most };
};

const files = async ({ file, threads, rounds }) => {
  const worker = new PictureWorker({ threads }), blob = await (await fetch(file)).blob(), times = [];
  await worker.open(blob);
  for (let round = 0; round <= rounds; ++round) {
    const { milliseconds } = await worker.save();
    if (round) times.push(milliseconds);
  }
  worker.terminate();
  return { times: { zdce: times }, notes: [], mean: 0, most: 0 };
};

// An error that is thrown, not a promise that is rejected, is what reaches the page.
self.onmessage = ({ data: [what, asked] }) =>
  (what === "file" ? files : measured)(asked).then(self.postMessage.bind(self), (error) => setTimeout(() => { throw error; }));
"""

_IN_WORKER = """(asked) => new Promise((resolve, reject) => {
  const worker = new Worker("/measure.js", { type: "module" });
  worker.onmessage = ({ data }) => { worker.terminate(); resolve(data); };
  worker.onerror = (event) => reject(new Error(event.message));
  worker.postMessage(asked);
})"""


@dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
        folder: what web/build has made.
        peer: the folder of npm's package onnxruntime-web; None to measure zdce alone.
        sizes: (height, width) of the pictures.
        threads: each number in turn.
        rounds: measurements of each.
    """

    folder: Path
    peer: Path | None
    sizes: Sequence[tuple[int, int]]
    threads: Sequence[int]
    rounds: int


class _Host(http.server.SimpleHTTPRequestHandler):
    """A server of files in memory and of folders, isolated so that threads can share memory."""

    def __init__(self, *arguments: Any, contents: Mapping[str, bytes], folders: Mapping[str, Path]) -> None:
        self._contents, self._folders = contents, folders
        super().__init__(*arguments)

    def do_GET(self) -> None:
        first, _, rest = self.path.lstrip("/").partition("/")
        path = self._folders[first] / rest if first in self._folders else None
        content = path.read_bytes() if path is not None and path.is_file() else self._contents.get(first)
        self.send_response(404 if content is None else 200)
        self.send_header("Content-Type", mimetypes.guess_type(self.path.replace(".mjs", ".js"))[0] or "text/html")
        self.send_header("Content-Length", str(len(content or b"")))
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
        """Logs nothing."""


@contextmanager
def hosted(handler: Callable[..., http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    """Address on this machine where threads answer requests by ``handler``, http.server's."""
    host = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=host.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{host.server_port}/"
    finally:
        host.shutdown()
        thread.join()
        host.server_close()


def _chromium() -> str:
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if not found:
        raise InputError("Chromium is not installed; CHROMIUM names it elsewhere than on PATH")
    return found


def _network() -> bytes:
    """The default network as `zdce export --uint8` writes it."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "network.onnx"
        exporting.export(zdce.load(weights.DEFAULT), path, exporting.ExportOptions("fp32", None, True))
        return path.read_bytes()


def _jpeg(height: int, width: int) -> bytes:
    encoded = io.BytesIO()
    photograph(height, width).save(encoded, "JPEG", quality=95)
    return encoded.getvalue()


def run(asked: Options) -> Outcome:
    """Measures pictures in memory, from RGBA to RGBA, by each library, and files, from JPEG to JPEG, by zdce's page.

    Raises:
        InputError: something that it needs is not there.
    """
    packages.require("playwright", extra="browser")
    from playwright.sync_api import sync_playwright

    for folder, file in ((asked.folder, "zdce.js"), (asked.peer, "package.json")):
        if folder is not None and not (folder / file).is_file():
            raise InputError(f"{folder} has no {file}: expected what web/build makes, and npm's package onnxruntime-web")
    contents = {f"{height}x{width}.jpg": _jpeg(height, width) for height, width in asked.sizes}
    contents |= {"measure.js": _SCRIPT.encode(), "": b"<!doctype html><title>zdce bench browser</title>"}
    folders, outcome = {"zdce": asked.folder}, Outcome()
    if asked.peer is not None:
        contents["network.onnx"], folders["onnxruntime-web"] = _network(), asked.peer
    outcome.rows += _sizes(asked, len(contents.get("network.onnx", b"")))
    handler = functools.partial(_Host, contents=contents, folders=folders)
    with hosted(handler) as home, sync_playwright() as api:
        chromium = api.chromium.launch(executable_path=_chromium(), args=["--no-sandbox"])
        page = chromium.new_page()
        page.set_default_timeout(0)
        page.goto(home)
        for height, width in asked.sizes:
            for threads in asked.threads:
                job = {
                    "file": f"/{height}x{width}.jpg",
                    "threads": threads,
                    "rounds": asked.rounds,
                    "peer": asked.peer is not None,
                }
                for case in ("picture", "file"):
                    found = page.evaluate(_IN_WORKER, [case, job])
                    _add(outcome, found, case, f"{height}x{width}", threads, _versions(asked, chromium.version))
        chromium.close()
    return outcome


def _add(outcome: Outcome, found: dict[str, Any], case: str, shape: str, threads: int, versions: Mapping[str, str]) -> None:
    outcome.notes += [f"{shape}, threads {threads}: {note}" for note in found["notes"]]
    if found["mean"] > _TOLERANCE:
        outcome.notes.append(f"{shape}, threads {threads}: results differ by {found['mean']:.2f} levels on average")
        outcome.wrong = True
        return
    for provider, times in found["times"].items():
        device = system.processor()
        outcome.rows.append(
            Row.of(SUITE, case, provider, "wasm", "time", "ms", times, shape, "uint8", threads, device, versions[provider])
        )


def _versions(asked: Options, chromium: str) -> dict[str, str]:
    versions = {"zdce": f"zdce {__version__}, Chromium {chromium}"}
    if asked.peer is not None:
        number = json.loads((asked.peer / "package.json").read_text())["version"]
        versions["onnxruntime-web"] = f"onnxruntime-web {number}, Chromium {chromium}"
    return versions


def _sizes(asked: Options, network: int) -> list[Row]:
    """Sizes of what each library loads: WebAssembly, scripts, and the network."""
    loaded = {"zdce": [*asked.folder.glob("zdce-single.*"), asked.folder / "zdce.js", asked.folder / "zdce.safetensors"]}
    if asked.peer is not None:
        names = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
        loaded["onnxruntime-web"] = [asked.peer / "dist" / name for name in names]
    totals = {name: sum(file.stat().st_size for file in files) for name, files in loaded.items()}
    if asked.peer is not None:
        totals["onnxruntime-web"] += network
    return [
        Row.of(SUITE, "load", name, "wasm", "size", "MiB", [total / 2**20], "", "", None, system.processor())
        for name, total in totals.items()
    ]


COLUMNS = ("case", "shape", "threads", "provider", "median", "20-80 %")


def table(rows: list[Row]) -> list[list[str]]:
    """A line for each row."""
    return [
        [
            row.case, row.shape, "" if row.threads is None else str(row.threads), row.provider,
            f"{row.value:.0f} ms" if row.unit == "ms" else f"{row.value:.2f} MiB",
            "" if row.p20 is None else f"{row.p20:.0f}-{row.p80:.0f}",
        ]
        for row in rows
    ]  # fmt: skip
