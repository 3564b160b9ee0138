"""Every way to end what a session does: closing it, cancelling a caller, a loop that shuts down, a reader that leaves.

Wherever a caller may be at that moment, it must end as documented, at once, with nothing left running; and where the
session is still open, it must go on working. The places come from one table; the network is real and time is virtual.
"""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import aiohttp
import attrs
import looptime
import pytest

from playai_async import (
    Completed,
    Pacing,
    PlayAISession,
    Polling,
    SessionClosedError,
    SessionStats,
    TtsJob,
    TtsParameters,
    WaitTimeoutError,
)
from playai_async._settings import DISK_GRACE
from tests.support.faults import (
    AUDIO,
    Certificates,
    FaultyService,
    Plan,
    asked,
    connecting,
    faulty_service,
    http,
    in_body,
    not_listening,
    on_accept,
    says,
    silent,
)
from tests.support.files import files_left
from tests.support.scripted import API_KEY, JOB_ID, OTHER_ID, USER_ID

POLLING = Polling(initial=1.0, multiplier=1.0, jitter=0.0)
DEFAULTS = Pacing()
PLENTY = Pacing(requests_per_window=10**9)
WORDS = TtsParameters("spoken words", "v")
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
DONE = Completed("https://audio.example/a.mp3", "audio/mpeg", 1.0, 1.0)

Caller: TypeAlias = "Callable[[Scene], Coroutine[Any, Any, object]]"


@attrs.frozen
class Scene:
    """A service, a session with it, and a directory for files."""

    service: FaultyService
    playai: PlayAISession
    directory: Path

    @property
    def audio(self) -> TtsJob:
        """A job that is done."""
        return TtsJob(
            JOB_ID, NOON, {}, NOON, Completed(f"{self.service.base_url}/audio", "audio/mpeg", len(AUDIO), 1.0)
        )

    def assert_idle(self) -> None:
        """Fail if anything is open or under way, or if a file is left that is not whole."""
        assert [task for task in asyncio.all_tasks() if task.get_name() == "playai_async"] == []
        stats = self.playai.stats
        assert (stats.open_waits, stats.distinct_jobs, stats.in_flight, stats.queued) == (0, 0, 0, 0)
        assert files_left(self.directory, "*.part") == []

    async def assert_usable(self) -> None:
        """Fail unless the session still does what it is for."""
        await self.service.heal()
        self.service.done_after = 0.0
        job = await self.playai.speak(WORDS, self.directory)
        assert isinstance(job.output, Completed)
        self.assert_idle()


async def drained(jobs: AsyncGenerator[object, None]) -> None:
    """Read to the end."""
    async with aclosing(jobs):
        async for _ in jobs:
            pass


CALLERS: Mapping[str, Caller] = {
    "get_job": lambda scene: scene.playai.get_job(JOB_ID),
    "wait_for_completion": lambda scene: scene.playai.wait_for_completion(JOB_ID),
    "watch": lambda scene: drained(scene.playai.watch(JOB_ID)),
    "as_completed": lambda scene: drained(scene.playai.as_completed([JOB_ID, OTHER_ID])),
    "wait_for_all": lambda scene: scene.playai.wait_for_all([OTHER_ID, JOB_ID]),
    "create_job": lambda scene: scene.playai.create_job(WORDS),
    "download": lambda scene: scene.playai.download(scene.audio, scene.directory),
    "download by id": lambda scene: scene.playai.download(JOB_ID, scene.directory),
    "speak": lambda scene: scene.playai.speak(WORDS, scene.directory),
}
WAITING = ("wait_for_completion", "watch", "as_completed", "wait_for_all")
ALL = tuple(CALLERS)


@attrs.frozen
class Place:
    """Where callers are when it ends.

    Attributes:
        callers: Who is there.
        plan: What the service does wrong, and goes on to do.
        reached: Whether they have got there.
        first: A caller that goes before them, such as one that takes the only slot.
        pacing: The session's.
        over_tls: Whether it takes TLS.
    """

    callers: tuple[str, ...]
    plan: Plan | None
    reached: Callable[[SessionStats], bool]
    first: str | None = None
    pacing: Pacing = DEFAULTS
    over_tls: bool = False


def under_way(stats: SessionStats) -> bool:
    """Whether a request is."""
    return stats.in_flight > 0


def queued(stats: SessionStats) -> bool:
    """Whether a request waits for its turn."""
    return stats.queued > 0


