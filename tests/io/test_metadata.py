"""Metadata of picture files: kept byte for byte except for necessary changes; omissions are named."""

import hashlib
import io
import os
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image, ImageOps
from test_images import gradient

import zdce
from zdce.errors import InputError
from zdce.io import exif, formats, images, isobmff, jpeg, tiff, xmp
from zdce.io.directories import Block
from zdce.io.picture import Picture

COPYRIGHT = "© José".encode()
NOTE = 150  # where the maker's note begins


def exif_block(orientation=1, order="<", size=(40, 30), thumbnail=b""):
    """A block with text that is not ASCII, a note that names a place of the whole block, and sides of the picture."""

    def entry(tag, kind, count, value):
        return struct.pack(order + "HHI", tag, kind, count) + (
            struct.pack(order + "HH", value, 0) if kind == 3 else struct.pack(order + "I", value)
        )

    # Types: 2 ASCII, 3 SHORT, 4 LONG, 7 UNDEFINED.
    first = [entry(0x0112, 3, 1, orientation), entry(0x8298, 2, len(COPYRIGHT), 90), entry(0x8769, 4, 1, 100)]
    own = [entry(0x927C, 7, 30, NOTE), entry(0xA002, 3, 1, size[0]), entry(0xA003, 4, 1, size[1])]
    # A directory of one entry whose 4 shorts lie at a place of the block, inside of the note.
    note = struct.pack(order + "H", 1) + entry(0x0001, 3, 4, NOTE + 18) + bytes(4) + struct.pack(order + "4H", 7, 8, 9, 10)
    data = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    data += struct.pack(order + "H", len(first)) + b"".join(first) + struct.pack(order + "I", 180 if thumbnail else 0)
    data = data.ljust(90, b"\0") + COPYRIGHT
    data = data.ljust(100, b"\0") + struct.pack(order + "H", len(own)) + b"".join(own) + bytes(4)
    data = data.ljust(NOTE, b"\0") + note.ljust(30, b"\0")
    if thumbnail:
        data += struct.pack(order + "H", 2) + entry(0x0201, 4, 1, 210) + entry(0x0202, 4, 1, len(thumbnail)) + bytes(4)
        data += thumbnail
    return data


def kept(path):
    """EXIF's block in a file that was written."""
    return exif.block(images.read(path).metadata["exif"])


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".avif", ".heic", ".tif"])
def test_exif_is_kept_byte_for_byte(tmp_path, suffix, order):
    block = exif_block(order=order)
    images.write(Picture(np.zeros((30, 40, 3), np.uint8), metadata={"exif": exif.PREFIX + block}), tmp_path / f"a{suffix}")
    if suffix == ".tif":  # a directory of its own, around the same values at the same places
        file = Block((tmp_path / "a.tif").read_bytes())
        own = file.below(file.first, 0x8769)
        note = file.find(own, 0x927C)
        assert (file.order, note.value, file.bytes(note)) == (order, NOTE, block[NOTE : NOTE + 30])
        assert file.bytes(file.find(file.first, 0x8298)) == COPYRIGHT
    elif suffix == ".avif":  # without the orientation, which it says elsewhere
        assert block[62:] == kept(tmp_path / "a.avif")[62:]
    else:
        assert kept(tmp_path / f"a{suffix}") == block
    for last in (".jpg", ".tif", ".png"):
        images.write(images.read(tmp_path / f"a{suffix}"), tmp_path / f"b{last}")
        opened = Block(kept(tmp_path / f"b{last}"))
        note = opened.find(opened.below(opened.first, 0x8769), 0x927C)
        assert (note.value, opened.bytes(note)) == (NOTE, block[NOTE : NOTE + 30])
        assert opened.bytes(opened.find(opened.first, 0x8298)) == COPYRIGHT


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_only_what_turning_makes_wrong_changes(tmp_path, orientation, order):
    before = exif_block(orientation, order)
    Image.new("RGB", (40, 30), (9, 20, 9)).save(tmp_path / "a.jpg", exif=exif.PREFIX + before)
    images.write(images.read(tmp_path / "a.jpg"), tmp_path / "b.jpg")
    after, turned = kept(tmp_path / "b.jpg"), orientation >= 5
    opened = Block(after)
    own = opened.below(opened.first, 0x8769)
    sides = [opened.number(opened.find(own, tag), 0) for tag in (0xA002, 0xA003)]
    with Image.open(tmp_path / "b.jpg") as image:
        assert sides == list(image.size) == ([30, 40] if turned else [40, 30])
    assert opened.number(opened.find(opened.first, 0x0112), 0) == 1
    changed = {at for at, (a, b) in enumerate(zip(before, after, strict=True)) if a != b}
    allowed = {18, 19} | (set(range(116, 138)) if turned else set())
    assert changed <= allowed


