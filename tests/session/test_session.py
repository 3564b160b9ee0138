"""The session itself: settings, ownership, loops, direct calls, stats and closing."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import gc
import os
import pickle
import traceback
import warnings
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from typing import Any
from uuid import UUID

import aiohttp
import pytest
from yarl import URL

from playai_async import (
    Completed,
    ConfigurationError,
    NotFoundError,
    Pacing,
    PlayAISession,
    Polling,
    RateLimitedError,
    SessionClosedError,
    SessionStats,
    TransportError,
    TtsJob,
    WaitTimeoutError,
)
from playai_async.emulator import Emulator, Hang
from tests.support.scripted import (
    API_KEY,
    COMPLETED,
    JOB_ID,
    OTHER_ID,
    USER_ID,
    Answer,
    ScriptedService,
    job,
    job_json,
    lost,
    throttled,
)


def calls_about_a_job(session: PlayAISession) -> tuple[Callable[[UUID], Awaitable[object]], ...]:
    """Each way to ask for a job, or to wait for it, by its id."""
    return (
        session.get_job,
        session.wait_for_completion,
        lambda job: anext(session.watch(job)),
        lambda job: anext(session.as_completed([job])),
        lambda job: session.wait_for_all([job]),
    )


@pytest.mark.parametrize("missing", ["PLAYAI_API_KEY", "PLAYAI_USER_ID"])
def test_a_missing_setting_is_named(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the variable to set, at construction."""
    for variable in {"PLAYAI_API_KEY", "PLAYAI_USER_ID"} - {missing}:
        monkeypatch.setenv(variable, "given")
    with pytest.raises(ConfigurationError, match=missing):
        PlayAISession()


async def test_settings_come_from_the_environment(service: ScriptedService, monkeypatch: pytest.MonkeyPatch) -> None:
    """Key, user id and base URL, each where the argument is left out."""
    monkeypatch.setenv("PLAYAI_API_KEY", API_KEY)
    monkeypatch.setenv("PLAYAI_USER_ID", USER_ID)
    monkeypatch.setenv("PLAYAI_BASE_URL", "https://proxy.example/playai")
    service.answers(job(COMPLETED), base_url="https://proxy.example/playai")
    async with PlayAISession() as session:
        await session.wait_for_completion(JOB_ID)
    headers = service.requests[0]["headers"]
    assert headers["Authorization"] == f"Bearer {API_KEY}"
    assert headers["X-USER-ID"] == USER_ID


@pytest.mark.parametrize("prefix", ["Bearer ", "bearer ", ""], ids=["Bearer", "lower case", "bare"])
async def test_bearer_is_not_doubled(prefix: str, service: ScriptedService) -> None:
    """The header has one `Bearer`, however the key was given."""
    service.answers(job(COMPLETED))
    async with PlayAISession(prefix + API_KEY, USER_ID) as session:
        await session.get_job(JOB_ID)
    assert service.requests[0]["headers"]["Authorization"] == f"Bearer {API_KEY}"


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("https://api.example", "https://api.example"),
        ("https://api.example/", "https://api.example"),
        ("https://api.example/v/1", "https://api.example/v/1"),
        ("https://api.example/v/1/", "https://api.example/v/1"),
        (URL("http://localhost:8080"), "http://localhost:8080"),
        ("http://127.0.0.2:8080", "http://127.0.0.2:8080"),
        ("http://[::1]:8080/x", "http://[::1]:8080/x"),
    ],
)
async def test_a_base_url_and_its_path_are_kept(base_url: str | URL, url: str, service: ScriptedService) -> None:
    """TLS anywhere and http on loopback, with any path before the service's own."""
    service.answers(job(COMPLETED), base_url=url)
    async with PlayAISession(API_KEY, USER_ID, base_url=base_url) as session:
        assert (await session.get_job(JOB_ID)).done


