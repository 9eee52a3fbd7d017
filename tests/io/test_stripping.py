"""Metadata left out by ``strip``, and chroma subsampling, which is kept."""

import io
import struct
from fractions import Fraction
from xml.dom import minidom

import numpy as np
import pytest
from PIL import ExifTags, Image

import zdce
from zdce.io import exif, formats, images, stripping, xmp
from zdce.io.picture import Picture

XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/" '
    b'xmlns:dji="http://www.dji.com/drone-dji/1.0/" exif:GPSLatitude="52,5.1N" dji:GpsLongitude="+5.9" dc:format="kept">'
    b"<exif:GPSAltitude>9/1</exif:GPSAltitude></rdf:Description></rdf:RDF></x:xmpmeta>"
)
PLACE = {ExifTags.GPS.GPSLatitudeRef: "N", ExifTags.GPS.GPSLatitude: (52.0, 5.0, 7.25), ExifTags.GPS.GPSDateStamp: "1999:09:09"}

# The latitude's seconds, 7.25 as 29/4, and the date, as they lie in a block.
SECRETS = (struct.pack(">II", 29, 4), struct.pack("<II", 29, 4), b"1999:09:09", b"52,5.1N", b"+5.9", b"GPSAltitude")


@pytest.fixture(scope="module")
def described():
    """A picture with all that can be said of it, and its turning in EXIF."""
    block = Image.Exif()
    block[ExifTags.Base.Model] = "DCE-1"
    block[ExifTags.Base.Orientation] = 6
    block[ExifTags.Base.GPSInfo] = PLACE
    encoded = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 80, (24, 40, 3), np.uint8)
    Image.fromarray(pixels).save(encoded, "JPEG", exif=block, xmp=XMP, icc_profile=b"a profile", dpi=(72, 72), comment=b"mine")
    return images.decode(encoded.getvalue(), "described")


SUFFIXES = [".jpg", ".png", ".webp", ".tif", ".avif", ".heic"]