def answered(stats: SessionStats) -> bool:
    """Whether the first requests have come back, or nearly all are."""
    return stats.requests > 0 and stats.in_flight == 0


def paused_for(reason: str) -> Callable[[SessionStats], bool]:
    """Whether the gate is closed."""
    return lambda stats: stats.pause_reason == reason and stats.in_flight == 0 and stats.queued > 0


PLACES: Mapping[str, Place] = {
    "nowhere": Place((), None, lambda _: True),
    "queued for the quota": Place(
        ("wait_for_completion", "watch", "get_job"), None, queued, "get_job", Pacing(requests_per_window=1)
    ),
    "queued for a slot": Place(
        (*WAITING, "get_job", "create_job", "download"), asked(silent), queued, "get_job", Pacing(max_in_flight=1)
    ),
    "connecting": Place(ALL, connecting(silent), under_way, over_tls=True),
    "sending": Place(ALL, on_accept(silent), under_way),
    "headers": Place(ALL, asked(silent), under_way),
    "body": Place(ALL, in_body(silent), under_way),
    "pause of a wait": Place(WAITING, None, answered),
    "pause before sending again": Place(("create_job", "download", "speak"), not_listening, answered),
    "throttled": Place((*WAITING, "create_job", "speak"), asked(says(http("429 Busy"))), paused_for("throttled")),
    "outage": Place(WAITING, asked(says(http("503 Down"))), paused_for("outage")),
}


@pytest.fixture(scope="module")
def certificates() -> Certificates:
    """One set for all tests."""
    return Certificates.made()


@asynccontextmanager
async def scene_at(
    certificates: Certificates | None, monkeypatch: pytest.MonkeyPatch, directory: Path, pacing: Pacing = PLENTY
) -> AsyncIterator[Scene]:
    """Set a scene, in which nobody is yet."""
    async with faulty_service(monkeypatch, certificates, done_after=1e9) as service:
        playai = PlayAISession(API_KEY, USER_ID, base_url=service.base_url, polling=POLLING, pacing=pacing)
        try:
            yield Scene(service, playai, directory)
        finally:
            await playai.aclose()


async def peopled(scene: Scene, place: Place) -> list[asyncio.Task[object]]:
    """Bring the callers to their place."""
    if place.plan is not None:
        await place.plan(scene.service, lasting=True)
    first = [] if place.first is None else [asyncio.create_task(CALLERS[place.first](scene))]
    while first and not scene.playai.stats.requests:
        await asyncio.sleep(0)
    callers = [asyncio.create_task(CALLERS[name](scene), name=name) for name in place.callers]
    await asyncio.sleep(0.3)
    async with asyncio.timeout(60):
        while not place.reached(scene.playai.stats):
            await asyncio.sleep(0.05)
    return [task for task in (*first, *callers) if not task.done() or place.plan is not None]


def grace_of(place: Place) -> float:
    """Return the seconds that a cancelled caller may wait for the thread that removes its partial file."""
    return DISK_GRACE if {"download", "download by id", "speak"} & {place.first, *place.callers} else 0.0


def assert_closed_out(tasks: list[asyncio.Task[object]]) -> None:
    """Fail unless each has ended because the session was closed, and names its job where it has one."""
    for task in tasks:
        assert task.done(), task
        error = task.exception()
        assert isinstance(error, SessionClosedError), (task, error)
        assert task.get_name() in {"create_job", "speak"} or error.job_id in {JOB_ID, OTHER_ID}


async def steps(count: int) -> None:
    """Let so many rounds of the loop pass."""
    for _ in range(count):
        await asyncio.sleep(0)


async def close_once(playai: PlayAISession) -> None:
    """Close it as most do."""
    await playai.aclose()


async def close_twice(playai: PlayAISession) -> None:
    """Close it, and close it again."""
    await playai.aclose()
    await playai.aclose()


def close_together(apart: int) -> Callable[[PlayAISession], Coroutine[Any, Any, None]]:
    """Close it from three tasks, so many steps one after the other."""

    async def close(playai: PlayAISession) -> None:
        closing = []
        for _ in range(3):
            closing.append(asyncio.create_task(playai.aclose()))
            await steps(apart)
        await asyncio.gather(*closing)

    return close


def close_cancelled(after: int) -> Callable[[PlayAISession], Coroutine[Any, Any, None]]:
    """Close it, cancel that after so many steps, and close it again."""

    async def close(playai: PlayAISession) -> None:
        closing = asyncio.create_task(playai.aclose())
        await steps(after)
        closing.cancel()
        await asyncio.wait([closing])
        await playai.aclose()

    return close


