"""How much sooner forecasts let a session notice that jobs are finished: with the emulator's service, in virtual time.

One seed for each load, with bounds that leave room for another seed. `bench.sooner` has the figures.
"""

from __future__ import annotations

import asyncio
import math
import random
import statistics
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial

import attrs
import pytest

from playai_async import InProgress, Pacing, PlayAISession, Polling, TtsJob
from playai_async.emulator import Emulator
from tests.support.clock import now
from tests.support.fleets import QUOTA, WINDOW, without_sockets
from tests.support.scripted import API_KEY, USER_ID
from tools.virtual_time import run

SEEN_BEFORE = 30
"""Jobs that a warm session has seen."""

MAX_TEXT = 3_000
"""Characters. One job that takes minutes would decide the mean lag of a seed."""


@attrs.frozen
class Load:
    """Jobs, seconds between their starts, and whether their lengths follow their texts."""

    jobs: int
    gap: float
    by_text: bool = True


STREAM, TEN_A_MINUTE, AT_ONCE = Load(120, 2.0), Load(40, 6.0), Load(200, 0.0)


@attrs.frozen
class Course:
    """The lags of the jobs, and the requests for each."""

    lags: list[float]
    requests: float

    @property
    def lag(self) -> float:
        """The mean lag."""
        return statistics.fmean(self.lags)


def waited(load: Load, *, forecast: bool, warm: bool = False) -> Course:
    """Wait for the jobs of a load, under a known quota."""
    return run(partial(_waited, load, forecast=forecast, warm=warm))


async def _waited(load: Load, *, forecast: bool, warm: bool) -> Course:
    random.seed(3)
    polling, pacing = Polling(forecast=forecast, timeout=None), Pacing(requests_per_window=QUOTA, window=WINDOW)
    async with (
        Emulator(QUOTA, WINDOW, phase=20.0) as emulator,
        without_sockets(emulator, one_way=0.1),
        PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url, polling=polling, pacing=pacing) as playai,
    ):
        if warm:
            await lags(playai, emulator, attrs.evolve(load, jobs=SEEN_BEFORE, gap=6.0), seed=1)
            await asyncio.sleep(2 * WINDOW)
        before = emulator.stats.requests
        late = await lags(playai, emulator, load, seed=2)
        assert emulator.stats.throttled == 0
        return Course(late, (emulator.stats.requests - before) / load.jobs)


async def lags(playai: PlayAISession, emulator: Emulator, load: Load, *, seed: int) -> list[float]:
    """Wait for jobs that the caller has as the service described them; return the lag of each."""
    dice = random.Random(seed)  # noqa: S311 - repeatable, not secret

    async def one(starts_in: float, takes: float, given: Mapping[str, str]) -> float:
        await asyncio.sleep(starts_in)
        job_id = emulator.add_job(takes, input=given)
        await playai.wait_for_completion(TtsJob(job_id, datetime.now(UTC), given, None, InProgress()))
        return now() - emulator.finishes_at(job_id)

    def job() -> tuple[float, Mapping[str, str]]:
        characters = min(MAX_TEXT, round(dice.lognormvariate(math.log(1_000), 1.0)))
        takes = (2 + 0.018 * characters) * dice.lognormvariate(0, 0.3)
        if not load.by_text:
            takes = dice.lognormvariate(math.log(20), 0.7)
        return takes, {"model": "PlayDialog", "voice": "v", "text": "x" * characters}

    return await asyncio.gather(*(one(load.gap * number, *job()) for number in range(load.jobs)))


@pytest.fixture(scope="module")
def without_forecast() -> dict[Load, Course]:
    """The courses of loads without a forecast, which two tests may share: the first one fills it in."""
    return {}


@pytest.mark.parametrize(
    ("load", "warm", "most"),
    [(STREAM, True, 0.65), (STREAM, False, 0.8), (TEN_A_MINUTE, True, 0.65), (AT_ONCE, True, 0.85)],
    ids=["stream, warm", "stream, cold", "10 a minute, warm", "200 at once, warm"],
)
def test_where_lengths_follow_the_text_a_forecast_lets_jobs_be_noticed_sooner(
    load: Load, warm: bool, most: float, without_forecast: dict[Load, Course]
) -> None:
    """With no more requests, and no wait that starves."""
    if load not in without_forecast:
        without_forecast[load] = waited(load, forecast=False)
    usual, sooner = without_forecast[load], waited(load, forecast=True, warm=warm)
    assert sooner.lag < most * usual.lag
    assert sooner.requests < 1.1 * usual.requests
    assert max(sooner.lags) < 2 * WINDOW or load is AT_ONCE


def test_where_lengths_have_nothing_to_do_with_the_text_a_forecast_does_no_harm() -> None:
    """Apart from what chance does to one run."""
    load = attrs.evolve(STREAM, by_text=False)
    usual, sooner = waited(load, forecast=False), waited(load, forecast=True, warm=True)
    assert sooner.lag < 1.2 * usual.lag
    assert sooner.requests < 1.1 * usual.requests
    assert max(sooner.lags) < 2 * WINDOW
