"""The faults of `bench.scale.chaos`: which, when and for how long, drawn from a seed. Pure."""

from __future__ import annotations

import random

import attrs

__all__ = ["LANES", "Fault", "plan"]


@attrs.frozen(order=True)
class Fault:
    """One fault.

    Attributes:
        at: Seconds from the beginning.
        kind: What happens.
        lasts: Seconds until it is over.
        size: How many of something.
    """

    at: float
    kind: str
    lasts: float
    size: int


@attrs.frozen
class Lane:
    """Faults that happen one after another; faults of different lanes may happen at the same time.

    Attributes:
        gap: Seconds between two of them, on average.
        kinds: The faults, and how long each lasts, at least and at most.
    """

    gap: float
    kinds: dict[str, tuple[float, float]]


LANES = (
    Lane(
        10.0,
        {
            "Redis killed and restarted": (0.1, 12.0),
            "Redis stopped for a while": (0.5, 5.0),
            "Redis clock step": (0, 0),
        },
    ),
    Lane(20.0, {"PostgreSQL restarted": (0, 3.0), "PostgreSQL stopped for a while": (2.0, 20.0)}),
    Lane(12.0, {"worker killed": (0, 0)}),
    Lane(15.0, {"429 with Retry-After": (1.0, 3.0), "503": (0, 0), "connection reset": (0, 0)}),
    Lane(8.0, {"process stopped for a while": (1.0, 8.0), "burst of a new process": (0, 0), "hints": (0, 0)}),
)
"""The clock of Redis steps by `size` seconds, forward or back."""

_USUAL = 150.0
"""Seconds of a run from which the gaps are those of the lanes; in a shorter run they are shorter."""

_LONGEST_FRACTION = 1 / 4
"""Of the run, what a fault lasts at most."""

_FIRST = 3.0
"""Seconds before the first fault."""

_MOST = 40
"""The largest size."""


def plan(seed: int, seconds: float) -> list[list[Fault]]:
    """Draw the faults of each lane for the first four fifths of a run; the rest shows that all is well again."""
    rng = random.Random(seed)  # noqa: S311 - repeatable, not secret
    return [_faults_of(lane, rng, seconds) for lane in LANES]


def _faults_of(lane: Lane, rng: random.Random, seconds: float) -> list[Fault]:
    gap = lane.gap * min(1.0, seconds / _USUAL)
    faults: list[Fault] = []
    at = _FIRST + rng.uniform(0, gap)
    while at < 0.8 * seconds:
        kind = rng.choice(sorted(lane.kinds))
        lasts = min(rng.uniform(*lane.kinds[kind]), _LONGEST_FRACTION * seconds)
        faults.append(Fault(at, kind, lasts, rng.randint(1, _MOST)))
        at += lasts + rng.uniform(0.5, 1.5) * gap
    return faults
