"""Hints that a job may have finished: what they change, what they must not change, and which are followed."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import pytest

from playai_async import ConfigurationError, Pacing, PlayAISession, Polling, SessionClosedError, TtsJob
from playai_async.jobs import JobPoller, PollerClosedError, Throttled, Transient
from playai_async.jobs._polling.hints import HintGuard
from tests.support.clock import now
from tests.support.scripted import API_KEY, COMPLETED, JOB_ID, USER_ID, job_json

SLOW = Pacing(requests_per_window=6, window=60.0)
"""A request each ten seconds."""

AMPLE = Pacing(requests_per_window=1_000)


class BusyError(Exception):
    """The service's 429."""


class DownError(Exception):
    """The service's 503."""


def classify(error: Exception) -> Throttled | Transient | None:
    """Say what an exception of the service means."""
    if isinstance(error, BusyError):
        return Throttled(20.0)
    return Transient() if isinstance(error, DownError) else None


class Jobs:
    """A service whose jobs end at the times that a test sets, and a poller of it without jitter."""

    def __init__(self, pacing: Pacing = AMPLE, *, takes: float = 0.0) -> None:
        self.ends: dict[str, float] = {}
        self.errors: list[Exception] = []
        self.requests: list[tuple[float, str]] = []
        self._takes = takes
        self.poller: JobPoller[str, bool | None] = JobPoller(
            self.fetch,
            is_done=lambda job: job is True,
            classify=classify,
            polling=Polling(jitter=0, timeout=None),
            pacing=pacing,
        )

    async def fetch(self, name: str) -> bool:
        """Return whether the job has ended when the request arrives."""
        self.requests.append((round(now(), 3), name))
        done = self.ends.get(name, math.inf) <= now()
        await asyncio.sleep(self._takes)
        if self.errors:
            raise self.errors.pop(0)
        return done

    def wait(self, *names: str, polling: Polling | None = None) -> list[asyncio.Task[Any]]:
        """Begin to wait."""
        tasks = [asyncio.create_task(self.poller.wait_for_completion(name, polling=polling)) for name in names]
        for task in tasks:
            task.add_done_callback(lambda task: task.cancelled() or task.exception())  # of a wait that a test leaves
        return tasks

    def finish(self, name: str) -> bool:
        """End a job, and hint at it."""
        self.ends[name] = now()
        return self.poller.hint(name)

    def after(self, moment: float) -> list[tuple[float, str]]:
        """List the requests since a time."""
        return [request for request in self.requests if request[0] >= moment]


# What a hint changes


async def test_a_hint_ends_the_pause_before_the_next_poll() -> None:
    jobs = Jobs()
    async with jobs.poller:
        [wait] = jobs.wait("a")
        await asyncio.sleep(30.5)
        assert jobs.finish("a") is True
        assert await wait is True
        assert now() == pytest.approx(30.5, abs=0.01)
        assert jobs.poller.stats.hints_followed == 1


async def test_a_hinted_poll_goes_ahead_of_others_and_does_not_wait_for_the_spacing() -> None:
    jobs = Jobs(SLOW)
    async with jobs.poller:
        waits = jobs.wait("a", "b", "c", "d")
        await asyncio.sleep(3.0)
        assert jobs.requests == [(0.0, "a")]
        assert jobs.finish("d") is True
        assert await waits[3] is True
        assert jobs.requests == [(0.0, "a"), (3.0, "d")]


async def test_the_next_hinted_poll_does_not_wait_for_the_spacing_either() -> None:
    """A hint that proved true keeps hints trusted."""
    jobs = Jobs(SLOW)
    async with jobs.poller:
        waits = jobs.wait("a", "b", "c", "d")
        for moment, place in ((3.0, 3), (4.0, 2)):
            await asyncio.sleep(moment - now())
            jobs.finish("abcd"[place])
            assert await waits[place] is True
        assert jobs.requests == [(0.0, "a"), (3.0, "d"), (4.0, "c")]