@pytest.mark.parametrize(
    "arguments",
    [
        {"base_url": "http://api.play.ai"},
        {"base_url": "http://192.168.0.1"},
        {"base_url": "ftp://localhost"},
        {"base_url": "api.play.ai"},
        {"base_url": ""},
        {"base_url": "https://"},
        {"base_url": "https://host:port"},
        {"base_url": "https://two words"},
        {"base_url": "https://a..b"},
        {"base_url": "https://nul\0"},
        {"base_url": "https://" + "a" * 64},
        {"base_url": "https://user:password@host"},
        {"base_url": "https://host/?query=1"},
        {"base_url": "https://host/#fragment"},
        {"api_key": ""},
        {"api_key": "Bearer "},
        {"api_key": "two words"},
        {"api_key": "line\nbreak"},
        {"user_id": ""},
        {"user_id": "line\r\nX-Other: header"},
        {"user_id": "naïve"},
        {"request_timeout": 0},
        {"request_timeout": -1.0},
        {"request_timeout": float("nan")},
    ],
    ids=lambda arguments: "-".join(f"{name}={value!r}" for name, value in arguments.items()),
)
def test_a_setting_that_cannot_work_is_refused(arguments: dict[str, Any]) -> None:
    """At construction, as a `ConfigurationError`, which is a `ValueError`."""
    with pytest.raises(ConfigurationError):
        PlayAISession(**{"api_key": API_KEY, "user_id": USER_ID, **arguments})


@pytest.mark.parametrize(
    "arguments",
    [
        {"api_key": b"bytes"},
        {"user_id": 7},
        {"base_url": 7},
        {"http_session": object()},
        {"polling": Pacing()},
        {"pacing": Polling()},
        {"request_timeout": "10"},
        {"request_timeout": True},
        {"request_timeout": None},
    ],
    ids="-".join,
)
def test_a_setting_of_the_wrong_type_is_refused(arguments: dict[str, Any]) -> None:
    """At construction, as a `TypeError`."""
    with pytest.raises(TypeError):
        PlayAISession(**{"api_key": API_KEY, "user_id": USER_ID, **arguments})


def test_an_argument_that_is_not_known_is_refused_and_nothing_else_is_said() -> None:
    """Python's own error, and no second one when the half-made session goes."""
    with pytest.raises(TypeError, match="key"):
        PlayAISession(key=API_KEY)  # type: ignore[call-arg]  # the mistake under test
    gc.collect()


async def test_requests_run_in_nobodys_context(emulator: Emulator) -> None:
    """A poll serves all callers: it neither sees nor keeps alive the context variables of one."""
    seen: list[str] = []

    async def look(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        seen.append(caller.get("nobody"))
        return await handler(request)

    caller: contextvars.ContextVar[str] = contextvars.ContextVar("caller")
    caller.set("me")
    async with (
        aiohttp.ClientSession(middlewares=[look]) as http_session,
        PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url, http_session=http_session) as playai,
    ):
        await playai.wait_for_completion(emulator.add_job(duration=2))
    assert len(seen) >= 2
    assert set(seen) == {"nobody"}


async def test_polling_of_the_wrong_type_is_refused_before_any_request(session: PlayAISession) -> None:
    """In a call, as at construction."""
    with pytest.raises(TypeError):
        await session.wait_for_completion(JOB_ID, polling={"initial": 1})  # type: ignore[arg-type]  # the mistake


def test_a_session_may_be_built_outside_a_loop(emulator_runner: EmulatorRunner) -> None:
    """Nothing of asyncio is touched before the first use."""
    session = PlayAISession(API_KEY, USER_ID)

    async def use(emulator: Emulator) -> None:
        session._runtime.base_url = URL(emulator.base_url)
        async with session:
            with pytest.raises(NotFoundError):
                await session.get_job(JOB_ID)

    emulator_runner(use)


def test_use_in_another_loop_is_refused(emulator_runner: EmulatorRunner) -> None:
    """The first loop is the session's; a wait in another says so, with the job's id."""
    sessions: list[PlayAISession] = []

    async def first(emulator: Emulator) -> None:
        session = PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url)
        sessions.append(session)
        await session.get_job(emulator.add_job())
        await session.aclose()
        session._runtime._lifecycle.closed = False  # as one that was forgotten

    async def second(emulator: Emulator) -> None:
        (session,) = sessions
        for call in calls_about_a_job(session):
            with pytest.raises(ConfigurationError, match="loop") as caught:
                await call(JOB_ID)
            assert caught.value.job_id == JOB_ID
        with pytest.raises(ConfigurationError, match="loop"):
            await session.aclose()

    async def third(_: Emulator) -> None:
        await sessions[0].aclose()  # it is closed, so there is nothing to do

    emulator_runner(first)
    emulator_runner(second)
    sessions[0]._runtime._lifecycle.closed = True
    emulator_runner(third)


