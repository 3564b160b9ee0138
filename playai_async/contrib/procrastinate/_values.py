"""The values of durable waits: the row of a wait, what happens to the row next, and the outcome of the wait.

No `from __future__ import annotations` here: `Outcome` reports another module as its own, where the text of its
annotations could not be resolved.
"""

from collections.abc import Mapping
from typing import Any, Generic, TypeAlias, TypeVar, cast
from uuid import UUID

import attrs
from attrs.validators import instance_of, optional

from playai_async._exceptions import PlayAIError
from playai_async._models import Completed, Failed, TtsJob
from playai_async._settings import LAST_POLL_FRACTION, LAST_POLL_LEAD
from playai_async.contrib.procrastinate._constants import ROW_FORMAT

__all__ = ["AnyOutcome", "Counters", "JobOutcome", "Outcome", "Reschedule", "Row", "row_of"]

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


_JobT = TypeVar("_JobT")


@attrs.frozen(kw_only=True)
class JobOutcome(Generic[_JobT]):
    """The end of a durable wait for the job of a `JobPoller`.

    Attributes:
        job_id: The id of the job.
        key: The job's id, the handler's name, and `DONE` or the name of the error's class, as one text. All calls about
            the same outcome have the same key, as for `Outcome`.
        job: The finished job, as `fetch` returned it. None if an error ended the wait.
        error: The error that ended the wait, as `JobPoller.wait_for_completion` would raise it; or None.
    """

    job_id: str
    key: str
    job: _JobT | None = None
    error: Exception | None = None


AnyOutcome: TypeAlias = Outcome | JobOutcome[Any]


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


_whole, _number, _text = instance_of(int), instance_of((int, float)), instance_of(str)


@attrs.frozen(kw_only=True)
class Row:
    """A wait as it is stored. The names are those of the row's arguments, except for `attempts`.

    Attributes:
        job_id: The id of the job: a text if it has a poller.
        on_done: The name of the handler.
        poller: The name of the `JobPoller` that asks for the job; None for the session of PlayAI.
        started: When the wait started, in seconds since 1970, like all times here.
        deadline: When the wait times out, or None.
        attempts: How often workers fetched the row before.
        unasked: How many of these attempts sent no request, or received no reply to it.
        throttled: How many of these attempts received a 429.
        failures: The number of transient failures in a row, up to the last poll.
        calls: How often the handler was called and raised.
        late_since: When the row was first attempted after its deadline; 0 if it was not.
        held_until: Until when the worker that runs the handler keeps the row; 0 or a past time if no handler runs.

    Raises:
        TypeError: A value has the wrong type.
    """

    job_id: UUID | str = attrs.field(validator=instance_of((UUID, str)))
    on_done: str = attrs.field(validator=_text)
    poller: str | None = attrs.field(default=None, validator=optional(_text))
    started: float = attrs.field(validator=_number)
    deadline: float | None = attrs.field(validator=optional(_number))
    attempts: int = attrs.field(default=0, validator=_whole)
    unasked: int = attrs.field(default=0, validator=_whole)
    throttled: int = attrs.field(default=0, validator=_whole)
    failures: int = attrs.field(default=0, validator=_whole)
    calls: int = attrs.field(default=0, validator=_whole)
    late_since: float = attrs.field(default=0.0, validator=_number)
    held_until: float = attrs.field(default=0.0, validator=_number)

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


_STORED = frozenset(attrs.fields_dict(Row)) - {"attempts"}


def row_of(arguments: Mapping[str, object], attempts: int) -> Row | None:
    """Read a row. Versions before and after this one may have written it.

    Args:
        arguments: The row's arguments. What a later version added is ignored.
        attempts: How often workers fetched the row before.

    Returns:
        The row; or None if this version does not understand it.
    """
    if arguments.get("format", ROW_FORMAT) != ROW_FORMAT:
        return None
    stored: dict[str, Any] = {name: arguments[name] for name in _STORED & arguments.keys()}
    try:
        if stored.get("poller") is None:
            stored["job_id"] = UUID(cast("str", stored["job_id"]))
        return Row(**stored, attempts=attempts)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
