"""What OpenTelemetry is told of a session, and what it must not be told."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import itertools
import math
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp
import pytest
from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor
from opentelemetry.sdk.metrics import Meter
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.trace import SpanKind, StatusCode

from playai_async import (
    NotFoundError,
    Pacing,
    PlayAIError,
    PlayAISession,
    Polling,
    SessionClosedError,
    TransportError,
    TtsParameters,
    WaitTimeoutError,
)
from playai_async._telemetry import opentelemetry
from playai_async._telemetry.events import WaitStarted
from playai_async.emulator import Emulator, Status
from tests.support.clock import now
from tests.support.scripted import (
    API_KEY,
    COMPLETED,
    FAILED,
    JOB_ID,
    OTHER_ID,
    USER_ID,
    Answer,
    ScriptedService,
    created,
    job,
    lost,
    throttled,
)
from tests.support.telemetry import Told

STEADY = Polling(jitter=0)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    """What is told in this test; to be asked for before a session is made."""
    told = Told()
    told.listen(monkeypatch)
    yield told
    told.close()


# Spans


async def test_a_wait_is_a_span(told: Told, service: ScriptedService, session: PlayAISession) -> None:
    """With what its polls were, from its first moment to its last, below whatever the caller is in the middle of."""
    service.answers(job(), job(), job(COMPLETED))
    with told.tracer_provider.get_tracer("app").start_as_current_span("request") as request:
        await session.wait_for_completion(JOB_ID, polling=STEADY)
    wait, _ = told.spans
    assert (wait.name, wait.kind, wait.status.status_code) == ("playai.wait", SpanKind.INTERNAL, StatusCode.UNSET)
    assert wait.attributes == {
        "server.address": "api.play.ai",
        "server.port": 443,
        "playai.job.id": str(JOB_ID),
        "playai.wait.outcome": "completed",
        "playai.wait.polls": 3,
        "playai.wait.throttled": 0,
        "playai.wait.queued": 0.0,
    }
    assert wait.parent == request.get_span_context()
    assert wait.events == ()
    assert wait.instrumentation_scope is not None
    assert wait.instrumentation_scope.name == "playai_async"


async def closed(session: PlayAISession) -> None:
    """Close a session in the middle of a wait."""
    waiting = asyncio.create_task(session.wait_for_completion(JOB_ID))
    await asyncio.sleep(5)
    await session.aclose()
    await waiting


async def cancelled(session: PlayAISession) -> None:
    """Cancel a wait."""
    async with asyncio.timeout(5):
        await session.wait_for_completion(JOB_ID)


async def waited_for(session: PlayAISession) -> None:
    """Wait to the end, the second failure, or a deadline."""
    await session.wait_for_completion(JOB_ID, polling=Polling(max_failures=2), timeout=20)


@pytest.mark.parametrize(
    ("answers", "wait", "error", "attributes"),
    [
        ([job(FAILED)], waited_for, None, {"playai.wait.outcome": "failed"}),
        (
            [Answer(404, payload={"errorMessage": "no job of these spoken words"})],
            waited_for,
            NotFoundError,
            {"playai.wait.outcome": "error", "error.type": "NotFoundError", "http.response.status_code": 404},
        ),
        ([lost()], waited_for, TransportError, {"playai.wait.outcome": "error", "error.type": "TransportError"}),
        ([job()], closed, SessionClosedError, {"playai.wait.outcome": "error", "error.type": "SessionClosedError"}),
        (
            [job()],
            waited_for,
            WaitTimeoutError,
            {"playai.wait.outcome": "timed_out", "error.type": "WaitTimeoutError"},
        ),
        ([job()], cancelled, TimeoutError, {"playai.wait.outcome": "cancelled"}),
    ],
    ids=["failed", "refused", "lost", "closed", "too late", "cancelled"],
)
async def test_a_span_says_what_came_of_the_wait(
    told: Told,
    service: ScriptedService,
    session: PlayAISession,
    answers: list[Answer],
    wait: Callable[[PlayAISession], Awaitable[None]],
    error: type[Exception] | None,
    attributes: dict[str, Any],
) -> None:
    """An error is one by its type; its message, which may quote the service, is not told."""
    service.answers(*answers)
    with contextlib.nullcontext() if error is None else pytest.raises(error):
        await wait(session)
    (span,) = told.spans
    assert {**(span.attributes or {}), **attributes} == span.attributes
    assert set(span.attributes or {}) - set(attributes) == {
        *("server.address", "server.port", "playai.job.id"),
        *("playai.wait.polls", "playai.wait.throttled", "playai.wait.queued"),
    }
    assert (span.status.status_code is StatusCode.ERROR) == ("error.type" in attributes)
    assert span.status.description is None
    assert told.metric("playai.client.open_waits") == [({}, 0)]


async def test_each_of_many_waits_is_a_span(told: Told, emulator: Emulator, playai: PlayAISession) -> None:
    """However they are waited for; those that nobody waits for any more were let go."""
    quick, slow = emulator.add_job(duration=1.0), emulator.add_job(duration=60.0)
    await playai.wait_for_all([quick, quick])
    async with contextlib.aclosing(playai.as_completed([quick, slow])) as ends:
        async for _ in ends:
            break
    async with contextlib.aclosing(playai.watch(slow)) as changes:
        async for _ in changes:
            break
    told_of = [(wait["playai.job.id"], wait["playai.wait.outcome"]) for wait in told.waits]
    assert told_of == [
        *[(str(quick), "completed")] * 3,
        *[(str(slow), "cancelled")] * 2,
    ]


async def test_each_429_of_a_wait_is_counted(told: Told, service: ScriptedService, session: PlayAISession) -> None:
    """Of whatever pause it was."""
    service.answers(throttled("1"), throttled("1"), job(), throttled("1"), job(COMPLETED))
    await session.wait_for_completion(JOB_ID)
    assert [wait["playai.wait.throttled"] for wait in told.waits] == [3]


async def test_waits_for_one_job_each_tell_of_their_own_time(
    told: Told, service: ScriptedService, session: PlayAISession
) -> None:
    """Who joins later has met fewer polls and 429s."""
    service.answers(job(), throttled("10"), job(), job(), job(COMPLETED))
    first = asyncio.create_task(session.wait_for_completion(JOB_ID, polling=STEADY))
    await asyncio.sleep(12)
    await session.wait_for_completion(JOB_ID, polling=STEADY)
    await first
    met = sorted((wait["playai.wait.polls"], wait["playai.wait.throttled"]) for wait in told.waits)
    assert met == [(2, 0), (5, 1)]


async def test_a_span_tells_of_the_pauses_that_held_the_wait(
    told: Told, service: ScriptedService, session: PlayAISession
) -> None:
    """Of their part within the wait, over or not, and when it was."""
    service.answers(throttled("20"), job(), throttled("40"), job(COMPLETED))
    first = asyncio.create_task(session.wait_for_completion(JOB_ID, polling=STEADY))
    await asyncio.sleep(10)
    with pytest.raises(WaitTimeoutError):
        await session.wait_for_completion(OTHER_ID, timeout=30)
    await first
    late, whole = told.spans
    assert pauses_of(late, at_end=40) == [(10, approx(11)), (approx(22), approx(18))]
    assert pauses_of(whole, at_end=approx(63).expected) == [(approx(0), approx(21)), (approx(22), approx(41))]


def approx(seconds: float) -> Any:
    """So many, give or take how a hint is stretched."""
    return pytest.approx(seconds, abs=2)


def pauses_of(span: ReadableSpan, *, at_end: float) -> list[tuple[float, float]]:
    """When the pauses of a span began, by a clock that is told for its end, and how long they took."""
    pauses = list[tuple[float, float]]()
    for event in span.events:
        assert event.name == "playai.pause"
        attributes = dict(event.attributes or {})
        assert attributes.pop("playai.pause.reason") == "throttled"
        seconds = attributes.pop("playai.pause.duration")
        assert isinstance(seconds, float)
        assert attributes == {}
        pauses.append((at_end - ((span.end_time or 0) - event.timestamp) / 1e9, seconds))
    return pauses


async def test_a_span_tells_how_long_its_polls_were_queued(told: Told, emulator: Emulator) -> None:
    """For the quota, a pause or a connection; also where none was sent before the deadline."""
    pacing = Pacing(requests_per_window=1, window=10.0)
    async with PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url, pacing=pacing) as playai:
        await asyncio.sleep(1000)  # what was before a wait is nothing of it
        jobs = [emulator.add_job() for _ in range(4)]
        ends = await playai.wait_for_all(jobs, timeout=25, return_exceptions=True)
    assert [isinstance(end, PlayAIError) for end in ends] == [False, False, False, True]
    queued = [wait["playai.wait.queued"] for wait in told.waits]
    assert queued == pytest.approx([0, 10, 20, 25], abs=0.5)
    assert [wait["playai.wait.polls"] for wait in told.waits] == [1, 1, 1, 0]


async def test_what_is_under_way_is_not_queued(told: Told, service: ScriptedService) -> None:
    """Nor is the time before a wait joined, nor that of a poll which a close gives up."""
    service.answers(Answer(429, payload="Rate limit exceeded.", headers={"Retry-After": "50"}, takes=2.0))
    service.answers(Answer(payload=None, takes=9.0), job_id=OTHER_ID)
    async with PlayAISession(API_KEY, USER_ID) as session:
        early = asyncio.create_task(session.wait_for_completion(JOB_ID))
        await asyncio.sleep(1.9)
        late = asyncio.create_task(session.wait_for_completion(JOB_ID))
        await asyncio.sleep(0.3)
        for task in (early, late):
            task.cancel()
        await asyncio.wait((early, late))
    assert [wait["playai.wait.queued"] for wait in told.waits] == pytest.approx([0.2, 0.2])
    async with PlayAISession(API_KEY, USER_ID) as session:
        waits = [asyncio.create_task(session.wait_for_completion(OTHER_ID)) for _ in range(500)]
        await asyncio.sleep(1.0)
    await asyncio.wait(waits)
    assert {wait["playai.wait.queued"] for wait in told.waits[2:]} == {0.0}
    assert all(isinstance(wait.exception(), SessionClosedError) for wait in waits)


async def test_a_span_lasts_as_long_as_its_wait_and_holds_its_events(
    told: Told, service: ScriptedService, session: PlayAISession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever becomes of the time of day meanwhile."""
    service.answers(throttled("20"), job(COMPLETED))
    days = itertools.count(1_800_000_000_000_000_000, -86_400_000_000_000)
    monkeypatch.setattr("playai_async._telemetry.opentelemetry.time.time_ns", lambda: next(days))
    began = now()
    await session.wait_for_completion(JOB_ID)
    (span,) = told.spans
    assert span.start_time == 1_800_000_000_000_000_000
    assert span.end_time == pytest.approx(span.start_time + (now() - began) * 1e9, abs=1e6)
    (event,) = span.events
    assert span.start_time <= event.timestamp < (span.end_time or 0)


