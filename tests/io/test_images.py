"""Picture files of every supported kind."""

import io
import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image, ImageCms, TiffImagePlugin

from zdce.io import images
from zdce.io.images import Picture
from zdce.runtime import atomic, locks

HEIGHT, WIDTH = 13, 20


def gradient(channels=3, depth=8):
    """Pixels that differ in every direction and channel, (H, W, channels)."""
    y, x, c = np.mgrid[0:HEIGHT, 0:WIDTH, 0:channels]
    values = (y * 5 + x * 3 + c * 40) % 256
    return values.astype(np.uint8) if depth == 8 else (values * 257 - (x % 7)).clip(0).astype(np.uint16)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".tiff", ".webp", ".jpg", ".jpeg", ".JPG"])
def test_formats_round_trip(tmp_path, suffix):
    path, again = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    Image.fromarray(gradient()).save(path, quality=100)
    picture = images.read(path)
    images.write(picture, again)
    result = images.read(again)
    assert result.pixels.shape == (HEIGHT, WIDTH, 3)
    lossy = suffix.lower() in (".jpg", ".jpeg", ".webp")
    assert np.abs(result.pixels.astype(int) - picture.pixels).max() <= (60 if lossy else 0)
    with Image.open(again) as written, Image.open(path) as original:
        assert written.format == original.format


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_read_upright_and_written_so(tmp_path, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Make] = "Camera"
    Image.fromarray(gradient()).save(tmp_path / "a.png", exif=exif)
    picture = images.read(tmp_path / "a.png")
    upright = [
        lambda a: a, lambda a: a[:, ::-1], lambda a: a[::-1, ::-1], lambda a: a[::-1],
        lambda a: a.swapaxes(0, 1), lambda a: a.swapaxes(0, 1)[:, ::-1],
        lambda a: a.swapaxes(0, 1)[::-1, ::-1], lambda a: a.swapaxes(0, 1)[::-1],
    ][orientation - 1]  # fmt: skip
    assert np.array_equal(picture.pixels, upright(gradient()))
    images.write(picture, tmp_path / "b.jpg")
    with Image.open(tmp_path / "b.jpg") as result:
        assert result.size == picture.pixels.shape[1::-1]
        assert result.getexif().get(ExifTags.Base.Orientation, 1) == 1
        assert result.getexif()[ExifTags.Base.Make] == "Camera"


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_exif_and_profile_are_kept(tmp_path, suffix):
    exif = Image.Exif()
    exif[ExifTags.Base.Model] = "DCE-1"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ISOSpeedRatings] = 3200
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    Image.fromarray(gradient()).save(tmp_path / f"a{suffix}", exif=exif.tobytes(), icc_profile=profile)
    images.write(images.read(tmp_path / f"a{suffix}"), tmp_path / f"b{suffix}")
    with Image.open(tmp_path / f"b{suffix}") as result:
        assert result.info["icc_profile"] == profile
        assert result.getexif()[ExifTags.Base.Model] == "DCE-1"
        assert result.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ISOSpeedRatings] == 3200


@pytest.mark.parametrize("depth", [8, 16])
def test_a_resolution_that_is_none_is_left_out(tmp_path, depth):
    odd = 7919, 101
    tifffile.imwrite(tmp_path / "whole.tif", gradient(depth=depth), photometric="rgb", resolution=(odd, odd), resolutionunit=2)
    whole = (tmp_path / "whole.tif").read_bytes()
    for values in ((0, 0), (0xFFFFFFFF, 1)):
        broken = whole.replace(struct.pack("<II", *odd), struct.pack("<II", *values))
        assert broken != whole
        (tmp_path / "broken.tif").write_bytes(broken)
        picture = images.read(tmp_path / "broken.tif")
        for suffix in (".tif", ".png", ".jpg", ".bmp"):
            images.write(picture, tmp_path / f"again{suffix}")
            with Image.open(tmp_path / f"again{suffix}") as again:
                assert max(again.info.get("dpi", (1, 1))) < 97  # what a format says that says nothing


