"""Files of more than 8 bits and other encodings than sRGB: reading, the network's input, and results."""

import importlib.util
import io

import numpy as np
import pytest
import tifffile
import torch
from click.testing import CliRunner
from PIL import ExifTags, Image, ImageCms
from test_images import gradient, png_16_bit_rgb

import zdce
from zdce import cli
from zdce.enhancement import batch, colour, encodings
from zdce.io import deep_heif, images, sixteen_bit
from zdce.io.images import Picture
from zdce.settings import TRANSFERS

imagecodecs = pytest.importorskip("imagecodecs", reason="the extra `formats` is not installed")

FLAT = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

# The primaries and white of Display P3 with a gamma of 2.2.
WIDE = imagecodecs.cms_profile("rgb", whitepoint=[0.3127, 0.329], primaries=[0.68, 0.32, 0.265, 0.69, 0.15, 0.06], gamma=2.2)


def run(*arguments):
    return CliRunner().invoke(cli.main, ["enhance", *map(str, arguments)], catch_exceptions=False)


def dark(dtype=np.uint16):
    """A smooth dark picture that uses all of its depth."""
    y, x, c = np.mgrid[0:40, 0:60, 0:3]
    values = (y / 40 * x / 60 * (0.05 + 0.15 * c)) * np.iinfo(dtype).max
    return np.rint(values).astype(dtype)


@pytest.mark.parametrize(("suffix", "channels"), [(".png", 2), (".png", 3), (".png", 4), (".tif", 3), (".tif", 4)])
def test_16_bits_a_colour_are_kept_with_all_that_a_file_carries(tmp_path, suffix, channels):
    pixels = gradient(channels, depth=16)
    exif = Image.Exif()
    exif[ExifTags.Base.Model] = "DCE-1"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ISOSpeedRatings] = 3200
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    metadata = {"exif": exif.tobytes(), "icc_profile": FLAT, "dpi": (300.0, 300.0)}
    grey = channels == 2
    colours = np.repeat(pixels[..., :1], 3, axis=2) if grey else pixels[..., :3]
    alpha = pixels[..., -1] if channels != 3 else None
    images.write(Picture(colours, grey, alpha, metadata), tmp_path / f"a{suffix}")

    # Pillow knows the high bytes and all the rest.
    with Image.open(tmp_path / f"a{suffix}") as image:
        assert sixteen_bit.holds(image)
        assert np.array_equal(np.asarray(image)[..., -1], pixels[..., -1] >> 8)
        assert image.info["icc_profile"] == FLAT
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        assert image.getexif()[ExifTags.Base.Model] == "DCE-1"
        assert image.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ISOSpeedRatings] == 3200
        assert image.getexif().get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] == "N"
    picture = images.read(tmp_path / f"a{suffix}")
    assert np.array_equal(picture.pixels, colours)
    assert picture.grey == grey
    assert (picture.alpha is None) if alpha is None else np.array_equal(picture.alpha, alpha)
    # Once more, from what was read.
    images.write(picture, tmp_path / f"b{suffix}")
    assert (tmp_path / f"b{suffix}").read_bytes() == (tmp_path / f"a{suffix}").read_bytes()


def test_deep_grey_with_opacity_becomes_a_tiff_of_colour(tmp_path):
    grey, alpha = (gradient(1, depth=16)[..., 0], gradient(1, depth=16)[::-1, :, 0])
    images.write(Picture(np.stack([grey] * 3, -1), grey=True, alpha=alpha), tmp_path / "a.tif")
    picture = images.read(tmp_path / "a.tif")
    assert np.array_equal(picture.pixels[..., 1], grey)
    assert np.array_equal(picture.alpha, alpha)


