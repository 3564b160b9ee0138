"""The audio of a job: a WAV file, with a tune whose bytes are generated when they are read, or with speech.

The longest text makes an hour of audio: too much to hold in memory, and too slow to generate before the first byte is
sent. So the sound is a short tune that repeats, and any part of the file can be generated from it. The tune is not
speech. It is audible, has the right length, and differs from text to text. Speech comes from a program and is held in
memory; `_speech.py` limits its length.
"""

import hashlib
import math
import struct
from collections.abc import Mapping
from typing import Any, Final, Self

import attrs

AUDIO_TYPE: Final = "audio/wav"

CHARACTERS_PER_SECOND: Final = 15
"""How fast text is spoken: about 150 English words a minute."""

DEFAULT_SAMPLE_RATE: Final = 24_000
"""Frames per second if the input asks for no valid rate; the service has the same default."""

MIN_SAMPLE_RATE: Final = 8_000
MAX_SAMPLE_RATE: Final = 192_000
"""Frames per second, from telephone to studio quality. An input outside of this range gets the default."""

MAX_FRAMES: Final = 2**31 - 64
"""The sizes in the header of a WAV file have 32 bits, and a frame has two bytes."""

_HEADER: Final = struct.Struct("<4sI4s4sIHHIIHH4sI")
_SPEECH_FORM: Final = (b"RIFF", b"WAVE", b"fmt ", 16, 1, 1, 16, b"data")
"""What the header of speech says, except for sizes and rates: 16-bit PCM, mono."""
_NOTES: Final = 8
_SCALE: Final = (440.0, 495.0, 550.0, 660.0, 733.0)
"""Five tones in Hz; any two of them sound well together."""
_ENVELOPE: Final = (3_000, 7_000, 8_000, 6_500, 5_000, 3_500, 2_000, 800)
"""The amplitude of a note over time; the maximum of a 16-bit sample is 32,767."""


@attrs.frozen
class AudioFile:
    """A file, or a part of one, that can be sliced like bytes.

    Args:
        header: The bytes at the beginning of the file.
        tune: The bytes after the header, repeated if the file is longer.
        start: Where this part begins, in bytes from the beginning of the file.
        stop: Where this part ends.
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
        """Return the part from `start` to `stop` without generating its bytes."""
        return attrs.evolve(self, start=self.start + start, stop=self.start + stop)

    def _sound(self, start: int, stop: int) -> bytes:
        length = max(stop, 0) - max(start, 0)
        offset = max(start, 0) % len(self.tune)
        repeats = -(-(offset + length) // len(self.tune))
        return (self.tune * repeats)[offset : offset + length]


@attrs.frozen
class Audio:
    """The audio of a job: 16-bit PCM, mono.

    Args:
        rate: Frames per second.
        frames: The number of frames.
        digest: A digest of the text, which selects the tune, or of the speech.
        speech: The samples of speech; None: the tune.
    """

    rate: int
    frames: int
    digest: bytes
    speech: bytes | None = attrs.field(default=None, repr=False)

    @classmethod
    def from_input(cls, parameters: Mapping[str, Any]) -> Self:
        """Return the audio for the input of a job; a text that is not a string counts as empty."""
        text, rate = parameters.get("text"), _sample_rate(parameters.get("sampleRate"))
        text = text if isinstance(text, str) else ""
        # Tests need a file with some sound, even for an empty text: at least a tenth of a second.
        frames = min(max(len(text) * rate // CHARACTERS_PER_SECOND, rate // 10), MAX_FRAMES)
        # JSON may contain half of a surrogate pair, which plain UTF-8 cannot encode.
        return cls(rate, frames, hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())

    @classmethod
    def from_wav(cls, wav: bytes) -> Self | None:
        """Return the audio of a WAV file as espeak-ng writes it to a pipe; None if it has another form or no sound.

        The sizes in its header are not valid, because the program cannot go back to set them.
        """
        if len(wav) < _HEADER.size + 2:
            return None
        riff, _, wave, form, length, coding, channels, rate, _, _, bits, data, _ = _HEADER.unpack_from(wav)
        if (riff, wave, form, length, coding, channels, bits, data) != _SPEECH_FORM:
            return None
        frames = (len(wav) - _HEADER.size) // 2
        speech = wav[_HEADER.size : _HEADER.size + 2 * frames]
        return cls(rate, frames, hashlib.sha256(speech).digest(), speech)

    @property
    def duration(self) -> float:
        """The length in seconds."""
        return self.frames / self.rate

    @property
    def size(self) -> int:
        """The size of the file in bytes, including the header."""
        return _HEADER.size + 2 * self.frames

    @property
    def etag(self) -> str:
        """A strong entity tag: files with different bytes have different tags."""
        return f'"{self.digest.hex()[:32]}-{self.rate}-{self.frames}"'

    def file(self) -> AudioFile:
        """Return the file."""
        length = 2 * self.frames
        riff = (b"RIFF", _HEADER.size - 8 + length, b"WAVE")
        form = (b"fmt ", 16, 1, 1, self.rate, 2 * self.rate, 2, 16)
        header = _HEADER.pack(*riff, *form, b"data", length)
        if self.speech is not None:
            return AudioFile(header, self.speech, 0, self.size)
        tune = b"".join(_note(self.rate, _SCALE[step % len(_SCALE)]) for step in self.digest[:_NOTES])
        return AudioFile(header, tune, 0, self.size)


def _sample_rate(requested: object) -> int:
    """Return the requested sample rate, or the default if the request is not valid."""
    # JSON does not distinguish 48000.0 from 48000, and true is not a number in JSON.
    if isinstance(requested, bool) or not isinstance(requested, (int, float)):
        return DEFAULT_SAMPLE_RATE
    valid = MIN_SAMPLE_RATE <= requested <= MAX_SAMPLE_RATE and requested == int(requested)
    return int(requested) if valid else DEFAULT_SAMPLE_RATE


def _note(rate: int, pitch: float) -> bytes:
    """Return about a quarter of a second of a tone.

    One period is computed and repeated at each amplitude. A period begins and ends at zero, so there are no clicks.
    """
    period = round(rate / pitch)
    wave = [math.sin(2 * math.pi * frame / period) for frame in range(period)]
    repeats = rate // (4 * len(_ENVELOPE) * period)
    return b"".join(struct.pack(f"<{period}h", *(round(peak * at) for at in wave)) * repeats for peak in _ENVELOPE)
