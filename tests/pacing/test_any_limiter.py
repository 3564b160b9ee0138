"""A poller behind every kind of limiter, with random traffic, in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Hashable, Sequence

import attrs
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from playai_async import Pacing, Polling
from playai_async.jobs import JobPoller, Throttled
from tools.limited_service import ModelService, RefusedError, Sent
from tools.limiters import KINDS, Setting
from tools.virtual_time import run

CASES = [(kind, hints) for kind in KINDS for hints in (False, True) if not hints or KINDS[kind].hints]


@attrs.frozen
class Job:
    """A wait for one job.

    Attributes:
        starts: When it begins, in windows.
        length: When the job finishes, in windows from then on.
        cancelled: When its caller goes away, in windows from the start; None: never.
    """

    starts: float
    length: float
    cancelled: float | None


@attrs.frozen
class Traffic:
    """What is waited for, and how.

    Attributes:
        waits: How many jobs are waited for.
        within: The windows within which the waits begin.
        cancelled: The fraction of waits whose callers go away.
        quota: Requests per window.
        window: Seconds.
        phase: The part of the service's first window that has passed at the beginning.
        one_way: The least and the most seconds that a request, and its response, take on the network.
        seed: Decides what else is random.
    """

    waits: int
    within: float
    cancelled: float
    quota: int
    window: float
    phase: float
    one_way: tuple[float, float]
    seed: int

    def jobs(self) -> list[Job]:
        """Return the jobs, in random order."""
        rng = random.Random(self.seed)  # noqa: S311 - repeatable, not secret
        return [
            Job(
                starts=rng.uniform(0, self.within),
                length=rng.uniform(0, 1.5),
                cancelled=rng.uniform(0, 1) if rng.random() < self.cancelled else None,
            )
            for _ in range(self.waits)
        ]


TRAFFIC = st.builds(
    Traffic,
    waits=st.sampled_from([1, 3, 10, 30, 60]),
    within=st.sampled_from([0.0, 0.5, 3.0]),
    cancelled=st.sampled_from([0.0, 0.3]),
    quota=st.integers(5, 60),
    window=st.sampled_from([6.0, 60.0]),
    phase=st.floats(0, 0.999),
    one_way=st.sampled_from([(0.0, 0.0), (0.01, 0.05), (0.0, 0.5)]),
    seed=st.integers(0, 1_000),
)


@attrs.frozen
class Outcome:
    """What came of it.

    Attributes:
        lags: Seconds from the end of each job to the end of its wait, unless it was cancelled.
        sent: The requests, as the service saw them.
        stats: The requests, their 429s, and those still in flight at the end, as the poller counted them.
    """

    lags: Sequence[float]
    sent: Sequence[Sent] = attrs.field(repr=False)  # thousands, which asyncio would write out for each run
    stats: tuple[int, int, int]


def outcome_of(traffic: Traffic, kind: str, *, hints: bool, known: bool) -> Outcome:
    """Wait for all jobs."""
    limited = KINDS[kind]
    window = traffic.window

    async def follow(poller: JobPoller[Hashable, bool], service: ModelService, number: int, job: Job) -> float | None:
        service.finishes[number] = (job.starts + job.length) * window
        await asyncio.sleep(job.starts * window)
        try:
            async with asyncio.timeout(None if job.cancelled is None else job.cancelled * window):
                await poller.wait_for_completion(number)
        except TimeoutError:
            return None
        return asyncio.get_running_loop().time() - service.finishes[number]

    async def main() -> Outcome:
        random.seed(traffic.seed)  # the poller's own
        rng = random.Random(traffic.seed)  # noqa: S311 - repeatable, not secret
        limiter = limited.make(Setting(traffic.quota, window, traffic.phase * window, rng))
        service = ModelService(
            limiter, window, hints=hints, takes=limited.takes * window, seed=traffic.seed, one_way=traffic.one_way
        )
        async with JobPoller[Hashable, bool](
            service.fetch,
            is_done=bool,
            classify=lambda error: Throttled(error.retry_after) if isinstance(error, RefusedError) else None,
            pacing=Pacing(requests_per_window=traffic.quota if known else None, window=window),
            polling=Polling(initial=window / 60, maximum=window / 6, timeout=100 * window),
        ) as poller:
            waits = [follow(poller, service, number, job) for number, job in enumerate(traffic.jobs())]
            lags = await asyncio.gather(*waits)
            await asyncio.sleep(1.0)  # cancelled requests end
            stats = poller.stats
        counted = stats.requests, stats.throttled, stats.in_flight
        return Outcome([lag for lag in lags if lag is not None], service.sent, counted)

    return run(main)


def most_in_a_window(times: Sequence[float], window: float) -> int:
    """Count the requests in the fullest span of a window."""
    return max((sum(begin <= at < begin + window for at in times) for begin in times), default=0)


AT_ONCE = Traffic(60, 0.0, 0.0, 60, 60.0, 0.3, (0.01, 0.05), 1)
"""As many jobs as requests per window, all at once."""

PROPERTY = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=10,
    phases=[Phase.explicit, Phase.generate],  # a smaller example tells no more, and takes minutes
)

EVERY_KIND = pytest.mark.parametrize(("kind", "hints"), CASES)


def assert_no_wait_starved(traffic: Traffic, outcome: Outcome) -> None:
    """Fail if a lag is longer than five times what one request for each job takes, and a window."""
    throttled = sum(not sent.admitted for sent in outcome.sent)
    requests, refusals, in_flight = outcome.stats
    assert in_flight == 0
    assert refusals <= throttled <= len(outcome.sent) <= requests  # some were cancelled on their way
    least = 1 + traffic.waits / traffic.quota
    assert max(outcome.lags, default=0.0) <= 5 * least * traffic.window


@PROPERTY
@EVERY_KIND
@example(traffic=AT_ONCE)
@given(traffic=TRAFFIC)
def test_a_known_quota_is_never_exceeded_and_no_wait_starves(kind: str, hints: bool, traffic: Traffic) -> None:
    """Over any span of a window, whatever refuses the requests, and whether they are refused or not."""
    outcome = outcome_of(traffic, kind, hints=hints, known=True)
    assert most_in_a_window([sent.at for sent in outcome.sent], traffic.window) <= traffic.quota
    assert_no_wait_starved(traffic, outcome)


@PROPERTY
@EVERY_KIND
@example(traffic=AT_ONCE)
@given(traffic=TRAFFIC)
def test_while_a_quota_is_learned_no_wait_starves(kind: str, hints: bool, traffic: Traffic) -> None:
    """And each request ends once."""
    assert_no_wait_starved(traffic, outcome_of(traffic, kind, hints=hints, known=False))