def test_16_bit_files_of_others_are_read(tmp_path):
    pixels = gradient(3, depth=16)
    (tmp_path / "a.png").write_bytes(png_16_bit_rgb(pixels))
    kinds = [{}, {"compression": "lzw", "predictor": True}, {"compression": "zlib", "tile": (16, 16)}, {"byteorder": ">"}]
    for n, options in enumerate(kinds):
        tifffile.imwrite(tmp_path / f"{n}.tif", pixels, photometric="rgb", **options)
    for name in ("a.png", *(f"{n}.tif" for n in range(len(kinds)))):
        picture = images.read(tmp_path / name)
        assert np.array_equal(picture.pixels, pixels), name
        images.write(picture, tmp_path / f"again-{name}")
        assert np.array_equal(images.read(tmp_path / f"again-{name}").pixels, pixels)
    with Image.open(tmp_path / "again-1.tif") as image:
        assert image.info["compression"] == "tiff_lzw"


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd", "lzma", "jpeg"])
def test_lossless_compressions_of_tiffs_are_kept_and_others_become_deflate(tmp_path, compression):
    Image.fromarray(gradient(3)).save(tmp_path / "a.tif", compression=compression)
    images.write(images.read(tmp_path / "a.tif"), tmp_path / "b.tif")
    with Image.open(tmp_path / "a.tif") as before, Image.open(tmp_path / "b.tif") as after:
        assert before.info["compression"] == compression
        assert after.info["compression"] == ("tiff_adobe_deflate" if compression == "jpeg" else compression)


@pytest.mark.parametrize("compression", [None, "lzw"])
@pytest.mark.parametrize("shape", [(13, 20), (1, 20), (13, 1)])
def test_16_bit_tiffs_of_every_layout_are_read(tmp_path, shape, compression):
    rgba = np.resize(gradient(4, depth=16), (*shape, 4))
    rgba[0, 0] = (3, 2, 1, 0)  # cannot be seen
    planes = np.ascontiguousarray(rgba[..., :3].transpose(2, 0, 1))
    tifffile.imwrite(tmp_path / "planes.tif", planes, photometric="rgb", planarconfig="separate", compression=compression)
    assert np.array_equal(images.read(tmp_path / "planes.tif").pixels, rgba[..., :3])

    tifffile.imwrite(tmp_path / "white.tif", 65535 - rgba[..., 0], photometric="miniswhite", compression=compression)
    picture = images.read(tmp_path / "white.tif")
    assert (picture.grey, picture.alpha) == (True, None)
    assert np.array_equal(picture.pixels[..., 1], rgba[..., 0])

    share = rgba[..., 3:] / 65535
    multiplied = np.concatenate([np.rint(rgba[..., :3] * share), rgba[..., 3:]], 2).astype(np.uint16)
    tifffile.imwrite(
        tmp_path / "multiplied.tif", multiplied, photometric="rgb", extrasamples=["assocalpha"], compression=compression
    )
    picture = images.read(tmp_path / "multiplied.tif")
    assert np.array_equal(picture.alpha, rgba[..., 3])
    # Half a number of rounding, divided by the opacity, and half a number again.
    error = np.abs(picture.pixels - rgba[..., :3].astype(float)) * share
    assert (error <= 0.5 + 0.5 * share)[rgba[..., 3] > 0].all()
    assert (picture.pixels[rgba[..., 3] == 0] == 0).all()


def test_a_transparent_level_of_deep_grey_is_opacity(tmp_path):
    grey = gradient(1, depth=16)[..., 0]
    Image.fromarray(grey).save(tmp_path / "a.png", transparency=int(grey[3, 4]))
    picture = images.read(tmp_path / "a.png")
    assert np.array_equal(picture.pixels[..., 0], grey)
    assert np.array_equal(picture.alpha, np.where(grey == grey[3, 4], 0, 65535))