CLOSINGS: Mapping[str, Callable[[PlayAISession], Coroutine[Any, Any, None]]] = {
    "once": close_once,
    "twice": close_twice,
    **{f"three at once, {apart} steps apart": close_together(apart) for apart in (0, 1, 2, 4)},
    **{f"again, once cancelled after {after} steps": close_cancelled(after) for after in (0, 1, 3)},
}


@pytest.fixture
async def scene(
    place: str, certificates: Certificates, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> AsyncIterator[Scene]:
    """Set the scene for a place."""
    trust = certificates if PLACES[place].over_tls else None
    async with scene_at(trust, monkeypatch, tmp_path, PLACES[place].pacing) as scene:
        yield scene


@pytest.mark.parametrize("closing", CLOSINGS)
@pytest.mark.parametrize("place", PLACES)
async def test_closing_ends_all_callers_wherever_they_are(place: str, closing: str, scene: Scene) -> None:
    """With `SessionClosedError`, in no time, and with nothing left running."""
    before = asyncio.all_tasks()
    callers = await peopled(scene, PLACES[place])
    begun = asyncio.get_running_loop().time()
    grace = grace_of(PLACES[place])
    await CLOSINGS[closing](scene.playai)
    await steps(3)
    assert_closed_out(callers)
    assert asyncio.get_running_loop().time() <= begun + grace
    scene.assert_idle()
    assert files_left(scene.directory) == []
    await scene.service.close()
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("after", [1, 2, 4], ids=str)
@pytest.mark.parametrize("place", PLACES)
async def test_closing_that_is_cancelled_has_ended_all_callers(place: str, after: int, scene: Scene) -> None:
    """Once it has begun; it is closed again to see the rest of it through."""
    callers = await peopled(scene, PLACES[place])
    closing = asyncio.create_task(scene.playai.aclose())
    await steps(after)
    closing.cancel()
    await asyncio.wait([closing])
    begun = asyncio.get_running_loop().time()
    grace = grace_of(PLACES[place])
    if callers:
        await asyncio.wait(callers, timeout=grace + 0.1)
    assert_closed_out(callers)
    assert asyncio.get_running_loop().time() <= begun + grace
    with pytest.raises(SessionClosedError):
        await scene.playai.get_job(JOB_ID)
    await scene.playai.aclose()
    scene.assert_idle()
    assert files_left(scene.directory) == []


# Cancelling one caller.


@pytest.mark.parametrize("name", CALLERS)
async def test_a_cancellation_at_any_step_leaves_nothing(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """After each step from the call to its end: it passes through, and the session goes on working."""
    for after in range(500):
        (directory := tmp_path / str(after)).mkdir()
        async with scene_at(None, monkeypatch, directory) as scene:
            scene.service.done_after = 0.0
            call = asyncio.create_task(CALLERS[name](scene))
            await steps(after)
            if call.done():
                await call
                break
            call.cancel()
            # A partial file is removed in a thread, which is waited for that long at most.
            grace = DISK_GRACE if name in {"download", "download by id", "speak"} else 0.0
            await asyncio.wait([call], timeout=grace + 0.001)
            assert call.cancelled()
            scene.assert_idle()
            await scene.assert_usable()
    assert after > 5
    assert call.done()


@pytest.mark.parametrize("after", [0, 1, 2, 3, 6], ids=str)
@pytest.mark.parametrize("place", [name for name in PLACES if name != "nowhere"])
async def test_a_cancellation_at_any_place_leaves_nothing(place: str, after: int, scene: Scene) -> None:
    """One after the other, with some steps between, so that each leaves others behind; in no time."""
    callers = await peopled(scene, PLACES[place])
    begun = asyncio.get_running_loop().time()
    grace = grace_of(PLACES[place])
    for caller in callers:
        caller.cancel()
        await steps(after)
    await asyncio.wait(callers, timeout=grace + 0.001)
    assert all(caller.cancelled() for caller in callers)
    assert asyncio.get_running_loop().time() <= begun + grace
    scene.assert_idle()
    assert files_left(scene.directory) == []
    await scene.assert_usable()


# A loop that shuts down.


def run_to_its_end(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a program as `asyncio.run` does, but in virtual time, and collect what it leaves."""
    with asyncio.Runner(loop_factory=looptime.new_event_loop) as runner:
        runner.run(main())
    del runner
    gc.collect()


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What asyncio has logged, but for aiohttp's word on a client session that was left open."""
    messages = [record.getMessage() for record in caplog.records if record.name == "asyncio"]
    return [message for message in messages if not message.startswith("Unclosed c")]


@pytest.mark.parametrize("place", PLACES)
def test_a_loop_that_ends_with_callers_anywhere_ends_quietly(
    place: str,
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each is cancelled by the loop; nothing is logged, no task is destroyed pending, and no part of a file is left."""
    callers: list[asyncio.Task[object]] = []

    async def main() -> None:
        service = FaultyService(certificates if PLACES[place].over_tls else None, 1e9)
        monkeypatch.setattr(aiohttp, "TCPConnector", service.connector)
        await service.start()
        playai = PlayAISession(
            API_KEY, USER_ID, base_url=service.base_url, polling=POLLING, pacing=PLACES[place].pacing
        )
        callers.extend(await peopled(Scene(service, playai, tmp_path), PLACES[place]))
        service.listen_no_more()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of the session that is left open, which is the point
        run_to_its_end(main)
        cancelled = [caller.cancelled() for caller in callers]
        callers.clear()
        gc.collect()
    assert all(cancelled)
    assert files_left(tmp_path) == []
    assert complaints(caplog) == []


@pytest.mark.parametrize("reader", ["watch", "as_completed"])
def test_a_loop_that_ends_with_an_iteration_open_ends_quietly(
    reader: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It was left in the middle and never closed; the session was closed, so that there is nothing to warn of."""
    left: list[AsyncGenerator[TtsJob, None]] = []

    async def main() -> None:
        async with (
            faulty_service(monkeypatch, done_after=1e9) as service,
            PlayAISession(API_KEY, USER_ID, base_url=service.base_url) as playai,
        ):
            done = attrs.evolve(await playai.get_job(JOB_ID), output=DONE)
            jobs = playai.watch(JOB_ID) if reader == "watch" else playai.as_completed([done, OTHER_ID])
            left.append(jobs)
            assert (await anext(jobs)).id == JOB_ID
            assert playai.stats.open_waits == 1

    run_to_its_end(main)
    left.clear()
    gc.collect()
    assert complaints(caplog) == []


def test_an_interrupted_program_closes_its_session(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Ctrl-C cancels the main task, out of `async with`: nothing is left to warn of, and the waits have ended."""

    async def main() -> None:
        async with (
            faulty_service(monkeypatch, done_after=1e9) as service,
            PlayAISession(API_KEY, USER_ID, base_url=service.base_url) as playai,
        ):
            waits.append(asyncio.create_task(playai.wait_for_completion(JOB_ID)))
            main_task = asyncio.current_task()
            assert main_task is not None
            asyncio.get_running_loop().call_later(3.5, main_task.cancel)
            await asyncio.sleep(100)

    waits: list[asyncio.Task[object]] = []
    with pytest.raises(asyncio.CancelledError):
        run_to_its_end(main)
    assert isinstance(waits[0].exception(), SessionClosedError)
    assert complaints(caplog) == []


# What callers put around a wait, and into a loop over one.


@pytest.fixture
async def waiting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Scene]:
    """A scene whose job is not done for a long time."""
    async with scene_at(None, monkeypatch, tmp_path) as scene:
        yield scene


@pytest.mark.parametrize("name", WAITING)
async def test_a_sibling_that_fails_ends_the_waits_of_its_group(name: str, waiting: Scene) -> None:
    """Its error alone comes out of the group, and nothing is left of the waits."""

    async def fail() -> None:
        await asyncio.sleep(2.5)
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(CALLERS[name](waiting))
            group.create_task(fail())
    assert [type(error) for error in caught.value.exceptions] == [ZeroDivisionError]
    waiting.assert_idle()
    await waiting.assert_usable()


@pytest.mark.parametrize("seconds", [2.0, 2.5, 3.0], ids=str)
@pytest.mark.parametrize("name", WAITING)
async def test_a_timeout_around_a_wait_ends_it_to_the_moment(name: str, seconds: float, waiting: Scene) -> None:
    """During a pause, or as a poll is about to go; as Python's own `TimeoutError`, which has no job."""
    begun = asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(seconds):
            await CALLERS[name](waiting)
    assert type(caught.value) is TimeoutError
    assert asyncio.get_running_loop().time() - begun == pytest.approx(seconds, abs=1e-5)
    waiting.assert_idle()
    await waiting.assert_usable()


@pytest.mark.parametrize(
    ("inner", "outer", "error"),
    [(2.5, 5.0, WaitTimeoutError), (5.0, 2.5, TimeoutError), (2.5, 2.5, TimeoutError)],
    ids=["the wait's first", "the other first", "both at once"],
)
async def test_the_timeout_that_comes_first_is_the_one_that_is_raised(
    inner: float, outer: float, error: type[TimeoutError], waiting: Scene
) -> None:
    """Of a wait's own and one around it; `WaitTimeoutError` is a `TimeoutError`, so that one clause takes both."""
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(outer):
            await waiting.playai.wait_for_completion(JOB_ID, timeout=inner)
    assert isinstance(caught.value, error)
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]  # there is one
    waiting.assert_idle()
    await waiting.assert_usable()


async def test_a_timeout_inside_a_group_ends_one_wait_of_it(waiting: Scene) -> None:
    """The others go on."""

    async def bounded() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2.5):
                await waiting.playai.wait_for_completion(JOB_ID)

    waiting.service.done_after = 5.0
    async with asyncio.TaskGroup() as group:
        group.create_task(bounded())
        other = group.create_task(waiting.playai.wait_for_completion(JOB_ID))
    assert other.result().done
    waiting.assert_idle()


async def test_a_slow_reader_of_watch_holds_nobody_up(waiting: Scene) -> None:
    """The polling goes on, others get their job when it is done, and the reader misses nothing but time."""
    waiting.service.done_after = 5.0
    loop = asyncio.get_running_loop()
    other = asyncio.create_task(waiting.playai.wait_for_completion(JOB_ID))
    seen: list[str] = []
    async with aclosing(waiting.playai.watch(JOB_ID)) as states:
        async for job in states:
            seen.append(job.output.status)
            if not other.done():
                begun = loop.time()
                await other
                assert loop.time() - begun < 6.0
                await asyncio.sleep(1_000)
    assert seen == ["IN_PROGRESS", "COMPLETED"]
    assert len(waiting.service.arrivals) <= 7
    waiting.assert_idle()


async def test_a_reader_that_is_slower_than_its_deadline_is_told_of_it(waiting: Scene) -> None:
    """When it asks again, with the time of the deadline and not of the reader; nothing was polled in between."""
    states = waiting.playai.watch(JOB_ID, timeout=3.5)
    assert (await anext(states)).output.status == "IN_PROGRESS"
    await asyncio.sleep(1_000)
    waiting.assert_idle()
    with pytest.raises(WaitTimeoutError) as caught:
        await anext(states)
    assert caught.value.elapsed == pytest.approx(3.5, abs=0.001)
    assert len(waiting.service.arrivals) <= 5


@pytest.mark.parametrize("closed_by", ["its block", "nobody"])
@pytest.mark.parametrize("name", ["watch", "as_completed"])
async def test_an_error_in_the_body_of_a_loop_lets_the_waits_go(name: str, closed_by: str, waiting: Scene) -> None:
    """At once where the iterator is closed, and as soon as it is collected where it is not; the error comes out."""
    playai = waiting.playai
    finished = attrs.evolve(await playai.get_job(JOB_ID), output=DONE)

    def states() -> AsyncGenerator[TtsJob, None]:
        return playai.watch(JOB_ID) if name == "watch" else playai.as_completed([finished, JOB_ID, OTHER_ID])

    with pytest.raises(ZeroDivisionError):
        if closed_by == "nobody":
            async for _ in states():
                raise ZeroDivisionError
        else:
            async with aclosing(states()) as closing:
                async for _ in closing:
                    raise ZeroDivisionError
    if closed_by == "nobody":
        gc.collect()
        await steps(5)
    waiting.assert_idle()
    await waiting.assert_usable()


async def test_a_reader_may_be_cancelled_between_states_and_read_on(waiting: Scene) -> None:
    """A step of the iteration that is cancelled ends it, as Python's generators do; another one begins anew."""
    states = waiting.playai.watch(JOB_ID)
    await anext(states)
    step = asyncio.ensure_future(anext(states))
    await asyncio.sleep(0.5)
    step.cancel()
    await asyncio.wait([step])
    assert step.cancelled()
    waiting.assert_idle()
    with pytest.raises(StopAsyncIteration):
        await anext(states)
    waiting.service.done_after = 0.0
    assert [job.output.status async for job in waiting.playai.watch(JOB_ID)] == ["COMPLETED"]