async def test_the_polls_after_hinted_ones_make_up_for_them() -> None:
    """So hints add no requests."""
    jobs = Jobs(SLOW)
    async with jobs.poller:
        jobs.wait("a", "b", "c", "d")
        await asyncio.sleep(3.0)
        jobs.finish("c")
        jobs.finish("d")
        await asyncio.sleep(60.0)
        assert [at for at, _ in jobs.requests[:5]] == [0.0, 3.0, 3.0, 30.0, 40.0]


async def test_hinted_polls_go_in_the_order_of_their_hints() -> None:
    jobs = Jobs(Pacing(requests_per_window=2))
    async with jobs.poller:
        jobs.wait("a", "b", "c", "d", "e")
        await asyncio.sleep(31.0)
        for name in "ecd":
            jobs.finish(name)
        await asyncio.sleep(120.0)
        assert [name for _, name in jobs.requests[2:5]] == ["e", "c", "d"]


async def test_direct_requests_go_ahead_of_hinted_polls() -> None:
    jobs = Jobs(Pacing(requests_per_window=1))
    async with jobs.poller:
        jobs.wait("a", "b")
        await asyncio.sleep(1.0)
        jobs.finish("b")
        call = asyncio.create_task(jobs.poller.get("x"))
        await call
        await asyncio.sleep(61.0)
        assert [name for _, name in jobs.requests] == ["a", "x", "b"]


async def test_a_hint_brings_all_watches_of_its_job_forward() -> None:
    """Each has waiters who want to know."""
    jobs = Jobs()
    async with jobs.poller:
        waits = jobs.wait("a") + jobs.wait("a", polling=Polling(initial=7.0, jitter=0))
        await asyncio.sleep(20.2)
        assert jobs.finish("a") is True
        await asyncio.gather(*waits)
        assert now() == pytest.approx(20.2, abs=0.01)


# A poll in flight


async def test_a_hint_during_a_poll_is_followed_by_one_more_poll() -> None:
    """The poll in flight may have been sent before the job ended."""
    jobs = Jobs(takes=2.0)
    async with jobs.poller:
        [wait] = jobs.wait("a")
        await asyncio.sleep(1.0)
        assert [jobs.finish("a") for _ in range(5)] == [True] * 5
        await wait
        assert jobs.requests == [(0.0, "a"), (2.0, "a")]


async def test_false_hints_during_a_poll_add_one_poll_and_no_more() -> None:
    jobs = Jobs(takes=2.0)
    async with jobs.poller:
        jobs.wait("a")
        await asyncio.sleep(1.0)
        for _ in range(5):
            jobs.poller.hint("a")
        await asyncio.sleep(5.5)
        assert jobs.requests == [(0.0, "a"), (2.0, "a"), (5.5, "a")]


async def test_a_hint_during_a_poll_that_finds_the_job_finished_adds_none() -> None:
    jobs = Jobs(takes=2.0)
    jobs.ends["a"] = 0.0
    async with jobs.poller:
        [wait] = jobs.wait("a")
        await asyncio.sleep(1.0)
        jobs.poller.hint("a")
        await wait
        await asyncio.sleep(5.0)
        assert len(jobs.requests) == 1


# Pauses, failures, deadlines


async def test_a_hint_during_the_pause_after_a_429_goes_first_when_the_pause_is_over() -> None:
    jobs = Jobs()
    jobs.errors = [BusyError()]
    async with jobs.poller:
        jobs.wait("a", "b", "c")
        await asyncio.sleep(5.0)
        assert [name for _, name in jobs.requests] == ["a", "b", "c"]  # in flight together; "a" met the 429
        jobs.finish("c")
        await asyncio.sleep(10.0)
        assert jobs.after(1.0) == []
        await asyncio.sleep(10.0)
        assert jobs.after(1.0)[0][1] == "c"


async def test_a_hinted_poll_that_meets_a_429_keeps_its_place() -> None:
    jobs = Jobs(takes=0.5)
    async with jobs.poller:
        jobs.wait("b", "c")
        await asyncio.sleep(9.0)
        jobs.errors = [BusyError()]
        jobs.finish("c")
        await asyncio.sleep(25.0)
        assert jobs.poller.stats.throttled == 1
        assert jobs.after(20.0)[0][1] == "c"


