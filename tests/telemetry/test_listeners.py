"""Nothing that listens can disturb a session: not the log, and not OpenTelemetry."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import looptime
import pytest
from opentelemetry import trace

from playai_async import Pacing, PlayAISession, TtsParameters, WaitTimeoutError
from playai_async._telemetry.emitter import Emitter
from playai_async._telemetry.events import JobChanged, RequestFailed, SharedQuotaRegained
from playai_async._telemetry.log import Log
from playai_async.jobs import JobPoller, Throttled
from tests.support.memory_quota import MemoryQuota
from tests.support.scripted import (
    API_KEY,
    COMPLETED,
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

logger = logging.getLogger("playai_async")


class BrokenError(Exception):
    """What a broken listener raises."""


def broken(*_: object, **__: object) -> Any:
    """Raise whatever is asked."""
    raise BrokenError


class BrokenHandler(logging.Handler):
    """A handler that does not guard itself, as `logging.Handler.handle` leaves it to `emit`."""

    emit = broken
    handleError = broken  # noqa: N815 - the name is logging's


@pytest.fixture(params=["filter", "handler", "formatter", "record factory"])
def broken_log(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A log of which one part raises."""
    handler = logging.StreamHandler()
    monkeypatch.setattr(logger, "level", logging.DEBUG)
    logger.manager._clear_cache()  # type: ignore[attr-defined]  # of which level is enabled
    if request.param == "filter":
        logger.addFilter(broken)
    elif request.param == "handler":
        handler = BrokenHandler()  # type: ignore[assignment]
    elif request.param == "formatter":
        monkeypatch.setattr(handler, "handleError", broken)
        monkeypatch.setattr(handler, "format", broken)
    else:
        monkeypatch.setattr(logging, "_logRecordFactory", broken)
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)
    logger.removeFilter(broken)
    logger.manager._clear_cache()  # type: ignore[attr-defined]


async def test_a_log_that_raises_disturbs_nothing(broken_log: None, service: ScriptedService) -> None:
    """Neither a wait through failures, a 429 and an unknown status, nor a creation, a deadline or a close."""
    unknown = job({"status": "QUEUED"})
    service.answers(lost(), Answer(500), Answer(503), throttled("5"), unknown, job(), job(COMPLETED))
    service.creates(throttled("1"), created())
    async with PlayAISession(API_KEY, USER_ID) as session:
        assert (await session.wait_for_completion(JOB_ID)).done
        assert not (await session.create_job(TtsParameters("Hello", "v"))).done
        service.answers(*[job(job_id=OTHER_ID)] * 100, job_id=OTHER_ID)
        with pytest.raises(WaitTimeoutError):
            await session.wait_for_completion(OTHER_ID, timeout=3)
        open_wait = asyncio.create_task(session.wait_for_completion(OTHER_ID))
        await asyncio.sleep(1)
        stats = session.stats
        assert (stats.in_flight, stats.throttled, stats.transient_failures) == (0, 2, 3)
    assert isinstance((await asyncio.gather(open_wait, return_exceptions=True))[0], RuntimeError)


async def test_a_log_that_raises_does_not_make_the_shared_quota_spin(
    broken_log: None, service: ScriptedService
) -> None:
    """While the quota is out of reach, there is an exchange a second at most."""
    service.answers(*[job()] * 20, job(COMPLETED))
    quota = MemoryQuota()
    quota.error = ConnectionError()
    pacing = Pacing(requests_per_window=60, shared=quota)
    async with PlayAISession(API_KEY, USER_ID, pacing=pacing) as session:
        with pytest.raises(WaitTimeoutError):
            await session.wait_for_completion(JOB_ID, timeout=10)
    assert len(quota.asks) <= 15


async def test_opentelemetry_that_cannot_be_set_up_disturbs_nothing(
    service: ScriptedService, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A provider that is named in the environment and not installed raises StopIteration."""

    def no_provider(*_: object) -> trace.Tracer:
        raise StopIteration

    monkeypatch.setattr(trace, "get_tracer", no_provider)
    service.answers(job(COMPLETED))
    async with PlayAISession(API_KEY, USER_ID) as session:
        assert (await session.wait_for_completion(JOB_ID)).done
    assert caplog.messages == ["OpenTelemetry raised StopIteration; waits go on."]


def test_a_listener_that_raises_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    """And the others are told all the same."""

    class Broken:
        kinds = frozenset[type]({RequestFailed})

        def __call__(self, event: object) -> None:
            raise BrokenError("a secret")

        def __str__(self) -> str:
            return "The listener"

    class Kept(Broken):
        def __init__(self) -> None:
            self.events: list[object] = []

        def __call__(self, event: object) -> None:
            self.events.append(event)

    kept = Kept()
    emitter = Emitter(Broken(), kept)
    for _ in range(3):
        emitter.emit(RequestFailed(None, "TransportError"))
    emitter.emit(SharedQuotaRegained())
    assert caplog.messages == ["The listener raised BrokenError; waits go on."]
    assert kept.events == [RequestFailed(None, "TransportError")] * 3


def test_a_job_whose_id_cannot_be_shown_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The log says once that it raised."""
    caplog.set_level(logging.DEBUG, "playai_async")

    class Unprintable:
        __str__ = broken

    Emitter(Log()).emit(JobChanged(Unprintable(), object(), None))
    assert caplog.messages == ["Logging raised BrokenError; waits go on."]


@pytest.mark.parametrize("error", [asyncio.CancelledError(), GeneratorExit()], ids=lambda error: type(error).__name__)
async def test_whatever_a_log_raises_is_ignored(service: ScriptedService, error: BaseException) -> None:
    """Nothing is awaited while a record is logged, so no cancellation is meant for the session."""
    service.answers(throttled("5"), job(), job(COMPLETED))
    with raising_log(error):
        async with PlayAISession(API_KEY, USER_ID) as session:
            assert (await session.wait_for_completion(JOB_ID)).done
            assert session.stats.in_flight == 0


@contextlib.contextmanager
def raising_log(error: BaseException) -> Iterator[None]:
    """Let a log filter raise this for each record."""

    def raise_it(_: object) -> bool:
        raise error

    logger.addFilter(raise_it)
    try:
        yield
    finally:
        logger.removeFilter(raise_it)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=lambda error: type(error).__name__)
def test_a_log_that_ends_the_program_leaves_no_request_half_done(error: BaseException) -> None:
    """An event loop that runs on, as that of a notebook, goes on with the wait."""
    answers: list[Exception | bool] = [BrokenError(), True]

    async def fetch(_: str) -> bool:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def wait() -> bool:
        async with JobPoller(fetch, is_done=bool, classify=lambda _: Throttled(5.0)) as poller:
            done = await poller.wait_for_completion("a")
            assert (poller.stats.in_flight, poller.stats.throttled) == (0, 1)
            return done

    with contextlib.closing(looptime.new_event_loop()) as loop:
        task = loop.create_task(wait())
        with raising_log(error), pytest.raises(type(error)):
            logger.setLevel(logging.INFO)
            loop.run_until_complete(task)
        logger.setLevel(logging.NOTSET)
        assert loop.run_until_complete(task)


def test_a_report_may_end_the_program_as_well(caplog: pytest.LogCaptureFixture) -> None:
    """At once if no event loop runs."""
    emitter = Emitter(Log())
    with raising_log(SystemExit(3)), pytest.raises(SystemExit):
        emitter.report("The listener", BrokenError())
    with raising_log(GeneratorExit()):
        emitter.report("Another listener", BrokenError())
