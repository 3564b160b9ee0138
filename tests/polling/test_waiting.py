"""What `wait_for_completion` promises, each promise with a test named after it."""

from __future__ import annotations

import asyncio
import email.utils
import logging
import re
import time
from uuid import UUID

import aiohttp
import pytest
import tenacity

from playai_async import (
    APIStatusError,
    Completed,
    ConfigurationError,
    Failed,
    ForbiddenError,
    InProgress,
    InvalidParametersError,
    InvalidResponseError,
    JobFailedError,
    NotFoundError,
    Pacing,
    PlayAIError,
    PlayAISession,
    Polling,
    RateLimitedError,
    TransportError,
    TtsJob,
    UnauthorizedError,
    UnexpectedServiceError,
    Unknown,
    WaitTimeoutError,
)
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
    job,
    job_json,
    lost,
    throttled,
)

STEADY = Polling(initial=1.0, multiplier=2.0, maximum=8.0, jitter=0.0)
"""Pauses of 1, 2, 4, 8, 8, ... seconds."""

PROBE = 5.0
"""Seconds from a 429 without a hint to the probe, at least: a twelfth of the window."""

STRETCH = 1.05
"""How much longer a pause after a 429 may be than asked for."""


async def test_polls_until_the_job_is_completed_and_returns_it(
    service: ScriptedService, session: PlayAISession
) -> None:
    """The job that ends the wait is the one that the service described last."""
    service.answers(job(), job(), job(COMPLETED))
    finished = await session.wait_for_completion(JOB_ID)
    assert finished.output == Completed(
        url="https://audio.example/a.mp3?signature=s", content_type="audio/mpeg", file_size=48_000.0, duration=3.5
    )
    assert len(service.arrivals) == 3


async def test_a_failed_job_is_a_result_not_an_exception(service: ScriptedService, session: PlayAISession) -> None:
    """FAILED is returned; `raise_for_failure` is what raises."""
    service.answers(job(FAILED))
    failed = await session.wait_for_completion(JOB_ID)
    assert failed.output == Failed()
    with pytest.raises(JobFailedError) as caught:
        failed.raise_for_failure()
    assert caught.value.job_id == JOB_ID


async def test_the_first_poll_is_sent_at_once(service: ScriptedService, session: PlayAISession) -> None:
    """No pause comes before the first request."""
    service.answers(job(COMPLETED))
    start = now()
    await session.wait_for_completion(JOB_ID)
    assert service.arrivals == [start]


async def test_pauses_grow_as_the_settings_say(service: ScriptedService, session: PlayAISession) -> None:
    """Each pause is the one before times the multiplier, up to the maximum."""
    service.answers(*[job()] * 6, job(COMPLETED))
    await session.wait_for_completion(JOB_ID, polling=STEADY)
    assert service.pauses == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


async def test_pauses_are_varied_by_the_jitter(service: ScriptedService, session: PlayAISession) -> None:
    """A jitter of 0.2 keeps each pause within a fifth of itself, and does vary it."""
    service.answers(*[job()] * 40, job(COMPLETED))
    await session.wait_for_completion(JOB_ID, polling=Polling(initial=2.0, multiplier=1.0, maximum=2.0, jitter=0.2))
    assert all(1.6 <= pause <= 2.4 for pause in service.pauses)
    assert max(service.pauses) - min(service.pauses) > 0.1


async def test_a_tenacity_wait_strategy_decides_the_pauses(service: ScriptedService, session: PlayAISession) -> None:
    """`Polling.wait` takes the place of the built-in pauses, attempt by attempt."""
    service.answers(*[job()] * 4, job(COMPLETED))
    wait = tenacity.wait_chain(tenacity.wait_fixed(3), tenacity.wait_fixed(0.5), tenacity.wait_fixed(7))
    await session.wait_for_completion(JOB_ID, polling=Polling(wait=wait))
    assert service.pauses == [3.0, 0.5, 7.0, 7.0]


async def test_a_wait_strategy_that_fails_ends_that_wait_alone(
    service: ScriptedService, session: PlayAISession
) -> None:
    """The caller's mistake is told to its caller, with the cause; other waits go on."""

    def broken(state: tenacity.RetryCallState) -> float:
        raise ZeroDivisionError

    service.answers(job())
    service.answers(job(job_id=OTHER_ID), job(COMPLETED, OTHER_ID), job_id=OTHER_ID)
    other = asyncio.create_task(session.wait_for_completion(OTHER_ID))
    with pytest.raises(ConfigurationError) as caught:
        await session.wait_for_completion(JOB_ID, polling=Polling(wait=broken))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert caught.value.job_id == JOB_ID
    assert (await other).done