async def test_a_hint_during_a_poll_that_meets_a_429_lets_the_next_poll_go_first() -> None:
    jobs = Jobs(takes=0.5)
    jobs.errors = [BusyError(), BusyError()]
    async with jobs.poller:
        jobs.wait("b", "c")
        await asyncio.sleep(0.2)
        assert jobs.finish("c") is True
        await asyncio.sleep(25.0)
        assert jobs.poller.stats.throttled == 2
        assert jobs.after(20.0)[0][1] == "c"


async def test_a_hint_does_not_shorten_the_pause_after_a_failure() -> None:
    """Else false hints could use up `max_failures` within seconds."""
    jobs = Jobs()
    jobs.errors = [DownError(), DownError()]
    async with jobs.poller:
        [wait] = jobs.wait("a")
        for _ in range(20):
            await asyncio.sleep(0.1)
            jobs.poller.hint("a")
        jobs.finish("a")
        await wait
        assert [at for at, _ in jobs.requests] == pytest.approx([0.0, 1.0, 2.5], abs=0.01)


async def test_a_hint_during_a_poll_that_fails_does_not_shorten_its_pause() -> None:
    jobs = Jobs(takes=0.5)
    jobs.errors = [DownError()]
    async with jobs.poller:
        [wait] = jobs.wait("a")
        await asyncio.sleep(0.2)
        assert jobs.finish("a") is True
        await wait
        assert [at for at, _ in jobs.requests] == pytest.approx([0.0, 1.5], abs=0.01)


async def test_a_hint_does_not_take_the_place_of_the_last_poll_before_a_deadline() -> None:
    jobs = Jobs()
    async with jobs.poller:
        wait = asyncio.create_task(jobs.poller.wait_for_completion("a", timeout=20.0))
        await asyncio.sleep(18.5)
        jobs.poller.hint("a")
        jobs.ends["a"] = 18.9
        await wait
        assert [at for at, _ in jobs.after(18.0)] == [18.5, 19.0]


async def test_a_wait_that_joins_a_hinted_watch_keeps_its_deadline() -> None:
    jobs = Jobs(Pacing(requests_per_window=1))
    async with jobs.poller:
        jobs.wait("x", "a")
        await asyncio.sleep(5.0)
        jobs.poller.hint("a")
        with pytest.raises(TimeoutError):
            await jobs.poller.wait_for_completion("a", timeout=10.0)
        assert now() == pytest.approx(15.0, abs=0.01)


async def test_a_hint_for_a_wait_that_is_cancelled_leaves_nothing() -> None:
    jobs = Jobs(Pacing(requests_per_window=1))
    async with jobs.poller:
        waits = jobs.wait("x", "a")
        await asyncio.sleep(5.0)
        queued = jobs.poller.stats.queued
        assert jobs.poller.hint("a") is True
        waits[1].cancel()
        await asyncio.wait(waits[1:])
        assert jobs.poller.stats.queued == queued - 1
        assert jobs.poller.hint("a") is False


# Which hints are followed


async def test_a_hint_for_a_job_that_nobody_waits_for_is_dropped() -> None:
    """Also if a wait begins right after it."""
    jobs = Jobs()
    async with jobs.poller:
        assert jobs.poller.hint("a") is False
        [wait] = jobs.wait("a")
        await asyncio.sleep(0.5)
        jobs.ends["a"] = 0.6
        await wait
        assert jobs.poller.hint("a") is False
        assert [at for at, _ in jobs.requests] == pytest.approx([0.0, 1.0], abs=0.01)
        stats = jobs.poller.stats
        assert (stats.hints_followed, stats.hints_ignored) == (0, 2)


