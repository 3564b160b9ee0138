"""What a soak does, decided by its seed: which jobs there are, who waits for them and how.

Values alone, the same for the same seed in any process: so the client knows what the service must answer, and a caller
that found something wrong can be named by a number. When things happen is up to the machine.
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
"""How callers wait, and in what proportion; `unknown` waits for a job that there is not."""

REQUEST_TIMEOUT = 1.5
"""Seconds. Nothing here takes as long, but for what is made to."""

JOBS_A_WAIT = 1 / 60
"""Jobs that start in a second, for each wait that is to be open."""

AHEAD = 5.0
"""Seconds that a job is known to the service before anybody asks for it."""

SPAN = 20.0
"""Seconds: most callers ask for a job that started no longer ago."""

HOT = 40
"""One job in so many is waited for by a crowd."""

BRIEF = {"get_job", "create_job", "download", "speak"}
"""Ways that take a moment where nothing goes wrong; who leaves one early must do so within that."""

MOMENT = 1.0
"""Seconds."""

LONGEST = 25.0
"""Seconds after which every caller has left, or its deadline has passed."""

PALETTES = 6
"""How many settings of polling callers choose from; few, so that they share requests."""


@attrs.frozen(kw_only=True)
class Soak:
    """What was asked for.

    Attributes:
        seed: What decides everything.
        seconds: How long it takes, with its calm end.
        waits: How many are to be open at once.
    """

    seed: int
    seconds: float
    waits: int

    @property
    def stormy(self) -> float:
        """Seconds from the beginning until nothing befalls the service any more, and nobody new comes."""
        return self.seconds - min(20.0, 0.2 * self.seconds)

    @property
    def job_rate(self) -> float:
        """Jobs that start in a second."""
        return max(1.0, self.waits * JOBS_A_WAIT)

    def dice(self, *what: object) -> random.Random:
        """Return dice for one thing that is to be decided, whatever else is."""
        return random.Random(" ".join(map(str, (self.seed, *what))))  # noqa: S311 - repeatable, not secret


@attrs.frozen(kw_only=True)
class Job:
    """A job as it will be.

    Attributes:
        number: Its place among all; the last digits of its id.
        id: Its id.
        starts: When it may first be asked for, in seconds from the beginning.
        duration: How long it takes from then on; infinity: for ever.
        fails: Whether it ends as FAILED.
        input: What it is made from.
    """

    number: int
    id: UUID
    starts: float
    duration: float
    fails: bool
    input: dict[str, Any]

    @property
    def finishes(self) -> float:
        """When it is done, in seconds from the beginning."""
        return self.starts + self.duration


def job_of(soak: Soak, number: int) -> Job:
    """Return a job by its number."""
    dice = soak.dice("job", number)
    kind = dice.random()
    if kind < 0.1:
        duration = math.inf
    elif kind < 0.15:
        duration = 0.0
    else:
        duration = dice.uniform(0.2, 6.0) if kind < 0.5 else dice.uniform(6.0, 30.0)
    return Job(
        number=number,
        id=UUID(int=(1 << 127) + number),
        starts=number / soak.job_rate,
        duration=duration,
        fails=dice.random() < 0.15,
        input={
            "model": "PlayDialog",
            "voice": "v",
            "text": f"{number} " + "la " * dice.randint(2, 25),
            "sampleRate": 8000,
        },
    )


def number_of(job_id: UUID) -> int | None:
    """Return the number of a planned job; None for any other."""
    number = job_id.int - (1 << 127)
    return number if 0 <= number < 1 << 32 else None


@attrs.frozen(kw_only=True)
class Caller:
    """One caller: how it waits, for what, and how it leaves.

    Attributes:
        number: Its place among all.
        way: How it waits.
        seat: Which of the sessions it uses.
        ages: How long ago each of its jobs started, in jobs.
        hot: Whether it joins the crowd around a hot job instead.
        palette: Which settings of polling it uses; None: the session's.
        timeout: Seconds; None: no deadline; ...: left out.
        leaving: How it leaves, if it does before the end.
        after: Seconds after which it does.
        takes: How many results it takes before it breaks off; 0: all.
        raises: Whether it breaks off by an exception in the body of its loop.
        closes: Whether it closes what it breaks off, or leaves that to Python.
        slowness: Seconds that it takes over each of the first results.
        return_exceptions: As the library has it.
    """

    number: int
    way: Way
    seat: int
    ages: tuple[int, ...]
    hot: bool
    palette: int | None
    timeout: float | Literal["left out"] | None
    leaving: Leaving
    after: float
    takes: int
    raises: bool
    closes: bool
    slowness: float
    return_exceptions: bool


def caller_of(soak: Soak, number: int, seats: int) -> Caller:
    """Return a caller by its number."""
    dice = soak.dice("caller", number)
    way = dice.choices(list(WAYS), list(WAYS.values()))[0]
    several = way in {"as_completed", "wait_for_all"}
    count = 1
    if several:
        count = dice.randint(2, 30) if dice.random() < 0.95 else dice.randint(30, max(30, soak.waits // 20))
    leaving: Leaving = dice.choices(("stays", "cancelled", "timeout", "group"), (70, 12, 10, 8))[0]
    timeout = _timeout(dice)
    if timeout is None and leaving == "stays":
        leaving = "cancelled"  # or it would wait for an endless job until its session is closed
    return Caller(
        number=number,
        way=way,
        seat=dice.randrange(seats),
        ages=tuple(int(SPAN * soak.job_rate * dice.random() ** 2) for _ in range(count)),
        hot=way in {"wait", "watch"} and dice.random() < 0.3,
        palette=None if dice.random() < 0.3 else dice.randrange(PALETTES),
        timeout=timeout,
        leaving=leaving,
        after=(MOMENT * dice.random() ** 3 if way in BRIEF else LONGEST * dice.random())
        if dice.random() < 0.9
        else 0.0,
        takes=dice.randint(1, 3) if dice.random() < 0.15 else 0,
        raises=dice.random() < 0.3,
        closes=dice.random() < 0.7,
        slowness=dice.uniform(0.0, 2.0) if dice.random() < 0.3 else 0.0,
        return_exceptions=dice.random() < 0.6,
    )


def _timeout(dice: random.Random) -> float | Literal["left out"] | None:
    kind = dice.random()
    if kind < 0.05:
        return dice.uniform(0.001, 0.2)
    if kind < 0.25:
        return dice.uniform(0.2, 5.0)
    if kind < 0.75:
        return dice.uniform(5.0, LONGEST)
    return None if kind < 0.88 else "left out"
