"""Colour tags other than profiles are used like profiles, and kept."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from zdce.enhancement import colour
from zdce.io import exif, icc, images, isobmff
from zdce.io.colour_spaces import D50, adapted, functions, to_xyz, transfer
from zdce.io.colour_tags import SRGB_PRIMARIES, ColourTags, Space
from zdce.io.picture import Picture

P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.3127, 0.3290))
P3_CODE, PQ_CODE, HLG_CODE = (12, 13, 0, 1), (9, 16, 0, 1), (9, 18, 0, 1)


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def cicp(code):
    return chunk(b"cICP", bytes(code))


def gama(gamma):
    return chunk(b"gAMA", struct.pack(">I", gamma))


def chrm(primaries):
    points = [primaries[3], *primaries[:3]]
    return chunk(b"cHRM", struct.pack(">8I", *(round(value * 100000) for point in points for value in point)))


def muted():
    y, x, c = np.mgrid[0:30, 0:40, 0:3]
    return (20 + y + x // 2 + 10 * c).astype(np.uint8)


def png(path, chunks=b"", pixels=None, **options):
    """A PNG file with ``chunks`` behind its header."""
    data = io.BytesIO()
    Image.fromarray(muted() if pixels is None else pixels).save(data, "PNG", **options)
    path.write_bytes(data.getvalue()[:33] + chunks + data.getvalue()[33:])
    return path


def test_transfers_are_their_definitions():
    # ITU-R BT.2408, table 1: white is at 58 % of PQ and at 75 % of HLG; ST 2084: 10,000 cd/m2 at 1, 100 at 0.5081.
    pq, hlg, bt709 = (transfer(Space(P3, name)) for name in ("pq", "hlg", "bt709"))
    assert pq.decode(np.float32([0, 0.508078, 0.580689, 1])) == pytest.approx([0, 100 / 203, 1, 10000 / 203], rel=2e-4)
    assert hlg.decode(np.float32([0, 0.5, 0.75, 1])) == pytest.approx([0, 1 / 12 / 0.26496, 1, 1 / 0.26496], rel=1e-4)
    assert bt709.decode(np.float32([0, 0.081, 0.5, 1])) == pytest.approx([0, 0.018, 0.259589, 1], rel=1e-3)
    light = np.float32(np.linspace(-0.2, 3, 50))
    for each in (pq, hlg, bt709, transfer(Space(P3, 2.2))):
        assert each.decode(each.encode(light)) == pytest.approx(light, abs=2e-4)


def test_primaries_become_the_matrices_that_are_published():
    # SMPTE EG 432-1 for P3, IEC 61966-2-1 for sRGB.
    assert to_xyz(P3)[1] == pytest.approx([0.2289746, 0.6917385, 0.0792869], abs=1e-5)
    assert to_xyz(SRGB_PRIMARIES)[1] == pytest.approx([0.2126390, 0.7151687, 0.0721923], abs=1e-5)
    for white in ((0.310, 0.316), (0.3457, 0.3585)):
        to_srgb, _ = functions(Space((*P3[:3], white), 1.0), np.dtype(np.uint8))
        assert np.ptp(to_srgb(np.full((1, 1, 3), 0.5, np.float32))) < 1e-4  # grey stays grey


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    "tags",
    [
        ColourTags(P3_CODE), ColourTags(PQ_CODE), ColourTags(HLG_CODE), ColourTags((1, 1, 0, 1)), ColourTags((12, 13, 0, 0)),
        ColourTags(gamma=100000), ColourTags(adobe_rgb=True),
        ColourTags(gamma=55000, chromaticities=(31000, 31600, 67000, 33000, 21000, 71000, 14000, 8000)),
    ],
)  # fmt: skip
def test_strength_0_gives_every_number_back(enhancer, tags, dtype):
    side = int((np.iinfo(dtype).max + 1) ** 0.5)
    ramp = np.arange(side * side, dtype=dtype).reshape(side, side)
    picture = Picture(np.stack([ramp, ramp.T, ramp[::-1]], -1), metadata={"colour_tags": tags})
    result = colour.enhance(picture, enhancer.with_settings(strength=0))
    assert np.array_equal(result.pixels, picture.pixels)
    assert result.metadata == picture.metadata
    assert not np.array_equal(colour.enhance(picture, enhancer).pixels, picture.pixels)


@pytest.mark.parametrize("chunks", [cicp(P3_CODE), gama(100000), gama(60000) + chrm(P3), cicp(PQ_CODE), cicp((12, 13, 0, 0))])
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_chunks_of_png_are_kept(tmp_path, chunks, depth):
    picture = images.read(png(tmp_path / "a.png", chunks))
    if depth == np.uint16:
        picture = picture.with_pixels(picture.pixels.astype(np.uint16) * 257)
    images.write(picture, tmp_path / "b.png")
    written = (tmp_path / "b.png").read_bytes()
    assert chunks in written
    assert images.read(tmp_path / "b.png").metadata == picture.metadata


def test_p3_by_code_points_is_p3_by_a_profile(tmp_path, enhancer):
    profile = icc.profile(adapted(P3, D50), transfer(Space(P3, "srgb")).decode)
    by_code = images.read(png(tmp_path / "code.png", cicp(P3_CODE)))
    by_profile = images.read(png(tmp_path / "profile.png", icc_profile=profile))
    results = [colour.enhance(picture, enhancer).pixels.astype(int) for picture in (by_code, by_profile)]
    # The profile's table of 1024 points, and LittleCMS's rounding.
    assert np.abs(results[0] - results[1]).max() <= 2
    assert np.abs(results[0] - enhancer(muted())).max() >= 1
    green = np.zeros((4, 4, 3), np.uint8)
    green[..., 1] = 200
    shown = colour.srgb(Picture(green, metadata={"colour_tags": ColourTags(P3_CODE)}))
    assert shown.pixels[0, 0, 1] > 200
    assert shown.metadata == {}


def test_linear_pixels_by_gama_are_linear(tmp_path, enhancer):
    linear = images.read(png(tmp_path / "a.png", gama(100000)))
    expected = colour.enhance(Picture(muted()), enhancer.with_settings(transfer="linear")).pixels.astype(int)
    assert np.abs(colour.enhance(linear, enhancer).pixels - expected).max() <= 1


def test_precedence_is_pngs(tmp_path, enhancer):
    """cICP, then iCCP, then sRGB, then gAMA and cHRM."""
    wide = icc.profile(adapted(P3, D50), transfer(Space(P3, 2.2)).decode)
    srgb = chunk(b"sRGB", b"\0")

    def result(chunks, **options):
        return colour.enhance(images.read(png(tmp_path / "a.png", chunks, **options)), enhancer).pixels

    plain, by_profile, by_gamma = result(b""), result(b"", icc_profile=wide), result(gama(100000))
    assert np.array_equal(result(cicp((1, 13, 0, 1)), icc_profile=wide), plain)
    assert np.array_equal(result(srgb + gama(100000), icc_profile=wide), by_profile)
    assert np.array_equal(result(srgb + gama(100000) + chrm(P3)), plain)
    assert not np.array_equal(by_gamma, plain)
    # What most programs write for sRGB is sRGB.
    assert np.array_equal(result(gama(45455) + chrm(SRGB_PRIMARIES)), plain)
    # What says nothing is left out of account: a gamma of 0, colours on a line, a matrix that RGB can't have.
    line = ((0.3, 0.3), (0.4, 0.4), (0.5, 0.5), (0.3127, 0.329))
    assert np.array_equal(result(gama(0) + chrm(line)), plain)
    assert np.array_equal(result(cicp((12, 13, 1, 1))), plain)


@pytest.mark.parametrize("code", [PQ_CODE, HLG_CODE])
def test_highlights_of_hdr_stay_and_dark_light_is_raised(enhancer, code):
    ramp = np.linspace(0, 65535, 200).astype(np.uint16)
    picture = Picture(np.repeat(np.repeat(ramp[None, :, None], 20, 0), 3, 2), metadata={"colour_tags": ColourTags(code)})
    result = colour.enhance(picture, enhancer).pixels
    white = 0.5807 if code == PQ_CODE else 0.75
    above = ramp / 65535 > white + 0.01
    # Half a step of 16 bits of sRGB, before a curve that is steep at no light.
    assert np.abs(result[:, above].astype(int) - picture.pixels[:, above]).max() <= 2
    assert result[10, ~above].mean() > ramp[~above].mean() + 500


@pytest.mark.parametrize("suffix", [".avif", ".heic"])
def test_code_points_of_avif_and_heic_are_used_and_kept(tmp_path, suffix, enhancer):
    picture = Picture(muted(), metadata={"colour_tags": ColourTags(P3_CODE)})
    images.write(picture, tmp_path / f"a{suffix}")
    again = images.read(tmp_path / f"a{suffix}")
    assert again.metadata["colour_tags"].cicp[:2] == (12, 13)
    assert not np.array_equal(colour.enhance(again, enhancer).pixels, enhancer(again.pixels))
    images.write(again, tmp_path / f"b{suffix}")
    data = (tmp_path / f"b{suffix}").read_bytes()
    assert isobmff.carried(data)[0]["colour_tags"].cicp[:3] == (12, 13, 6)  # the encoder's matrix, BT.601
    images.write(again, tmp_path / "b.png")
    assert cicp(P3_CODE) in (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".tif", ".png"])
def test_formats_without_tags_get_a_profile(tmp_path, suffix):
    chunks = gama(60000) + chrm(P3)
    images.write(images.read(png(tmp_path / "a.png", chunks)), tmp_path / f"b{suffix}")
    again = images.read(tmp_path / f"b{suffix}")
    if suffix == ".png":
        assert "icc_profile" not in again.metadata
        return
    opened = ImageCms.ImageCmsProfile(io.BytesIO(again.metadata["icc_profile"]))
    assert opened.profile.xcolor_space.strip() == "RGB"
    space = images.read(tmp_path / "a.png").metadata["colour_tags"].space(has_profile=False)
    to_srgb, _ = functions(space, np.dtype(np.uint8))
    colours = np.uint8([[(40, 90, 60), (200, 150, 170), (128, 128, 128)]])
    by_profile = np.asarray(ImageCms.profileToProfile(Image.fromarray(colours), opened, ImageCms.createProfile("sRGB")))
    assert np.abs(by_profile - to_srgb(colours / np.float32(255)) * 255).max() < 1.5


def test_what_a_format_cannot_say_is_refused_by_name(tmp_path):
    picture = images.read(png(tmp_path / "pq.png", cicp(PQ_CODE)))
    for suffix in (".jpg", ".tif", ".webp", ".bmp"):
        with pytest.raises(ValueError, match=f"b{suffix}: .* can't hold PQ; choose .png or .avif"):
            images.check(picture, tmp_path / f"b{suffix}")
    with pytest.raises(OSError, match=r"odd\.png: expected colours that are known, got code points 9 and 200 of ITU-T H\.273"):
        images.read(png(tmp_path / "odd.png", cicp((9, 200, 0, 1))))
    with pytest.raises(ValueError, match="a Pillow image can't hold PQ"):
        images.to_pillow(picture)


def test_adobe_rgb_by_exif_alone(tmp_path, enhancer):
    block = Image.Exif()
    block.get_ifd(0x8769)[0xA001] = 2
    Image.fromarray(muted()).save(tmp_path / "a.jpg", exif=block.tobytes())
    picture = images.read(tmp_path / "a.jpg")
    assert picture.metadata["colour_tags"].adobe_rgb
    assert not np.array_equal(colour.enhance(picture, enhancer).pixels, enhancer(picture.pixels))
    images.write(picture, tmp_path / "b.jpg")
    assert exif.is_adobe_rgb(images.read(tmp_path / "b.jpg").metadata["exif"])
    assert images.read(tmp_path / "b.jpg").metadata.get("icc_profile")