async def test_a_wait_strategy_that_raises_a_cancellation_does_not_hang_its_wait(
    service: ScriptedService, session: PlayAISession
) -> None:
    """Nobody cancelled anything; the wait ends, and the session goes on."""

    def broken(state: tenacity.RetryCallState) -> float:
        raise asyncio.CancelledError

    service.answers(job(), job(COMPLETED))
    with pytest.raises(TransportError, match="cancelled from outside"):
        await session.wait_for_completion(JOB_ID, polling=Polling(wait=broken), timeout=None)
    assert (await session.get_job(JOB_ID)).done


async def test_429_never_ends_a_wait(service: ScriptedService, session: PlayAISession) -> None:
    """Any number of 429s in a row, and then the job."""
    service.answers(*[throttled()] * 50, job(COMPLETED))
    assert (await session.wait_for_completion(JOB_ID, polling=Polling(max_failures=1))).done
    assert session.stats.throttled == 50


async def test_429_neither_counts_as_a_failure_nor_resets_the_count(
    service: ScriptedService, session: PlayAISession
) -> None:
    """Two failures with 429s between and after them are two failures in a row."""
    service.answers(lost(), throttled(), throttled(), lost(), throttled(), lost(), job(COMPLETED))
    with pytest.raises(TransportError):
        await session.wait_for_completion(JOB_ID, polling=Polling(max_failures=3))
    assert len(service.arrivals) == 6


async def test_only_the_deadline_ends_a_wait_that_is_throttled(
    service: ScriptedService, session: PlayAISession
) -> None:
    """A service that answers nothing but 429 ends a wait at its deadline, to the moment."""
    service.answers(throttled())
    start = now()
    with pytest.raises(WaitTimeoutError) as caught:
        await session.wait_for_completion(JOB_ID, timeout=30)
    assert now() - start == pytest.approx(30)
    assert isinstance(caught.value.last_error, RateLimitedError)


@pytest.mark.parametrize("hint", ["7", " 7 "], ids=["digits", "spaces around"])
async def test_retry_after_in_seconds_is_a_floor_for_the_pause(
    hint: str, service: ScriptedService, session: PlayAISession
) -> None:
    """Never earlier than the service asked, and only a little later."""
    service.answers(throttled(hint), job(COMPLETED))
    await session.wait_for_completion(JOB_ID)
    assert 7.0 <= service.pauses[0] <= 7.0 * STRETCH