@pytest.mark.parametrize("orientation", range(1, 10))  # 9 is none
def test_deep_pictures_are_turned_upright(tmp_path, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    deep_pixels, flat = gradient(3, depth=16), gradient(3)
    for name, pixels in (("deep", deep_pixels), ("flat", flat)):
        metadata = {"exif": exif.tobytes()}
        images.write(Picture(pixels, metadata=metadata), tmp_path / f"{name}.png")
    Image.fromarray(flat).save(tmp_path / "flat.tif", exif=exif)
    tifffile.imwrite(
        tmp_path / "deep.tif", deep_pixels, photometric="rgb", metadata=None, software=False,
        extratags=[(274, 3, 1, orientation, True)],
    )  # fmt: skip
    for suffix in ("png", "tif"):
        upright = images.read(tmp_path / f"deep.{suffix}")
        turned = images.read(tmp_path / f"flat.{suffix}").pixels
        assert np.array_equal(upright.pixels, sixteen_bit.upright(deep_pixels, orientation))
        assert np.array_equal(sixteen_bit.upright(flat, orientation), turned)
        assert "exif" not in upright.metadata


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_broken_deep_files_are_named(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 65536, (64, 64, 3), np.uint16)
    images.write(Picture(noise), tmp_path / f"a{suffix}")
    whole = (tmp_path / f"a{suffix}").read_bytes()
    for share in (0.3, 0.9):
        (tmp_path / f"cut{suffix}").write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(OSError, match=f"cut{suffix}: "):
            images.read(tmp_path / f"cut{suffix}")


def test_depth_goes_through_the_network(model, enhancer, tmp_path):
    for suffix in (".png", ".tif"):
        images.write(Picture(dark()), tmp_path / f"a{suffix}")
        before = (tmp_path / f"a{suffix}").read_bytes()
        assert run(tmp_path / f"a{suffix}", "-m", model, "-o", tmp_path / f"b{suffix}").exit_code == 0
        result = images.read(tmp_path / f"b{suffix}").pixels
        assert np.array_equal(result, enhancer(dark()))
        assert len(np.unique(result)) > 1000
        assert (tmp_path / f"a{suffix}").read_bytes() == before
        # Where only 8 bits fit, they are the nearest.
        images.write(images.read(tmp_path / f"b{suffix}"), tmp_path / "b.bmp")
        assert np.array_equal(images.read(tmp_path / "b.bmp").pixels, np.rint(result / 257))


def without(monkeypatch, *packages):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in packages else find(name, *rest))


def test_what_is_missing_is_named_with_its_extra(monkeypatch, tmp_path):
    images.write(Picture(dark()), tmp_path / "a.png")
    (tmp_path / "a.dng").touch()
    without(monkeypatch, "imagecodecs", "rawpy")
    with pytest.raises(
        OSError, match=r"a\.png: imagecodecs is needed for RAW, HEIC and 16-bit files: pip install 'zdce\[formats\]'"
    ):
        images.read(tmp_path / "a.png")
    with pytest.raises(OSError, match=r"a\.dng: rawpy is needed for RAW, HEIC and 16-bit files: pip install 'zdce\[formats\]'"):
        images.read(tmp_path / "a.dng")
    with pytest.raises(OSError, match=r"a\.png: imagecodecs is needed"):  # not cut to 8 bits
        images.read_rgb(tmp_path / "a.png")


def test_encodings_are_their_definitions():
    # IEC 61966-2-1; Academy S-2016-001, table of sample values: black, 18% grey and white.
    linear, log = encodings.ENCODINGS["linear"], encodings.ENCODINGS["log"]
    light = np.float32([0, 0.0031308, 0.18, 0.5, 1])
    assert linear.to_srgb(light) == pytest.approx([0, 0.0404499, 0.4613561, 0.7353569, 1], abs=1e-6)
    codes = np.float32([0.0729055341958355, 0.4135884, 0.5547945])
    assert log.to_srgb(codes) == pytest.approx([0, 0.4613561, 1], abs=2e-6)
    assert log.from_srgb(np.float32([0, 0.4613561, 1])) == pytest.approx(codes, abs=1e-6)
    # No step where a line becomes a curve.
    for encoding, at in ((linear.to_srgb, 0.0031308), (linear.from_srgb, 0.04045), (log.to_srgb, 0.155251141552511)):
        step = np.diff(encoding(np.float32([at - 1e-5, at, at + 1e-5])))
        assert step[1] == pytest.approx(step[0], rel=0.1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("transfer", TRANSFERS)
def test_strength_0_gives_every_number_back(enhancer, transfer, dtype):
    count = np.iinfo(dtype).max + 1
    side = int(count**0.5)
    ramp = np.arange(count, dtype=dtype).reshape(side, side)
    pixels = np.stack([ramp, ramp.T, ramp[::-1]], -1)
    for profile in (b"", WIDE):
        picture = Picture(pixels, metadata={"icc_profile": profile} if profile else {})
        result = colour.enhance(picture, enhancer.with_settings(strength=0, transfer=transfer))
        assert np.array_equal(result.pixels, pixels)
        assert result.metadata == picture.metadata


def test_linear_light_is_shown_as_srgb(model, enhancer, tmp_path):
    images.write(Picture(dark()), tmp_path / "a.tif")
    assert run(tmp_path / "a.tif", "-m", model, "-o", tmp_path / "b.tif", "--transfer", "linear").exit_code == 0
    light = dark() / 65535
    srgb = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055).astype(np.float32)
    bright = enhancer(torch.from_numpy(srgb).permute(2, 0, 1)[None])[0].permute(1, 2, 0).double().numpy()
    expected = np.where(bright <= 0.04045, bright / 12.92, ((bright + 0.055) / 1.055) ** 2.4) * 65535
    # Half a level of sRGB before a curve that is up to 9 steep, and after it; at white sRGB levels are 2.3 of light.
    assert np.abs(images.read(tmp_path / "b.tif").pixels - expected).max() < 12