EmulatorRunner = Callable[[Callable[[Emulator], Coroutine[Any, Any, None]]], None]


@pytest.fixture
def emulator_runner() -> EmulatorRunner:
    """Run a coroutine with an emulator in a loop of its own, as `asyncio.run` does."""

    def run(use: Callable[[Emulator], Coroutine[Any, Any, None]]) -> None:
        async def with_emulator() -> None:
            async with Emulator() as emulator:
                await use(emulator)

        with asyncio.Runner() as runner:
            runner.run(with_emulator())

    return run


async def test_the_callers_own_http_session_is_used_and_left_open(emulator: Emulator) -> None:
    """What the caller opened, the caller closes."""
    async with aiohttp.ClientSession(headers={"X-Mine": "1"}, raise_for_status=True) as http_session:
        async with PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url, http_session=http_session) as session:
            with pytest.raises(NotFoundError):
                await session.get_job(JOB_ID)
        assert not http_session.closed
        assert emulator.arrivals[0].headers["X-Mine"] == "1"


async def test_an_http_session_that_its_owner_closed_is_told_apart(emulator: Emulator) -> None:
    """Not a lost connection that could come back, but the end."""
    http_session = aiohttp.ClientSession()
    async with PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url, http_session=http_session) as session:
        await http_session.close()
        with pytest.raises(SessionClosedError, match="aiohttp session") as caught:
            await session.wait_for_completion(JOB_ID)
    assert caught.value.job_id == JOB_ID


async def test_an_http_session_with_an_authorization_of_its_own_is_refused() -> None:
    """The library below refuses to send both, at each request; better said once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        http_session = aiohttp.ClientSession(auth=aiohttp.BasicAuth("a", "b"))
        async with http_session:
            with pytest.raises(ConfigurationError, match="auth"):
                PlayAISession(API_KEY, USER_ID, http_session=http_session)


async def test_get_job_sends_one_request(service: ScriptedService, session: PlayAISession) -> None:
    """Whatever the state, no polling; and for a job that is done as well, since its link may have expired."""
    service.answers(job(), job(COMPLETED))
    assert not (await session.get_job(JOB_ID)).done
    finished = await session.get_job(JOB_ID)
    assert isinstance(finished.output, Completed)
    await session.get_job(finished)
    assert len(service.arrivals) == 3


async def test_get_job_raises_what_it_met(service: ScriptedService, session: PlayAISession) -> None:
    """A 429 and a lost connection are the caller's to handle, and name the job."""
    service.answers(throttled("3"), lost())
    with pytest.raises(RateLimitedError) as throttling:
        await session.get_job(JOB_ID)
    assert throttling.value.retry_after == 3.0
    assert throttling.value.message == "Rate limit exceeded."
    with pytest.raises(TransportError) as loss:
        await session.get_job(JOB_ID)
    assert throttling.value.job_id == loss.value.job_id == JOB_ID


async def test_get_job_goes_ahead_of_polls(service: ScriptedService) -> None:
    """A direct call takes the next turn, however many polls are due."""
    service.answers(Answer(payload=job_json(), takes=1))
    service.answers(Answer(payload=job_json(COMPLETED, OTHER_ID), takes=1), job_id=OTHER_ID)
    async with PlayAISession(API_KEY, USER_ID, pacing=Pacing(max_in_flight=1)) as session:
        waits = [
            asyncio.create_task(session.wait_for_completion(JOB_ID, polling=Polling(max_failures=n)))
            for n in range(1, 20)
        ]
        await asyncio.sleep(0.5)
        await session.get_job(OTHER_ID)
        assert [request["url"].name for request in service.requests[:2]] == [str(JOB_ID), str(OTHER_ID)]
        for wait in waits:
            wait.cancel()


async def test_a_cancelled_call_gives_its_turn_back(service: ScriptedService) -> None:
    """Queued or under way, it leaves nothing running and holds up nobody."""
    service.answers(Answer(payload=job_json(), takes=5))
    async with PlayAISession(API_KEY, USER_ID, pacing=Pacing(max_in_flight=1)) as session:
        calls = [asyncio.create_task(session.get_job(JOB_ID)) for _ in range(3)]
        await asyncio.sleep(1)
        calls[1].cancel()
        calls[0].cancel()
        await asyncio.wait(calls[:2])
        await calls[2]
    assert len(service.arrivals) == 2