def test_a_thumbnail_goes_and_the_rest_stays(tmp_path):
    thumbnail = io.BytesIO()
    Image.new("RGB", (8, 6)).save(thumbnail, "JPEG")
    data = exif_block(thumbnail=thumbnail.getvalue())
    Image.new("RGB", (40, 30)).save(tmp_path / "a.jpg", exif=exif.PREFIX + data)
    images.write(images.read(tmp_path / "a.jpg"), tmp_path / "b.jpg")
    after = kept(tmp_path / "b.jpg")
    assert after == exif_block()[:180]
    assert thumbnail.getvalue() not in (tmp_path / "b.jpg").read_bytes()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "packbits", "zstd", "lzma"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_compressed_tiffs_keep_exif_and_gps(tmp_path, compression, dtype, order):
    pixels = gradient(3, 8 * np.dtype(dtype).itemsize)
    plain = Image.Exif()
    plain.endian = order
    plain[0x010F] = "Maker"
    plain.get_ifd(0x8769)[0x8827] = 3200
    plain.get_ifd(0x8825)[1] = "N"
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", compression=compression, metadata=None, byteorder=order)
    whole, _ = tiff.with_metadata((tmp_path / "a.tif").read_bytes(), {"exif": plain.tobytes(), "xmp": b"<x/>"})
    (tmp_path / "a.tif").write_bytes(whole)
    picture = images.read(tmp_path / "a.tif")
    assert np.array_equal(picture.pixels, pixels)
    assert images.write(picture, tmp_path / "b.tif") == []
    with Image.open(tmp_path / "b.tif") as image:
        assert image.getexif()[0x010F] == "Maker"
        assert image.getexif().get_ifd(0x8769)[0x8827] == 3200
        assert image.getexif().get_ifd(0x8825)[1] == "N"
        assert (image.info["compression"] == "raw") == (compression is None)
    assert np.array_equal(images.read(tmp_path / "b.tif").pixels, pixels)
    assert images.read(tmp_path / "b.tif").metadata["xmp"] == b"<x/>"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("order", ["<", ">"])
def test_grey_tiffs_take_the_byte_order_of_their_exif(tmp_path, dtype, order):
    grey = gradient(1, 8 * np.dtype(dtype).itemsize)
    block = exif.PREFIX + exif_block(order=order)
    images.write(Picture(np.repeat(grey, 3, 2), grey=True, metadata={"exif": block}), tmp_path / "a.tif")
    assert np.array_equal(images.read(tmp_path / "a.tif").pixels[..., :1], grey)
    assert np.array_equal(tifffile.imread(tmp_path / "a.tif"), grey[..., 0])