async def test_retry_after_as_an_http_date_is_a_floor_for_the_pause(
    service: ScriptedService, session: PlayAISession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A date is measured against the wall clock."""
    monkeypatch.setattr(time, "time", lambda: 1_800_000_000.0)
    service.answers(throttled(email.utils.formatdate(1_800_000_020, usegmt=True)), job(COMPLETED))
    await session.wait_for_completion(JOB_ID)
    assert 20.0 <= service.pauses[0] <= 20.0 * STRETCH


@pytest.mark.parametrize(
    "hint",
    ["0", "-5", "soon", "", "1e3", "٣", "Thu, 01 Jan 1970 00:00:00 GMT", "Thu, 99 Foo 2026 00:00:00 GMT"],
    ids=["zero", "negative", "words", "empty", "exponent", "not ASCII", "past date", "no date"],
)
async def test_an_unusable_retry_after_leaves_the_pause_to_the_session(
    hint: str, service: ScriptedService, session: PlayAISession
) -> None:
    """The session then backs off by itself, on the scale of the window."""
    service.answers(throttled(hint), job(COMPLETED))
    await session.wait_for_completion(JOB_ID)
    assert PROBE <= service.pauses[0] <= PROBE * STRETCH


async def test_at_most_a_day_of_retry_after_is_obeyed(service: ScriptedService, session: PlayAISession) -> None:
    """A hint of a week stalls the session for a day."""
    service.answers(throttled("604800"), job(COMPLETED))
    await session.wait_for_completion(JOB_ID, timeout=None)
    assert 86_400 <= service.pauses[0] <= 86_401


async def test_the_scale_of_the_pause_is_the_window(service: ScriptedService) -> None:
    """A tenth of the window makes a tenth of the pause."""
    service.answers(throttled(), job(COMPLETED))
    async with PlayAISession(API_KEY, USER_ID, pacing=Pacing(window=6.0)) as session:
        await session.wait_for_completion(JOB_ID)
    assert PROBE / 10 <= service.pauses[0] <= PROBE / 10 * STRETCH


async def test_the_log_tells_of_what_holds_the_session(
    service: ScriptedService, session: PlayAISession, caplog: pytest.LogCaptureFixture
) -> None:
    """Once for each pause, at INFO, and of which requests it is."""
    caplog.set_level(logging.INFO, "playai_async")
    service.answers(throttled("1000"))
    with pytest.raises(WaitTimeoutError):
        await session.wait_for_completion(JOB_ID, timeout=20)
    (message,) = (record.getMessage() for record in caplog.records if record.name == "playai_async")
    assert re.fullmatch(r"Rate limited: no status requests for 100\d\.\d s\.", message)


async def test_one_429_holds_the_whole_session(service: ScriptedService, session: PlayAISession) -> None:
    """While one wait is throttled no other sends, nor does a direct call; then all of them finish."""
    service.answers(throttled("20"), job(COMPLETED))
    service.answers(job(COMPLETED, OTHER_ID), job_id=OTHER_ID)
    first = asyncio.create_task(session.wait_for_completion(JOB_ID))
    await asyncio.sleep(1)
    others = [
        asyncio.create_task(session.get_job(OTHER_ID)),
        asyncio.create_task(session.wait_for_completion(OTHER_ID)),
    ]
    await asyncio.sleep(18.9)
    assert len(service.arrivals) == 1
    assert 0 < session.stats.paused_for < 1.1 + 1
    await asyncio.gather(first, *others)
    assert service.arrivals[1] - service.arrivals[0] >= 20


@pytest.mark.parametrize(
    "failure",
    [
        Answer(500, payload={"errorMessage": "oops"}),
        Answer(503, body="<html>"),
        Answer(exception=aiohttp.ServerDisconnectedError()),
        Answer(exception=ConnectionResetError()),
        Answer(exception=TimeoutError()),
        Answer(exception=aiohttp.ClientPayloadError()),
        Answer(body="<html>all is well</html>"),
        Answer(204),
        Answer(payload={"id": str(JOB_ID)}),
        Answer(payload=job_json(job_id=OTHER_ID)),
    ],
    ids=["500", "503", "disconnected", "reset", "timeout", "garbled", "html", "204", "fields missing", "other job"],
)
async def test_transient_failures_are_polled_again_with_backoff(
    failure: Answer, service: ScriptedService, session: PlayAISession
) -> None:
    """Each kind of failure, seven times in a row, does not end a wait that allows eight."""
    service.answers(*[failure] * 7, job(COMPLETED))
    assert (await session.wait_for_completion(JOB_ID, polling=STEADY)).id == JOB_ID
    assert service.pauses == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0]
    assert session.stats.transient_failures == 7


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (Answer(502), UnexpectedServiceError),
        (lost(), TransportError),
        (Answer(body="no job"), InvalidResponseError),
    ],
    ids=["5xx", "no answer", "broken reply"],
)
async def test_transient_failures_are_raised_once_max_failures_came_in_a_row(
    failure: Answer, error: type[PlayAIError], service: ScriptedService, session: PlayAISession
) -> None:
    """The last of them is what is raised, with the job's id."""
    service.answers(failure)
    with pytest.raises(error) as caught:
        await session.wait_for_completion(JOB_ID, polling=Polling(max_failures=3))
    assert len(service.arrivals) == 3
    assert caught.value.job_id == JOB_ID


async def test_one_good_answer_resets_the_count_of_failures(service: ScriptedService, session: PlayAISession) -> None:
    """Two, a good one, two: never three in a row."""
    service.answers(lost(), Answer(500), job(), lost(), Answer(500), job(COMPLETED))
    assert (await session.wait_for_completion(JOB_ID, polling=Polling(max_failures=3))).done


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (301, APIStatusError),
        (302, APIStatusError),
        (307, APIStatusError),
        (400, InvalidParametersError),
        (401, UnauthorizedError),
        (403, ForbiddenError),
        (404, NotFoundError),
        (409, APIStatusError),
        (422, APIStatusError),
    ],
)
async def test_a_refusal_ends_the_wait_at_once(
    status: int, error: type[APIStatusError], service: ScriptedService, session: PlayAISession
) -> None:
    """One request, and its own exception, with the service's words."""
    service.answers(
        Answer(status, payload={"errorMessage": "No.", "errorId": "NO"}, headers={"Location": "https://elsewhere/"})
    )
    with pytest.raises(error) as caught:
        await session.wait_for_completion(JOB_ID)
    assert (caught.value.status, caught.value.message, caught.value.error_id) == (status, "No.", "NO")
    assert caught.value.job_id == JOB_ID
    assert len(service.arrivals) == 1


