"""The plan of a soak, decided by its seed: which jobs exist, and who waits for them and how.

Values only, the same for the same seed in any process. So the client knows the correct response to each request, and a
number identifies a caller whose wait went wrong. The exact times depend on the machine.
"""

from __future__ import annotations

import math
import random
from typing import Any, Literal
from uuid import UUID

import attrs

Way = Literal["wait", "watch", "as_completed", "wait_for_all", "get_job", "create_job", "download", "speak", "unknown"]
Leaving = Literal["stays", "cancelled", "timeout", "group"]

WAYS: dict[Way, float] = {
    "wait": 60,
    "watch": 14,
    "as_completed": 2.0,
    "wait_for_all": 2.0,
    "get_job": 5,
    "create_job": 3,
    "download": 6,
    "speak": 3,
    "unknown": 2,
}
"""How callers wait, with relative weights; `unknown` waits for a job that does not exist."""

REQUEST_TIMEOUT = 1.5
"""Seconds. Only requests with a fault take as long."""

JOBS_PER_WAIT = 1 / 60
"""Jobs started per second, for each wait that should be open."""

AHEAD = 5.0
"""Seconds that a job exists in the service before a caller asks for it."""

SPAN = 20.0
"""Seconds: most callers ask for a job that started within this time."""

HOT = 40
"""One job in this many is a hot job, which many callers wait for."""

BRIEF = {"get_job", "create_job", "download", "speak"}
"""Ways that take a moment if nothing goes wrong; a caller that leaves early does so within that moment."""

MOMENT = 1.0
"""Seconds."""

LONGEST = 25.0
"""Seconds after which every caller has left, or its deadline has passed."""

POLLING_COUNT = 6
"""The number of polling settings; few, so that callers share requests."""


@attrs.frozen(kw_only=True)
class Soak:
    """The parameters of a soak.

    Attributes:
        seed: Decides everything.
        seconds: The duration, including the end without faults.
        waits: The number of waits to keep open.
    """

    seed: int
    seconds: float
    waits: int

    @property
    def fault_seconds(self) -> float:
        """Seconds from the beginning until faults stop and no new caller starts."""
        return self.seconds - min(20.0, 0.2 * self.seconds)

    @property
    def job_rate(self) -> float:
        """Jobs started per second."""
        return max(1.0, self.waits * JOBS_PER_WAIT)

    def rng(self, *what: object) -> random.Random:
        """Return random numbers for one decision, independent of all other decisions."""
        return random.Random(" ".join(map(str, (self.seed, *what))))  # noqa: S311 - repeatable, not secret


@attrs.frozen(kw_only=True)
class Job:
    """A planned job.

    Attributes:
        number: Its number, which is also the last part of its id.
        id: Its id.
        starts: When a caller may first ask for it, in seconds since the beginning.
        duration: How long it takes; infinity: it never finishes.
        fails: Whether it ends as FAILED.
        input: Its input.
    """

    number: int
    id: UUID
    starts: float
    duration: float
    fails: bool
    input: dict[str, Any]

    @property
    def finishes(self) -> float:
        """When it finishes, in seconds since the beginning."""
        return self.starts + self.duration


def job_of(soak: Soak, number: int) -> Job:
    """Return a job by its number."""
    rng = soak.rng("job", number)
    kind = rng.random()
    if kind < 0.1:
        duration = math.inf
    elif kind < 0.15:
        duration = 0.0
    else:
        duration = rng.uniform(0.2, 6.0) if kind < 0.5 else rng.uniform(6.0, 30.0)
    return Job(
        number=number,
        id=UUID(int=(1 << 127) + number),
        starts=number / soak.job_rate,
        duration=duration,
        fails=rng.random() < 0.15,
        input={
            "model": "PlayDialog",
            "voice": "v",
            "text": f"{number} " + "la " * rng.randint(2, 25),
            "sampleRate": 8000,
        },
    )


def number_of(job_id: UUID) -> int | None:
    """Return the number of a planned job, or None for any other job."""
    number = job_id.int - (1 << 127)
    return number if 0 <= number < 1 << 32 else None


@attrs.frozen(kw_only=True)
class Caller:
    """One caller: how it waits, for which jobs, and how it leaves.

    Attributes:
        number: Its number.
        way: How it waits.
        slot: Which session it uses.
        ages: How many jobs ago each of its jobs started.
        hot: Whether it waits for a hot job instead.
        polling_index: Which polling settings it passes; None: none, so the session's settings apply.
        timeout: Seconds; None: no deadline; "left out": not passed.
        leaving: How it leaves before the end, if it does.
        after: After how many seconds it leaves.
        takes: How many results it takes before it leaves its loop; 0: all.
        raises: Whether it leaves its loop with an exception.
        closes: Whether it closes the iterator or leaves that to Python.
        slowness: Seconds that it takes for each of the first results.
        return_exceptions: The argument of the same name.
    """

    number: int
    way: Way
    slot: int
    ages: tuple[int, ...]
    hot: bool
    polling_index: int | None
    timeout: float | Literal["left out"] | None
    leaving: Leaving
    after: float
    takes: int
    raises: bool
    closes: bool
    slowness: float
    return_exceptions: bool


def caller_of(soak: Soak, number: int, slots: int) -> Caller:
    """Return a caller by its number."""
    rng = soak.rng("caller", number)
    way = rng.choices(list(WAYS), list(WAYS.values()))[0]
    several = way in {"as_completed", "wait_for_all"}
    count = 1
    if several:
        count = rng.randint(2, 30) if rng.random() < 0.95 else rng.randint(30, max(30, soak.waits // 20))
    leaving: Leaving = rng.choices(("stays", "cancelled", "timeout", "group"), (70, 12, 10, 8))[0]
    timeout = _timeout(rng)
    if timeout is None and leaving == "stays":
        leaving = "cancelled"  # otherwise it could wait for a job that never finishes
    return Caller(
        number=number,
        way=way,
        slot=rng.randrange(slots),
        ages=tuple(int(SPAN * soak.job_rate * rng.random() ** 2) for _ in range(count)),
        hot=way in {"wait", "watch"} and rng.random() < 0.3,
        polling_index=None if rng.random() < 0.3 else rng.randrange(POLLING_COUNT),
        timeout=timeout,
        leaving=leaving,
        after=(MOMENT * rng.random() ** 3 if way in BRIEF else LONGEST * rng.random()) if rng.random() < 0.9 else 0.0,
        takes=rng.randint(1, 3) if rng.random() < 0.15 else 0,
        raises=rng.random() < 0.3,
        closes=rng.random() < 0.7,
        slowness=rng.uniform(0.0, 2.0) if rng.random() < 0.3 else 0.0,
        return_exceptions=rng.random() < 0.6,
    )


def _timeout(rng: random.Random) -> float | Literal["left out"] | None:
    kind = rng.random()
    if kind < 0.05:
        return rng.uniform(0.001, 0.2)
    if kind < 0.25:
        return rng.uniform(0.2, 5.0)
    if kind < 0.75:
        return rng.uniform(5.0, LONGEST)
    return None if kind < 0.88 else "left out"
