"""The other streams of a video file: copied into another file; sound is re-encoded if its format can't hold it."""

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

import av
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.stream import Disposition, Stream

# Generic only for type checkers.
Packet: TypeAlias = "av.Packet[Any]"

# Prefix of a path; without it, the part of a file's name before a colon would be read as a protocol.
FILE = "file:"

# Kinds of streams that are copied. Most formats refuse or garble other data streams (time codes, motion sensors).
_COPIED = ("audio", "subtitle", "attachment")

# Errors when a format refuses a stream or a packet; a full disk raises neither.
_REFUSALS = (ValueError, av.error.NotImplementedError, av.error.ExperimentalError)

# Replacement of sound that a format can't hold: the encoder, its name in notes, and bits a second for each channel.
_SOUND = {
    "mp4": ("aac", "AAC", 96_000), "mov": ("aac", "AAC", 96_000), "matroska": ("aac", "AAC", 96_000),
    "webm": ("libopus", "Opus", 64_000),
}  # fmt: skip

# Uncompressed sound that players support in MP4; some play other depths as noise. FLAC holds up to 24 bits without loss.
_MP4_PCM = frozenset({"pcm_s16le", "pcm_s16be"})
_FLAC = ("flac", "FLAC", 0)

# Names of formats in notes.
_NAMES = {"mp4": "MP4", "mov": "MOV", "matroska": "MKV", "webm": "WebM"}

# Formats that tell which part of a stream is shown; in others, the part before it would be shown too.
_WITH_EDIT_LISTS = frozenset({"mp4", "mov"})

# Largest difference, in seconds, of times from the sound's own count of samples, as in AVI or after rounding.
_JITTER = 0.1

_USUAL_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
_USUAL_RATE = 48_000

# Pictures that a Matroska file can have as its cover, by FFmpeg's names of their codecs.
_COVERS = {"mjpeg": ("cover.jpg", "image/jpeg"), "png": ("cover.png", "image/png")}

# Number of packets among which each stream that starts with the film has one.
_BEGINNING = 3000


def is_cover(stream: Stream) -> bool:
    """Whether it is a single picture that players show for the file."""
    return stream.type == "video" and bool(stream.disposition & Disposition.attached_pic)


def is_copied(stream: Stream) -> bool:
    """Whether a stream beside the film is of a kind that is copied."""
    return is_cover(stream) or stream.type in _COPIED


def named(stream: Stream) -> str:
    """The stream for a note."""
    kind = "cover" if is_cover(stream) else stream.type
    codec = getattr(stream.codec_context, "codec", None)
    name = codec.canonical_name if codec else getattr(stream, "name", None)
    return f"stream {stream.index} ({kind}, {name or 'unknown'})"


class Sound:
    """A stream of sound that is decoded and encoded again.

    Args:
        container: the output, whose header is not written yet.
        source: the input's stream.
        encoder: FFmpeg's name of the encoder.
        layout: channel layout of the output.
        bit_rate: bits per second.
    """

    def __init__(self, container: OutputContainer, source: AudioStream, encoder: str, layout: str, bit_rate: int) -> None:
        self._container, self._decoder = container, source.codec_context
        self.stream = _add_sound(container, source, encoder, layout, bit_rate)
        self.undecodable = 0
        self._resampler: AudioResampler | None = None
        self._resampled: tuple[object, ...] = ()
        self._time: Fraction | None = None

    def write(self, packet: "Packet | None") -> None:
        """Encodes what ``packet`` holds; None is the end."""
        try:
            decoded = self._decoder.decode(packet)
        except av.error.EOFError:
            decoded = []
        except av.error.FFmpegError:
            self.undecodable += 1
            decoded = []
        for frame in decoded:
            for alike in self._alike(frame):
                self._container.mux(self.stream.encode(alike))
        if packet is None:
            for alike in self._alike(None):
                self._container.mux(self.stream.encode(alike))
            self._container.mux(self.stream.encode(None))

    def _alike(self, frame: AudioFrame | None) -> Iterator[AudioFrame]:
        """The sound in the encoder's format: a broadcast may change its channels at any time."""
        form = () if frame is None else (frame.format.name, frame.layout.name, frame.sample_rate)
        if self._resampler is not None and form != self._resampled:
            yield from self._resampler.resample(None)
            self._resampler = None
        if frame is None:
            return
        if self._resampler is None:
            context: AudioCodecContext = self.stream.codec_context
            self._resampler = AudioResampler(context.format, context.layout, context.sample_rate)
            self._resampled = form
        self._set_time(frame)
        yield from self._resampler.resample(frame)

    def _set_time(self, frame: AudioFrame) -> None:
        """Sets times by counting samples, except after a gap in the sound."""
        told = None if frame.pts is None or frame.time_base is None else frame.pts * frame.time_base
        if self._time is None or (told is not None and told > self._time + Fraction(_JITTER)):
            self._time = told or Fraction(0)
        frame.time_base = Fraction(1, frame.sample_rate)
        frame.pts = round(self._time * frame.sample_rate)
        self._time += Fraction(frame.samples, frame.sample_rate)