def test_grey_stays_grey(tmp_path):
    Image.fromarray(gradient(1)[..., 0]).save(tmp_path / "a.jpg", quality=100)
    picture = images.read(tmp_path / "a.jpg")
    assert picture.grey
    tinted = picture.pixels.copy()
    tinted[..., 0] //= 2
    images.write(picture.with_pixels(tinted), tmp_path / "b.png")
    with Image.open(tmp_path / "b.png") as result:
        assert result.mode == "L"
        assert np.array_equal(np.asarray(result), np.rint(tinted.mean(2, dtype=np.float32)))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_grey_keeps_its_depth(tmp_path, suffix):
    grey = gradient(1, depth=16)[..., 0]
    Image.fromarray(grey).save(tmp_path / f"a{suffix}")
    picture = images.read(tmp_path / f"a{suffix}")
    assert np.array_equal(picture.pixels[..., 1], grey)
    images.write(picture, tmp_path / f"b{suffix}")
    assert np.array_equal(np.asarray(Image.open(tmp_path / f"b{suffix}")), grey)
    # Where only 8 bits fit, white is white: 65535 becomes 255.
    images.write(picture, tmp_path / "b.bmp")
    assert np.array_equal(images.read(tmp_path / "b.bmp").pixels[..., 0], np.rint(grey / 257))