async def test_an_unknown_status_is_polled_on_and_logged_once(
    service: ScriptedService, session: PlayAISession, caplog: pytest.LogCaptureFixture
) -> None:
    """A state that the contract does not list is no end, and one warning a job is enough."""
    service.answers(job({"status": "QUEUED"}), job({"status": "QUEUED"}), job({"status": "WARMING"}), job(COMPLETED))
    assert (await session.wait_for_completion(JOB_ID)).done
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == [f"Job {JOB_ID} has a status that the contract does not list: 'QUEUED'"]


async def test_the_deadline_bounds_a_pause(service: ScriptedService, session: PlayAISession) -> None:
    """The wait ends at its deadline, not after the pause; that there were no more polls was nobody's doing."""
    service.answers(job())
    start = now()
    with pytest.raises(WaitTimeoutError, match=r"\(polls: 2; last seen InProgress\);"):
        await session.wait_for_completion(JOB_ID, polling=Polling(wait=tenacity.wait_fixed(1000)), timeout=20)
    assert now() - start == pytest.approx(20)


async def test_the_deadline_bounds_a_request_in_flight(service: ScriptedService, session: PlayAISession) -> None:
    """A request that hangs is let go at the deadline."""
    service.answers(Answer(takes=9))
    start = now()
    with pytest.raises(WaitTimeoutError) as caught:
        await session.wait_for_completion(JOB_ID, timeout=4)
    assert now() - start == pytest.approx(4)
    assert caught.value.polls == 1
    assert service.under_way == 0


async def test_the_deadline_bounds_queueing(service: ScriptedService) -> None:
    """A wait that never got its turn ends at its deadline, too."""
    service.answers(Answer(takes=9))
    service.answers(job(COMPLETED, OTHER_ID), job_id=OTHER_ID)
    async with PlayAISession(API_KEY, USER_ID, pacing=Pacing(max_in_flight=1)) as session:
        first = asyncio.create_task(session.wait_for_completion(JOB_ID, timeout=8))
        await asyncio.sleep(0)
        start = now()
        with pytest.raises(WaitTimeoutError) as caught:
            await session.wait_for_completion(OTHER_ID, timeout=4)
        assert now() - start == pytest.approx(4)
        assert caught.value.polls == 0
        assert "no answer yet; its poll was due and waited for its turn);" in str(caught.value)
        with pytest.raises(WaitTimeoutError):
            await first


async def test_a_last_poll_is_sent_just_before_the_deadline(service: ScriptedService, session: PlayAISession) -> None:
    """A pause that would overrun the deadline is cut short, so that a job that ended in it is noticed."""
    service.answers(job(), job(COMPLETED))
    polling = Polling(wait=tenacity.wait_fixed(1000))
    assert (await session.wait_for_completion(JOB_ID, polling=polling, timeout=20)).done
    assert service.pauses == [19.0]


async def test_who_joins_with_a_short_deadline_gets_a_last_poll_too(
    service: ScriptedService, session: PlayAISession
) -> None:
    """The shared watch, which pauses for long, is polled in time for the newcomer."""
    service.answers(job(), job(COMPLETED))
    polling = Polling(wait=tenacity.wait_fixed(500))
    first = asyncio.create_task(session.wait_for_completion(JOB_ID, polling=polling))
    await asyncio.sleep(100)
    assert (await session.wait_for_completion(JOB_ID, polling=polling, timeout=20)).done
    assert (await first).done
    assert service.pauses == [119.0]


async def test_a_last_poll_is_sent_right_after_one_that_was_not_the_last(
    service: ScriptedService, session: PlayAISession
) -> None:
    """One that came when its pause was over was not meant for the deadline, however close that is."""
    service.answers(job(), job(), job(COMPLETED))
    assert (await session.wait_for_completion(JOB_ID, polling=STEADY, timeout=1.2)).done
    assert service.pauses == [1.0, 0.08]


async def test_a_poll_for_one_who_joined_is_a_last_one_for_those_with_hardly_more_time(
    service: ScriptedService, session: PlayAISession
) -> None:
    """Who joins moves the poll up, and it serves all whose own would follow within their lead."""
    service.answers(job())
    polling = Polling(wait=tenacity.wait_fixed(500))
    first = asyncio.create_task(session.wait_for_completion(JOB_ID, polling=polling))
    await asyncio.sleep(100)
    waits = [session.wait_for_completion(JOB_ID, polling=polling, timeout=timeout) for timeout in (20, 20.5)]
    errors = await asyncio.gather(*waits, return_exceptions=True)
    assert [type(error) for error in errors] == [WaitTimeoutError] * 2
    assert service.pauses == [119.0]
    first.cancel()


async def test_the_last_poll_of_a_short_wait_leaves_most_of_its_time(
    service: ScriptedService, session: PlayAISession
) -> None:
    """The lead before the deadline is a tenth of the timeout where a second would be too much."""
    service.answers(job(), job(COMPLETED))
    assert (await session.wait_for_completion(JOB_ID, timeout=0.5)).done
    assert service.pauses == [0.45]


