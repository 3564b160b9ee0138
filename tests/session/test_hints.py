"""Hints from webhooks, in virtual time: sessions with the emulator's service, and the stream of `bench/fleet`."""

from __future__ import annotations

import asyncio
import math
import random
import statistics
from functools import partial

import attrs
import pytest

from playai_async import Pacing, PlayAISession
from playai_async.emulator import Emulator
from tests.support.clock import now
from tests.support.fleets import QUOTA, WINDOW, most_in_a_window, without_sockets
from tests.support.scripted import API_KEY, USER_ID
from tools.virtual_time import run

JOBS = 120
GAP = 2.0
MEDIAN, SIGMA = 20.0, 0.7


@attrs.frozen
class Hints:
    """Which hints a stream of jobs gets.

    Attributes:
        true: The fraction of jobs that are hinted when they have ended.
        late: Seconds from the end of a job to its hint.
        false: Hints per job before its end.
    """

    true: float = 0.0
    late: float = 2.0
    false: int = 0


@attrs.frozen
class Result:
    """What a stream of jobs met: the mean lag in seconds, the longest, and the answered requests per job."""

    lag: float
    longest: float
    requests: float


async def stream(seed: int, hints: Hints) -> Result:
    """Wait for 120 jobs, one begun every two seconds, under a known quota of 60 per minute."""
    random.seed(seed)
    dice = random.Random(seed)  # noqa: S311 - repeatable, not secret
    plan = [(GAP * number, dice.lognormvariate(math.log(MEDIAN), SIGMA)) for number in range(JOBS)]
    phase = dice.uniform(0, WINDOW)
    pacing = Pacing(requests_per_window=QUOTA, window=WINDOW)
    loop = asyncio.get_running_loop()
    async with (
        Emulator(QUOTA, WINDOW, phase=phase) as emulator,
        without_sockets(emulator),
        PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url, pacing=pacing) as playai,
    ):

        async def one(starts: float, takes: float) -> float:
            await asyncio.sleep(starts)
            job_id = emulator.add_job(duration=takes)
            for _ in range(hints.false):
                loop.call_later(dice.uniform(0, takes), playai.hint, job_id)
            if dice.random() < hints.true:
                loop.call_later(takes + hints.late, playai.hint, job_id)
            await playai.wait_for_completion(job_id, timeout=None)
            return now() - emulator.finishes_at(job_id)

        lags = await asyncio.gather(*[one(*job) for job in plan])
        await asyncio.sleep(hints.late)  # for the last hint
        assert emulator.stats.throttled == 0
        assert most_in_a_window(emulator.arrivals) <= QUOTA
        return Result(statistics.mean(lags), max(lags), emulator.stats.requests / JOBS)


SEEDS = range(3)


@pytest.fixture(scope="module")
def without_hints() -> dict[int, Result]:
    """What the streams met without hints, by seed: the same for each test, so the first one fills it in."""
    return {}


@pytest.mark.parametrize(
    ("hints", "lag"),
    [
        pytest.param(Hints(1.0), 0.42, id="for all jobs, two seconds late"),
        pytest.param(Hints(0.5), 0.75, id="for half of the jobs"),
        pytest.param(Hints(false=2), 1.15, id="two false hints per job"),
        pytest.param(Hints(1.0, false=2), 1.15, id="two false hints per job beside the true one"),
    ],
)
def test_hints_shorten_the_lag_and_false_hints_do_little_harm(
    hints: Hints, lag: float, without_hints: dict[int, Result]
) -> None:
    """Medians of the ratios to the same streams without hints. Requests stay the same, and no wait starves."""
    ratios: list[float] = []
    for seed in SEEDS:
        if seed not in without_hints:
            without_hints[seed] = run(partial(stream, seed, Hints()))
        without, result = without_hints[seed], run(partial(stream, seed, hints))
        ratios.append(result.lag / without.lag)
        assert result.requests <= 1.05 * without.requests
        assert result.longest <= 2 * WINDOW
    assert statistics.median(ratios) <= lag