def png_16_bit_rgb(pixels):
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    packed = (struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def test_16_bit_colour_reads_as_8_bits_of_the_same_brightness(tmp_path):
    deep = gradient(3, depth=16)
    (tmp_path / "a.png").write_bytes(png_16_bit_rgb(deep))
    tifffile.imwrite(tmp_path / "a.tif", deep, photometric="rgb")
    for name in ("a.png", "a.tif"):
        assert np.abs(images.read_rgb(tmp_path / name) - deep / 257).max() <= 0.5  # rounded


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_alpha_is_untouched(tmp_path, suffix):
    rgba = gradient(4)
    rgba[..., 3] = rgba[..., 3].clip(1)  # lossless WebP may drop the colour of what can't be seen
    Image.fromarray(rgba, "RGBA").save(tmp_path / f"a{suffix}", **({"lossless": True} if suffix == ".webp" else {}))
    picture = images.read(tmp_path / f"a{suffix}")
    assert np.array_equal(picture.pixels, rgba[..., :3])
    images.write(picture.with_pixels(255 - picture.pixels), tmp_path / f"b{suffix}")
    assert np.array_equal(np.asarray(Image.open(tmp_path / f"b{suffix}"))[..., 3], rgba[..., 3])
    with pytest.raises(ValueError, match="JPEG can't hold transparency"):
        images.write(picture, tmp_path / "b.jpg")


def test_palettes_become_rgb(tmp_path):
    paletted = Image.fromarray(gradient()).quantize(16)
    paletted.save(tmp_path / "a.png")
    assert np.array_equal(images.read_rgb(tmp_path / "a.png"), np.asarray(paletted.convert("RGB")))
    paletted.save(tmp_path / "t.png", transparency=3)
    assert sorted(np.unique(images.read(tmp_path / "t.png").alpha)) == [0, 255]


def test_one_bit_and_grey_with_alpha(tmp_path):
    Image.fromarray(gradient(1)[..., 0]).convert("1").save(tmp_path / "a.png")
    assert set(np.unique(images.read(tmp_path / "a.png").pixels)) == {0, 255}
    Image.fromarray(gradient(2), "LA").save(tmp_path / "la.png")
    picture = images.read(tmp_path / "la.png")
    images.write(picture, tmp_path / "b.png")
    assert picture.grey
    assert np.array_equal(np.asarray(Image.open(tmp_path / "b.png")), gradient(2))


def test_colours_and_channels_that_are_not_kept_are_named(tmp_path):
    Image.fromarray(gradient()).convert("CMYK").save(tmp_path / "a.jpg")
    assert images.read(tmp_path / "a.jpg").notes == ("its CMYK colours became RGB",)
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    Image.fromarray(gradient()).convert("RGB").convert("LAB").save(tmp_path / "a.tif", icc_profile=lab)
    picture = images.read(tmp_path / "a.tif")
    assert picture.notes == ("its Lab colours became RGB",)
    assert "icc_profile" not in picture.metadata
    five = np.concatenate([gradient(), gradient()[..., :2]], axis=2)
    tifffile.imwrite(tmp_path / "b.tif", five, photometric="rgb", planarconfig="contig", extrasamples=(0, 0))
    picture = images.read(tmp_path / "b.tif")
    assert picture.notes == ("2 of its 5 channels left out",)
    assert np.array_equal(picture.pixels, five[..., :3])


def test_cmyk_becomes_rgb(tmp_path):
    Image.fromarray(gradient()).convert("CMYK").save(tmp_path / "a.jpg", quality=100, subsampling=0)
    picture = images.read(tmp_path / "a.jpg")
    assert np.abs(picture.pixels.astype(int) - gradient()).mean() < 8
    # A profile that is none of CMYK's is no reason to fail, and is not passed on to RGB.
    rgb_profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(gradient()).convert("CMYK").save(tmp_path / "p.jpg", icc_profile=rgb_profile)
    assert "icc_profile" not in images.read(tmp_path / "p.jpg").metadata


def cmyk_profile(lightness):
    """A CMYK profile, ICC.1:2004 with one table: each ink on or off to a grey of ``lightness`` 0 to 255."""
    inks = [tuple(corner >> n & 1 for n in (3, 2, 1, 0)) for corner in range(16)]
    colours = bytes(value for each in inks for value in (lightness(*each), 128, 128))  # L*, and a* and b* of 0
    unchanged, one = bytes(range(256)), 65536
    matrix = struct.pack(">9i", *(one if n % 4 == 0 else 0 for n in range(9)))
    table = struct.pack(">4s4xBBBx", b"mft1", 4, 3, 2) + matrix + unchanged * 4 + colours + unchanged * 3
    head = struct.pack(">I4sI4s4s4s", 144 + len(table), b"none", 0x02400000, b"prtr", b"CMYK", b"Lab ")
    head = head.ljust(36, b"\0") + b"acsp".ljust(32, b"\0") + struct.pack(">3i", 63190, 65536, 54061)  # of D50 light
    return head.ljust(128, b"\0") + struct.pack(">I4sII", 1, b"A2B0", 144, len(table)) + table


def test_cmyk_goes_by_its_profile(tmp_path):
    # Here three inks are no black, and the fourth alone is.
    profile = cmyk_profile(lambda c, m, y, k: 0 if k else 255)
    inks = np.uint8([[(0, 0, 0, 0), (255, 255, 255, 0), (0, 0, 0, 255)]])
    Image.frombytes("CMYK", (3, 1), inks.tobytes()).save(tmp_path / "a.tif", icc_profile=profile)
    picture = images.read(tmp_path / "a.tif")
    assert picture.pixels[0, :, 1].tolist() == [255, 255, 0]
    assert "icc_profile" not in picture.metadata
    Image.new("CMYK", (3, 1), (255, 255, 0, 0)).save(tmp_path / "a.tif", icc_profile=b"no profile")
    assert images.read(tmp_path / "a.tif").pixels[0, 0].tolist() == [0, 0, 255]


def test_what_is_no_still_picture_is_refused(tmp_path):
    Image.fromarray(gradient()).save(tmp_path / "a.webp", save_all=True, append_images=[Image.fromarray(gradient()[::-1])])
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "f.tif")
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "empty.png").touch()
    (tmp_path / "dir.png").mkdir()
    tifffile.imwrite(tmp_path / "32.tif", np.uint32([[0, 70000]]))
    tifffile.imwrite(tmp_path / "signed.tif", np.int16([[0, -1]]))
    for name, reason in (
        ("a.webp", "got an animation or a stack of pages"),
        ("f.tif", "floating-point"),
        ("text.jpg", "not a picture"),
        ("empty.png", "not a"),
        ("dir.png", "Is a directory$"),
        ("32.tif", "of 8 or 16 bits, got numbers from 0 to 70000"),
        ("signed.tif", "of 8 or 16 bits, got numbers from -1 to 0"),
    ):
        with pytest.raises(OSError, match=f"{name}: .*{reason}"):
            images.read(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        images.read(tmp_path / "none.png")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tif"])
def test_truncated_files_are_named(tmp_path, suffix):
    whole = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(
        whole, Image.registered_extensions()[suffix], **({"compression": "tiff_lzw"} if suffix == ".tif" else {})
    )
    for share in (0.01, 0.3, 0.9):
        path = tmp_path / f"cut{suffix}"
        path.write_bytes(whole.getvalue()[: int(len(whole.getvalue()) * share)])
        with pytest.raises(OSError, match=f"cut{suffix}"):
            images.read(path)


@pytest.mark.parametrize("depth", [8, 16])
def test_a_volume_is_refused(tmp_path, depth):
    planes = np.stack([np.resize(gradient(depth=depth), (16, 32, 3))] * 3)
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="rgb", volumetric=True, metadata=None)
    with pytest.raises(OSError, match=r"a\.tif: expected one picture, got a volume"):
        images.read(tmp_path / "a.tif")