async def test_a_last_poll_follows_one_that_was_under_way_when_its_moment_came(
    service: ScriptedService, session: PlayAISession
) -> None:
    """A job that ended while a slow answer told of an earlier state is still noticed."""
    service.answers(job(), Answer(payload=job_json(), takes=1.6), job(COMPLETED))
    polling = Polling(initial=3, multiplier=1, maximum=3, jitter=0)
    assert (await session.wait_for_completion(JOB_ID, polling=polling, timeout=5)).done
    assert service.arrivals == pytest.approx([0, 3, 4.6])


async def test_who_joins_while_an_answer_is_under_way_gets_a_last_poll(
    service: ScriptedService, session: PlayAISession
) -> None:
    """The answer was asked for before this wait, and may be older than it."""
    service.answers(Answer(payload=job_json(), takes=2), job(COMPLETED))
    first = asyncio.create_task(session.wait_for_completion(JOB_ID))
    await asyncio.sleep(1)
    assert (await session.wait_for_completion(JOB_ID, timeout=1.05)).done
    assert (await first).done


async def test_the_timeout_error_tells_only_of_errors_that_the_wait_met(
    service: ScriptedService, session: PlayAISession
) -> None:
    """Who joins after a failure did not meet it."""
    service.answers(Answer(500), job())
    first = asyncio.create_task(session.wait_for_completion(JOB_ID, polling=STEADY))
    await asyncio.sleep(2)
    with pytest.raises(WaitTimeoutError) as caught:
        await session.wait_for_completion(JOB_ID, polling=STEADY, timeout=1)
    assert caught.value.last_error is None
    first.cancel()


async def test_the_timeout_error_tells_of_a_pause(service: ScriptedService, session: PlayAISession) -> None:
    """A wait that never had a turn says why."""
    service.answers(throttled("100"))
    with pytest.raises(RateLimitedError):
        await session.get_job(JOB_ID)
    with pytest.raises(WaitTimeoutError, match=r"polls: 0; no answer yet; throttled for 9\d s more"):
        await session.wait_for_completion(JOB_ID, timeout=5)


async def test_a_last_poll_that_is_answered_at_once_is_the_last(
    service: ScriptedService, session: PlayAISession
) -> None:
    """Also where its timer fires a hair early, as timers may: it is not due again at once, and again."""
    service.answers(job())
    await asyncio.sleep(7e-06)  # a start from which the sum of the times rounds down
    with pytest.raises(WaitTimeoutError) as caught:
        await session.wait_for_completion(JOB_ID, polling=Polling(jitter=0), timeout=1.5)
    assert caught.value.polls == 3


async def test_a_wait_without_a_deadline_goes_on(service: ScriptedService, session: PlayAISession) -> None:
    """`timeout=None` outlasts the ten minutes of the settings."""
    service.answers(*[job()] * 100, job(COMPLETED))
    start = now()
    assert (await session.wait_for_completion(JOB_ID, timeout=None)).done
    assert now() - start > 600


async def test_the_deadline_left_out_is_that_of_the_settings(service: ScriptedService, session: PlayAISession) -> None:
    """`Polling.timeout` holds where the call says nothing."""
    service.answers(job())
    start = now()
    with pytest.raises(WaitTimeoutError):
        await session.wait_for_completion(JOB_ID, polling=Polling(timeout=45))
    assert now() - start == pytest.approx(45)


async def test_the_timeout_error_carries_what_was_seen(service: ScriptedService, session: PlayAISession) -> None:
    """The last job, the last error, the time spent and the polls made; and it says that the job goes on."""
    service.answers(job(), Answer(500), job())
    await asyncio.sleep(100)
    with pytest.raises(WaitTimeoutError, match="can be waited for again") as caught:
        await session.wait_for_completion(JOB_ID, polling=STEADY, timeout=10)
    error = caught.value
    assert error.job is not None
    assert error.job.output == InProgress()
    assert isinstance(error.last_error, UnexpectedServiceError)
    assert error.last_error.job_id == JOB_ID
    assert error.elapsed == pytest.approx(10)
    assert error.polls == len(service.arrivals) == 5  # after 0, 1, 3, 7 s, and the last one a second before the end
    assert error.job_id == JOB_ID


async def test_waits_for_one_job_share_their_requests(service: ScriptedService, session: PlayAISession) -> None:
    """A hundred callers cost what one costs."""
    service.answers(job(), job(), job(COMPLETED))
    results = await asyncio.gather(*(session.wait_for_completion(JOB_ID, polling=STEADY) for _ in range(100)))
    assert [result.done for result in results] == [True] * 100
    assert service.pauses == [1.0, 2.0]


