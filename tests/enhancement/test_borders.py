"""Letterbox bars and the paper around scans have no effect on the curve and stay as they are; night skies are not borders."""

import io

import numpy as np
import pytest
from PIL import Image

import zdce
from zdce.enhancement import borders, colour, video
from zdce.io import images

HEIGHT, WIDTH = 200, 300


def scene(height=HEIGHT, width=WIDTH, dark=8.0, light=60.0):
    """A dark gradient with noise (H, W, 3)."""
    noise = np.random.default_rng(0).normal(0, 2, (height, width, 3))
    return (np.linspace(dark, light, width)[None, :, None] + noise).clip(0, 255).astype(np.uint8)


def framed(inner, top, bottom, left, right, level, grain=0.0):
    shape = (inner.shape[0] + top + bottom, inner.shape[1] + left + right, 3)
    whole = (level + np.random.default_rng(1).normal(0, grain, shape)).clip(0, 255).astype(inner.dtype)
    whole[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
    return whole


def jpeg(pixels, quality=75):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


LETTERBOX, PILLARBOX, SCAN = (40, 40, 0, 0), (0, 0, 50, 50), (12, 30, 20, 9)
BORDERS = [
    (LETTERBOX, 0, 0.0), (LETTERBOX, 16, 0.0), (LETTERBOX, 16, 1.0), (PILLARBOX, 0, 0.0), (PILLARBOX, 17, 0.6),
    ((40, 41, 0, 0), 16, 0.0), ((30, 30, 25, 25), 2, 0.5), (SCAN, 255, 0.0), (SCAN, 246, 3.0), ((20, 20, 0, 0), 128, 0.5),
]  # fmt: skip


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize(("sides", "level", "grain"), BORDERS)
def test_a_border_is_found_to_the_pixel(sides, level, grain, dtype):
    top, _, left, _ = sides
    whole = framed(scene(), *sides, level, grain)
    pixels = whole if dtype == np.uint8 else whole.astype(np.uint16) * 257 if dtype == np.uint16 else np.float32(whole / 255)
    assert borders.content(pixels) == (slice(top, top + HEIGHT), slice(left, left + WIDTH))


@pytest.mark.parametrize("quality", [50, 75, 95])
@pytest.mark.parametrize(("sides", "level", "grain"), BORDERS)
def test_a_border_is_found_in_jpeg(sides, level, grain, quality):
    """Blocks of 8 or 16 pixels that the edge cuts are noisy, and count as content."""
    rows, columns = borders.content(jpeg(framed(scene(), *sides, level, grain), quality))
    top, _, left, _ = sides
    for found, start, size in ((rows, top, HEIGHT), (columns, left, WIDTH)):
        assert start - 16 <= found.start <= start
        assert start + size <= found.stop <= start + size + 16


@pytest.mark.parametrize("name", ["local", "adaptive"])
@pytest.mark.parametrize(("sides", "level", "grain"), BORDERS)
def test_within_a_border_a_picture_is_enhanced_as_without(name, sides, level, grain, tmp_path):
    inner = scene()
    whole = framed(inner, *sides, level, grain)
    top, _, left, _ = sides
    inside = (slice(top, top + HEIGHT), slice(left, left + WIDTH))
    expected = zdce.enhance(inner, name)
    assert expected.mean() > 1.5 * inner.mean()
    Image.fromarray(whole).save(tmp_path / "a.png")
    for result in (zdce.enhance(whole, name), np.asarray(zdce.enhance(tmp_path / "a.png", name))):
        assert np.array_equal(result[inside], expected)
        outside = np.ones(whole.shape[:2], bool)
        outside[inside] = False
        assert np.array_equal(result[outside], whole[outside])


@pytest.mark.parametrize(("sides", "level"), [(LETTERBOX, 16), (SCAN, 250)])
def test_a_border_does_not_make_a_picture_dark_or_lit(sides, level, tmp_path):
    for name, inner in (("dark", scene()), ("lit", scene(dark=90, light=200))):
        Image.fromarray(framed(inner, *sides, level)).save(tmp_path / f"{name}.png")
        picture = images.read(tmp_path / f"{name}.png")
        assert colour.is_dark(picture, zdce.EnhanceSettings()) == (name == "dark")


def test_opacity_and_a_border_together():
    inner = scene()
    whole, alpha = framed(inner, *LETTERBOX, 16), np.full((HEIGHT + 80, WIDTH, 1), 255, np.uint8)
    alpha[40:140, :80] = 0
    result = zdce.enhance(np.dstack([whole, alpha]))
    expected = zdce.enhance(np.dstack([inner, alpha[40:-40]]))
    assert np.array_equal(result[40:-40], expected)
    assert np.array_equal(result[:40, :, :3], whole[:40])


def night_sky():
    """Black above, a skyline, and windows."""
    random = np.random.default_rng(2)
    pixels = random.integers(0, 3, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    for left in range(0, WIDTH, 20):
        height = 60 + int(random.integers(0, 50))
        pixels[-height:, left : left + 20] = 14
        pixels[-height + 5 : -5 : 9, left + 3 : left + 17 : 6] = 190
    return pixels


def starry():
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[np.random.default_rng(3).random((HEIGHT, WIDTH)) < 0.01] = 150
    return pixels


def sea():
    """A straight horizon under a black sky."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[HEIGHT // 2 :] = scene(HEIGHT // 2)
    return pixels


def stage():
    """A lit stage in the dark, soft all around."""
    y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    return np.repeat((200 * np.exp(-6 * (x**2 + y**2)))[..., None], 3, 2).astype(np.uint8)


def moon():
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    pixels[(y - 100) ** 2 + (x - 150) ** 2 < 20**2] = 230
    return pixels


def window():
    """White at the top, where a window is, dark below."""
    pixels = scene()
    pixels[:60] = 255
    return pixels


@pytest.mark.parametrize(
    "picture", [night_sky, starry, sea, stage, moon, window, scene, lambda: np.full((HEIGHT, WIDTH, 3), 9, np.uint8)]
)
def test_ordinary_pictures_have_no_border(picture):
    for pixels in (picture(), picture().swapaxes(0, 1), picture()[::-1], jpeg(picture())):
        assert borders.content(pixels) is None


def test_no_photograph_of_the_data_sets_has_a_border(data_folder):
    paths = [*sorted((data_folder / "lol").rglob("*.*"))[::8], *sorted((data_folder / "dicm").iterdir())]
    paths += sorted((data_folder / "ladder").rglob("*.*"))[::8]
    found = [path.name for path in paths if borders.content(np.asarray(Image.open(path).convert("RGB")))]
    assert len(paths) > 90
    assert found == []


def test_a_films_border_is_what_no_frame_showed_anything_in():
    border, bars = borders.FilmBorder(), (slice(40, 40 + HEIGHT), slice(0, WIDTH))
    black = np.full((HEIGHT + 80, WIDTH, 3), 16, np.uint8)
    assert border(black) is None
    assert border(framed(scene(), *LETTERBOX, 16, 1.0)) == bars
    assert border(black) == bars  # a fade
    half = framed(scene(), *LETTERBOX, 16)
    half[40:90] = 16  # a frame that is black above
    assert border(half) == bars
    titled = framed(scene(), *LETTERBOX, 16)
    titled[-30:-20, 100:200] = 200
    assert border(titled) == (slice(0, HEIGHT + 80), slice(0, WIDTH))
    assert border(framed(scene(), *LETTERBOX, 16)) == (slice(0, HEIGHT + 80), slice(0, WIDTH))


def test_noise_at_an_edge_moves_it_once():
    border, moves = borders.FilmBorder(), []
    for lines in (0, 1, 2, 3, 5):
        frame = framed(scene(), *LETTERBOX, 16)
        frame[40 - lines : 40, :100] = 40
        moves.append(border(frame)[0])
    assert moves == [slice(40, 240), *[slice(40 - 1 - 16, 240)] * 4]


def test_a_letterboxed_film_is_enhanced_as_without_bars(tmp_path):
    av = pytest.importorskip("av", reason="videos need PyAV: pip install 'zdce[video]'")
    inner = scene(192, 288)
    for name, pixels in (("in", inner), ("framed", framed(inner, 48, 48, 0, 0, 16))):
        with av.open(str(tmp_path / f"{name}.mkv"), "w") as file:
            film = file.add_stream("ffv1", rate=25, width=288, height=pixels.shape[0], pix_fmt="bgr0")
            for i in range(4):
                moved = pixels.copy()
                moved[-192 - (48 if name == "framed" else 0) :][:192] = np.roll(inner, i, axis=1)
                file.mux(film.encode(av.VideoFrame.from_ndarray(moved, "rgb24")))
            file.mux(film.encode(None))
        enhancer = zdce.Enhancer(zdce.load("local"), crf=0)
        report = video.enhance(tmp_path / f"{name}.mkv", tmp_path / f"{name}-out.mkv", enhancer)
        assert report.frames == 4

    def decoded(name):
        with av.open(str(tmp_path / name)) as file:
            return [frame.to_ndarray(format="rgb24").astype(float) for frame in file.decode(video=0)]

    for alone, inside, before in zip(decoded("in-out.mkv"), decoded("framed-out.mkv"), decoded("framed.mkv"), strict=True):
        assert alone.mean() > 1.5 * before[48:-48].mean()
        assert np.abs(inside[50:-50] - alone[2:-2]).mean() < 0.5  # 4:2:0 shares chroma across the edge
        assert np.abs(inside[:46] - before[:46]).max() <= 2
        assert np.abs(inside[-46:] - before[-46:]).max() <= 2