@pytest.mark.parametrize("bits", [9, 10, 12, 14])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("packed", [True, False])
def test_other_depths_are_scaled_by_their_own_white(tmp_path, bits, channels, packed):
    white = (1 << bits) - 1
    levels = np.linspace(0, white, 13 * 20 * channels).round().astype(np.uint16).reshape(13, 20, channels)
    kind = "rgb" if channels == 3 else "minisblack"
    stored = levels if channels == 3 else levels[..., 0]
    if packed:
        tifffile.imwrite(tmp_path / "a.tif", stored, photometric=kind, bitspersample=bits, metadata=None)
    else:  # in 16 bits, of which the file says how many count
        tifffile.imwrite(tmp_path / "a.tif", stored, photometric=kind, extratags=[(281, 3, 1, white, True)], metadata=None)
    picture = images.read(tmp_path / "a.tif")
    assert picture.grey == (channels == 1)
    assert np.abs(picture.pixels - levels * (65535 / white)).max() <= 0.5
    assert picture.pixels.min() == 0
    assert picture.pixels.max() == 65535
    assert images.decode((tmp_path / "a.tif").read_bytes(), "a").notes == ((f"its {bits} bits became 16",) if packed else ())
    if packed:  # the same bits, each sample in two bytes
        data = (tmp_path / "a.tif").read_bytes()
        tifffile.imwrite(tmp_path / "w.tif", stored, photometric=kind, metadata=None)
        words = bytearray((tmp_path / "w.tif").read_bytes())
        entry = Block(words).find(Block(words).first, 258)
        struct.pack_into(f"<{entry.length}H", words, entry.value, *[bits] * entry.length)
        assert len(words) > len(data)
        assert np.array_equal(images.decode(bytes(words), "words").pixels, picture.pixels)


def test_whites_and_blacks_of_dng_count_and_odd_ones_are_refused(tmp_path):
    levels = np.uint16([[[100, 100, 100], [2100, 2100, 2100], [4100, 4100, 4100]]])
    tags = [(50714, 3, 1, 100, True), (50717, 3, 1, 4100, True)]
    tifffile.imwrite(tmp_path / "a.tif", levels, photometric="rgb", extratags=tags, metadata=None)
    assert images.read(tmp_path / "a.tif").pixels[0, :, 0].tolist() == [0, 32768, 65535]
    tifffile.imwrite(tmp_path / "32.tif", np.uint32([[0, 60000]]), metadata=None)
    tifffile.imwrite(tmp_path / "signed.tif", np.int8([[0, 100]]), metadata=None)
    tifffile.imwrite(tmp_path / "cfa.tif", np.uint16([[0, 4095]]), photometric="cfa", bitspersample=12, metadata=None)
    for name in ("32.tif", "signed.tif", "cfa.tif"):
        with pytest.raises(OSError, match=f"{name}: "):
            images.read(tmp_path / name)


def packet(more=b""):
    return (
        b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="5"' + more +
        b"/></rdf:RDF></x:xmpmeta>\n" + b" " * 60 + b'<?xpacket end="w"?>'
    )  # fmt: skip


IPTC = b"\x1c\x02\x19\0\x05night"
RESOURCES = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(IPTC)) + IPTC


@pytest.mark.parametrize("suffix", sorted(formats.SUFFIXES))
def test_a_description_is_kept_or_named(tmp_path, suffix):
    metadata = {"xmp": packet(), "photoshop": RESOURCES, "comments": (b"a comment",)}
    metadata["chunks"] = ((b"tEXt", b"Title\0Night"),)
    notes = images.write(Picture(np.zeros((32, 32, 3), np.uint8), metadata=metadata), tmp_path / f"a{suffix}")
    again = images.read(tmp_path / f"a{suffix}")
    form = formats.of_suffix(tmp_path / f"a{suffix}").name
    words = {"xmp": "XMP", "photoshop": "IPTC", "comments": "comment", "chunks": "'Title'"}
    for key, word in words.items():
        named = any(word in note for note in notes)
        same = again.metadata.get(key) == metadata[key]
        if (form, key) == ("PNG", "comments"):
            assert (b"tEXt", b"Comment\0a comment") in again.metadata["chunks"]
        elif (form, key) == ("PNG", "chunks"):
            assert metadata[key][0] in again.metadata[key]
        else:
            assert same != named, (key, notes)


def test_iptc_goes_between_jpeg_and_tiff(tmp_path):
    pixels = np.zeros((32, 32, 3), np.uint8)
    images.write(Picture(pixels, metadata={"iptc": IPTC}), tmp_path / "a.jpg")
    assert images.read(tmp_path / "a.jpg").metadata["photoshop"] == RESOURCES
    images.write(images.read(tmp_path / "a.jpg"), tmp_path / "b.tif")
    assert images.read(tmp_path / "b.tif").metadata["iptc"] == IPTC