def written(picture, path, strip):
    if reason := formats.why_missing(path):
        pytest.skip(reason)
    images.write(picture, path, zdce.EnhanceSettings(strip=strip))
    return path.read_bytes(), images.read(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_byte_of_the_place_is_left_and_the_rest_stays(described, tmp_path, suffix):
    whole, before = written(described, tmp_path / f"a{suffix}", None)
    assert any(secret in whole for secret in SECRETS[:2])
    data, picture = written(described, tmp_path / f"b{suffix}", "gps")
    assert not [secret for secret in SECRETS if secret in data]
    block = Image.Exif()
    block.load(picture.metadata["exif"])
    assert block[ExifTags.Base.Model] == "DCE-1"
    assert not block.get_ifd(ExifTags.IFD.GPSInfo)
    assert b'dc:format="kept"' in picture.metadata["xmp"]
    for kind in ("icc_profile", "comments", "dpi", "chunks"):
        assert picture.metadata.get(kind) == before.metadata.get(kind)
    assert picture.pixels.shape == (40, 24, 3)
    assert np.array_equal(picture.pixels, before.pixels)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_only_the_colours_and_how_the_picture_lies_are_left(described, tmp_path, suffix):
    before = written(described, tmp_path / f"a{suffix}", None)[1]
    data, picture = written(described, tmp_path / f"b{suffix}", "all")
    assert not [secret for secret in (*SECRETS, b"DCE-1", b"mine", b"kept") if secret in data]
    assert set(picture.metadata) <= {"icc_profile", "colour_tags", "compression", "dpi"}
    assert picture.metadata["icc_profile"] == b"a profile"
    assert np.array_equal(picture.pixels, before.pixels)


def test_texts_of_a_png_that_name_a_place_go():
    chunks = ((b"tEXt", b"exif:GPSLatitude\0 52/1"), (b"tEXt", b"Author\0me"), (b"tIME", b"1234567"))
    picture = Picture(np.zeros((4, 4, 3), np.uint8), metadata={"chunks": chunks})
    assert stripping.stripped(picture, "gps").metadata["chunks"] == chunks[1:]
    assert stripping.stripped(picture, None) is picture


def test_maps_lose_where_they_lie_on_earth():
    entries = struct.pack("<HHIIHHI4s", 34735, 3, 3, 38, 0x0110, 2, 4, b"DCE\0")
    block = b"II*\0\x08\0\0\0\x02\0" + entries + bytes(4) + struct.pack("<3H", 4326, 7, 9)
    left = exif.without_place(block)
    assert struct.pack("<H", 4326) not in left
    opened = Image.Exif()
    opened.load(left)
    assert dict(opened) == {0x0110: "DCE"}


@pytest.mark.parametrize("data", [b"", b"II*\0", b"II*\0\x08\0\0\0\xff\xff" + b"%\x88" * 30, b"no block at all"])
def test_a_block_that_can_not_be_read_is_left_out(data):
    assert exif.without_place(data) == b""


def test_a_packet_that_can_not_be_read_is_left_out_where_it_may_name_a_place():
    assert xmp.without_place(b"<broken exif:GPSLatitude") == b""
    assert xmp.without_place(b"<broken, and of no place") == b"<broken, and of no place"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_place_is_found_by_its_prefix_and_in_utf_16(encoding):
    packet = '<x xmlns:gps="urn:g" xmlns:e="urn:e" gps:Mark="52.1"><gps:Latitude>48.1</gps:Latitude><e:kept>me</e:kept></x>'
    left = minidom.parseString(xmp.without_place(packet.encode(encoding))).documentElement
    assert left.toxml().count("48.1") == left.toxml().count("52.1") == 0
    assert left.getElementsByTagName("e:kept")[0].firstChild.data == "me"


def subsampling(path):
    return images.read(path).stored.subsampling


@pytest.mark.parametrize("suffix", [".jpg", ".avif", ".heic"])
def test_subsampling_is_the_files_own_or_what_is_asked_for(tmp_path, suffix):
    if reason := formats.why_missing(tmp_path / f"a{suffix}"):
        pytest.skip(reason)
    pixels = np.random.default_rng(0).integers(0, 80, (48, 64, 3), np.uint8)
    new = Picture(pixels)
    images.write(new, tmp_path / f"new{suffix}")
    assert subsampling(tmp_path / f"new{suffix}") == "4:4:4"
    for asked in ("4:4:4", "4:2:2", "4:2:0"):
        images.write(new, tmp_path / f"a{suffix}", zdce.EnhanceSettings(subsampling=asked))
        assert subsampling(tmp_path / f"a{suffix}") == asked
        for quality in (None, 80):
            images.write(images.read(tmp_path / f"a{suffix}"), tmp_path / f"b{suffix}", zdce.EnhanceSettings(quality=quality))
            assert subsampling(tmp_path / f"b{suffix}") == asked
    # Of another format's nothing is taken.
    other = ".avif" if suffix == ".jpg" else ".jpg"
    if formats.why_missing(tmp_path / f"a{other}") is None:
        images.write(images.read(tmp_path / f"b{suffix}"), tmp_path / f"c{other}")
        assert subsampling(tmp_path / f"c{other}") == "4:4:4"


def test_a_film_without_tags_keeps_the_shape_of_its_pixels_in_mkv(tmp_path):
    av = pytest.importorskip("av", reason="the extra `video` is not installed")
    with av.open(str(tmp_path / "a.mp4"), "w") as file:
        film = file.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
        film.width, film.height, film.pix_fmt = 32, 32, "yuv420p"
        film.codec_context.sample_aspect_ratio = Fraction(4, 3)
        film.metadata["title"] = "the film"
        file.mux(film.encode(av.VideoFrame.from_ndarray(np.full((32, 32, 3), 20, np.uint8), "rgb24")))
        file.mux(film.encode(None))
    zdce.enhance(tmp_path / "a.mp4", zdce.DCENet("iters4"), output=tmp_path / "b.mkv", strip="all")
    with av.open(str(tmp_path / "b.mkv")) as file:
        assert file.streams.video[0].sample_aspect_ratio == Fraction(4, 3)
        assert file.streams.video[0].metadata.get("title", "").strip() == ""


@pytest.mark.parametrize(
    ("strip", "left"), [(None, {"location", "title"}), ("gps", {"title"}), ("all", set())], ids=["none", "gps", "all"]
)
def test_videos_lose_their_place_or_all_tags_but_the_language(tmp_path, strip, left):
    av = pytest.importorskip("av", reason="the extra `video` is not installed")
    with av.open(str(tmp_path / "a.mp4"), "w") as file:
        film = file.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
        film.width, film.height, film.pix_fmt = 32, 32, "yuv420p"
        film.metadata["language"] = "deu"
        file.metadata.update({"location": "+52.1+005.9/", "title": "night"})
        file.mux(film.encode(av.VideoFrame.from_ndarray(np.full((32, 32, 3), 20, np.uint8), "rgb24")))
        file.mux(film.encode(None))
    zdce.enhance(tmp_path / "a.mp4", zdce.DCENet("iters4"), output=tmp_path / "b.mp4", strip=strip)
    with av.open(str(tmp_path / "b.mp4")) as file:
        assert set(file.metadata) & {"location", "title"} == left
        assert file.streams.video[0].metadata["language"] == "deu"
    assert (b"loci" in (tmp_path / "b.mp4").read_bytes()) == (strip is None)
