"""A job as the service describes it: a frozen value.

No I/O and no clock here. Names are Python's; `_converter` knows the service's own.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Generic, cast
from uuid import UUID

import attrs

from playai_async._converter import ContractViolation, JobConverter, json_copy
from playai_async._exceptions import InvalidResponseError, JobFailedError
from playai_async._outputs import Completed, Failed, InProgress, Output, OutputT_co, Unknown
from playai_async._parameters import TtsParameters

__all__ = [
    "Completed",
    "Failed",
    "InProgress",
    "Output",
    "TtsJob",
    "TtsParameters",
    "Unknown",
    "as_job",
    "job_converter",
    "job_id_of",
]

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
    def status(self) -> str:
        """The status of the output, as the service spells it, such as `COMPLETED`."""
        return self.output.status

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

    def to_dict(self) -> dict[str, Any]:
        """Return the job as JSON-ready data, in the service's own field names.

        `json.dumps` accepts the result, and `from_dict` reads it. Numbers are as the service sent them; times are in
        ISO 8601 with an offset. Changing the result does not change the job.
        """
        return job_converter().unstructure(self)

    @staticmethod
    def from_dict(mapping: Mapping[str, Any]) -> TtsJob:
        """Read a job from the result of `to_dict`, or from a reply of the service.

        As strict as for a reply: types are checked and never coerced, and unknown fields are ignored.

        Args:
            mapping: The job as decoded JSON, in the service's own field names.

        Returns:
            The job. It shares nothing with the mapping.

        Raises:
            InvalidResponseError: The mapping is not a job. `problems` says what is wrong and where.
        """
        try:
            return job_converter().structure(json_copy(mapping))
        except ContractViolation as violation:
            problems = violation.problems
        raise InvalidResponseError(f"The mapping is not a job: {'; '.join(problems)}.", problems=problems)


@functools.cache
def job_converter() -> JobConverter:
    """Return the converter between jobs and JSON. Building one takes some milliseconds, so all share it."""
    return JobConverter(TtsJob)


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