async def test_callers_who_come_one_by_one_share_their_last_polls(
    service: ScriptedService, session: PlayAISession
) -> None:
    """A hundred deadlines, 30 ms apart, do not cost a hundred polls."""
    service.answers(job())
    waits: list[asyncio.Task[object]] = []
    for _ in range(100):
        waits.append(asyncio.create_task(session.wait_for_completion(JOB_ID, polling=STEADY, timeout=4)))
        await asyncio.sleep(0.03)
    errors = await asyncio.gather(*waits, return_exceptions=True)
    assert all(isinstance(error, WaitTimeoutError) for error in errors)
    assert len(service.arrivals) <= 3 + 3 / 0.4 + 1  # at 0, 1 and 3 s, and then one in each lead of 0.4 s


async def test_waits_under_other_settings_do_not_share(service: ScriptedService, session: PlayAISession) -> None:
    """Who wants other pauses gets their own polls."""
    service.answers(job(), job(), job(COMPLETED))
    slow = Polling(initial=5, jitter=0)
    await asyncio.gather(
        session.wait_for_completion(JOB_ID, polling=STEADY), session.wait_for_completion(JOB_ID, polling=slow)
    )
    assert len(service.arrivals) == 4
    assert session.stats.requests == 4


async def test_waits_share_a_wait_strategy_by_identity(service: ScriptedService, session: PlayAISession) -> None:
    """Two equal-looking strategies are two, since nobody can tell what they would answer."""
    service.answers(*[Answer(payload=job_json(), takes=1)] * 2, job(COMPLETED))
    one, two = tenacity.wait_fixed(3), tenacity.wait_fixed(3)
    waits = [asyncio.create_task(session.wait_for_completion(JOB_ID, polling=Polling(wait=w))) for w in (one, one, two)]
    await asyncio.sleep(0.5)
    assert (session.stats.open_waits, session.stats.distinct_jobs, session.stats.in_flight) == (3, 1, 2)
    await asyncio.gather(*waits)


async def test_each_of_those_who_share_keeps_its_own_deadline(service: ScriptedService, session: PlayAISession) -> None:
    """The shorter deadline ends one wait and leaves the other."""
    service.answers(*[job()] * 4, job(COMPLETED))
    start = now()
    long = asyncio.create_task(session.wait_for_completion(JOB_ID, polling=STEADY, timeout=100))
    await asyncio.sleep(0.5)
    with pytest.raises(WaitTimeoutError) as caught:
        await session.wait_for_completion(JOB_ID, polling=STEADY, timeout=5)
    assert now() - start == pytest.approx(5.5)
    assert caught.value.polls == 3  # at 1, 3 and 4.5 s; the poll at 0 s came before this wait
    assert (await long).done


async def test_a_shared_error_is_raised_as_each_callers_own(service: ScriptedService, session: PlayAISession) -> None:
    """Equal words and the same cause, but no two callers grow one traceback."""
    service.answers(lost())
    waits = [session.wait_for_completion(JOB_ID, polling=Polling(max_failures=1)) for _ in range(3)]
    errors = await asyncio.gather(*waits, return_exceptions=True)
    assert {str(error) for error in errors} == {str(errors[0])}
    assert len({id(error) for error in errors}) == 3
    assert all(isinstance(error, TransportError) and error.__cause__ is not None for error in errors)


async def test_cancelling_ninety_nine_of_a_hundred_changes_nothing_for_the_last(
    service: ScriptedService, session: PlayAISession
) -> None:
    """The polls go on as they were, and the last caller gets the job."""
    service.answers(job(), job(), job(COMPLETED))
    waits = [asyncio.create_task(session.wait_for_completion(JOB_ID, polling=STEADY)) for _ in range(100)]
    await asyncio.sleep(0.5)
    for wait in waits[:-1]:
        wait.cancel()
    assert (await waits[-1]).done
    assert service.pauses == [1.0, 2.0]
    assert all(wait.cancelled() for wait in waits[:-1])


async def test_cancelling_one_does_not_cut_the_request_of_the_others(
    service: ScriptedService, session: PlayAISession
) -> None:
    """It is under way for both, and is answered; it is not sent anew."""
    service.answers(Answer(payload=job_json(COMPLETED), takes=5))
    one, other = (asyncio.create_task(session.wait_for_completion(JOB_ID)) for _ in range(2))
    await asyncio.sleep(1)
    one.cancel()
    assert (await other).done
    assert one.cancelled()
    assert service.arrivals == [0.0]
    assert now() == pytest.approx(5)


