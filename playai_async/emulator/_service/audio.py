"""What a job sounds like: a WAV whose bytes are made as they are asked for.

The longest text makes an hour of audio, more than is worth holding, or making before the first byte is sent. So
the sound is a short tune over and over, and any part of the file is cut from that. No speech: it only has to be
audible, of the right length, and another one for another text.
"""

import hashlib
import math
import struct
from collections.abc import Mapping
from typing import Any, Final, Self

import attrs

AUDIO_TYPE: Final = "audio/wav"

CHARACTERS_PER_SECOND: Final = 15
"""How fast text is spoken: some 150 English words a minute, an easy pace."""

DEFAULT_SAMPLE_RATE: Final = 24_000
"""Frames a second where the input asks for none: the service's own default."""

MIN_SAMPLE_RATE: Final = 8_000
MAX_SAMPLE_RATE: Final = 192_000
"""Frames a second, from the telephone to the studio: others are not taken from an input."""

MAX_FRAMES: Final = 2**31 - 64
"""The sizes in a WAV's header are 32 bits wide, and a frame is two bytes."""

_HEADER: Final = struct.Struct("<4sI4s4sIHHIIHH4sI")
_NOTES: Final = 8
_SCALE: Final = (440.0, 495.0, 550.0, 660.0, 733.0)
"""Hz: five tones of which any two go together."""
_ENVELOPE: Final = (3_000, 7_000, 8_000, 6_500, 5_000, 3_500, 2_000, 800)
"""How a note swells and fades, out of 32,767."""


@attrs.frozen
class AudioFile:
    """A file, or part of one, that is sliced like bytes.

    Args:
        header: What it begins with.
        tune: What follows, again and again.
        start: Where in the file this begins.
        stop: Where in the file this ends.
    """

    header: bytes
    tune: bytes
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, part: slice, /) -> bytes:
        start, stop, _ = part.indices(len(self))
        start, stop = start + self.start, max(start, stop) + self.start
        return self.header[start:stop] + self._sound(start - len(self.header), stop - len(self.header))

    def part(self, start: int, stop: int) -> Self:
        """Return the bytes from `start` to `stop`, without making them yet."""
        return attrs.evolve(self, start=self.start + start, stop=self.start + stop)

    def _sound(self, start: int, stop: int) -> bytes:
        length = max(stop, 0) - max(start, 0)
        offset = max(start, 0) % len(self.tune)
        rounds = -(-(offset + length) // len(self.tune))
        return (self.tune * rounds)[offset : offset + length]


@attrs.frozen
class Audio:
    """The audio of a job: 16-bit PCM, mono.

    Args:
        rate: Frames a second.
        frames: How many there are.
        digest: Bytes that tell which tune it is.
    """

    rate: int
    frames: int
    digest: bytes

    @classmethod
    def from_input(cls, parameters: Mapping[str, Any]) -> Self:
        """Return what is made of a job's input; a text that is none counts as empty."""
        text, rate = parameters.get("text"), _sample_rate(parameters.get("sampleRate"))
        text = text if isinstance(text, str) else ""
        # Nothing spoken is no file to test with: a tenth of a second at least.
        frames = min(max(len(text) * rate // CHARACTERS_PER_SECOND, rate // 10), MAX_FRAMES)
        # JSON may hold half of a surrogate pair, which UTF-8 cannot.
        return cls(rate, frames, hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())

    @property
    def duration(self) -> float:
        """Its length in seconds."""
        return self.frames / self.rate

    @property
    def size(self) -> int:
        """Its length in bytes, header and all."""
        return _HEADER.size + 2 * self.frames

    @property
    def etag(self) -> str:
        """A strong entity tag: it differs where a byte does."""
        return f'"{self.digest.hex()[:32]}-{self.rate}-{self.frames}"'

    def content(self) -> AudioFile:
        """Return the file."""
        length = 2 * self.frames
        riff = (b"RIFF", _HEADER.size - 8 + length, b"WAVE")
        form = (b"fmt ", 16, 1, 1, self.rate, 2 * self.rate, 2, 16)
        header = _HEADER.pack(*riff, *form, b"data", length)
        tune = b"".join(_note(self.rate, _SCALE[step % len(_SCALE)]) for step in self.digest[:_NOTES])
        return AudioFile(header, tune, 0, self.size)


def _sample_rate(asked: object) -> int:
    """Return the rate asked for, or the usual one if it is none that can be had."""
    # JSON does not tell 48000.0 from 48000, and true is no number to it.
    if isinstance(asked, bool) or not isinstance(asked, (int, float)):
        return DEFAULT_SAMPLE_RATE
    return int(asked) if MIN_SAMPLE_RATE <= asked <= MAX_SAMPLE_RATE and asked == int(asked) else DEFAULT_SAMPLE_RATE


def _note(rate: int, pitch: float) -> bytes:
    """Return about a quarter of a second of a tone.

    One period is computed, and repeated at each loudness. It begins and ends at zero, so that nothing clicks.
    """
    period = round(rate / pitch)
    swing = [math.sin(2 * math.pi * frame / period) for frame in range(period)]
    times = rate // (4 * len(_ENVELOPE) * period)
    return b"".join(struct.pack(f"<{period}h", *(round(level * at) for at in swing)) * times for level in _ENVELOPE)