def test_more_than_64_kib_go_into_several_segments_of_a_jpeg(tmp_path):
    note = os.urandom(150_000)
    block = exif_block() + note
    many = packet(b' xmp:Label="' + b"x" * 200_000 + b'"')
    images.write(Picture(np.zeros((8, 8, 3), np.uint8), metadata={"exif": block, "xmp": many}), tmp_path / "a.jpg")
    again = images.read(tmp_path / "a.jpg")
    assert exif.block(again.metadata["exif"]) == block
    rest = again.metadata["extended_xmp"]
    assert hashlib.md5(rest).hexdigest().upper().encode() in again.metadata["xmp"]
    assert rest in many
    images.write(again, tmp_path / "b.jpg")
    assert images.read(tmp_path / "b.jpg").metadata == again.metadata
    # Formats without that limit have one packet.
    images.write(again, tmp_path / "b.png")
    assert b"x" * 200_000 in images.read(tmp_path / "b.png").metadata["xmp"]
    assert b"HasExtended" not in images.read(tmp_path / "b.png").metadata["xmp"]


GAIN = b' xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0"'
MOTION = b' xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" GCamera:MotionPhoto="1" GCamera:MotionPhotoVersion="1"'


ISO_GAIN_MAP = struct.pack(">HH28s4x", 0xFFE2, 34, b"urn:iso:std:iso:ts:21496:-1")


def jpeg_bytes(value=20, **options):
    data = io.BytesIO()
    Image.new("RGB", (32, 32), (value,) * 3).save(data, "JPEG", **options)
    return data.getvalue()


@pytest.mark.parametrize(
    ("data", "note"),
    [
        (jpeg_bytes(xmp=packet(GAIN)) + jpeg_bytes(xmp=packet(GAIN)), "gain map"),
        (jpeg_bytes() + jpeg_bytes(9) + jpeg_bytes(8), "2 further pictures"),
        (jpeg_bytes()[:2] + ISO_GAIN_MAP + jpeg_bytes()[2:] + jpeg_bytes(9), "gain map"),
        (jpeg_bytes()[:2] + b"\xff\xeb\0\x0aJP\0\1\0\0\0\1" + jpeg_bytes()[2:], "content credentials (C2PA)"),
        (jpeg_bytes(xmp=packet(MOTION)) + b"\0\0\0\x18ftypmp42" + bytes(99), "motion photo's video"),
        (jpeg_bytes() + b"what else there may be", "22 bytes behind the picture's end"),
    ],
)
def test_what_lies_behind_a_picture_is_named_and_nothing_points_at_it(tmp_path, data, note):
    (tmp_path / "a.jpg").write_bytes(data)
    picture = images.read(tmp_path / "a.jpg")
    assert picture.notes == (f"{note} left out",)
    images.write(picture, tmp_path / "b.jpg")
    written = (tmp_path / "b.jpg").read_bytes()
    for name in (b"hdrgm", b"MotionPhoto", b"ftyp", b"21496", b"JP\0\1"):
        assert name not in written
    assert (b'Rating="5"' in data) == (b'Rating="5"' in written)
    assert images.read(tmp_path / "b.jpg").notes == ()