def test_the_pages_of_a_stack_are_not_counted(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", np.stack([gradient()] * 3), photometric="rgb")
    monkeypatch.delattr(TiffImagePlugin.TiffImageFile, "n_frames")
    with pytest.raises(OSError, match=r"a\.tif: expected one picture, got an animation or a stack of pages"):
        images.read(tmp_path / "a.tif")


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_broken_exif_tag_costs_that_tag_alone(tmp_path, orientation):
    maker, iso = b"Maker\0", struct.pack("<HHHIII", 1, 0x8827, 3, 1, 3200, 0)
    # Entries of 12 bytes from 10 on: tag, type (2 ASCII, 3 short, 4 long, 5 a fraction), count, value or place.
    entries = [
        (0x010F, 2, 6, 100), (0x0112, 3, 1, orientation), (0x0128, 5, 1, 110),  # a unit of resolution is no fraction
        (0x8769, 4, 1, 120),
    ]  # fmt: skip
    data = b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    data = data.ljust(100, b"\0") + maker.ljust(10, b"\0") + struct.pack("<II", 1, 2).ljust(10, b"\0") + iso
    Image.fromarray(gradient()).save(tmp_path / "a.png", exif=b"Exif\0\0" + data)
    picture = images.read(tmp_path / "a.png")
    assert np.array_equal(picture.pixels, gradient() if orientation == 1 else gradient().swapaxes(0, 1)[:, ::-1])
    for suffix in (".jpg", ".tif"):
        images.write(picture, tmp_path / f"b{suffix}")
        with Image.open(tmp_path / f"b{suffix}") as image:
            assert image.getexif()[ExifTags.Base.Make] == "Maker"
            assert image.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ISOSpeedRatings] == 3200
            assert image.getexif().get(ExifTags.Base.Orientation, 1) == 1


def test_what_a_format_has_no_room_for_is_named_with_its_file(tmp_path):
    wide = Picture(np.zeros((1, 66000, 3), np.uint8))
    for suffix, words in ((".webp", "WEBP: .*16383"), (".jpg", "JPEG: ")):
        with pytest.raises(ValueError, match=f"a{suffix}: 66000 x 1 pixels can't be written as {words}"):
            images.write(wide, tmp_path / f"a{suffix}")
    (tmp_path / "cut.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(9))
    with pytest.raises(OSError, match=r"cut\.heic: ") as refused:
        images.read(tmp_path / "cut.heic")
    assert len(str(refused.value).splitlines()) == 1
    (tmp_path / "cut.heic").unlink()
    for channels in (2, 4):
        values = gradient(channels)
        transparent = Picture(np.repeat(values[..., :1], 3, 2), channels == 2, values[..., -1])
        with pytest.raises(ValueError, match=r"a\.bmp: BMP can't hold transparency"):
            images.write(transparent, tmp_path / "a.bmp")
    assert not list(tmp_path.iterdir())


def test_a_phones_second_picture_is_left_out(tmp_path):
    first, second = Image.fromarray(gradient()), Image.fromarray(gradient()[::-1])
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[second], quality=100)
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.format == "MPO"
    picture = images.read(tmp_path / "a.jpg")
    images.write(picture, tmp_path / "b.jpg")
    with Image.open(tmp_path / "b.jpg") as image:
        assert image.format == "JPEG"