def _add_sound(container: OutputContainer, source: AudioStream, encoder: str, layout: str, bit_rate: int) -> AudioStream:
    rates = av.Codec(encoder, "w").audio_rates
    rate = source.codec_context.sample_rate
    stream = container.add_stream(encoder, rate=rate if not rates or rate in rates else _USUAL_RATE, bit_rate=bit_rate)
    assert isinstance(stream, AudioStream)
    stream.codec_context.layout = layout
    if encoder == "flac":
        stream.codec_context.format = "s32"
    return stream


class OtherStreams:
    """The streams beside the film in an output whose header is not written yet.

    Attributes:
        notes: a line about each thing that the output lacks or that differs; complete after ``finish``.

    Args:
        container: the output.
        path: the input, whose beginning is read to find out which streams the output's format takes.
        streams: streams of the input except the film.
        keeps_covers: whether a cover is kept if the format can hold one.
    """

    def __init__(self, container: OutputContainer, path: Path, streams: Sequence[Stream], *, keeps_covers: bool = True) -> None:
        self.notes: list[str] = []
        self._container, self._keeps_covers = container, keeps_covers
        self._cuts = False
        self._copies: dict[int, Stream] = {}
        self._sounds: dict[int, Sound] = {}
        self._refused: Counter[int] = Counter()
        self._names = {stream.index: named(stream) for stream in streams}
        copied = [stream for stream in streams if is_copied(stream)]
        if streams:
            self._cuts = "mp4" in streams[0].container.format.name and self._format not in _WITH_EDIT_LISTS
        first = _first_packets(path, copied)
        for stream in streams:
            self._add(stream, first.get(stream.index))

    def write(self, packet: Packet) -> None:
        """Takes a packet of one of the streams; packets of streams that are left out are dropped."""
        index = packet.stream.index
        if self._cuts and not _is_shown(packet):
            return
        if index in self._sounds:
            self._sounds[index].write(packet)
        elif index in self._copies:
            packet.stream = self._copies[index]
            try:
                self._container.mux(packet)
            except _REFUSALS:
                self._refused[index] += 1

    def finish(self) -> None:
        """Writes what encoders have buffered."""
        for index, sound in self._sounds.items():
            sound.write(None)
            if sound.undecodable:
                self.notes.append(f"{sound.undecodable} packets of {self._names[index]} can't be decoded and were left out")
        for index, count in self._refused.items():
            self.notes.append(f"{count} packets of {self._names[index]} were left out: {_NAMES[self._format]} refuses them")

    @property
    def _format(self) -> str:
        return self._container.format.name

    def _add(self, stream: Stream, first: "Packet | None") -> None:
        added: Stream | None = None
        if is_cover(stream):
            added = self._add_cover(stream, first)
        elif is_copied(stream):
            added = self._add_copy(stream, first) or self._add_sound(stream)
        # From a time code in the film's metadata MP4 and MOV make a track again, and other formats keep it there.
        if added is None and stream.type == "data" and "timecode" in stream.metadata:
            return
        if added is None:
            self.notes.append(f"{named(stream)} was left out")
            return
        added.metadata.update(stream.metadata)
        added.disposition = stream.disposition

    def _add_copy(self, stream: Stream, first: "Packet | None") -> Stream | None:
        # WebM's writer silently drops attachments.
        unknown = (stream.type == "attachment" and self._format != "matroska") or self._is_rare_pcm(stream)
        if unknown or not _holds(self._format, stream, first):
            return None
        self._copies[stream.index] = copy = self._container.add_stream_from_template(stream, opaque=True)
        return copy

    def _is_rare_pcm(self, stream: Stream) -> bool:
        name = (stream.name or "") if isinstance(stream, AudioStream) else ""
        return self._format == "mp4" and name.startswith("pcm_") and name not in _MP4_PCM

    def _add_cover(self, stream: Stream, first: "Packet | None") -> Stream | None:
        """MP4 stores covers as streams, Matroska as attachments (a stream would be a second film); other formats have none."""
        if self._format == "mp4" and self._keeps_covers:
            return self._add_copy(stream, first)
        if self._format != "matroska" or first is None or stream.name not in _COVERS:
            return None
        name, mimetype = _COVERS[stream.name]
        return self._container.add_attachment(stream.metadata.get("filename", name), mimetype, bytes(first))

    def _add_sound(self, stream: Stream) -> Stream | None:
        if not isinstance(stream, AudioStream) or self._format not in _SOUND:
            return None
        own, rare = stream.codec_context.layout, self._is_rare_pcm(stream)
        layouts = dict.fromkeys((own.name, _USUAL_LAYOUTS.get(own.nb_channels, "stereo"), "stereo"))
        for encoder, name, bits in (*([_FLAC] if rare else []), _SOUND[self._format]):
            for layout in layouts:
                count = av.AudioLayout(layout).nb_channels
                bit_rate = bits * min(own.nb_channels, count)
                if not _encodes(self._format, stream, encoder, layout, bit_rate):
                    continue
                self._sounds[stream.index] = sound = Sound(self._container, stream, encoder, layout, bit_rate)
                mixed = "" if count == own.nb_channels else f", its {own.nb_channels} channels mixed to {count}"
                reason = f"{_NAMES[self._format]} can't hold it as it was" if not rare else "in MP4 few players know it"
                self.notes.append(f"{named(stream)} was re-encoded as {name}{mixed}: {reason}")
                return sound.stream
        return None