def test_further_pictures_of_heic_are_named(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    frames = [Image.new("RGB", (64, 64), (10 * n + 9,) * 3) for n in range(3)]
    file = heif.from_pillow(frames[0])
    for frame in frames[1:]:
        file.add_from_pillow(frame)
    file.save(tmp_path / "a.heic")
    assert images.read(tmp_path / "a.heic").notes == ("2 further pictures left out",)


def test_xmp_says_how_the_picture_lies_no_more(tmp_path):
    turned = packet(
        b' xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6" tiff:ImageWidth="40" tiff:ImageLength="30"'
    )
    (tmp_path / "a.jpg").write_bytes(jpeg_bytes(xmp=turned))
    after = images.read(tmp_path / "a.jpg").metadata["xmp"]
    assert b'Orientation="1"' in after
    assert b'ImageWidth="30"' in after
    straight = packet(b' xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="1"')
    (tmp_path / "a.jpg").write_bytes(jpeg_bytes(xmp=straight))
    assert images.read(tmp_path / "a.jpg").metadata["xmp"] == straight


def region_forms(x, y, w, h, across, down):
    """The same face as programs write it: properties as attributes and as elements, centres, and Microsoft's corners."""
    spaces = (
        'xmlns:rs="http://www.metadataworkinggroup.com/schemas/regions/" xmlns:stArea="http://ns.adobe.com/xmp/sType/Area#" '
        'xmlns:stDim="http://ns.adobe.com/xap/1.0/sType/Dimensions#" xmlns:P="http://ns.microsoft.com/photo/1.2/t/Region#"'
    )
    area, dimensions = {"x": x, "y": y, "w": w, "h": h}, {"w": across, "h": down}
    corner = f"{x - w / 2:.6g}, {y - h / 2:.6g}, {w:.6g}, {h:.6g}"

    def attributes(prefix, values):
        return " ".join(f'{prefix}:{name}="{value:.6g}"' for name, value in values.items())

    def elements(prefix, values):
        return "".join(f"<{prefix}:{name}>{value:.6g}</{prefix}:{name}>" for name, value in values.items())

    for inner in (
        f"<rs:AppliedToDimensions {attributes('stDim', dimensions)}/><rs:Area {attributes('stArea', area)}/>",
        f"<rs:AppliedToDimensions>{elements('stDim', dimensions)}</rs:AppliedToDimensions>"
        f"<rs:Area>{elements('stArea', area)}</rs:Area>",
        f'<rdf:Description P:Rectangle="{corner}" P:PersonDisplayName="A"/>',
        f"<P:Rectangle>{corner}</P:Rectangle>",
    ):
        yield (
            f'<x:xmpmeta xmlns:x="adobe:ns:meta/" {spaces} xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
            f"<rdf:RDF>{inner}</rdf:RDF></x:xmpmeta>"
        ).encode()


@pytest.mark.parametrize("turn", range(1, 9))
def test_regions_of_faces_turn_with_the_picture(turn):
    """A face from column 4 to 12 and row 6 to 8 of 40x20 pixels; where it is when upright, Pillow says."""
    stored = np.zeros((20, 40, 3), np.uint8)
    stored[6:8, 4:12] = 255
    image = Image.fromarray(stored)
    image.getexif()[ExifTags.Base.Orientation] = turn
    upright = np.asarray(ImageOps.exif_transpose(image))[..., 0]
    rows, columns = (np.flatnonzero(upright.any(axis)) for axis in (1, 0))
    height, width = upright.shape
    box = (
        (columns[0] + columns[-1] + 1) / 2 / width,
        (rows[0] + rows[-1] + 1) / 2 / height,
        len(columns) / width,
        len(rows) / height,
    )
    for before, after in zip(region_forms(0.2, 0.35, 0.2, 0.1, 40, 20), region_forms(*box, width, height), strict=True):
        assert xmp.cleaned(before, turn) == after


def test_regions_that_are_no_numbers_are_not_passed_on():
    broken = next(region_forms(0.2, 0.35, 0.2, 0.1, 40, 20)).replace(b'x="0.2"', b'x="left"')
    assert xmp.cleaned(broken, 6) == b""
    assert xmp.cleaned(broken, 1) == broken


@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_few_bits_of_grey_that_become_8_are_said(tmp_path, bits, suffix):
    levels = np.tile(np.arange(2**bits), (8, 4)).astype(np.uint8)
    if suffix == ".png":
        write_png(tmp_path / "a.png", levels, bits)
    else:
        image = Image.fromarray(levels * (255 // (2**bits - 1)))
        packed = np.packbits(np.unpackbits(levels[..., None], axis=2)[..., 8 - bits :].reshape(8, -1), axis=1)
        tags = {256: image.width, 257: image.height, 258: bits, 259: 1, 262: 1, 273: 0, 277: 1, 278: 8, 279: packed.size}
        write_tiff(tmp_path / "a.tif", tags, packed.tobytes())
    picture = images.read(tmp_path / f"a{suffix}")
    assert np.array_equal(picture.pixels[..., 0], levels * (255 // (2**bits - 1)))
    assert images.write(picture, tmp_path / f"b{suffix}") == [f"its {bits} bits became 8"]
    assert np.array_equal(images.read(tmp_path / f"b{suffix}").pixels, picture.pixels)


def write_png(path, levels, bits):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = np.packbits(np.unpackbits(levels[..., None], axis=2)[..., 8 - bits :].reshape(len(levels), -1), axis=1)
    head = struct.pack(">IIBBBBB", levels.shape[1], levels.shape[0], bits, 0, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b""))


def write_tiff(path, tags, data):
    start = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, start if tag == 273 else value) for tag, value in tags.items())
    path.write_bytes(struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4) + data)


def test_the_sources_own_kind_is_the_default(tmp_path):
    noise = np.random.default_rng(0).integers(0, 50, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.webp", lossless=True)
    images.write(images.read(tmp_path / "a.webp"), tmp_path / "b.webp")
    assert np.array_equal(images.read(tmp_path / "b.webp").pixels, noise)
    Image.fromarray(noise).save(tmp_path / "a.jpg", quality=61, progressive=True, subsampling="4:2:0")
    images.write(images.read(tmp_path / "a.jpg"), tmp_path / "b.jpg")
    before, after = (images.read(tmp_path / name).stored for name in ("a.jpg", "b.jpg"))
    assert before == after
    assert before.progressive
    for mode, colours in (("1", 2), ("P", 16)):
        image = (
            Image.fromarray(noise).quantize(colours) if mode == "P" else Image.fromarray(noise[..., 0] % 2 * 255).convert("1")
        )
        image.save(tmp_path / "a.png")
        picture = images.read(tmp_path / "a.png")
        assert images.write(picture, tmp_path / "b.png") == []
        with Image.open(tmp_path / "b.png") as again:
            assert again.mode == mode
            assert np.array_equal(np.asarray(again.convert("RGB")), picture.pixels)
    notes = images.write(picture.with_pixels(noise), tmp_path / "c.png")
    assert notes == ["its palette became full colour: there are more than 256 now"]


def test_palettes_keep_their_opacity(tmp_path):
    image = Image.fromarray(gradient()).quantize(8)
    image.save(tmp_path / "a.png", transparency=3)
    picture = images.read(tmp_path / "a.png")
    images.write(picture, tmp_path / "b.png")
    again = images.read(tmp_path / "b.png")
    assert np.array_equal(again.alpha, picture.alpha)
    assert np.array_equal(again.pixels, picture.pixels)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp", ".avif", ".heic"])
def test_broken_descriptions_are_no_bugs(tmp_path, suffix):
    """Files with random bytes changed are read, or refused as files."""
    metadata = {"exif": exif.PREFIX + exif_block(), "xmp": packet(GAIN), "comments": (b"c",), "photoshop": RESOURCES}
    images.write(Picture(np.zeros((16, 16, 3), np.uint8), metadata=metadata), tmp_path / f"a{suffix}")
    whole, random = (tmp_path / f"a{suffix}").read_bytes(), np.random.default_rng(1)
    for _ in range(150):
        data = bytearray(whole)
        for at in random.integers(0, len(data), 4):
            data[at] = random.integers(0, 256)
        try:
            picture = images.decode(bytes(data), "a")
            for last in (".jpg", ".tif", ".png", ".avif"):
                images.check(picture, tmp_path / f"b{last}")
        except (OSError, InputError):
            continue
        for last in (".jpg", ".tif", ".png", ".avif"):
            images.encode(picture, tmp_path / f"b{last}")


def test_an_inflating_text_is_bounded():
    bomb = zlib.compress(bytes(1 << 28))
    data = io.BytesIO()
    Image.new("RGB", (4, 4)).save(data, "PNG")
    chunk = b"iTXtXML:com.adobe.xmp\0\1\0\0\0" + bomb
    whole = data.getvalue()
    whole = whole[:33] + struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + whole[33:]
    assert len(images.decode(whole, "a").metadata.get("xmp", b"")) <= 1 << 26


def test_segments_that_are_not_known_stay(tmp_path):
    data = jpeg_bytes()
    thermal = struct.pack(">BBH", 0xFF, 0xE4, 8) + b"THERMO"
    (tmp_path / "a.jpg").write_bytes(data[:2] + thermal + data[2:])
    images.write(images.read(tmp_path / "a.jpg"), tmp_path / "b.jpg")
    assert thermal in (tmp_path / "b.jpg").read_bytes()
    assert [segment.marker for segment in jpeg.segments((tmp_path / "b.jpg").read_bytes())].count(0xE4) == 1


def test_python_is_told_what_is_left_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jpg").write_bytes(jpeg_bytes() + jpeg_bytes(9))
    with pytest.warns(UserWarning, match="b.jpg: further picture left out"):
        zdce.enhance("a.jpg", output="b.jpg")
    images.write(Picture(np.zeros((8, 8, 3), np.uint16)), tmp_path / "deep.png")
    assert images.write(images.read(tmp_path / "deep.png"), tmp_path / "flat.jpg") == ["its 16 bits became 8"]


def test_long_texts_and_profiles_cost_a_png_nothing(tmp_path):
    profile, words = os.urandom(3_000_000), b"Title\0" + b"x" * 3_000_000
    picture = Picture(np.zeros((8, 8, 3), np.uint8), metadata={"icc_profile": profile, "chunks": ((b"tEXt", words),)})
    picture.metadata["xmp"] = packet(b' xmp:Label="' + b"x" * 3_000_000 + b'"')
    images.write(picture, tmp_path / "a.png")
    assert images.read(tmp_path / "a.png").metadata == picture.metadata


def box(kind, *content):
    """A box of ISO's base media files."""
    data = b"".join(content)
    return struct.pack(">I", len(data) + 8) + kind + data


def full(kind, *content, version=0):
    """A box with a version."""
    return box(kind, bytes([version, 0, 0, 0]), *content)


def gain_map_avif():
    """The boxes of a file of four pictures: the photograph, its gain map with a tone-mapped one of both, and a depth map."""
    kinds = {1: b"av01", 2: b"av01", 3: b"tmap", 4: b"av01"}
    infos = [full(b"infe", struct.pack(">HH", n, 0), kind, b"\0", version=2) for n, kind in kinds.items()]
    depth = full(b"auxC", b"urn:mpeg:hevc:2015:auxid:2 depth\0")
    colour = box(b"colr", b"nclx", struct.pack(">HHHB", 12, 13, 6, 0x80))
    meta = full(
        b"meta",
        full(b"pitm", struct.pack(">H", 1)),
        full(b"iinf", struct.pack(">H", len(infos)), *infos),
        full(b"iref", box(b"dimg", struct.pack(">4H", 3, 2, 1, 2)), box(b"auxl", struct.pack(">3H", 4, 1, 1))),
        box(b"iprp", box(b"ipco", depth, colour),
            full(b"ipma", struct.pack(">IHBBHBB", 2, 1, 1, 2, 4, 1, 1))),
    )  # fmt: skip
    return box(b"ftyp", b"avif\0\0\0\0avif") + meta + box(b"mpvd", b"film")


def test_what_avif_and_heic_hold_beside_the_picture_is_named():
    described, left_out = isobmff.carried(gain_map_avif())
    assert described["colour_tags"].cicp == (12, 13, 6, 1)
    assert sorted(left_out) == ["depth map left out", "gain map left out", "motion photo's video left out"]


@pytest.mark.parametrize("places", [b"", full(b"iloc", bytes(2), b"\xff\xff\xff\xff", version=2)], ids=["none", "wrong count"])
def test_metadata_whose_place_is_not_said_are_left_out(places):
    info = full(b"infe", struct.pack(">HH", 2, 0), b"Exif", b"\0", version=2)
    meta = full(b"meta", full(b"pitm", struct.pack(">H", 1)), full(b"iinf", struct.pack(">H", 1), info), places)
    described, left_out = isobmff.carried(box(b"ftyp", b"avif\0\0\0\0avif") + meta)
    assert "exif" not in described
    assert left_out == []


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_makers_note_that_moves_takes_its_places_along(tmp_path, order):
    """In a TIFF file whose note lies beyond all that a block may have: behind its pixels."""
    pixels = np.zeros((200, 200, 3), np.uint8)
    images.write(Picture(pixels, metadata={"exif": exif.PREFIX + exif_block(order=order)}), tmp_path / "a.tif")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    file = Block(data)
    entry = file.find(file.below(file.first, 0x8769), 0x927C)
    note, far = bytearray(file.bytes(entry)), len(data)
    assert far > 100_000
    struct.pack_into(order + "I", note, 10, far + 18)
    struct.pack_into(order + "I", data, entry.place + 8, far)
    picture = images.decode(bytes(data + note), "a")
    block = Block(exif.block(picture.metadata["exif"]))
    moved = block.find(block.below(block.first, 0x8769), 0x927C)
    (place,) = struct.unpack_from(order + "I", block.data, moved.value + 10)
    assert moved.value < 1000
    assert struct.unpack_from(order + "4H", block.data, place) == (7, 8, 9, 10)
    # Of one that is no directory, or names places elsewhere, not a byte changes.
    for other in (b"Nikon\0\2" + bytes(23), bytes(note[:10]) + struct.pack(order + "I", 5) + bytes(note[14:])):
        again = images.decode(bytes(data + other), "a")
        assert other in again.metadata["exif"]


@pytest.mark.parametrize("suffix", [".avif", ".heic"])
@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_turned_avif_and_heic_have_the_sides_that_they_show(tmp_path, suffix, orientation):
    formats.plug_ins()
    image = Image.new("RGB", (64, 48))
    image.paste((200, 200, 200), (0, 0, 32, 24))
    image.save(tmp_path / f"a{suffix}", exif=exif.PREFIX + exif_block(orientation, size=(64, 48)))
    picture = images.read(tmp_path / f"a{suffix}")
    sides = picture.pixels.shape[1::-1]
    assert sides == ((64, 48) if orientation == 3 else (48, 64))
    bright = np.argwhere(picture.pixels[..., 0] > 100).mean(axis=0) > np.array(picture.pixels.shape[:2]) / 2
    assert bright.tolist() == {3: [True, True], 6: [False, True], 8: [True, False]}[orientation]
    block = Block(exif.block(picture.metadata["exif"]))
    own = block.below(block.first, 0x8769)
    assert tuple(block.number(block.find(own, tag), 0) for tag in (0xA002, 0xA003)) == sides
    images.write(picture, tmp_path / "b.jpg")
    with Image.open(tmp_path / "b.jpg") as again:
        assert again.size == sides
        assert again.getexif().get(0x0112, 1) == 1


def test_the_profile_of_a_bmp_is_read_and_named_where_it_goes(tmp_path):
    data = io.BytesIO()
    Image.new("RGB", (2, 2), (40, 90, 60)).save(data, "BMP")
    pixels = data.getvalue()[54:]
    profile = os.urandom(300)
    head = bytearray(124)
    struct.pack_into("<IiiHHIIiiII", head, 0, 124, 2, 2, 1, 24, 0, len(pixels), 2835, 2835, 0, 0)
    head[56:60] = b"DEBM"
    struct.pack_into("<II", head, 112, 124 + len(pixels), len(profile))
    file = b"BM" + struct.pack("<IHHI", 138 + len(pixels) + len(profile), 0, 0, 138) + head + pixels + profile
    (tmp_path / "a.bmp").write_bytes(file)
    picture = images.read(tmp_path / "a.bmp")
    assert picture.metadata["icc_profile"] == profile
    assert images.write(picture, tmp_path / "b.png") == []
    assert images.write(picture, tmp_path / "b.bmp") == ["the colour profile left out: BMP has no place for it"]