def test_light_above_white_stays(enhancer):
    # The upper 45% of ACEScct's numbers are brighter than white.
    ramp = np.linspace(0, 65535, 200).astype(np.uint16)
    picture = Picture(np.repeat(np.repeat(ramp[None, :, None], 20, 0), 3, 2))
    result = colour.enhance(picture, enhancer.with_settings(transfer="log")).pixels
    above = ramp / 65535 > 0.5548
    assert np.array_equal(result[:, above], picture.pixels[:, above])
    assert result[10, ~above].mean() > ramp[~above].mean() + 1000


@pytest.mark.parametrize("with_codecs", [True, False])
def test_a_wide_profile_is_converted_and_comes_back(monkeypatch, enhancer, with_codecs):
    if not with_codecs:
        without(monkeypatch, "imagecodecs")
    y, x, c = np.mgrid[0:30, 0:40, 0:3]
    # Muted colours, which both have.
    pixels = (40 + y + x // 2 + 10 * c).astype(np.uint8)
    result = colour.enhance(Picture(pixels, metadata={"icc_profile": WIDE}), enhancer)
    assert result.metadata["icc_profile"] == WIDE

    def in_srgb(values):
        wide, flat = (ImageCms.ImageCmsProfile(io.BytesIO(profile)) for profile in (WIDE, FLAT))
        return np.asarray(ImageCms.profileToProfile(Image.fromarray(values), wide, flat)).astype(int)

    # Rounding to 8 bits before and after, and the curve's slope on it.
    difference = in_srgb(result.pixels) - enhancer(in_srgb(pixels).astype(np.uint8))
    assert np.abs(difference).max() <= 6
    assert abs(difference.mean()) < 1
    # It makes a difference to show the network other numbers.
    assert np.abs(result.pixels.astype(int) - enhancer(pixels)).max() >= 1


def test_srgb_by_another_name_and_what_is_no_profile_change_nothing(enhancer):
    pixels = gradient()
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    odd = WIDE[:16] + b"\xff\xfe  " + WIDE[20:]  # where RGB should stand
    for profile in (FLAT, lab, b"profile", odd):
        picture = Picture(pixels, metadata={"icc_profile": profile})
        assert np.array_equal(colour.enhance(picture, enhancer).pixels, enhancer(pixels))
        assert np.array_equal(colour.srgb(picture).pixels, pixels)


def test_a_screen_is_given_srgb():
    green = np.zeros((4, 4, 3), np.uint8)
    green[..., 1] = 200
    shown = colour.srgb(Picture(green, metadata={"icc_profile": WIDE, "dpi": (72, 72)}))
    # More than sRGB's green can be.
    assert shown.pixels[0, 0, 1] > 200
    assert shown.metadata == {"dpi": (72, 72)}


@pytest.mark.parametrize("suffix", [".avif", ".heic"])
def test_avif_and_heic_round_trip(tmp_path, suffix):
    if suffix not in images.SUFFIXES:
        pytest.skip("its plug-in is not installed")
    exif = Image.Exif()
    exif[ExifTags.Base.Model] = "DCE-1"
    y, x = np.mgrid[0:64, 0:96]
    pixels = np.stack([y * 3, x * 2, (y + x) % 200], -1).astype(np.uint8)
    alpha = (255 - x).astype(np.uint8)
    metadata = {"exif": exif.tobytes(), "icc_profile": WIDE}
    images.write(Picture(pixels, alpha=alpha, metadata=metadata), tmp_path / f"a{suffix}", zdce.EnhanceSettings(quality=95))
    picture = images.read(tmp_path / f"a{suffix}")
    assert np.abs(picture.pixels.astype(int) - pixels).mean() < 3
    assert np.abs(picture.alpha.astype(int) - alpha).max() <= 2
    assert picture.metadata["icc_profile"] == WIDE
    read = Image.Exif()
    read.load(picture.metadata["exif"])
    assert read[ExifTags.Base.Model] == "DCE-1"
    assert picture.format == {".avif": "AVIF", ".heic": "HEIF"}[suffix]
    (tmp_path / f"cut{suffix}").write_bytes((tmp_path / f"a{suffix}").read_bytes()[:400])
    with pytest.raises(OSError, match=f"cut{suffix}"):
        images.read(tmp_path / f"cut{suffix}")


LEVELS = np.linspace(0.02, 0.9, 6)


def write_dng(path, orientation=1):
    """A DNG file of six grey bars, by a camera with sRGB's own colours."""
    light = np.repeat(np.repeat(LEVELS[None], 64, 0), 16, 1)
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    matrix = [number for value in np.linalg.inv(to_xyz).ravel() for number in (round(value * 10000), 10000)]
    # By type: 1 byte, 2 ASCII, 3 short, 5 and 10 fractions without and with sign.
    tags = [
        (271, 2, 0, "Maker", True), (272, 2, 0, "DCE-1", True), (274, 3, 1, orientation, True),
        (33421, 3, 2, (2, 2), True), (33422, 1, 4, bytes([0, 1, 1, 2]), True),  # a Bayer pattern
        (50706, 1, 4, bytes([1, 4, 0, 0]), True), (50708, 2, 0, "DCE-1", True),  # DNG's version
        (50714, 3, 1, 0, True), (50717, 3, 1, 65535, True),  # black and white
        (50721, 10, 9, tuple(matrix), True), (50728, 5, 3, (1, 1) * 3, True), (50778, 3, 1, 21, True),  # colours
    ]  # fmt: skip
    data = (light * 65535).astype(np.uint16)
    tifffile.imwrite(path, data, photometric=32803, planarconfig=None, metadata=None, software=False, extratags=tags)


def test_raw_files_are_developed_as_they_were_exposed(tmp_path, model):
    pytest.importorskip("rawpy")
    write_dng(tmp_path / "a.dng")
    picture = images.read(tmp_path / "a.dng")
    assert (picture.pixels.shape, picture.pixels.dtype) == ((64, 96, 3), np.uint16)
    srgb = (1.055 * LEVELS ** (1 / 2.4) - 0.055) * 65535
    # LibRaw's curve is a table.
    assert np.abs(picture.pixels[32, 8::16] - srgb[:, None]).max() < 10
    before = (tmp_path / "a.dng").read_bytes()
    assert run(tmp_path, "-m", model, "-o", tmp_path / "out").exit_code == 0
    assert run(tmp_path / "a.dng", "-m", model).exit_code == 0
    assert (tmp_path / "a.dng").read_bytes() == before
    for path in (tmp_path / "out" / "a.tif", tmp_path / "a-enhanced.tif"):
        with Image.open(path) as image:
            assert sixteen_bit.holds(image)
            assert image.getexif()[ExifTags.Base.Model] == "DCE-1"
        assert images.read(path).pixels.mean() > picture.pixels.mean()
    write_dng(tmp_path / "turned.dng", orientation=6)
    assert images.read(tmp_path / "turned.dng").pixels.shape == (96, 64, 3)
    (tmp_path / "text.nef").write_text("hello")
    with pytest.raises(OSError, match=r"text\.nef: "):
        images.read(tmp_path / "text.nef")


def test_the_small_picture_in_a_raw_file_is_not_taken_for_it(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", gradient(), photometric="rgb", subfiletype=1)
    with pytest.raises(OSError, match=r"a\.tif: expected a picture, got the small one inside of a RAW file"):
        images.read(tmp_path / "a.tif")


def test_every_kind_is_found_in_folders(monkeypatch, tmp_path):
    names = ["a.avif", "a.dng", "a.heic", "a.hif", "a.jfif", "a.jpe", "a.mp4", "a.NEF", "a.png", "a.tif"]
    for name in names:
        (tmp_path / name).touch()
    without(monkeypatch, "pillow_heif", "rawpy", "av")
    found = {found.path.name for found in images.find([str(tmp_path)], batch.suffixes())}
    assert found == set(names)


def test_files_that_an_extra_reads_are_named_with_it(monkeypatch, tmp_path, model):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    Image.fromarray(gradient()).save("in/a.jfif", "JPEG")
    for name in ("b.dng", "c.heic", "d.mp4"):
        (tmp_path / "in" / name).touch()
    without(monkeypatch, "pillow_heif", "rawpy", "av")
    result = run("in", "-m", model, "-o", "out/", "--manifest", "all.csv")
    assert (result.exit_code, result.stdout) == (1, "1 written, 3 failed\n")
    listed = (tmp_path / "all.csv").read_text()
    for name, package in (("b.dng", "rawpy"), ("c.heic", "pillow_heif"), ("d.mp4", "av")):
        line = next(line for line in result.stderr.replace("\n", " ").split("skipped ") if f"in/{name}" in line)
        assert package in line
        assert "pip install 'zdce[" in line
        assert f"in/{name}" in listed


def deep_codes(bits, channels=3):
    """A ramp that uses every number of ``bits``, softened for encoders, (64, 2^bits / 8 x 8, channels)."""
    ramp = np.linspace(0, 2**bits - 1, 512)
    return np.repeat(np.rint(np.broadcast_to(ramp, (64, 512)))[..., None], channels, 2).astype(np.uint16)


def write_heic(path, codes, bits, **options):
    pillow_heif = pytest.importorskip("pillow_heif")
    before, pillow_heif.options.SAVE_HDR_TO_12_BIT = pillow_heif.options.SAVE_HDR_TO_12_BIT, bits == 12
    mode = {1: "L;16", 3: "RGB;16", 4: "RGBA;16"}[codes.shape[2]]
    file = pillow_heif.from_bytes(mode, codes.shape[1::-1], np.ascontiguousarray(codes << (16 - bits)).tobytes())
    file.save(str(path), quality=-1, chroma=444, **options)
    pillow_heif.options.SAVE_HDR_TO_12_BIT = before


def heic_codes(path, bits):
    pillow_heif = pytest.importorskip("pillow_heif")
    file = pillow_heif.open_heif(str(path), convert_hdr_to_8bit=False)
    assert file.info["bit_depth"] == bits
    codes = np.asarray(file) >> (16 - bits)
    return codes.reshape(*codes.shape[:2], -1)


@pytest.mark.parametrize(("bits", "channels"), [(10, 3), (12, 3), (10, 4), (10, 1)])
def test_heic_of_10_and_12_bits_goes_in_and_comes_out(model, tmp_path, bits, channels):
    codes = deep_codes(bits, channels)
    block = Image.Exif()
    block[ExifTags.Base.Model] = "DCE-1"
    write_heic(tmp_path / "a.heic", codes, bits, matrix_coefficients=0 if channels > 1 else 1, exif=block.tobytes())
    picture = images.read(tmp_path / "a.heic")
    assert (picture.pixels.dtype, picture.notes, picture.stored.bits) == (np.uint16, (), bits)
    most = 2**bits - 1
    # White is white.
    assert np.array_equal(picture.pixels[..., 0], (codes[..., 0].astype(np.uint32) * 65535 + most // 2) // most)
    assert (picture.alpha is not None) == (channels == 4)
    result = run(tmp_path / "a.heic", "-m", model, "-o", tmp_path / "b.heic", "--strength", 0, "--quality", 100)
    assert result.exit_code == 0, result.stderr
    assert "bits became" not in result.stderr
    # There and back through luma and chroma.
    assert np.abs(heic_codes(tmp_path / "b.heic", bits).astype(int) - codes).max() <= 2 ** (bits - 8)
    assert len(np.unique(heic_codes(tmp_path / "b.heic", bits)[..., 0])) > 300
    with Image.open(tmp_path / "b.heic") as image:
        assert image.getexif()[ExifTags.Base.Model] == "DCE-1"
    assert images.write(picture, tmp_path / "c.png") == []
    assert np.array_equal(images.read(tmp_path / "c.png").pixels, picture.pixels)
    assert images.write(picture, tmp_path / "c.webp") == [f"its {bits} bits became 8"]


def test_avif_of_10_bits_is_read_as_it_is_and_what_it_becomes_is_said(tmp_path):
    codes = deep_codes(10)
    (tmp_path / "a.avif").write_bytes(imagecodecs.avif_encode(codes, level=100, bitspersample=10))
    picture = images.read(tmp_path / "a.avif")
    assert picture.pixels.dtype == np.uint16
    assert np.abs(picture.pixels.astype(int) - (codes.astype(int) * 65535 + 511) // 1023).max() <= 65  # a code
    assert len(np.unique(picture.pixels)) > 450
    assert images.write(picture, tmp_path / "b.tif") == []
    assert images.write(picture, tmp_path / "b.heic") == []
    assert images.write(picture, tmp_path / "b.avif") == ["its 10 bits became 8"]
    assert images.read_rgb(tmp_path / "a.avif").dtype == np.uint8


def test_16_bits_become_10_in_heic_with_profile_and_opacity(tmp_path):
    pixels = np.repeat(np.linspace(0, 65535, 512).astype(np.uint16)[None, :, None], 64, 0).repeat(3, 2)
    alpha = np.full((64, 512), 30000, np.uint16)
    alpha[:, :100] = 65535
    picture = Picture(pixels, alpha=alpha, metadata={"icc_profile": WIDE})
    assert images.write(picture, tmp_path / "a.heic") == ["its 16 bits became 10"]
    read = images.read(tmp_path / "a.heic")
    assert read.metadata["icc_profile"] == WIDE
    assert np.abs(read.pixels.astype(int) - pixels).mean() < 130
    assert read.alpha is not None
    assert np.abs(read.alpha.astype(int) - alpha).mean() < 130
    grey = Picture(pixels, grey=True, alpha=alpha)
    assert images.write(grey, tmp_path / "g.heic") == ["its 16 bits became 10"]
    assert images.read(tmp_path / "g.heic").alpha is not None


def test_where_the_deep_decoder_gives_another_part_8_bits_are_read_and_said(tmp_path, monkeypatch):
    pytest.importorskip("imagecodecs")
    write_heic(tmp_path / "a.heic", deep_codes(10), 10)
    read = deep_heif.read
    monkeypatch.setattr(deep_heif, "read", lambda *arguments: read(*arguments)[:-2])
    picture = images.read(tmp_path / "a.heic")
    assert (picture.pixels.shape, picture.pixels.dtype, picture.notes) == ((64, 512, 3), np.uint8, ("its 10 bits became 8",))


def test_without_imagecodecs_deep_heic_is_8_bits_and_said(tmp_path, monkeypatch):
    write_heic(tmp_path / "a.heic", deep_codes(10), 10)
    found = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name == "imagecodecs" else found(name, *rest))
    picture = images.read(tmp_path / "a.heic")
    assert (picture.pixels.dtype, picture.notes) == (np.uint8, ("its 10 bits became 8",))