async def test_a_cancellation_that_comes_with_the_deadline_does_not_cut_the_request_of_the_others(
    service: ScriptedService, session: PlayAISession
) -> None:
    """Who is cancelled before they are woken has left already, and has nothing to give up."""
    service.answers(Answer(payload=job_json(COMPLETED), takes=9))
    one = asyncio.create_task(session.wait_for_completion(JOB_ID, timeout=5))
    other = asyncio.create_task(session.wait_for_completion(JOB_ID))
    asyncio.get_running_loop().call_at(5.0 + 5e-10, one.cancel)  # in the round of the deadline, and after it
    assert (await other).done
    assert one.cancelled()
    assert service.arrivals == [0.0]


async def test_those_who_are_cancelled_before_they_are_told_of_the_end_leave_in_peace(
    service: ScriptedService, session: PlayAISession
) -> None:
    """Some have the job already, and the polling has stopped; for the rest there is nothing to stop any more."""
    service.answers(Answer(payload=job_json(COMPLETED), takes=1))
    waits = [asyncio.create_task(session.wait_for_completion(JOB_ID)) for _ in range(1_000)]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    ends = await asyncio.gather(*waits, return_exceptions=True)
    assert {type(end) for end in ends} == {TtsJob, asyncio.CancelledError}
    assert session.stats.open_waits == session.stats.distinct_jobs == 0


async def test_cancelling_the_last_stops_the_polling_at_once(service: ScriptedService, session: PlayAISession) -> None:
    """A request under way is cut, none follows, and no task is left by the time the caller goes on."""
    service.answers(Answer(takes=5))
    tasks = asyncio.all_tasks()
    wait = asyncio.create_task(session.wait_for_completion(JOB_ID))
    await asyncio.sleep(1)
    assert service.under_way == 1
    wait.cancel()
    with pytest.raises(asyncio.CancelledError):
        await wait
    assert service.under_way == 0
    assert asyncio.all_tasks() == tasks
    await asyncio.sleep(1000)
    assert len(service.arrivals) == 1
    assert session.stats.open_waits == session.stats.in_flight == 0


@pytest.mark.parametrize("moment", [0, 0.5, 1.5], ids=["queued", "under way", "paused"])
async def test_cancellation_passes_through_at_once(
    moment: float, service: ScriptedService, session: PlayAISession
) -> None:
    """In whichever phase the wait is, no time passes between the cancellation and its end."""
    service.answers(Answer(payload=job_json(), takes=1))
    wait = asyncio.create_task(session.wait_for_completion(JOB_ID))
    await asyncio.sleep(moment)
    start = now()
    wait.cancel()
    with pytest.raises(asyncio.CancelledError):
        await wait
    assert now() == start


async def test_asyncio_timeout_around_a_wait_works(service: ScriptedService, session: PlayAISession) -> None:
    """The caller's own timeout is a cancellation like any other, and leaves nothing running in the same step."""
    service.answers(Answer(takes=9))
    tasks = asyncio.all_tasks()
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(3):
            await session.wait_for_completion(JOB_ID)
    assert not isinstance(caught.value, PlayAIError)
    assert asyncio.all_tasks() == tasks


async def test_a_finished_job_is_returned_without_a_request(service: ScriptedService, session: PlayAISession) -> None:
    """A job that is done is what there is to wait for."""
    service.answers(job(COMPLETED))
    finished = await session.wait_for_completion(JOB_ID)
    assert await session.wait_for_completion(finished) is finished
    assert len(service.arrivals) == 1


@pytest.mark.parametrize("form", [str, str.upper, lambda text: text], ids=["text", "upper case", "as is"])
async def test_a_job_may_be_named_by_text(form: object, service: ScriptedService, session: PlayAISession) -> None:
    """The id's text, in either case, names the job."""
    assert callable(form)
    service.answers(job(COMPLETED))
    assert (await session.wait_for_completion(form(str(JOB_ID)))).id == JOB_ID


async def test_an_unfinished_job_may_be_waited_for(service: ScriptedService, session: PlayAISession) -> None:
    """A job as seen earlier names itself."""
    service.answers(job(), job(COMPLETED))
    seen = await session.get_job(JOB_ID)
    assert isinstance(seen.output, InProgress)
    assert (await session.wait_for_completion(seen)).done


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("no id", ValueError),
        ("{" + str(JOB_ID) + "}", ValueError),
        (JOB_ID.hex, ValueError),
        (7, TypeError),
        (None, TypeError),
    ],
    ids=["words", "braces", "no hyphens", "number", "None"],
)
async def test_what_names_no_job_is_refused_before_any_request(
    name: object, error: type[Exception], service: ScriptedService, session: PlayAISession
) -> None:
    """A clear error, and nothing sent."""
    for method in (session.get_job, session.wait_for_completion, session.watch):
        with pytest.raises(error):
            await method(name)  # type: ignore[operator, arg-type, misc, unused-ignore]  # the mistake under test
    assert session.stats.requests == 0


