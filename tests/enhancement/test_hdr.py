"""HDR frames converted by tables: equal to the formulas; unchanged pixels and highlights are returned bit for bit."""

import numpy as np
import pytest

from zdce.enhancement import encodings, hdr
from zdce.io import colour_spaces
from zdce.io.colour_tags import ColourTags

PQ, HLG, BT709, BT2020 = 16, 18, 1, 9


def space(transfer, primaries=BT2020):
    return ColourTags((primaries, transfer, 0, 1)).space(has_profile=False)


def frame(dtype):
    """All codes in grey, and colours of all kinds, out of sRGB's too."""
    most = np.iinfo(dtype).max
    grey = np.linspace(0, most, 65536).astype(dtype).reshape(256, 256, 1).repeat(3, 2)
    colours = np.random.default_rng(0).integers(0, most, (100, 256, 3), endpoint=True).astype(dtype)
    return np.concatenate([grey, colours])


def brighter(shown):
    return np.rint(65535 * (shown / 65535) ** 0.6).astype(np.uint16)


@pytest.mark.parametrize("primaries", [BT2020, BT709])
@pytest.mark.parametrize("transfer", [PQ, HLG])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_what_is_not_changed_stays_to_the_last_bit(transfer, primaries, dtype):
    pixels = frame(dtype)
    assert np.array_equal(hdr.FrameConverter(space(transfer, primaries), np.dtype(dtype)).through(pixels, np.copy), pixels)


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_tables_give_what_the_formulas_give(transfer):
    pixels = frame(np.uint16)[:256]
    exact = encodings.Encoding(*colour_spaces.functions(space(transfer), pixels.dtype))
    expected = encodings.through(exact, pixels, brighter).astype(int)
    found = hdr.FrameConverter(space(transfer), pixels.dtype).through(pixels, brighter).astype(int)
    # Near black half a code of sRGB in 16 bits is more codes of PQ; 64 are one of 10 bits.
    assert np.abs(found - expected).max() < 64
    assert np.abs(found - expected)[30:].max() <= 8
    white = pixels[..., 0] >= (0.582 if transfer == PQ else 0.751) * 65535
    assert white.mean() > 0.2
    assert np.abs(found - pixels)[white].max() <= 8
    assert (found - pixels)[30:100].min() > 500


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_the_network_sees_srgb(transfer):
    seen = []
    pixels = frame(np.uint16)[:256]
    hdr.FrameConverter(space(transfer), pixels.dtype).through(pixels, lambda shown: seen.append(shown) or shown)
    exact = encodings.Encoding(*colour_spaces.functions(space(transfer), pixels.dtype))
    assert np.abs(seen[0].astype(int) - encodings.srgb(exact, pixels)).max() <= 12  # 0.05 levels of 255