def _is_shown(packet: Packet) -> bool:
    """Whether the edit list of an MP4 or MOV file shows a packet. Other formats can also express Opus's delay."""
    if packet.stream.type != "audio" or packet.stream.name == "opus":
        return True
    return not packet.is_discard and (packet.pts is None or packet.pts >= 0)


def _first_packets(path: Path, streams: Sequence[Stream]) -> dict[int, Packet]:
    """The first packet of each of the streams, by index, near the beginning of the file."""
    found: dict[int, Packet] = {}
    awaited = {stream.index for stream in streams if stream.type in ("audio", "video")}
    if not awaited:
        return found
    with suppress(av.error.FFmpegError), av.open(FILE + str(path), "r", metadata_errors="replace") as container:
        for count, packet in enumerate(container.demux()):
            if packet.size and packet.stream.index in awaited - set(found):
                found[packet.stream.index] = packet
            if awaited == set(found) or count == _BEGINNING:
                break
    return found


def _holds(container: str, stream: Stream, first: "Packet | None") -> bool:
    """Whether a format takes a stream, tried in memory: some refuse the header, some the first packet."""
    try:
        with av.open(io.BytesIO(), "w", container) as trial:
            copy = trial.add_stream_from_template(stream, opaque=True)
            trial.start_encoding()
            if first is not None:
                tried = av.Packet(bytes(first))
                tried.stream, tried.time_base = copy, first.time_base
                tried.pts = tried.dts = 0
                tried.duration = first.duration
                tried.is_keyframe = True
                trial.mux(tried)
    except (ValueError, OSError, av.error.FFmpegError):
        return False
    return True


def _encodes(container: str, source: AudioStream, encoder: str, layout: str, bit_rate: int) -> bool:
    """Whether the sound can be encoded in this way, tried in memory."""
    try:
        with av.open(io.BytesIO(), "w", container) as trial:
            _add_sound(trial, source, encoder, layout, bit_rate)
            trial.start_encoding()
    except (ValueError, OSError, av.error.FFmpegError):
        return False
    return True