@pytest.mark.parametrize(
    ("timeout", "error"),
    [
        (0, ValueError),
        (-1, ValueError),
        (float("nan"), ValueError),
        (float("inf"), ValueError),
        ("1", TypeError),
        (True, TypeError),
    ],
)
async def test_a_bad_timeout_is_refused_before_any_request(
    timeout: object, error: type[Exception], service: ScriptedService, session: PlayAISession
) -> None:
    """A clear error, with the job's id where it is one of ours, and nothing sent."""
    with pytest.raises(error) as caught:
        await session.wait_for_completion(JOB_ID, timeout=timeout)  # type: ignore[arg-type]  # the mistake under test
    assert getattr(caught.value, "job_id", JOB_ID) == JOB_ID
    assert session.stats.requests == 0


@pytest.mark.parametrize("known", [None, 60], ids=["learned", "known"])
async def test_a_request_that_hangs_holds_up_no_other_wait(known: int | None, service: ScriptedService) -> None:
    """When the gate reopens everybody goes, not only the one whose turn comes with the probe's answer."""
    hanging = UUID(int=1)
    service.answers(throttled(), job(COMPLETED))
    service.answers(Answer(takes=9), job_id=hanging)
    service.answers(job(COMPLETED, OTHER_ID), job_id=OTHER_ID)
    async with PlayAISession(API_KEY, USER_ID, pacing=Pacing(requests_per_window=known)) as session:
        first = asyncio.create_task(session.wait_for_completion(JOB_ID))
        await asyncio.sleep(1)
        hang = asyncio.create_task(session.wait_for_completion(hanging))
        await asyncio.sleep(1)
        other = asyncio.create_task(session.wait_for_completion(OTHER_ID))
        await first
        opened = now()
        await other
        assert now() == opened
        hang.cancel()


async def test_a_bug_in_reading_one_job_ends_that_wait_and_no_other(
    service: ScriptedService, session: PlayAISession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The poller outlives it, and the caller gets a `PlayAIError` with the cause."""
    service.answers(job())
    service.answers(job(job_id=OTHER_ID), job(COMPLETED, OTHER_ID), job_id=OTHER_ID)
    other = asyncio.create_task(session.wait_for_completion(OTHER_ID))
    await asyncio.sleep(0.1)
    with monkeypatch.context() as patch:
        patch.setattr("playai_async._api.contract.Contract.parse_status", lambda *_, **__: 1 / 0)
        with pytest.raises(PlayAIError) as caught:
            await session.wait_for_completion(JOB_ID)
    assert str(caught.value) == f"Waiting for job {JOB_ID} failed unexpectedly (ZeroDivisionError)."
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert (await other).done


async def test_a_bug_in_deciding_what_follows_names_the_job(
    service: ScriptedService, session: PlayAISession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends the wait, and is no bug in creating a job."""
    service.answers(job())
    monkeypatch.setattr("playai_async.jobs._polling.backoff.Backoff.pause_after", lambda *_: 1 / 0)
    with pytest.raises(PlayAIError) as caught:
        await session.wait_for_completion(JOB_ID)
    assert str(caught.value) == f"Waiting for job {JOB_ID} failed unexpectedly (ZeroDivisionError)."


async def test_unknown_output_keeps_the_services_fields(service: ScriptedService, session: PlayAISession) -> None:
    """What the service says of a state that is not known is there to read."""
    service.answers(job({"status": "QUEUED", "positionInQueue": 4}))
    assert (await session.get_job(JOB_ID)).output == Unknown("QUEUED", {"positionInQueue": 4})


async def test_the_memory_of_warnings_is_bounded(
    service: ScriptedService,
    session: PlayAISession,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The job warned of longest ago is forgotten, and would be warned of again."""
    monkeypatch.setattr("playai_async._api.jobs._MAX_REPORTED_JOBS", 1)
    for job_id in (JOB_ID, OTHER_ID):
        service.answers(job({"status": "QUEUED"}, job_id), job_id=job_id)
    for job_id in (JOB_ID, JOB_ID, OTHER_ID, OTHER_ID, JOB_ID):
        await session.get_job(job_id)
    assert [
        str(job_id) in record.getMessage()
        for job_id, record in zip((JOB_ID, OTHER_ID, JOB_ID), caplog.records, strict=True)
    ] == [True] * 3
