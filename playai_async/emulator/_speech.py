"""Speech for the texts of created jobs, from the program espeak-ng, if that is installed.

The only module that starts a process. It knows nothing of jobs and requests. Whatever goes wrong, there is no speech,
and the caller uses the tune instead.
"""

import asyncio
import contextlib
import shutil
from typing import Final

from playai_async.emulator._service.audio import Audio

PROGRAM: Final = "espeak-ng"

MAX_SPOKEN_CHARACTERS: Final = 5_000
"""Characters of the longest text that is spoken: five minutes and 16 MB of audio, which take about a second."""

MAX_KEPT_BYTES: Final = 256 * 1024 * 1024
"""Bytes of speech that an emulator keeps in memory: two hours of it. Later jobs get the tune."""

MAX_PROCESSES: Final = 2
"""Processes at the same time: more would slow down the event loop on a small machine."""

SPEAKING_TIMEOUT: Final = 10.0
"""Seconds until a process is killed. The longest text takes about one second."""


class Speaker:
    """Speaks texts, each in a process of espeak-ng."""

    def __init__(self) -> None:
        self._program = shutil.which(PROGRAM)
        self._processes = asyncio.Semaphore(MAX_PROCESSES)
        self._kept = 0

    @property
    def available(self) -> bool:
        """Whether espeak-ng is installed."""
        return self._program is not None

    async def speak(self, text: str) -> Audio | None:
        """Return the text as speech; None if there is no program, the text is too long, or the program fails.

        If cancelled, the process is killed.
        """
        if self._program is None or len(text) > MAX_SPOKEN_CHARACTERS:
            return None
        async with self._processes:
            # The number of characters limits the size of the audio, but only roughly: so it is counted afterwards.
            if self._kept >= MAX_KEPT_BYTES:
                return None
            wav = await _run(self._program, text)
        audio = Audio.from_wav(wav)
        self._kept += 0 if audio is None else audio.size
        return audio


async def _run(program: str, text: str) -> bytes:
    """Return the WAV file that the program writes, or what there is of one."""
    try:
        # The text goes to standard input, so it cannot be read as an option. Without -m, markup in it has no effect.
        process = await asyncio.create_subprocess_exec(
            program,
            *("-v", "en", "-b", "1", "--stdin", "--stdout"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except (OSError, NotImplementedError):  # it cannot be run, or this event loop starts no processes
        return b""
    try:
        async with asyncio.timeout(SPEAKING_TIMEOUT):
            wav, _ = await process.communicate(text.encode("utf-8", "replace"))
    except TimeoutError:
        return b""
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.communicate()  # not `wait`: a pipe with unread output would stay open
    return wav if process.returncode == 0 else b""