# Metrics


async def test_requests_are_counted_by_what_came_back(told: Told, service: ScriptedService) -> None:
    """By method and status, or by the kind of failure where there was no answer."""
    service.answers(throttled("1"), Answer(500), lost(), job(), job(COMPLETED))
    service.creates(throttled("1"), created())
    async with PlayAISession(API_KEY, USER_ID) as session:
        await session.create_job(TtsParameters("Hello", "v"))
        await session.wait_for_completion(JOB_ID)
    counted = told.metric("playai.client.requests")
    assert sorted(counted, key=repr) == sorted(
        [
            ({"http.request.method": "POST", "http.response.status_code": 429, "error.type": "429"}, 1),
            ({"http.request.method": "POST", "http.response.status_code": 201}, 1),
            ({"http.request.method": "GET", "http.response.status_code": 429, "error.type": "429"}, 1),
            ({"http.request.method": "GET", "http.response.status_code": 500, "error.type": "500"}, 1),
            ({"http.request.method": "GET", "error.type": "TransportError"}, 1),
            ({"http.request.method": "GET", "http.response.status_code": 200}, 2),
        ],
        key=repr,
    )


async def test_open_waits_are_counted(told: Told, emulator: Emulator, playai: PlayAISession) -> None:
    """As they are now, each caller for one."""
    job_id = emulator.add_job(duration=60.0)
    waits = [asyncio.create_task(playai.wait_for_completion(job_id)) for _ in range(3)]
    await asyncio.sleep(10)
    assert told.metric("playai.client.open_waits") == [({}, 3)]
    waits[0].cancel()
    await asyncio.sleep(1)
    assert told.metric("playai.client.open_waits") == [({}, 2)]
    await asyncio.wait(waits)
    assert told.metric("playai.client.open_waits") == [({}, 0)]