async def test_an_answer_that_comes_as_its_caller_goes_is_dropped(service: ScriptedService) -> None:
    """In one step of the loop: the answer is there, and so is the cancellation."""
    service.answers(Answer(payload=job_json(), takes=1))
    async with PlayAISession(API_KEY, USER_ID) as session:
        call = asyncio.create_task(session.get_job(JOB_ID))
        wait = asyncio.create_task(session.wait_for_completion(JOB_ID))
        while service.under_way < 2:
            await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(1, call.cancel)
        asyncio.get_running_loop().call_later(1, wait.cancel)
        await asyncio.wait([call, wait])
        assert call.cancelled()
        assert wait.cancelled()


async def test_max_in_flight_bounds_the_requests_under_way(service: ScriptedService) -> None:
    """Never more at once, and always as many while more are due."""
    service.answers(Answer(payload=job_json(COMPLETED), takes=1))
    async with PlayAISession(API_KEY, USER_ID, pacing=Pacing(max_in_flight=3)) as session:
        await asyncio.gather(*(session.get_job(JOB_ID) for _ in range(12)))
    assert service.most_under_way == 3
    assert service.arrivals[-1] - service.arrivals[0] == pytest.approx(3)


async def test_a_known_quota_is_never_exceeded(service: ScriptedService) -> None:
    """Over any span of a window, counted at the service; and the quota is used."""
    service.answers(job(COMPLETED))
    async with PlayAISession(API_KEY, USER_ID, pacing=Pacing(requests_per_window=30, window=60.0)) as session:
        await asyncio.gather(*(session.get_job(JOB_ID) for _ in range(120)))
    arrivals = service.arrivals
    assert all(later - earlier >= 60 for earlier, later in zip(arrivals, arrivals[30:], strict=False))
    assert arrivals[-1] - arrivals[0] < 240


async def test_waits_of_one_session_share_a_known_quota(service: ScriptedService) -> None:
    """However many waits are open, the quota holds, and each of them ends."""
    jobs = [OTHER_ID.__class__(int=number) for number in range(1, 41)]
    for job_id in jobs:
        service.answers(job(job_id=job_id), job(COMPLETED, job_id), job_id=job_id)
    async with PlayAISession(API_KEY, USER_ID, pacing=Pacing(requests_per_window=20, window=60.0)) as session:
        finished = await asyncio.gather(*(session.wait_for_completion(job_id) for job_id in jobs))
        assert session.stats.throttled == 0
        assert session.stats.quota == 20
    assert [job.id for job in finished] == jobs
    arrivals = service.arrivals
    assert all(later - earlier >= 60 for earlier, later in zip(arrivals, arrivals[20:], strict=False))


async def test_stats_tell_what_was_done_and_is_being_done(service: ScriptedService) -> None:
    """Each number, in a session that met one of everything."""
    service.answers(job(), lost(), throttled("50"), job(COMPLETED))
    session = PlayAISession(API_KEY, USER_ID)
    assert session.stats == SessionStats(0, 0, 0, 0, 0, 0, 0.0, None)
    async with session:
        steady = Polling(initial=1, multiplier=1, jitter=0)
        waits = [asyncio.create_task(session.wait_for_completion(JOB_ID, polling=steady)) for _ in range(2)]
        await asyncio.sleep(2.5)
        stats = session.stats
        assert stats == SessionStats(
            requests=3,
            throttled=1,
            transient_failures=1,
            open_waits=2,
            distinct_jobs=1,
            in_flight=0,
            paused_for=stats.paused_for,
            quota=None,
            queued=1,
            pause_reason="throttled",
        )
        assert 49.5 <= stats.paused_for <= 50.5
        await asyncio.gather(*waits)
        assert session.stats == SessionStats(4, 1, 1, 0, 0, 0, 0.0, None)


async def test_repr_tells_where_and_whether_open(session: PlayAISession) -> None:
    """And neither key nor user id."""
    assert repr(session) == "<PlayAISession https://api.play.ai open>"
    await session.aclose()
    assert repr(session) == "<PlayAISession https://api.play.ai closed>"


def test_a_session_that_was_never_made_has_a_repr() -> None:
    """Who looks at the locals of a traceback looks at that one, too, and must get to the error."""
    with pytest.raises(ConfigurationError) as caught:
        PlayAISession("two words", USER_ID)
    report = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert "self = <PlayAISession not initialized>" in report