async def test_after_six_false_hints_one_in_ten_is_followed_until_they_are_true_again() -> None:
    jobs = Jobs()
    async with jobs.poller:
        jobs.wait("a")
        followed = []
        for _ in range(46):
            await asyncio.sleep(0.01)
            followed.append(jobs.poller.hint("a"))
            if not followed[-1]:  # until the next poll, further hints would be the same one
                await asyncio.sleep(11.0)
        assert followed == [True] * 6 + ([False] * 9 + [True]) * 4
        stats = jobs.poller.stats
        assert (stats.hints_followed, stats.hints_ignored) == (10, 36)
        true = 0
        for number in range(60):
            name = f"job {number}"
            [wait] = jobs.wait(name)
            await asyncio.sleep(0.01)
            true += jobs.finish(name)
            await wait
        assert true == 5 + 10  # the tenth of fifty, and then all


async def test_hints_before_the_next_poll_count_as_one() -> None:
    """A flood of false hints gets no more polls to go first than a few."""
    jobs = Jobs()
    async with jobs.poller:
        jobs.wait("a", "b")
        for _ in range(10_000):
            await asyncio.sleep(0.01)
            jobs.poller.hint("a")
        usual = [at for at, name in jobs.requests if name == "b"]
        assert len(jobs.requests) - len(usual) <= len(usual) + 6 + 3
        assert jobs.poller.stats.hints_ignored > 9_000


async def test_a_hint_that_was_not_followed_does_not_stand_in_the_way_of_a_later_one() -> None:
    """Once hints are trusted again."""
    jobs = Jobs()
    async with jobs.poller:
        jobs.wait("a")
        for _ in range(6):
            await asyncio.sleep(0.01)
            jobs.poller.hint("a")
        [wait] = jobs.wait("b", polling=Polling(initial=1_000.0, maximum=1_000.0))
        await asyncio.sleep(0.01)
        assert jobs.poller.hint("b") is False
        for number in range(50):
            [other] = jobs.wait(f"job {number}")
            await asyncio.sleep(0.01)
            jobs.finish(f"job {number}")
            await other
        assert jobs.finish("b") is True
        await wait


async def test_polls_that_false_hints_put_first_lose_their_place() -> None:
    """A burst of false hints does not hold up the other waits until all of its polls have been sent."""
    jobs = Jobs(Pacing(requests_per_window=60))
    async with jobs.poller:
        for number in range(200):
            jobs.wait(f"a{number}", polling=Polling(initial=3_000.0, maximum=3_000.0, timeout=None))
        await asyncio.sleep(600.0)
        [wait] = jobs.wait("b")
        await asyncio.sleep(5.3)
        assert all(jobs.poller.hint(f"a{number}") for number in range(200))
        jobs.ends["b"] = start = now()
        await wait
        assert now() - start < 45.0  # else the quota would be spent for a window


async def test_a_poll_that_lost_its_place_is_the_last_before_a_deadline_that_came_meanwhile() -> None:
    jobs = Jobs(Pacing(requests_per_window=20))
    async with jobs.poller:
        slow = Polling(initial=3_000.0, maximum=3_000.0, jitter=0, timeout=None)
        names = [f"a{number}" for number in range(40)]
        jobs.wait(*names, polling=slow)
        await asyncio.sleep(300.0)
        jobs.ends["a39"] = 330.0
        assert all(jobs.poller.hint(name) for name in names)  # more than may go within the quota at once
        assert jobs.poller.stats.queued > 0
        wait = jobs.poller.wait_for_completion("a39", polling=slow, timeout=70.0)
        assert await wait is True
        assert now() == pytest.approx(369.0, abs=0.1)


async def test_while_hints_are_not_trusted_a_hinted_poll_waits_for_the_spacing() -> None:
    jobs = Jobs(SLOW)
    async with jobs.poller:
        jobs.wait("a", "b", polling=Polling(initial=40.0, maximum=40.0, jitter=0, timeout=None))
        followed = []
        for _ in range(4_000):
            await asyncio.sleep(0.5)
            followed += [jobs.poller.hint(name) for name in "ab"]
        assert followed.count(True) > 20
        times = [at for at, _ in jobs.after(300.0)]
        assert min(later - earlier for earlier, later in itertools.pairwise(times)) > 9.9