@pytest.mark.parametrize(
    ("since_completion", "lag"), [(7.5, 7.5), (-3.0, 0.0), (1e6, 20.0)], ids=["late", "clocks differ", "before"]
)
async def test_lag_is_the_time_from_completion_until_it_was_told(
    told: Told, service: ScriptedService, monkeypatch: pytest.MonkeyPatch, since_completion: float, lag: float
) -> None:
    """Never less than none, and never more than the wait."""
    service.answers(throttled("19"), job(COMPLETED))
    completed_at = 1_767_323_100.0  # as `job` has it
    monkeypatch.setattr("playai_async._telemetry.opentelemetry.time.time", lambda: completed_at + since_completion)
    async with PlayAISession(API_KEY, USER_ID) as session:
        await session.wait_for_completion(JOB_ID)
    ((attributes, seconds),) = told.metric("playai.client.lag")
    assert attributes == {}
    assert seconds == pytest.approx(lag, abs=1.0)


async def test_pauses_are_measured(told: Told, service: ScriptedService) -> None:
    """By operation and reason; one that is not over when the session is closed lasted until then."""
    service.answers(throttled("20"), job(COMPLETED))
    service.creates(throttled("500"))
    async with PlayAISession(API_KEY, USER_ID) as session:
        await session.wait_for_completion(JOB_ID)
        with pytest.raises(WaitTimeoutError):
            await session.create_job(TtsParameters("Hello", "v"), timeout=30)
    pauses = {attributes["http.request.method"]: seconds for attributes, seconds in durations(told)}
    assert pauses == {"GET": pytest.approx(20.5, abs=0.6), "POST": pytest.approx(30, abs=0.1)}
    assert [attributes["playai.pause.reason"] for attributes, _ in durations(told)] == ["throttled"] * 2