@pytest.mark.parametrize("duplicate", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_session_is_not_pickled_or_copied(duplicate: Callable[[object], object]) -> None:
    """The bytes would hold the key, and two sessions would each believe that the quota is theirs."""
    with pytest.raises(TypeError, match="PlayAISession"):
        duplicate(PlayAISession(API_KEY, USER_ID))


@pytest.mark.parametrize("phase", ["queued", "under way", "paused", "throttled"])
async def test_closing_ends_every_open_wait(phase: str, service: ScriptedService) -> None:
    """In each phase of a wait, with the job's id, at once, and with nothing left running."""
    answer = {"under way": Answer(takes=9), "throttled": throttled("100")}.get(phase, job())
    service.answers(answer)
    tasks = asyncio.all_tasks()
    session = PlayAISession(API_KEY, USER_ID)
    waits = [asyncio.create_task(session.wait_for_completion(JOB_ID)) for _ in range(3)]
    calls = [asyncio.create_task(session.get_job(JOB_ID))] if phase in {"under way", "throttled"} else []
    await asyncio.sleep(0 if phase == "queued" else 0.3)
    start = asyncio.get_running_loop().time()
    await session.aclose()
    errors = await asyncio.gather(*waits, *calls, return_exceptions=True)
    ended = [error for error in errors if isinstance(error, SessionClosedError)]
    throttling = [error for error in errors if isinstance(error, RateLimitedError)]
    assert len(ended) + len(throttling) == len(errors)
    assert len(ended) >= len(waits)
    assert {(str(error), error.job_id) for error in ended} == {("The session was closed.", JOB_ID)}
    assert asyncio.get_running_loop().time() == start
    assert asyncio.all_tasks() == tasks
    assert session.stats.open_waits == session.stats.in_flight == 0


async def test_closing_ends_a_call_that_waits_for_its_turn(service: ScriptedService) -> None:
    """A direct call behind a closed gate is told, too."""
    service.answers(throttled("100"))
    session = PlayAISession(API_KEY, USER_ID)
    with pytest.raises(RateLimitedError):
        await session.get_job(JOB_ID)
    call = asyncio.create_task(session.get_job(JOB_ID))
    await asyncio.sleep(1)
    await session.aclose()
    with pytest.raises(SessionClosedError) as caught:
        await call
    assert caught.value.job_id == JOB_ID


async def test_closing_is_idempotent(session: PlayAISession) -> None:
    """Also where nothing was ever sent, and from several tasks at once."""
    await asyncio.gather(session.aclose(), session.aclose())
    await session.aclose()
    never_used = PlayAISession(API_KEY, USER_ID)
    await never_used.aclose()
    await never_used.aclose()


async def test_a_closed_session_is_not_used_again(session: PlayAISession) -> None:
    """Every method says that it is closed, and names the job."""
    await session.aclose()
    for call in calls_about_a_job(session):
        with pytest.raises(SessionClosedError) as caught:
            await call(JOB_ID)
        assert caught.value.job_id == JOB_ID
    with pytest.raises(SessionClosedError):
        async with session:
            pass


async def test_leaving_the_block_by_an_exception_closes(service: ScriptedService) -> None:
    """The exception comes out, and the waits are ended."""
    service.answers(job())
    with pytest.raises(ZeroDivisionError):
        async with PlayAISession(API_KEY, USER_ID) as session:
            wait = asyncio.create_task(session.wait_for_completion(JOB_ID))
            await asyncio.sleep(0.5)
            raise ZeroDivisionError
    with pytest.raises(SessionClosedError):
        await wait


async def test_a_forgotten_session_warns(emulator: Emulator) -> None:
    """A session that was used and dropped open is a `ResourceWarning`; one that was never used is not."""
    PlayAISession(API_KEY, USER_ID)
    http_session = aiohttp.ClientSession()
    session = PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url, http_session=http_session)
    with pytest.raises(NotFoundError):
        await session.get_job(JOB_ID)
    await asyncio.sleep(0)  # the step that raised still refers to it
    with pytest.warns(ResourceWarning, match="never closed"):
        del session
        gc.collect()
    await http_session.close()


