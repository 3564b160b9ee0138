"""A durable wait between two turns, and what becomes of a turn: the wait's end, or another turn. Values alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias
from uuid import UUID

import attrs

from playai_async._exceptions import PlayAIError
from playai_async._models import Completed, Failed, TtsJob
from playai_async._settings import LAST_POLL_FRACTION, LAST_POLL_LEAD

__all__ = ["Again", "Counts", "Outcome", "Row"]

Counts: TypeAlias = Mapping[str, float]
"""What changes of what a `Row` carries from turn to turn, by the names of its attributes."""


@attrs.frozen(kw_only=True)
class Outcome:
    """How a durable wait ended.

    Attributes:
        job_id: The job.
        key: The job's id, the handler's name and how the wait ended, as one text. It is the same for each call about
            one outcome: a handler that stores it under a unique constraint, in the transaction of its other effects,
            has these exactly once.
        job: The job, completed or failed, with a link that is seconds old; None where an error ended the wait.
        error: What ended the wait, as `wait_for_completion` would raise it, or None.
    """

    job_id: UUID
    key: str
    job: TtsJob[Completed | Failed] | None = None
    error: PlayAIError | None = None


@attrs.frozen
class Again:
    """Another turn for the row.

    Attributes:
        at: When, in seconds since 1970.
        why: In words, for procrastinate's log.
        owed: Whether the turn brought no answer, so that the row keeps its place among those that are due.
        counts: What changes of what the row carries.
    """

    at: float
    why: str
    owed: bool = False
    counts: Counts = attrs.field(factory=dict[str, float])


@attrs.frozen(kw_only=True)
class Row:
    """What a turn is told of its wait.

    Attributes:
        job_id: The job that is waited for.
        on_done: The name of the handler.
        started: When the wait began; this and the other times are seconds since 1970.
        deadline: When it ends at the latest, or None.
        turns: The turns that went before.
        unasked: How many of them sent no request, or none whose answer was seen.
        throttled: How many met a 429.
        failures: How many polls up to the last failed in a row.
        calls: How often the handler was called, and failed.
        late_since: When the wait first had a turn past its deadline; 0 for not yet.
    """

    job_id: UUID
    on_done: str
    started: float
    deadline: float | None
    turns: int = 0
    unasked: int = 0
    throttled: int = 0
    failures: int = 0
    calls: int = 0
    late_since: float = 0.0

    @property
    def polls(self) -> int:
        """The requests sent in the turns that went before."""
        return self.turns - self.unasked

    @property
    def last_call(self) -> float | None:
        """When the last poll is due: just before the deadline."""
        if self.deadline is None:
            return None
        return self.deadline - min(LAST_POLL_LEAD, LAST_POLL_FRACTION * (self.deadline - self.started))
