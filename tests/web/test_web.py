"""The engine for browsers and its page, built by web/build, in Node and in Chromium."""

import base64
import functools
import hashlib
import http.server
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zdce
from zdce.bench import browser as browser_bench
from zdce.models import weights

core = pytest.importorskip("zdce._core")
ROOT = Path(__file__).parents[2]
ISOLATED = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}

# Settings and pictures from standard input; pictures are files of RGBA, and the results take their places.
NODE = """
import { readFileSync, writeFileSync } from "node:fs";
const { load } = await import(process.argv[1]);
const { network, settings, pictures } = JSON.parse(readFileSync(0));
const zdce = await load({ weights: network && readFileSync(network) });
for (const { path, width, height } of pictures) {
  writeFileSync(path, zdce.enhance({ data: new Uint8ClampedArray(readFileSync(path)), width, height }, settings).data);
}
console.log(JSON.stringify(zdce.settings));
"""


@pytest.fixture(scope="session")
def built():
    """The folder that web/build made."""
    folder = Path(os.environ.get("ZDCE_WEB") or ROOT / "zdce/serving/browser")
    if not (folder / "package.json").is_file():
        pytest.skip(f"web/build has not been run: there is no {folder}")
    places = [ROOT / "csrc/curve.h", *(ROOT / "csrc/core").rglob("*"), *(ROOT / "web").rglob("*")]
    names = sorted(path.relative_to(ROOT).as_posix() for path in places if path.is_file())
    digest = hashlib.sha256(b"".join((ROOT / name).read_bytes() for name in names)).hexdigest()
    if json.loads((folder / "package.json").read_text())["sources"] != digest:
        pytest.skip(f"{folder} was built from other sources: run web/build")
    return folder


@pytest.fixture(scope="session")
def node():
    return shutil.which("node") or pytest.skip("no Node on this machine")


def run(node, built, script, *arguments, given=None):
    """What the script prints."""
    command = [node, "--input-type=module", "-e", script, (built / "zdce.js").as_uri(), *arguments]
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def dark(height, width, seed=0):
    """A smooth dark picture with more noise than networks assume, (height, width, 3)."""
    random = np.random.default_rng(seed)
    small = random.integers(5, 60, (4, 6, 3), np.uint8)
    smooth = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    return (smooth + random.integers(-3, 4, smooth.shape)).clip(0, 255).astype(np.uint8)


def native(picture, name=weights.DEFAULT, **settings):
    """What `zdce enhance` makes of it."""
    return zdce.Enhancer(zdce.load(name), **settings)(picture)


def assert_same(got, expected):
    """Within a level: other instructions round other last bits."""
    assert got.shape == expected.shape
    off = np.abs(got.astype(int) - expected)
    assert off.max() <= 1
    assert off.mean() < 0.001


def png(picture):
    encoded = io.BytesIO()
    Image.fromarray(picture).save(encoded, "PNG")
    return encoded.getvalue()


@pytest.mark.parametrize("build", ["zdce-single", "zdce-threads"])
def test_a_module_with_its_weights_has_at_most_a_megabyte(built, build):
    files = [*built.glob(f"{build}.*"), built / "zdce.js", built / "zdce.safetensors"]
    assert len(files) >= 4
    assert sum(file.stat().st_size for file in files) <= 1 << 20


@pytest.mark.parametrize("name", ["local", "adaptive", "iters4", "zero-dce-pp"])
def test_results_are_the_native_ones_in_node(node, built, tmp_path, name):
    pictures, jobs = [dark(*size) for size in ((1, 1), (17, 31), (150, 331))], []
    settings = {"strength": 0.8}
    for i, picture in enumerate(pictures):
        opacity = np.random.default_rng(i).integers(0, 256, (*picture.shape[:2], 1), np.uint8)
        np.concatenate([picture, opacity], 2).tofile(tmp_path / str(i))
        jobs.append({"path": str(tmp_path / str(i)), "width": picture.shape[1], "height": picture.shape[0]})
    given = json.dumps({"network": str(weights.file(name)), "settings": settings, "pictures": jobs})
    own = json.loads(run(node, built, NODE, given=given))
    described = core.describe(core.read_network(weights.file(name).read_bytes(), False))
    for setting in ("brightness", "noise", "scale"):
        assert own[setting] == described[setting]
    for i, picture in enumerate(pictures):
        result = np.fromfile(tmp_path / str(i), np.uint8).reshape(*picture.shape[:2], 4)
        assert_same(result[..., :3], native(picture, name, **settings))
        assert np.array_equal(result[..., 3:], np.random.default_rng(i).integers(0, 256, (*picture.shape[:2], 1), np.uint8))
    assert result[..., :3].mean() > pictures[-1].mean() + 10


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("zdce.enhance({ data: new Uint8ClampedArray(7), width: 2, height: 1 })", "data must have 8 bytes, got 7"),
        ("zdce.enhance(picture, { noise: 300 })", "noise must be at least 0 and below 255"),
        ("zdce.enhance(picture, { scale: 0 })", "scale"),
        ("zdce.enhance(picture, { scale: 1.5 })", "scale must be a whole number, got 1.5"),
        ("zdce.enhance(picture, { gamma: 2 })", "shadows, highlights, grain, got gamma"),
        ("zdce.enhanceRows(30000, 20000, () => assert(false))", "The picture needs more memory than there is."),
        ("await load({ weights: new Uint8Array(100) })", "JSON ends too early"),
        ("WebAssembly.instantiate = async () => { throw new Error('no vectors'); }; await load()", "no vectors"),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_an_error_in_words_and_the_engine_goes_on(node, built, call, words):
    script = """
    const { load } = await import(process.argv[1]), zdce = await load();
    const picture = { data: new Uint8ClampedArray(40).fill(20), width: 5, height: 2 };
    try { %s; } catch (error) { console.log(error.message); }
    console.log(zdce.enhance(picture).data[0] > 20);
    """
    said, goes_on = run(node, built, script % call).splitlines()
    assert words in said
    assert goes_on == "true"


