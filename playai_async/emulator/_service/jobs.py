"""A job as a value: what it is at a given time, in the service's own field names.

No clock is read here: the loop's time is passed in, and the times of day follow from when the job began.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import attrs

from playai_async.emulator._service.audio import AUDIO_TYPE, Audio
from playai_async.emulator._service.clock import CLOCK_TOLERANCE

DEFAULT_JOB_INPUT: Final[Mapping[str, Any]] = {
    "model": "PlayDialog",
    "text": "The quick brown fox jumps over the lazy dogs.",  # three seconds of audio
    "voice": "s3://voice-cloning-zero-shot/emulator/manifest.json",
    "outputFormat": "wav",
}


@attrs.frozen(kw_only=True)
class Job:
    """One text-to-speech job.

    Args:
        id: The job's id.
        began: When it was created, in loop time.
        created_at: The same instant by the wall clock, with a timezone.
        duration: Seconds from then until it finishes; infinity: never.
        fails: Whether it ends as FAILED.
        input: The parameters it was created from.
        output: What to show as its output in place of the true one; None: the true one.
    """

    id: UUID
    began: float
    created_at: datetime
    duration: float = 0.0
    fails: bool = False
    input: Mapping[str, Any] = DEFAULT_JOB_INPUT
    output: Mapping[str, Any] | None = None

    @property
    def finishes_at(self) -> float:
        """The loop time at which the job finishes."""
        return self.began + self.duration

    @property
    def audio(self) -> Audio:
        """What comes of it."""
        return Audio.from_input(self.input)

    def is_done(self, now: float) -> bool:
        """Whether it has finished, well or not, by loop time `now`."""
        return now >= self.finishes_at - CLOCK_TOLERANCE

    def has_audio(self, now: float) -> bool:
        """Whether it has finished well by loop time `now`."""
        return self.is_done(now) and not self.fails

    def document(self, now: float, link: str) -> dict[str, Any]:
        """Return the job as the service shows it at loop time `now`: the contract's fields, no others.

        Args:
            now: The loop time.
            link: Where its audio is to be had.

        Returns:
            The JSON object.
        """
        done = self.is_done(now)
        return {
            "id": str(self.id),
            "createdAt": _format_time(self.created_at),
            "input": self.input,
            "completedAt": _format_time(self.created_at + timedelta(seconds=self.duration)) if done else None,
            "output": self._actual_output(link, done=done) if self.output is None else self.output,
        }

    def _actual_output(self, link: str, *, done: bool) -> Mapping[str, Any]:
        if not done:
            return {"status": "IN_PROGRESS"}
        if self.fails:
            return {"status": "FAILED"}
        return {
            "status": "COMPLETED",
            "url": link,
            "contentType": AUDIO_TYPE,
            "fileSize": self.audio.size,
            "duration": self.audio.duration,
        }


def _format_time(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