async def test_an_outage_is_a_pause(told: Told, emulator: Emulator, playai: PlayAISession) -> None:
    """Failures in a row, until an answer comes; a 429 in its place is a pause of its own."""
    jobs = [emulator.add_job() for _ in range(5)]
    emulator.inject(Status(503), times=6)
    emulator.inject(Status(429, headers={"Retry-After": "5"}), times=1)
    await playai.wait_for_all(jobs)
    reasons = [attributes["playai.pause.reason"] for attributes, _ in durations(told)]
    assert sorted(reasons) == ["outage", "throttled"]
    events = [event for span in told.spans for event in span.events]
    assert {(event.attributes or {})["playai.pause.reason"] for event in events} == {"outage", "throttled"}


def durations(told: Told) -> list[tuple[dict[str, Any], float]]:
    """The pauses, by their attributes."""
    return told.metric("playai.client.pause.duration")


# What is not told


@contextlib.asynccontextmanager
async def instrumented(told: Told) -> AsyncIterator[None]:
    """Have aiohttp's requests traced, as a whole process does."""
    instrumentor = AioHttpClientInstrumentor()
    instrumentor.instrument(tracer_provider=told.tracer_provider, meter_provider=told.meter_provider)
    try:
        yield
    finally:
        instrumentor.uninstrument()


async def test_no_secret_and_no_text_is_told(told: Told, emulator: Emulator, tmp_path: Path) -> None:
    """Neither in spans nor in metrics: no key, no user id, no link, no text."""
    emulator.inject(Status(500, body={"errorMessage": f"{API_KEY} says spoken words"}), times=1)
    async with (
        instrumented(told),
        PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url, polling=Polling(max_failures=2)) as playai,
    ):
        done = await playai.speak(TtsParameters("spoken words", "v"), tmp_path)
        with pytest.raises(NotFoundError):
            await playai.wait_for_completion(OTHER_ID)
    everything = told.everything()
    traced = [span.name for span in told.spans]
    assert traced.count("GET") >= 2, "the polls are traced by what instruments aiohttp"
    assert traced.count("playai.wait") == 2
    link = done.output.url
    assert "?" in link
    for secret in (API_KEY, USER_ID, "spoken words", link, link.partition("?")[2], emulator.audio_url):
        assert secret not in everything


async def test_what_traces_other_requests_goes_on(told: Told, emulator: Emulator, tmp_path: Path) -> None:
    """Only the audio's are kept out of traces, and none that a caller makes meanwhile."""
    async with instrumented(told), aiohttp.ClientSession() as http:
        others = list[asyncio.Task[aiohttp.ClientResponse]]()

        def ask(*_: object) -> None:
            others.append(asyncio.create_task(http.request("HEAD", emulator.base_url)))

        async with PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url) as playai:
            done = await playai.wait_for_completion(emulator.add_job())
            await playai.download(done, tmp_path, on_progress=ask)
        for response in await asyncio.gather(*others):
            response.release()
    assert others
    traced = [span.name for span in told.spans]
    assert traced.count("HEAD") == len(others)
    assert traced.count("GET") == 1, "the poll"


# Who listens may be broken, or old