async def test_nothing_is_left_of_a_wait_on_a_real_socket(emulator: Emulator) -> None:
    """Cancelled in the middle of a request: no task, no connection."""
    emulator.inject(Hang(), times=None)
    async with PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url) as session:
        descriptors = _open_descriptors()
        tasks = asyncio.all_tasks()
        wait = asyncio.create_task(session.wait_for_completion(emulator.add_job()))
        while not emulator.stats.in_flight:
            await asyncio.sleep(0)
        wait.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wait
        while emulator.stats.in_flight:
            await asyncio.sleep(0)
        await asyncio.sleep(0.1)
        assert asyncio.all_tasks() <= tasks
        assert _open_descriptors() == descriptors


async def test_a_deadline_in_the_middle_of_a_hanging_request_is_kept(emulator: Emulator) -> None:
    """On a real socket, to the moment."""
    emulator.inject(Hang(), times=None)
    job_id = emulator.add_job()
    async with PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url) as session:
        start = asyncio.get_running_loop().time()
        with pytest.raises(WaitTimeoutError):
            await session.wait_for_completion(job_id, timeout=15)
        assert asyncio.get_running_loop().time() - start == pytest.approx(15, abs=0.1)


def _open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counts, in one call, what the kernel holds


async def test_a_cancellation_that_something_below_swallows_still_stops_the_polling(emulator: Emulator) -> None:
    """Such as a middleware of the caller's own client session; the caller's cancellation comes through."""

    async def deaf(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        try:
            return await handler(request)
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            raise aiohttp.ClientError from None

    emulator.inject(Hang(), times=None)
    async with (
        aiohttp.ClientSession(middlewares=[deaf]) as http_session,
        PlayAISession(
            API_KEY, USER_ID, base_url=emulator.base_url, http_session=http_session, pacing=Pacing(max_in_flight=1)
        ) as playai,
    ):
        waits = [asyncio.create_task(playai.wait_for_completion(emulator.add_job())) for _ in range(2)]
        while not emulator.stats.in_flight:
            await asyncio.sleep(0)
        waits[0].cancel()
        await asyncio.wait(waits[:1], timeout=0.5)
        assert waits[0].cancelled()
        waits[1].cancel()
        await asyncio.wait(waits[1:], timeout=0.5)
        assert waits[1].cancelled()
        await asyncio.sleep(100)
        assert emulator.stats.requests <= 2
        assert playai.stats.in_flight == 0


async def test_a_request_that_somebody_else_cancels_does_not_hang_its_callers(service: ScriptedService) -> None:
    """Such as a framework that cancels every task it finds: the wait and the call end, and the session goes on."""
    service.answers(Answer(takes=9))
    async with PlayAISession(API_KEY, USER_ID) as session:
        mine = asyncio.all_tasks()
        wait = asyncio.create_task(session.wait_for_completion(JOB_ID, timeout=None))
        call = asyncio.create_task(session.get_job(JOB_ID))
        await asyncio.sleep(1)
        for task in asyncio.all_tasks() - mine - {wait, call}:
            task.cancel()
        for caller in (wait, call):
            with pytest.raises(TransportError, match="cancelled from outside") as caught:
                await caller
            assert caught.value.job_id == JOB_ID
        assert session.stats.in_flight == session.stats.open_waits == 0
        service.answers(job(COMPLETED, OTHER_ID), job_id=OTHER_ID)
        assert (await session.wait_for_completion(OTHER_ID)).done


def test_a_loop_that_ends_with_a_watch_open_ends_quietly(caplog: pytest.LogCaptureFixture) -> None:
    """Its generator is closed by the loop, with a request under way; nothing is logged."""

    async def leave() -> None:
        async with Emulator() as emulator:
            emulator.inject(Hang(), times=None)
            session = PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url)
            sessions.append(session)
            changes.append(session.watch(emulator.add_job()))
            reading.append(asyncio.ensure_future(anext(changes[0])))
            while not emulator.stats.in_flight:
                await asyncio.sleep(0)

    sessions: list[PlayAISession] = []
    changes: list[AsyncGenerator[TtsJob, None]] = []
    reading: list[asyncio.Future[TtsJob]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of the session that is left open, which is the point
        with asyncio.Runner() as runner:
            runner.run(leave())
        del sessions[:], changes[:], reading[:]
        gc.collect()
    assert [record for record in caplog.records if "generator" in record.getMessage()] == []
