"""The loads and the lengths of jobs, decided by a seed."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence

import attrs

MEDIAN_TEXT, SIGMA_TEXT = 1_000, 1.0
"""Characters of a text: the median, and the standard deviation of their logarithm."""

MAX_TEXT = 50_000
"""Characters that the service accepts."""

START, PACE = 2.0, 0.018
"""Seconds that each job takes, and seconds for each character."""

NOISE = 0.3
"""The standard deviation of the logarithm of what the text does not explain."""

MEDIAN, SIGMA = 20.0, 0.7
"""Seconds of a job whose length has nothing to do with its text, as in `bench.fleet`."""


@attrs.frozen
class Job:
    """A job: seconds from the beginning of the load, seconds that it takes, and its input."""

    starts: float
    length: float
    input: Mapping[str, object]


def by_text(rng: random.Random) -> tuple[float, Mapping[str, object]]:
    """Return the length and the input of a job whose length follows its text."""
    characters = min(MAX_TEXT, max(1, round(rng.lognormvariate(math.log(MEDIAN_TEXT), SIGMA_TEXT))))
    return (START + PACE * characters) * rng.lognormvariate(0, NOISE), speech(characters)


def unrelated(rng: random.Random) -> tuple[float, Mapping[str, object]]:
    """Return the length and the input of a job whose length has nothing to do with its text."""
    _, text = by_text(rng)
    return rng.lognormvariate(math.log(MEDIAN), SIGMA), text


def no_text(rng: random.Random) -> tuple[float, Mapping[str, object]]:
    """Return the length and the input of a job without a text."""
    return rng.lognormvariate(math.log(MEDIAN), SIGMA), {"model": "PlayDialog", "voice": "nova"}


def speech(characters: int) -> Mapping[str, object]:
    """Return the input of a job with a text."""
    return {"model": "PlayDialog", "voice": "nova", "text": "x" * characters}


LENGTHS: Mapping[str, Callable[[random.Random], tuple[float, Mapping[str, object]]]] = {
    "text 0.3": by_text,
    "unrelated": unrelated,
    "no text": no_text,
}

STARTS: Mapping[str, Sequence[float]] = {
    "stream": [2.0 * number for number in range(120)],
    "10 a minute": [6.0 * number for number in range(60)],
    "25 a minute": [2.4 * number for number in range(120)],
    "200 at once": [0.0] * 200,
}

SEEN_BEFORE: Sequence[float] = [6.0 * number for number in range(30)]
"""The jobs that a warm session has seen."""


def jobs(starts: Sequence[float], lengths: str, seed: str) -> list[Job]:
    """Return jobs with these starts; they are the same for the same seed."""
    rng = random.Random(f"{lengths} {seed}")  # noqa: S311 - repeatable, not secret
    return [Job(start, *LENGTHS[lengths](rng)) for start in starts]