@contextmanager
def hosted(folder, headers):
    """A host of static files."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def end_headers(self):
            for name, value in headers.items():
                self.send_header(name, value)
            super().end_headers()

        def log_message(self, *_):
            pass

    with browser_bench.hosted(functools.partial(Handler, directory=str(folder))) as address:
        yield address


@contextmanager
def opened(browser, home, width=1280):
    """The page in a window; it must ask nobody else, and its console stay quiet."""
    with closing(browser.new_context(viewport={"width": width, "height": 900}, accept_downloads=True)) as context:
        shown, said = context.new_page(), []
        shown.on("console", lambda message: said.append(message.text))
        shown.on("pageerror", lambda error: said.append(str(error)))
        context.on("request", lambda asked: asked.url.startswith((home, "blob:", "data:")) or said.append(asked.url))
        shown.goto(home)
        yield shown
        assert said == []


def put(shown, name, data, kind="image/png"):
    shown.set_input_files("#file", [{"name": name, "mimeType": kind, "buffer": data}])
    shown.locator("#said:not(:text('Reading'))").wait_for()


def downloaded(shown):
    with shown.expect_download() as started:
        shown.click("#download")
    return started.value.suggested_filename, Path(started.value.path()).read_bytes()


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.mark.parametrize("headers", [{}, ISOLATED], ids=["one thread", "threads"])
def test_a_photograph_is_shown_and_saved_as_natively(browser, built, headers):
    picture = dark(700, 1500)
    with hosted(built, headers) as home, opened(browser, home) as shown:
        put(shown, "night.png", png(picture))
        assert shown.inner_text("#said") == "1.1 megapixels. The download is enhanced at full size."
        means = [
            shown.evaluate(
                """id => { const small = new OffscreenCanvas(8, 8).getContext('2d');
                small.drawImage(document.getElementById(id), 0, 0, 8, 8);
                return small.getImageData(0, 0, 8, 8).data.filter((_, i) => i % 4 < 3).reduce((a, b) => a + b) / 192; }""",
                which,
            )
            for which in ("before", "after")
        ]
        assert abs(means[0] - picture.mean()) < 2
        assert means[1] > means[0] + 20
        name, data = downloaded(shown)
        assert name == "night-bright.png"
        assert_same(pixels(data), native(picture))
        shown.fill("#strength", "0.5")
        assert_same(pixels(downloaded(shown)[1]), native(picture, strength=0.5))
        threads = shown.evaluate("async () => (await import('./zdce.js')).load().then((network) => network.threads)")
        cores = shown.evaluate("navigator.hardwareConcurrency")
        assert threads == (min(cores, 16) if headers else 1)


def test_the_code_of_the_page_about_browsers_runs(browser, built):
    (code,) = re.findall(r"```javascript\n(.*?)```", (ROOT / "docs" / "browser.md").read_text(), re.DOTALL)
    imports, _, lines = code.partition("\n")
    names = re.fullmatch(r'import ({.*}) from "(.*)";', imports)
    around = """async (base64) => {
        const { %s } = await import('%s'), width = 90, height = 60;
        const file = new Blob([Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0))], { type: 'image/png' });
        const context = new OffscreenCanvas(width, height).getContext('2d');
        context.drawImage(await createImageBitmap(file), 0, 0);
        %s
        return { settings: zdce.settings, bright: [...bright.data], saved: [...new Uint8Array(await blob.arrayBuffer())] };
    }"""
    picture = dark(60, 90)
    with hosted(built, {}) as home, opened(browser, home) as shown:
        given = base64.b64encode(png(picture)).decode()
        got = shown.evaluate(around % (names[1].strip("{} "), names[2], lines), given)
    assert set(got["settings"]) == {"strength", "brightness", "noise", "scale", "shadows", "highlights", "grain"}
    expected = native(picture, strength=0.8)
    assert_same(np.array(got["bright"], np.uint8).reshape(60, 90, 4)[..., :3], expected)
    # As a JPEG of quality 95.
    assert np.abs(pixels(bytes(got["saved"])).astype(int) - expected).mean() < 6


def test_where_no_memory_can_be_shared_one_thread_does_it(browser, built):
    with hosted(built, ISOLATED) as home, opened(browser, home) as shown:
        script = """async () => { const { Memory } = WebAssembly, { load } = await import('./zdce.js');
        WebAssembly.Memory = function (how) { if (how.shared) throw new RangeError('none'); return new Memory(how); };
        return (await load({ threads: 2 })).threads; }"""
        assert shown.evaluate(script) == 1


def test_the_page_works_without_a_network_and_has_threads_of_any_host_from_the_second_visit_on(browser, built):
    with hosted(built, {}) as home, opened(browser, home) as shown:
        assert not shown.evaluate("crossOriginIsolated")
        shown.evaluate("navigator.serviceWorker.ready.then(() => true)")
        shown.context.set_offline(True)
        put(shown, "night.png", png(dark(60, 90)))
        shown.locator("#stage").wait_for()
        shown.reload()
        assert shown.evaluate("crossOriginIsolated")
        put(shown, "night.png", png(dark(60, 90)))
        assert_same(pixels(downloaded(shown)[1]), native(dark(60, 90)))


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_a_phone_and_says_what_it_can_not_do(browser, built, width):
    with hosted(built, ISOLATED) as home, opened(browser, home, width) as shown:
        put(shown, "words.txt", b"no picture", "text/plain")
        assert "This browser can\u2019t read the file as a picture." in shown.inner_text("#said")
        lit = dark(60, 90) // 2 + 120
        put(shown, "day.png", png(lit))
        assert shown.inner_text("#said") == "It is well lit already, and stays as it is."
        assert np.array_equal(pixels(downloaded(shown)[1]), lit)
        assert shown.evaluate("document.documentElement.scrollWidth <= innerWidth")
        shown.locator("#split").press("Home")
        assert shown.evaluate("getComputedStyle(document.querySelector('#stage')).getPropertyValue('--x')") == "0%"


def test_the_last_picture_stays_where_the_next_can_not_be_read_and_one_too_large_is_told(browser, built):
    with hosted(built, ISOLATED) as home, opened(browser, home) as shown:
        put(shown, "night.png", png(dark(60, 90)))
        put(shown, "words.txt", b"no picture", "text/plain")
        assert "words.txt: " in shown.inner_text("#said")
        shown.fill("#strength", "0.5")
        shown.locator("#said", has_text="0.0 megapixels").wait_for()
        assert_same(pixels(downloaded(shown)[1]), native(dark(60, 90), strength=0.5))
        put(shown, "wide.png", png(dark(2, 70000)))
        assert shown.inner_text("#said") == "wide.png: The picture needs more memory than there is."


def test_a_camera_s_rotation_is_kept_in_the_pixels(browser, built):
    turned = Image.Exif()
    turned[0x0112] = 6
    encoded = io.BytesIO()
    Image.fromarray(dark(60, 90)).save(encoded, "JPEG", exif=turned)
    with hosted(built, {}) as home, opened(browser, home) as shown:
        put(shown, "night.jpg", encoded.getvalue(), "image/jpeg")
        name, data = downloaded(shown)
        assert name == "night-bright.jpg"
        assert pixels(data).shape == (90, 60, 3)


def bench(*arguments):
    command = [
        sys.executable,
        "-m",
        "zdce",
        "bench",
        "browser",
        "--json",
        "--size",
        "60x90",
        "--rounds",
        "2",
        *map(str, arguments),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_the_benchmark_measures_the_page_in_chromium(browser, built):
    done = bench("--folder", built, "--threads", "1,2")
    assert (done.returncode, done.stderr) == (0, "")
    rows = {(row["case"], row["threads"]): row for row in json.loads(done.stdout)}
    assert rows.keys() == {("load", None), *((case, threads) for case in ("picture", "file") for threads in (1, 2))}
    assert 0.1 < rows["load", None]["value"] < 1
    assert all(row["value"] > 0 and "Chromium" in row["version"] for row in rows.values() if row["case"] != "load")


def test_the_benchmark_says_what_is_not_there():
    done = bench("--folder", ROOT / "tests")
    assert done.returncode == 1
    missing = "web/build" if importlib.util.find_spec("playwright") else "pip install 'zdce[browser]'"
    assert missing in done.stderr.splitlines()[0]
