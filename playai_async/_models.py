"""What the service answers, and what a job is created from: frozen values.

No I/O, no clock and no JSON here. Names are Python's; `_api/converter` knows the service's own.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeAlias, cast
from uuid import UUID

import attrs
from attrs import validators

from playai_async._exceptions import JobFailedError

__all__ = [
    "Completed",
    "Failed",
    "InProgress",
    "Output",
    "TtsJob",
    "TtsParameters",
    "Unknown",
    "as_job",
    "job_id_of",
]


@attrs.frozen
class Completed:
    """The audio is ready.

    Attributes:
        url: A signed link to the audio, on another host; its lifetime is not documented.
        content_type: The media type of the audio, such as `audio/mpeg`.
        file_size: Bytes.
        duration: Seconds of audio.
    """

    status: ClassVar[Literal["COMPLETED"]] = "COMPLETED"
    url: str
    content_type: str
    file_size: float
    duration: float


@attrs.frozen
class InProgress:
    """The job is not finished."""

    status: ClassVar[Literal["IN_PROGRESS"]] = "IN_PROGRESS"


@attrs.frozen
class Failed:
    """The job failed; the contract gives no reason."""

    status: ClassVar[Literal["FAILED"]] = "FAILED"


@attrs.frozen
class Unknown:
    """A status that the contract does not list. It counts as not finished.

    Attributes:
        status: The status, as the service spells it.
        fields: The other fields of the output, under the service's names.
    """

    status: str
    fields: Mapping[str, Any] = attrs.field(factory=dict[str, Any], hash=False)


Output: TypeAlias = Completed | InProgress | Failed | Unknown

# Type variables have defaults since Python 3.13. Type checkers know them from typing_extensions, which this package
# does not require; nothing reads the default at run time.
if TYPE_CHECKING:
    from typing_extensions import TypeVar

    OutputT_co = TypeVar("OutputT_co", bound=Output, default=Output, covariant=True)
else:
    from typing import TypeVar

    OutputT_co = TypeVar("OutputT_co", covariant=True)

_MAX_SHOWN = 200
"""Characters of a text that an error shows."""


@attrs.frozen
class TtsJob(Generic[OutputT_co]):
    """A text-to-speech job as the service described it at one moment.

    Generic in its output: a wait returns a `TtsJob[Completed | Failed]`.

    Attributes:
        id: The job's id.
        created_at: When the job was created, timezone-aware.
        input: The parameters that it was created with, under the service's names. Do not change them: callers share
            the mapping.
        completed_at: When the job finished, timezone-aware, or None.
        output: The job's status, and the fields of that status.
    """

    id: UUID
    created_at: datetime
    input: Mapping[str, Any] = attrs.field(hash=False)
    completed_at: datetime | None
    output: OutputT_co

    @property
    def done(self) -> bool:
        """Whether the job has completed or failed."""
        return isinstance(self.output, Completed | Failed)

    def raise_for_failure(self) -> TtsJob[Completed]:
        """Return the job itself, typed as completed.

        Returns:
            This job.

        Raises:
            JobFailedError: The job failed.
            ValueError: The job is not finished.
        """
        if isinstance(self.output, Failed):
            raise JobFailedError(f"Job {self.id} failed.", job=cast("TtsJob[Failed]", self))
        if not isinstance(self.output, Completed):
            raise ValueError(f"Job {self.id} is not done.")  # noqa: TRY004 - the type is right, the moment is not
        return cast("TtsJob[Completed]", self)


def as_job(value: object) -> TtsJob | None:
    """Return a value if it is a job, and None otherwise."""
    return cast("TtsJob", value) if isinstance(value, TtsJob) else None


def job_id_of(job: UUID | str | TtsJob) -> UUID:
    """Return the id of a job.

    Args:
        job: The id, its text, or the job. A job that a caller built may have a text as its id.

    Raises:
        ValueError: A text that is not a UUID in its usual form.
        TypeError: A value of another type.
    """
    name: object = job.id if isinstance(job, TtsJob) else job
    if isinstance(name, UUID):
        return name
    if not isinstance(name, str):
        raise TypeError(f"a job is named by a UUID, its text or a TtsJob, not by {type(name).__name__}")
    try:
        job_id = UUID(name)
    except ValueError:
        job_id = None
    # UUID() also takes braces, a URN prefix and hyphens in any place.
    if job_id is None or str(job_id) != name.lower():
        raise ValueError(f"not a job id (a UUID like {UUID(int=0)}): {name[:_MAX_SHOWN]!r}")
    return job_id


def _is_number(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):  # bool is an int in Python, and no number here
        raise TypeError(f"{attribute.name} must be a number, not {type(value).__name__}")
    if not abs(value) <= sys.float_info.max:
        raise ValueError(f"{attribute.name} must be finite")


def _is_mapping(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, Mapping):
        raise TypeError(f"{attribute.name} must be a mapping, not {type(value).__name__}")
    if not all(isinstance(name, str) for name in cast("Mapping[object, Any]", value)):
        raise TypeError(f"the names in {attribute.name} must be strings")


def _is_not_blank(_: object, attribute: attrs.Attribute[str], value: str) -> None:
    if not value.strip():
        raise ValueError(f"{attribute.name} is empty")


def _is_text(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, str):  # attrs' own validator shows the whole attribute
        raise TypeError(f"{attribute.name} must be a str, not {type(value).__name__}")


_OPTIONAL_TEXT = validators.optional(_is_text)
_OPTIONAL_NUMBER = validators.optional(_is_number)


@attrs.frozen
class TtsParameters:
    """What a job is created from: the fields of the service's POST, under Python's names.

    None leaves a field out of the request. Values that this version does not know, such as a new model, are sent as
    they are.

    Attributes:
        text: The text to speak.
        voice: The id of a voice.
        model: The model that speaks.
        voice2: The second speaker's voice (PlayDialog).
        turn_prefix: The prefix of the first speaker's lines in `text`.
        turn_prefix2: The prefix of the second speaker's lines.
        prompt: A style prompt for the first speaker.
        prompt2: A style prompt for the second speaker.
        voice_conditioning_seconds: Seconds of the voice sample to condition on.
        voice_conditioning_seconds2: The same for the second speaker.
        language: The language of the text, such as `english`.
        output_format: The audio format, such as `mp3` or `wav`.
        speed: The pace of speech; 1 is normal.
        sample_rate: Hz.
        seed: A seed for reproducible speech.
        temperature: How much the speech may vary.
        quality: The quality (Play3.0-mini).
        web_hook_url: A URL that the service calls when the job is finished.
        extra: Fields that this version does not know, under the service's names, with JSON values.

    Raises:
        TypeError: A value has the wrong type.
        ValueError: The text or the voice is blank, or a number is not finite.
    """

    text: str = attrs.field(validator=[_is_text, _is_not_blank])
    voice: str = attrs.field(validator=[_is_text, _is_not_blank])
    model: str = attrs.field(default="PlayDialog", kw_only=True, validator=_is_text)
    voice2: str | None = attrs.field(default=None, kw_only=True, validator=_OPTIONAL_TEXT)
    turn_prefix: str | None = attrs.field(default=None, kw_only=True, validator=_OPTIONAL_TEXT)
    turn_prefix2: str | None = attrs.field(default=None, kw_only=True, validator=_OPTIONAL_TEXT)
    prompt: str | None = attrs.field(default=None, kw_only=True, validator=_OPTIONAL_TEXT)
    prompt2: str | None = attrs.field(default=None, kw_only=True, validator=_OPTIONAL_TEXT)
    voice_conditioning_seconds: float | None = attrs.field(default=None, kw_only=True, validator=_OPTIONAL_NUMBER)
    voice_conditioning_seconds2: float | None = attrs.field(default=None, kw_only=True, validator=_OPTIONAL_NUMBER)
    language: str | None = attrs.field(default=None, kw_only=True, validator=_OPTIONAL_TEXT)
    output_format: str | None = attrs.field(default=None, kw_only=True, validator=_OPTIONAL_TEXT)
    speed: float | None = attrs.field(default=None, kw_only=True, validator=_OPTIONAL_NUMBER)
    sample_rate: float | None = attrs.field(default=None, kw_only=True, validator=_OPTIONAL_NUMBER)
    seed: float | None = attrs.field(default=None, kw_only=True, validator=_OPTIONAL_NUMBER)
    temperature: float | None = attrs.field(default=None, kw_only=True, validator=_OPTIONAL_NUMBER)
    quality: str | None = attrs.field(default=None, kw_only=True, validator=_OPTIONAL_TEXT)
    web_hook_url: str | None = attrs.field(default=None, kw_only=True, validator=_OPTIONAL_TEXT)
    extra: Mapping[str, Any] = attrs.field(factory=dict[str, Any], kw_only=True, hash=False, validator=_is_mapping)