async def test_a_hint_that_lost_its_place_is_not_followed_any_more() -> None:
    jobs = Jobs(Pacing(requests_per_window=10))
    async with jobs.poller:
        jobs.wait(*(f"a{number}" for number in range(20)))
        await asyncio.sleep(300.0)
        assert all(jobs.poller.hint(f"a{number}") for number in range(20))
        await asyncio.sleep(65.0)
        assert not all(jobs.poller.hint(f"a{number}") for number in range(20))


# Where a hint may come from


@pytest.mark.parametrize(("job", "error"), [([], TypeError), ({}, TypeError)], ids=str)
async def test_an_id_that_cannot_be_one_is_refused(job: Any, error: type[Exception]) -> None:
    jobs = Jobs()
    async with jobs.poller:
        with pytest.raises(error):
            jobs.poller.hint(job)


@pytest.mark.parametrize(("job", "error"), [("nonsense", ValueError), (5, TypeError), (None, TypeError)], ids=str)
async def test_a_session_checks_the_job_as_elsewhere(job: Any, error: type[Exception]) -> None:
    async with PlayAISession(API_KEY, USER_ID) as playai:
        with pytest.raises(error):
            playai.hint(job)
        assert playai.hint(str(JOB_ID)) is playai.hint(JOB_ID) is False
        assert playai.hint(TtsJob.from_dict(job_json(COMPLETED))) is False


async def test_a_closed_client_raises() -> None:
    jobs, playai = Jobs(), PlayAISession(API_KEY, USER_ID)
    await jobs.poller.aclose()
    await playai.aclose()
    with pytest.raises(PollerClosedError):
        jobs.poller.hint("a")
    with pytest.raises(SessionClosedError) as caught:
        playai.hint(JOB_ID)
    assert caught.value.job_id == JOB_ID


def test_a_client_that_was_not_used_drops_hints_and_stays_unbound() -> None:
    """Also without a loop."""
    jobs, playai = Jobs(), PlayAISession(API_KEY, USER_ID)

    async def hinted() -> tuple[bool, bool]:
        return jobs.poller.hint("a"), playai.hint(JOB_ID)

    assert (jobs.poller.hint("a"), playai.hint(JOB_ID)) == (False, False)
    assert asyncio.run(hinted()) == asyncio.run(hinted()) == (False, False)
    jobs.ends["a"] = 0.0
    assert asyncio.run(jobs.poller.wait_for_completion("a")) is True


@pytest.mark.parametrize("where", ["another loop", "a thread without a loop"])
async def test_a_hint_from_elsewhere_is_refused(where: str) -> None:
    """It would touch a queue that the loop of the poller is working on."""
    jobs = Jobs()

    async def hint() -> bool:
        return jobs.poller.hint("a")

    places: dict[str, Callable[[], object]] = {
        "another loop": lambda: asyncio.run(hint()),
        "a thread without a loop": lambda: jobs.poller.hint("a"),
    }
    async with jobs.poller:
        jobs.wait("a")
        await asyncio.sleep(0.1)
        refused: Awaitable[object] = asyncio.to_thread(places[where])
        with pytest.raises(ConfigurationError, match="event loop"):
            await refused


# The guard


@attrs.frozen
class Told:
    """What a guard does after some hinted polls."""

    found: list[bool]
    followed: list[bool]


@pytest.mark.parametrize(
    "told",
    [
        Told([], [True] * 30),
        Told([False] * 5, [True] * 30),
        Told([False] * 6, ([False] * 9 + [True]) * 3),
        Told([False] * 100 + [True] * 4, ([False] * 9 + [True]) * 3),
        Told([False] * 100 + [True] * 5, [True] * 30),
        Told([True] * 100 + [False] * 6, ([False] * 9 + [True]) * 3),
        Told([True, False] * 50, [True] * 30),
    ],
    ids=["nothing known", "five false", "six false", "four of ten", "five of ten", "after a hundred", "half"],
)
def test_a_guard_follows_all_hints_while_half_of_the_last_ten_were_true_and_else_one_in_ten(told: Told) -> None:
    guard = HintGuard()
    for found in told.found:
        guard.on_polled(found=found)
    assert [guard.follows() for _ in told.followed] == told.followed
    assert guard.trusted is told.followed[0]
