"""A job as a value, and the JSON that shows it at a given time.

Nothing here reads a clock: the caller passes the loop time in, and times of day follow from when the job was created.
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
    """A text-to-speech job.

    Args:
        id: The job's id.
        began: The loop time when the job was created.
        created_at: The same instant by the wall clock, with a time zone.
        duration: Seconds until the job finishes; infinity: never.
        fails: Whether the job ends as FAILED.
        input: The parameters that the job was created from.
        output: The output to show instead of the actual one; None: show the actual output.
        speech: The audio; None: the tune for the text.
    """

    id: UUID
    began: float
    created_at: datetime
    duration: float = 0.0
    fails: bool = False
    input: Mapping[str, Any] = DEFAULT_JOB_INPUT
    output: Mapping[str, Any] | None = None
    speech: Audio | None = None

    @property
    def finishes_at(self) -> float:
        """The loop time when the job finishes."""
        return self.began + self.duration

    @property
    def audio(self) -> Audio:
        """The audio of the job once it has completed."""
        return self.speech or Audio.from_input(self.input)

    @property
    def webhook_url(self) -> str | None:
        """The URL to call when the job ends, if there is one."""
        url = self.input.get("webHookUrl")
        return url if url and isinstance(url, str) else None

    def is_done(self, now: float) -> bool:
        """Return whether the job has completed or failed by loop time `now`."""
        return now >= self.finishes_at - CLOCK_TOLERANCE

    def has_audio(self, now: float) -> bool:
        """Return whether the job has completed by loop time `now`."""
        return self.is_done(now) and not self.fails

    def to_json(self, now: float, link: str) -> dict[str, Any]:
        """Return the JSON object that the service sends at loop time `now`: the fields of the contract, no others.

        `link` is the URL of the audio.
        """
        done = self.is_done(now)
        return {
            "id": str(self.id),
            "createdAt": _format_time(self.created_at),
            "input": self.input,
            "completedAt": _format_time(self.created_at + timedelta(seconds=self.duration)) if done else None,
            "output": self._actual_output(link, done=done) if self.output is None else self.output,
        }

    def webhook_payload(self, now: float, link: str) -> dict[str, Any] | None:
        """Return what the webhook receives at loop time `now`; None if the job is not shown as completed or failed.

        The contract does not describe the payload. This is the payload of PlayHT's API, version 2.
        """
        output = self.to_json(now, link)["output"]
        head = {"version": "2", "id": str(self.id)}
        match output.get("status"):
            case "COMPLETED":
                audio = {"url": output.get("url"), "duration": output.get("duration"), "size": output.get("fileSize")}
                return {**head, "status": "complete", "progress": 1, **audio}
            case "FAILED":
                return {**head, "status": "error", "progress": 1}
            case _:
                return None

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