def test_find(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.jpg", "d/b.PNG", "d/e/c.tif", "d/.hidden/x.png", "d/.y.png", "d/notes.txt", "odd[1].jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [str(f.path) for f in images.find(["d"])] == ["d/b.PNG", "d/e/c.tif"]
    assert [str(f.place) for f in images.find(["d", "a.jpg"])] == ["b.PNG", "e/c.tif", "a.jpg"]
    assert [str(f.path) for f in images.find(["*.jpg", "a.jpg"])] == ["a.jpg", "odd[1].jpg"]
    assert [str(f.path) for f in images.find(["d/**/*.tif"])] == ["d/e/c.tif"]
    assert [str(f.path) for f in images.find(["odd[1].jpg"])] == ["odd[1].jpg"]
    with pytest.raises(FileNotFoundError, match="no such file or folder: none"):
        images.find(["none"])


def test_a_failed_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.txt"
    atomic.write_text(path, "before")
    assert os.stat(path).st_mode & 0o777 == 0o666 & ~atomic._umask()

    def full_disk():
        with atomic.replacing(path) as temporary:
            temporary.write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        full_disk()
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_jpeg_of_endless_scans_is_refused():
    progressive = io.BytesIO()
    # What is no scan may look like one: a comment, and what phones append.
    Image.fromarray(gradient()).save(progressive, "JPEG", progressive=True, comment=b"\xff\xda" * 200)
    whole = progressive.getvalue()
    appended = whole + b"\xff\xda\0\2" * 200
    assert images.decode(appended, "a.jpg").pixels.shape == (HEIGHT, WIDTH, 3)
    last = whole[whole.rindex(b"\xff\xda") : -2]
    with pytest.raises(OSError, match=r"a\.jpg: expected at most 100 scans"):
        images.decode(whole[:-2] + 100 * last + whole[-2:], "a.jpg")


def test_to_ask_for_the_umask_changes_nothing(monkeypatch, tmp_path):
    if not os.path.exists("/proc/self/status"):
        pytest.skip("the system does not say")
    mask = os.umask(0o027)
    try:
        monkeypatch.delattr(os, "umask")
        atomic.write_text(tmp_path / "a.txt", "mine")
    finally:
        monkeypatch.undo()
        os.umask(mask)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640


def test_an_interrupt_before_the_first_byte_leaves_no_file(monkeypatch, tmp_path):
    lock = locks.lock

    def interrupted(descriptor: int, **options):
        lock(descriptor, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(locks, "lock", interrupted)
    with pytest.raises(KeyboardInterrupt):
        atomic.write_text(tmp_path / "a.txt", "mine")
    assert not list(tmp_path.iterdir())


_WRITING = """
import pathlib, sys
from zdce.runtime import atomic
with atomic.replacing(pathlib.Path("photo.jpg")) as temporary:
    temporary.write_text("half")
    print(temporary.name, flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_process_left_goes_and_nothing_else(tmp_path):
    own = [".photo-abcdefgh.jpg", ".photo-abcdefgh.zdce-notes.jpg", "photo-abcdefgh.zdce-01234567.jpg", ".zdce-01234567.jpg"]
    elsewhere = ".photo-abcdefgh.zdce-01234567.jpg"  # of another machine that shares the folder
    for name in (*own, elsewhere):
        (tmp_path / name).touch()
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", _WRITING], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    try:
        dead, alive = (writer.stdout.readline().strip() for writer in writers)
        writers[0].kill()
        writers[0].wait()
        assert (tmp_path / dead).read_text() == "half"
        (tmp_path / ".link-abcdefgh.zdce-01234567.jpg").symlink_to(tmp_path / own[0])
        atomic.write_text(tmp_path / "other.txt", "")
        left = {path.name for path in tmp_path.iterdir()}
        assert left == {*own, elsewhere, alive, "other.txt", ".link-abcdefgh.zdce-01234567.jpg"}
        writers[1].communicate("")
        assert (tmp_path / "photo.jpg").read_text() == "half"
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()
    os.utime(tmp_path / elsewhere, (0, 0))
    atomic._sweep.cache_clear()
    atomic.write_text(tmp_path / "other.txt", "")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {*own, "photo.jpg", "other.txt", ".link-abcdefgh.zdce-01234567.jpg"}


@pytest.mark.parametrize("options", [{"byteorder": "<"}, {"byteorder": ">"}, {"byteorder": "<", "bigtiff": True}], ids=str)
def test_a_tiff_of_endless_strips_is_refused(options):
    for rows in (10, (1 << 18) + 1):
        encoded = io.BytesIO()
        tifffile.imwrite(encoded, np.zeros((rows, 1), np.uint8), rowsperstrip=1, metadata=None, **options)
        if rows == 10:
            assert images.decode(encoded.getvalue(), "a.tif").pixels.shape == (10, 1, 3)
        else:
            with pytest.raises(OSError, match=r"a\.tif: expected at most 262144 strips or tiles, got 262145"):
                images.decode(encoded.getvalue(), "a.tif")


@pytest.mark.parametrize("options", [{"byteorder": "<"}, {"byteorder": ">"}, {"byteorder": "<", "bigtiff": True}], ids=str)
def test_a_tiff_of_a_giant_tile_or_of_many_planes_is_refused(options):
    def tiff(pixels, **more):
        encoded = io.BytesIO()
        tifffile.imwrite(encoded, pixels, photometric="rgb", compression="zlib", metadata=None, **options, **more)
        return encoded.getvalue()

    small, wide = np.zeros((20, 30, 3), np.uint16), np.zeros((16, 4400, 3), np.uint8)
    for pixels, tile in ((small, (4096, 16)), (wide, (16, 4400))):
        assert images.decode(tiff(pixels, tile=tile), "a.tif").pixels.shape == pixels.shape
    with pytest.raises(OSError, match=r"a\.tif: expected tiles of at most 4096 pixels a side, got 4112"):
        images.decode(tiff(small, tile=(4112, 16)), "a.tif")
    # The same as a signed number, which libtiff takes too.
    giant, form = tiff(small, tile=(4112, 16)), options["byteorder"] + "HH"
    (kind,) = (kind for kind in (3, 4) if struct.pack(form, 323, kind) in giant)
    signed = giant.replace(struct.pack(form, 323, kind), struct.pack(form, 323, 9))
    # A short one is in the first half of its field, which has the same meaning for a long one only if it is the low half.
    side = 4112 << (16 if kind == 3 and options["byteorder"] == ">" else 0)
    with pytest.raises(OSError, match=rf"a\.tif: expected tiles of at most 4096 pixels a side, got {side}"):
        images.decode(signed, "a.tif")
    volume = tiff(np.zeros((3, 32, 48, 3), np.uint16), volumetric=True, rowsperstrip=32)
    with pytest.raises(OSError, match=r"a\.tif: expected one picture, got 3 as a volume"):
        images.decode(volume, "a.tif")


def test_a_long_directory_hides_no_endless_strips():
    entries = [struct.pack("<HHII", 65000, 3, 1, 0)] * 5000 + [struct.pack("<HHII", 273, 4, (1 << 18) + 1, 8)]
    tiff = struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + b"".join(entries)
    with pytest.raises(OSError, match=r"a\.tif: expected at most 262144 strips or tiles, got 262145"):
        images.decode(tiff, "a.tif")


def test_names_as_long_as_names_may_be(tmp_path):
    path = tmp_path / f"{'n' * 251}.png"
    images.write(Picture(gradient()), path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_panoramas_are_above_pillows_limit(tmp_path, monkeypatch):
    Image.new("L", (30, 20)).save(tmp_path / "panorama.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert images.read(tmp_path / "panorama.png").pixels.shape == (20, 30, 3)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_more_pixels_than_memory_are_refused(tmp_path):
    Image.new("L", (30, 20)).save(tmp_path / "bomb.png")
    data = bytearray((tmp_path / "bomb.png").read_bytes())
    data[16:24] = (40000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    (tmp_path / "bomb.png").write_bytes(data)
    with pytest.raises(OSError, match=r"bomb\.png: expected at most 1073741824 pixels, got 40000 x 40000"):
        images.read(tmp_path / "bomb.png")
