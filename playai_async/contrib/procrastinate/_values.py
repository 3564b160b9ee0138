"""The values of durable waits: the row of a wait, what happens to the row next, and the outcome of the wait.

No `from __future__ import annotations` here: `Outcome` reports another module as its own, where the text of its
annotations could not be resolved.
"""

from collections.abc import Mapping
from typing import TypeAlias
from uuid import UUID

import attrs

from playai_async._exceptions import PlayAIError
from playai_async._models import Completed, Failed, TtsJob
from playai_async._settings import LAST_POLL_FRACTION, LAST_POLL_LEAD

__all__ = ["Counters", "Outcome", "Reschedule", "Row"]

Counters: TypeAlias = Mapping[str, float]
"""New values for attributes of a `Row` that are stored in the row's arguments, by name."""


@attrs.frozen(kw_only=True)
class Outcome:
    """The end of a durable wait.

    Attributes:
        job_id: The id of the job.
        key: The job's id, the handler's name and how the wait ended, as one text. All calls about the same outcome
            have the same key. A handler gets exactly-once effects if it stores the key under a unique constraint, in
            the same transaction as its other effects.
        job: The job, completed or failed, with a URL that is seconds old. None if an error ended the wait.
        error: The error that ended the wait, as `wait_for_completion` would raise it; or None.
    """

    job_id: UUID
    key: str
    job: TtsJob[Completed | Failed] | None = None
    error: PlayAIError | None = None


@attrs.frozen
class Reschedule:
    """Put the row back into the queue.

    Attributes:
        at: When the row is due, in seconds since 1970.
        reason: A description for procrastinate's log.
        keep_priority: Whether the row keeps its priority, because it was due and got no reply.
        counters: The counters of the row that change.
    """

    at: float
    reason: str
    keep_priority: bool = False
    counters: Counters = attrs.field(factory=dict[str, float])


@attrs.frozen(kw_only=True)
class Row:
    """A wait as it is stored. The names are those of the row's arguments, except for `attempts`.

    Attributes:
        job_id: The id of the job.
        on_done: The name of the handler.
        started: When the wait started, in seconds since 1970, like all times here.
        deadline: When the wait times out, or None.
        attempts: How often workers fetched the row before.
        unasked: How many of these attempts sent no request, or received no reply to it.
        throttled: How many of these attempts received a 429.
        failures: The number of transient failures in a row, up to the last poll.
        calls: How often the handler was called and raised.
        late_since: When the row was first attempted after its deadline; 0 if it was not.
    """

    job_id: UUID
    on_done: str
    started: float
    deadline: float | None
    attempts: int = 0
    unasked: int = 0
    throttled: int = 0
    failures: int = 0
    calls: int = 0
    late_since: float = 0.0

    @property
    def polls(self) -> int:
        """The number of requests sent so far."""
        return self.attempts - self.unasked

    @property
    def last_poll_at(self) -> float | None:
        """When the last poll is due, just before the deadline; or None."""
        if self.deadline is None:
            return None
        return self.deadline - min(LAST_POLL_LEAD, LAST_POLL_FRACTION * (self.deadline - self.started))
