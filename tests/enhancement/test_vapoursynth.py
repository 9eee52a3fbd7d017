"""The filter for VapourSynth: formats of clips, and smoothing in any order of requests."""

import random
from types import SimpleNamespace

import numpy as np
import pytest

from zdce.enhancement import vapoursynth as filters
from zdce.enhancement import video
from zdce.enhancement.enhancer import Enhancer, load
from zdce.settings import EnhanceSettings

try:
    import vapoursynth as vs
except ImportError:
    vs = None

needs_vapoursynth = pytest.mark.skipif(vs is None, reason="the extra `vapoursynth` is not installed")

WIDTH, HEIGHT, FRAMES = 64, 48, 40


def frames():
    """A dark scene that trembles, (HEIGHT, WIDTH, 3) each."""
    scene = np.random.default_rng(0).integers(5, 50, (HEIGHT // 8, WIDTH // 8, 3)).repeat(8, 0).repeat(8, 1)
    return [np.clip(scene * (1 + 0.1 * np.sin(i)), 0, 255).astype(np.uint8) for i in range(FRAMES)]


def clip(kind=None, **options):
    """The scene as a clip of 25 frames a second."""
    pictures = frames()

    def fill(n, f):
        made = f.copy()
        for plane in range(3):
            np.asarray(made[plane])[:] = pictures[n][:, :, plane]
        return made

    blank = vs.core.std.BlankClip(width=WIDTH, height=HEIGHT, format=vs.RGB24, length=FRAMES, fpsnum=25, fpsden=1, keep=True)
    filled = blank.std.ModifyFrame(blank, fill)
    return filled if kind is None else filled.resize.Bicubic(format=kind, **options)


def array(frame):
    return np.stack([np.asarray(frame[plane]) for plane in range(frame.format.num_planes)], axis=2)


class Frame(list):
    """A frame as the filter sees one, without VapourSynth: three planes."""

    props = {}  # noqa: RUF012

    def copy(self):
        return Frame(plane.copy() for plane in self)


def test_a_jump_back_over_all_that_is_held_finds_its_frame():
    network = load("local")
    called = filters._Filter(Enhancer(network, EnhanceSettings(noise=0, scale=12)), rate=25)
    pictures = [Frame(np.full((3, 8, 8), 10 + n % 40, np.uint8)) for n in range(200)]
    for n in (*range(200), 10):
        shown = called(n, [pictures[max(0, n - k)] for k in range(filters._BEFORE + 1)])
    assert np.mean(shown) > 2 * np.mean(pictures[10])
    assert len(called._maps) == filters._HELD


@pytest.fixture(scope="module")
def expected():
    """What a video's frames become."""
    network = load("local")
    enhanced = video.FrameEnhancer(Enhancer(network, video.settings_for(network.variant, EnhanceSettings(noise=0))), None)
    return [enhanced(pixels, i / 25) for i, pixels in enumerate(frames())]


@needs_vapoursynth
def test_frames_read_in_order_are_those_of_a_video(expected):
    found = [array(frame) for frame in filters.enhance(clip(), noise=0).frames()]
    assert np.array_equal(found, expected)


@needs_vapoursynth
def test_threads_that_ask_in_any_order_get_the_same(expected):
    node = filters.enhance(clip(), noise=0)
    first = array(node.get_frame(0))
    order = list(range(1, FRAMES))
    for start in range(0, len(order), 12):  # as far apart as threads are
        part = order[start : start + 12]
        random.Random(start).shuffle(part)
        order[start : start + 12] = part
    asked = {n: node.get_frame_async(n) for n in order}
    found = [first, *(array(asked[n].result()) for n in range(1, FRAMES))]
    assert np.array_equal(found, expected)
    assert np.array_equal(array(node.get_frame(20)), expected[20])  # again, from what is held


@needs_vapoursynth
def test_a_jump_begins_the_smoothing_before_it(expected):
    far = array(filters.enhance(clip(), noise=0).get_frame(FRAMES - 1))
    assert np.abs(far.astype(int) - expected[-1]).max() <= 3


@needs_vapoursynth
@pytest.mark.parametrize("kind", ["YUV420P8", "YUV444P10", "YUV422P16", "RGB48", "RGBS", "GRAY8", "YUV444PS"])
def test_every_format_comes_back_as_it_was(kind, expected):
    yuv = kind[0] in "YG"
    given = clip(getattr(vs, kind), **({"matrix": vs.MATRIX_BT709} if yuv else {}))
    node = filters.enhance(given, noise=0)
    assert (node.format.id, node.width, node.height, len(node), node.fps) == (
        given.format.id, WIDTH, HEIGHT, FRAMES, given.fps,
    )  # fmt: skip
    frame = node.get_frame(3)
    if kind != "GRAY8":
        back = node.resize.Bicubic(format=vs.RGB24, **({"matrix_in": vs.MATRIX_BT709} if yuv else {})).get_frame(3)
        # Subsampled, the colours of neighbouring blocks mix.
        assert np.abs(array(back).astype(int) - expected[3]).mean() < (8 if kind in ("YUV420P8", "YUV422P16") else 3)
    if yuv:
        assert frame.props["_Matrix"] == vs.MATRIX_BT709
    assert frame.props["_DurationDen"] == 25


@needs_vapoursynth
@pytest.mark.parametrize("full", [True, False])
def test_range_and_chroma_location_come_back(full):
    options = {"matrix": vs.MATRIX_BT709, "range_s": "full" if full else "limited", "chromaloc": vs.CHROMA_TOP_LEFT}
    given = clip(vs.YUV420P8, **options)
    frame, before = filters.enhance(given, strength=0.0, noise=0).get_frame(3), given.get_frame(3)
    assert {"_Range", "_ColorRange"} & {*before.props}
    for name in {"_Range", "_ColorRange", "_ChromaLocation"} & {*before.props}:
        assert frame.props[name] == before.props[name]
    # Luma alone: subsampled colours of neighbouring blocks mix.
    assert np.abs(np.asarray(frame[0]).astype(int) - np.asarray(before[0])).mean() < 2


def test_the_range_is_known_by_its_former_name_too():
    def told(**props):
        frame = SimpleNamespace(props=props)
        clip = SimpleNamespace(format=SimpleNamespace(color_family="YUV"), height=48, get_frame=lambda n: frame)
        return filters._colours(clip, SimpleNamespace(RGB="RGB")).get("range_s")

    assert (told(_Range=1), told(_Range=0)) == ("full", "limited")
    assert (told(_ColorRange=0), told(_ColorRange=1)) == ("full", "limited")
    assert told() is None


@needs_vapoursynth
def test_strength_is_a_parameter_and_mistakes_say_what_was_expected():
    assert np.array_equal(array(filters.enhance(clip(), strength=0.0, noise=0).get_frame(5)), frames()[5])
    weak, strong = (array(filters.enhance(clip(), strength=s).get_frame(5)).mean() for s in (0.5, 1.0))
    assert frames()[5].mean() < weak < strong
    with pytest.raises(ValueError, match="strength must be a finite number"):
        filters.enhance(clip(), strength=float("nan"))
    with pytest.raises(ValueError, match="constant format"):
        filters.enhance(vs.core.std.Splice([clip(), clip()[:5].resize.Bicubic(width=32)], mismatch=True))


@needs_vapoursynth
def test_one_frame_is_a_clip_too(expected):
    assert np.array_equal(array(filters.enhance(clip()[:1], noise=0).get_frame(0)), expected[0])