class Raising(SpanProcessor):
    """Raises where it is told of a span."""

    def __init__(self, where: str) -> None:
        self._where = where

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self._raise("start")

    def on_end(self, span: Any) -> None:
        self._raise("end")

    def _raise(self, here: str) -> None:
        if here == self._where:
            raise RuntimeError(f"a listener that quotes {API_KEY}")


@pytest.mark.parametrize("where", ["start", "end"])
async def test_a_listener_that_raises_harms_no_wait(
    told: Told, emulator: Emulator, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    """Each ends as it would, and is counted; a session warns of it once."""
    told.tracer_provider.add_span_processor(Raising(where))
    async with PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url) as playai:
        endless = emulator.add_job(duration=math.inf)
        assert (await playai.wait_for_completion(emulator.add_job())).done
        with pytest.raises(WaitTimeoutError):
            await playai.wait_for_completion(endless, timeout=5)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await playai.wait_for_completion(endless)
        assert playai.stats.open_waits == 0
    assert told.metric("playai.client.open_waits") == [({}, 0)]
    messages = [record.getMessage() for record in caplog.records if record.name == "playai_async"]
    assert messages == ["OpenTelemetry raised RuntimeError; waits go on."]


async def test_an_api_of_others_that_is_too_old_is_made_do_with(
    told: Told, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The extra asks for a newer one; who did not ask for the extra may have any."""
    create = Meter.create_histogram

    def before_advisories(self: Meter, name: str, unit: str = "", description: str = "") -> Any:
        return create(self, name, unit, description)

    monkeypatch.setattr(Meter, "create_histogram", before_advisories)
    async with PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url) as playai:
        await playai.wait_for_completion(emulator.add_job())
    assert len(told.metric("playai.client.lag")) == 1


def test_a_namespace_without_the_api_is_no_api(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other packages of OpenTelemetry share it."""
    monkeypatch.setitem(sys.modules, "opentelemetry", ModuleType("opentelemetry"))
    for name in ("metrics", "trace"):
        monkeypatch.delitem(sys.modules, f"opentelemetry.{name}")
    monkeypatch.delitem(sys.modules, "playai_async._telemetry.opentelemetry")
    session = PlayAISession(API_KEY, USER_ID)
    assert WaitStarted not in session._runtime._emitter.kinds


# Nobody listens


async def test_without_a_listener_nothing_is_kept(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The API's own instruments take no notice, and no span is held."""
    made: list[opentelemetry.OpenTelemetry] = []

    class Kept(opentelemetry.OpenTelemetry):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            made.append(self)

    monkeypatch.setattr(opentelemetry, "OpenTelemetry", Kept)
    async with PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url) as playai:
        waiting = asyncio.create_task(playai.wait_for_completion(emulator.add_job(duration=5.0)))
        await asyncio.sleep(1)
        (telemetry,) = made
        assert telemetry._spans == {}
        await waiting


@pytest.fixture
def without_opentelemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if it were not installed."""
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.delitem(sys.modules, "playai_async._telemetry.opentelemetry")


async def test_without_the_package_waits_and_pauses_go_on(
    without_opentelemetry: None, service: ScriptedService
) -> None:
    """It is an extra, and nothing else hangs on it."""
    service.answers(throttled("5"), lost(), job(COMPLETED))
    async with PlayAISession(API_KEY, USER_ID) as session:
        assert WaitStarted not in session._runtime._emitter.kinds
        assert (await session.wait_for_completion(JOB_ID)).done


async def test_without_the_package_downloads_go_on(
    without_opentelemetry: None, emulator: Emulator, playai: PlayAISession, tmp_path: Path
) -> None:
    """There is nothing to keep them out of."""
    assert (await playai.speak(TtsParameters("Hello", "v"), tmp_path)).done


def test_a_broken_module_of_ours_is_not_taken_for_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its error comes out."""
    monkeypatch.setitem(sys.modules, "playai_async._telemetry.opentelemetry", None)
    with pytest.raises(ModuleNotFoundError, match="opentelemetry"):
        PlayAISession(API_KEY, USER_ID)


def test_where_nothing_traces_requests_nothing_keeps_them_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """What instruments aiohttp is a package of its own."""
    monkeypatch.setitem(sys.modules, "opentelemetry.instrumentation.utils", None)
    monkeypatch.delitem(sys.modules, "playai_async._telemetry.opentelemetry")
    module = importlib.import_module("playai_async._telemetry.opentelemetry")
    monkeypatch.undo()
    with module.untraced():
        pass
