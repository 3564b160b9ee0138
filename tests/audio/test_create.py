"""Creating jobs: one request for each, and never a second one where the first may have been received."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pickle
import socket
import ssl
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import aiohttp
import attrs
import pytest
from tenacity import wait_fixed

from playai_async import (
    APIStatusError,
    ConfigurationError,
    Failed,
    ForbiddenError,
    InProgress,
    InvalidParametersError,
    InvalidResponseError,
    NotFoundError,
    Pacing,
    PlayAIError,
    PlayAISession,
    Polling,
    RateLimitedError,
    SessionClosedError,
    TransportError,
    TtsJob,
    TtsParameters,
    UnauthorizedError,
    UnexpectedServiceError,
    WaitTimeoutError,
)
from playai_async._runtime import NewJobs
from playai_async.emulator import Emulator
from playai_async.jobs import Transient
from tests.support.clock import now
from tests.support.raw_server import raw_server
from tests.support.scripted import (
    API_KEY,
    FAILED,
    JOB_ID,
    OTHER_ID,
    USER_ID,
    Answer,
    ScriptedService,
    created,
    job_json,
    lost,
    throttled,
)

PARAMETERS = TtsParameters("spoken words", "v")
MAY_EXIST = "The job may exist all the same."
REFUSED = aiohttp.ClientConnectorError(
    aiohttp.client_reqrep.ConnectionKey("api.play.ai", 443, True, True, None, None, None),  # noqa: FBT003 - aiohttp's
    ConnectionRefusedError(111, "refused"),
)
UNSENT = (
    REFUSED,
    aiohttp.ClientConnectorDNSError(REFUSED._conn_key, OSError(-2, "unknown name")),
    aiohttp.ClientConnectorSSLError(REFUSED._conn_key, ssl.SSLError("handshake")),
    aiohttp.ConnectionTimeoutError("connecting"),
    aiohttp.ServerFingerprintMismatch(b"a", b"b", "api.play.ai", 443),
)
"""What aiohttp raises before it sends anything."""


# One request


async def test_a_job_is_created_by_one_post(service: ScriptedService, session: PlayAISession) -> None:
    """Its body in the service's names, its headers those of the contract."""
    service.creates(created())
    job = await session.create_job(PARAMETERS)
    assert (job.id, job.output) == (JOB_ID, InProgress())
    (request,) = service.requests
    assert json.loads(request["data"]) == {"text": "spoken words", "voice": "v", "model": "PlayDialog"}
    assert request["headers"]["Content-Type"] == "application/json"
    assert request["headers"]["Authorization"] == f"Bearer {API_KEY}"
    assert request["headers"]["X-USER-ID"] == USER_ID
    assert request["allow_redirects"] is False


@pytest.mark.parametrize("status", [200, 202], ids=str)
async def test_200_and_202_are_as_good_as_201(status: int, service: ScriptedService, session: PlayAISession) -> None:
    """A job that was made must not be lost over that; and one may be done at once."""
    service.creates(Answer(status, payload=job_json(FAILED)))
    assert (await session.create_job(PARAMETERS)).output == Failed()


@pytest.mark.parametrize("wrong", [None, {"text": "Hi", "voice": "v"}, "Hi"], ids=repr)
async def test_what_are_no_parameters_are_refused(wrong: Any, session: PlayAISession) -> None:
    """Before any request."""
    with pytest.raises(TypeError, match="parameters must be a TtsParameters"):
        await session.create_job(wrong)
    assert session.stats.requests == 0


@pytest.mark.parametrize(("timeout", "error"), [(0, ValueError), (-1.0, ValueError), ("1", TypeError)], ids=repr)
async def test_a_timeout_that_could_not_be_is_refused(
    timeout: Any, error: type[Exception], session: PlayAISession
) -> None:
    """Before any request."""
    with pytest.raises(error) as caught:
        await session.create_job(PARAMETERS, timeout=timeout)
    assert type(caught.value) is error
    assert session.stats.requests == 0


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidParametersError),
        (401, UnauthorizedError),
        (403, ForbiddenError),
        (302, APIStatusError),
        (422, APIStatusError),
    ],
    ids=str,
)
async def test_a_refusal_is_raised_at_once(
    status: int, kind: type[APIStatusError], service: ScriptedService, session: PlayAISession
) -> None:
    """There is no job then, and the message does not say that there may be one."""
    service.creates(Answer(status, payload={"errorId": "X", "errorMessage": "No."}))
    with pytest.raises(kind) as caught:
        await session.create_job(PARAMETERS)
    assert str(caught.value) == f"PlayAI answered {status} to create a job: X: No."
    assert caught.value.job_id is None
    assert len(service.requests) == 1


# What may have been received


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(500), UnexpectedServiceError),
        (Answer(503, headers={"Retry-After": "1"}), UnexpectedServiceError),
        (Answer(201, body="{"), InvalidResponseError),
        (Answer(201, payload={"id": str(JOB_ID)}), InvalidResponseError),
        (Answer(203, payload=job_json()), InvalidResponseError),
        (Answer(202, payload={"jobId": str(JOB_ID)}), InvalidResponseError),
        (Answer(204), InvalidResponseError),
        (Answer(408), APIStatusError),
        (lost(), TransportError),
        (Answer(exception=aiohttp.ClientOSError(104, "reset")), TransportError),
        (Answer(exception=aiohttp.ClientPayloadError("broken off")), TransportError),
        (Answer(exception=aiohttp.SocketTimeoutError("reading")), TransportError),
        (Answer(exception=TimeoutError()), TransportError),
        (Answer(takes=100), TransportError),
    ],
    ids=[
        "500",
        "503",
        "no JSON",
        "no job",
        "203",
        "202",
        "204",
        "408",
        "lost",
        "reset",
        "broken off",
        "read",
        "time",
        "silence",
    ],
)
async def test_what_may_have_made_a_job_is_not_sent_again(
    answer: Answer, kind: type[PlayAIError], service: ScriptedService, session: PlayAISession
) -> None:
    """It is raised at once, and says so; also after having travelled."""
    service.creates(answer, created())
    with pytest.raises(kind, match=MAY_EXIST) as caught:
        await session.create_job(PARAMETERS)
    assert len(service.requests) == 1
    named = str(JOB_ID) in f"{answer.payload}"
    assert caught.value.job_id == (JOB_ID if named else None)
    assert (f"The reply names job {JOB_ID}." in str(caught.value)) is named
    assert str(pickle.loads(pickle.dumps(caught.value))).endswith(MAY_EXIST)  # noqa: S301 - our own pickle
    if isinstance(caught.value, TransportError):
        assert caught.value.maybe_received


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 201 Created\r\nContent-Length: 9999\r\n\r\n{", b"HTTP/1.1 201 Cre", b"nonsense\r\n\r\n"],
    ids=["closed", "truncated", "half a head", "no HTTP"],
)
async def test_a_connection_that_ends_after_the_request_is_no_reason_to_send_it_again(answer: bytes) -> None:
    """Over a real socket: the server has read it."""
    async with (
        raw_server(answer) as raw,
        PlayAISession(API_KEY, USER_ID, base_url=raw.base_url) as playai,
    ):
        with pytest.raises(TransportError, match=MAY_EXIST):
            await playai.create_job(PARAMETERS)
        assert len(raw.requests) == 1


# What surely was not received


@pytest.mark.parametrize("error", UNSENT, ids=lambda error: type(error).__name__)
async def test_without_a_connection_it_is_sent_again(error: Exception, service: ScriptedService) -> None:
    """After the pauses of the polling, at most `max_failures` times."""
    polling = Polling(initial=1, multiplier=2, maximum=4, jitter=0, max_failures=4)
    async with PlayAISession(API_KEY, USER_ID, polling=polling) as session:
        service.creates(*[Answer(exception=error)] * 4, created())
        assert (await session.create_job(PARAMETERS)).id == JOB_ID
        assert service.pauses == [1, 2, 4, 4]


@pytest.mark.parametrize("error", UNSENT, ids=lambda error: type(error).__name__)
async def test_without_a_connection_it_is_given_up_in_the_end(error: Exception, service: ScriptedService) -> None:
    """With an error that does not say that a job may exist."""
    service.creates(Answer(exception=error))
    async with PlayAISession(API_KEY, USER_ID, polling=Polling(max_failures=4)) as session:
        with pytest.raises(TransportError, match=r"^POST .* failed: ") as caught:
            await session.create_job(PARAMETERS)
    assert len(service.requests) == 5
    assert MAY_EXIST not in str(caught.value)
    assert not caught.value.maybe_received


async def test_a_refused_connection_is_known_for_one() -> None:
    """Over a real socket, where nobody listens for the first seconds."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    body = json.dumps(job_json()).encode()
    answer = b"HTTP/1.1 201 Created\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with PlayAISession(API_KEY, USER_ID, base_url=f"http://127.0.0.1:{port}") as playai:
        creation = asyncio.create_task(playai.create_job(PARAMETERS))
        await asyncio.sleep(3)
        async with await asyncio.start_server(serve, "127.0.0.1", port):
            assert (await creation).id == JOB_ID
        assert playai.stats.transient_failures >= 2


async def test_a_connection_that_does_not_come_about_in_time_was_not_sent(service: ScriptedService) -> None:
    """Connecting is given up connecting a moment before the whole time is over, to know which of the two it was."""
    service.creates(created())
    async with PlayAISession(API_KEY, USER_ID, request_timeout=20.0) as session:
        await session.create_job(PARAMETERS)
    timeout = service.requests[0]["timeout"]
    assert timeout.connect == pytest.approx(19.8)
    assert timeout.ceil_threshold > timeout.connect, "and not rounded up"


async def test_a_connection_that_nobody_takes_is_known_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over a real connector, whose connection never comes about."""

    async def never(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(aiohttp.TCPConnector, "_create_connection", never)
    async with PlayAISession(API_KEY, USER_ID, polling=Polling(max_failures=1), request_timeout=10.0) as session:
        began = now()
        with pytest.raises(TransportError, match=r"the request timed out \(ConnectionTimeoutError\)") as caught:
            await session.create_job(PARAMETERS)
        assert not caught.value.maybe_received
        assert session.stats.requests == 2
        assert 19.8 <= now() - began <= 22


async def test_a_wait_strategy_of_the_callers_says_how_long_to_pause(service: ScriptedService) -> None:
    """In place of the other four settings."""
    service.creates(Answer(exception=REFUSED), created())
    async with PlayAISession(API_KEY, USER_ID, polling=Polling(wait=wait_fixed(7))) as session:
        await session.create_job(PARAMETERS)
    assert service.pauses == [7]


async def test_a_wait_strategy_that_fails_ends_the_creation(service: ScriptedService) -> None:
    """As it ends a wait."""
    service.creates(Answer(exception=REFUSED))
    async with PlayAISession(API_KEY, USER_ID, polling=Polling(wait=lambda _: 1 // 0)) as session:
        with pytest.raises(ConfigurationError, match="ZeroDivisionError"):
            await session.create_job(PARAMETERS)


# Too early


async def test_a_request_that_came_too_early_is_sent_again(service: ScriptedService) -> None:
    """A 425 says that the service did nothing with it; its hint is the least pause."""
    polling = Polling(initial=1, multiplier=2, maximum=4, jitter=0, max_failures=4)
    service.creates(Answer(425), Answer(425, headers={"Retry-After": "30"}), Answer(425), created())
    async with PlayAISession(API_KEY, USER_ID, polling=polling) as session:
        assert (await session.create_job(PARAMETERS)).id == JOB_ID
    assert service.pauses == [1, pytest.approx(30.5, abs=0.5), 4]


async def test_a_request_that_comes_too_early_for_ever_is_given_up(service: ScriptedService) -> None:
    """There is no job then."""
    service.creates(Answer(425))
    async with PlayAISession(API_KEY, USER_ID, polling=Polling(max_failures=2)) as session:
        with pytest.raises(APIStatusError) as caught:
            await session.create_job(PARAMETERS)
    assert str(caught.value) == "PlayAI answered 425 to create a job."
    assert len(service.requests) == 3


# 429


async def test_a_429_is_waited_out(service: ScriptedService, session: PlayAISession) -> None:
    """Without a hint: the pauses double up to a bound, and span a window, so that no creation is lost in one."""
    service.creates(*[throttled()] * 8, created())
    assert (await session.create_job(PARAMETERS)).id == JOB_ID
    longest = 60 / 5.25
    pauses = [longest / 12 * 2**step for step in range(4)] + [1.25 * longest] * 4
    assert service.pauses == pytest.approx(pauses, rel=0.06)
    assert service.arrivals[-1] - service.arrivals[0] >= 60


async def test_a_429_too_many_is_raised(service: ScriptedService, session: PlayAISession) -> None:
    """After `max_failures` more; there is no job then."""
    service.creates(throttled())
    with pytest.raises(RateLimitedError) as caught:
        await session.create_job(PARAMETERS)
    assert str(caught.value) == "PlayAI answered 429 to create a job: Rate limit exceeded."
    assert len(service.requests) == 9
    assert session.stats.throttled == 9


async def test_a_hint_is_obeyed(service: ScriptedService, session: PlayAISession) -> None:
    """As after the 429 of a poll."""
    service.creates(throttled("33"), created())
    await session.create_job(PARAMETERS)
    assert 33 <= service.pauses[0] <= 34


async def test_creations_are_paced_apart_from_polls(service: ScriptedService, session: PlayAISession) -> None:
    """A spent quota of the one holds nobody of the other; the session's stats tell of both."""
    service.creates(throttled("50"), created())
    service.answers(throttled("20"), Answer(payload=job_json(FAILED)))
    creation = asyncio.create_task(session.create_job(PARAMETERS))
    await asyncio.sleep(10)
    began = now()
    wait = asyncio.create_task(session.wait_for_completion(JOB_ID))
    await asyncio.sleep(1)
    stats = session.stats
    assert (stats.requests, stats.throttled, stats.queued, stats.pause_reason) == (2, 2, 2, "throttled")
    assert 39 <= stats.paused_for <= 41, "of the two pauses, the longer"
    await wait
    assert 20 <= now() - began <= 22
    assert (session.stats.queued, session.stats.in_flight) == (1, 0)
    await creation
    assert session.stats.requests == 4


async def test_one_429_holds_every_creation_and_the_oldest_goes_first(service: ScriptedService) -> None:
    """One probe at a time; those that were sent before keep their place."""
    service.creates(*[throttled()] * 3, created())
    async with PlayAISession(API_KEY, USER_ID, pacing=Pacing(max_in_flight=3)) as session:
        bodies = [TtsParameters(f"text {number}", "v") for number in range(6)]
        creations = [asyncio.create_task(session.create_job(body)) for body in bodies]
        await asyncio.sleep(0.5)
        assert len(service.requests) == 3
        assert session.stats.queued == 6
        await asyncio.gather(*creations)
    sent = [int(json.loads(request["data"])["text"].removeprefix("text ")) for request in service.requests]
    assert sent[:6] == [0, 1, 2, 0, 1, 2]
    assert sorted(sent[6:]) == [3, 4, 5]


# Time, cancellation, closing


async def test_the_deadline_bounds_all_of_it(service: ScriptedService, session: PlayAISession) -> None:
    """Pauses and turns counted; the error says what it met."""
    service.creates(throttled("1000"))
    with pytest.raises(WaitTimeoutError) as caught:
        await session.create_job(PARAMETERS, timeout=30)
    error = caught.value
    assert str(error) == "No job was created within 30.0 s (requests: 1)."
    assert (error.job_id, error.job, error.polls) == (None, None, 1)
    assert error.elapsed == pytest.approx(30)
    assert isinstance(error.last_error, RateLimitedError)
    assert session.stats.queued == 0


async def test_a_deadline_in_the_middle_of_a_request_says_that_the_job_may_exist(
    service: ScriptedService, session: PlayAISession
) -> None:
    """Since it may have been received."""
    service.creates(Answer(201, payload=job_json(), takes=5))
    with pytest.raises(WaitTimeoutError, match=MAY_EXIST) as caught:
        await session.create_job(PARAMETERS, timeout=3)
    assert caught.value.last_error is None
    assert service.under_way == 0


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (created(), ""),
        (Answer(503), MAY_EXIST),
        (Answer(201, body="{"), MAY_EXIST),
        (throttled(), "(requests: 1)."),
        (Answer(exception=REFUSED), "(requests: 1)."),
    ],
    ids=["created", "503", "broken", "429", "refused"],
)
async def test_an_answer_that_comes_at_the_very_deadline_counts(
    answer: Answer, message: str, service: ScriptedService, session: PlayAISession
) -> None:
    """A job that was made is returned, and one that may have been made is told of."""
    service.creates(attrs.evolve(answer, takes=3.0 - 1e-9))
    creation = asyncio.create_task(session.create_job(PARAMETERS, timeout=3.0))
    if not message:
        assert (await creation).id == JOB_ID
    else:
        with pytest.raises(WaitTimeoutError) as caught:
            await creation
        assert str(caught.value).endswith(message)


async def test_a_body_of_any_length_is_sent_in_peace(emulator: Emulator, playai: PlayAISession) -> None:
    """Though aiohttp warns of a long one that is held as bytes, and warnings are errors here."""
    with pytest.raises(InvalidParametersError, match="too long"):
        await playai.create_job(TtsParameters("x" * 2_000_000, "v"))


async def test_left_out_the_timeout_is_the_sessions(service: ScriptedService) -> None:
    """None is no deadline."""
    service.creates(*[throttled("1000")] * 2, created())
    async with PlayAISession(API_KEY, USER_ID, polling=Polling(timeout=70)) as session:
        with pytest.raises(WaitTimeoutError, match=r"within 70\.0 s"):
            await session.create_job(PARAMETERS)
        await session.create_job(PARAMETERS, timeout=None)
    assert now() > 2_000


@pytest.mark.parametrize("takes", [0.0, 100.0], ids=["in a pause", "in a request"])
async def test_a_cancelled_creation_leaves_nothing(
    takes: float, service: ScriptedService, session: PlayAISession, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither a turn nor a request. A warning says if a job may exist, because a cancellation cannot."""
    service.creates(Answer(429, payload="Later.", takes=takes))
    creation = asyncio.create_task(session.create_job(PARAMETERS))
    await asyncio.sleep(1)
    assert service.under_way == (takes > 0)
    creation.cancel()
    with pytest.raises(asyncio.CancelledError):
        await creation
    assert (service.under_way, session.stats.queued, session.stats.in_flight) == (0, 0, 0)
    warned = [
        record.getMessage() for record in caplog.records if getattr(record, "playai_event", "") == "creation_cancelled"
    ]
    words = "create_job was cancelled while its request was in flight: a job may exist."
    assert warned == ([words] if takes else [])
    assert "spoken words" not in caplog.text


async def test_a_job_that_comes_together_with_a_cancellation_is_named(
    service: ScriptedService, session: PlayAISession, caplog: pytest.LogCaptureFixture
) -> None:
    """Its id would be lost otherwise."""
    service.creates(created())
    creation = asyncio.create_task(session.create_job(PARAMETERS))
    while not session.stats.in_flight:
        await asyncio.sleep(0)
    while session.stats.in_flight:
        await asyncio.sleep(0)
    creation.cancel()
    with pytest.raises(asyncio.CancelledError):
        await creation
    (warning,) = (record for record in caplog.records if record.levelname == "WARNING")
    assert warning.getMessage() == f"create_job was cancelled, but job {JOB_ID} was created."
    assert vars(warning)["playai_job_id"] == str(JOB_ID)


async def test_a_job_that_comes_while_the_session_closes_is_returned(service: ScriptedService) -> None:
    """It is paid for."""
    service.creates(created())
    session = PlayAISession(API_KEY, USER_ID)
    creation = asyncio.create_task(session.create_job(PARAMETERS))
    await asyncio.sleep(0)
    while session.stats.in_flight:
        await asyncio.sleep(0)
    await session.aclose()
    assert (await creation).id == JOB_ID


@pytest.mark.parametrize(
    "answer",
    [throttled(), Answer(takes=100), Answer(exception=REFUSED)],
    ids=["waiting for its turn", "in a request", "in a pause"],
)
async def test_closing_the_session_ends_creations(answer: Answer, service: ScriptedService) -> None:
    """Whatever they are at; none begins any more. Those that were in flight say that a job may exist."""
    service.creates(answer)
    session = PlayAISession(API_KEY, USER_ID, polling=Polling(initial=10))
    creations = [asyncio.create_task(session.create_job(PARAMETERS)) for _ in range(40)]
    await asyncio.sleep(1)
    in_flight = session.stats.in_flight if answer.takes else 0
    await session.aclose()
    outcomes = await asyncio.gather(*creations, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {SessionClosedError}
    assert sum(str(outcome) == f"The session was closed. {MAY_EXIST}" for outcome in outcomes) == in_flight
    assert service.under_way == 0
    with pytest.raises(SessionClosedError, match=r"^The session was closed\.$"):
        await session.create_job(PARAMETERS)


async def test_a_framework_that_cancels_every_task_it_finds_is_survived(
    service: ScriptedService, session: PlayAISession
) -> None:
    """Not ours to swallow, and the request may have been received."""
    service.creates(Answer(takes=100))
    creation = asyncio.create_task(session.create_job(PARAMETERS))
    await asyncio.sleep(1)
    for task in asyncio.all_tasks() - {asyncio.current_task(), creation}:
        task.cancel()
    with pytest.raises(TransportError, match=r"to create a job was cancelled from outside\. The job may exist"):
        await creation


async def test_a_bug_in_reading_one_answer_ends_that_creation_alone(
    service: ScriptedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a documented face, which says that a job may exist."""
    service.creates(created())
    monkeypatch.setattr("playai_async._api.contract.Contract.parse_created", lambda *_, **__: 1 // 0)
    async with PlayAISession(API_KEY, USER_ID) as session:
        with pytest.raises(PlayAIError) as caught:
            await session.create_job(PARAMETERS)
    assert str(caught.value) == f"Creating a job failed unexpectedly (ZeroDivisionError). {MAY_EXIST}"


# Right after


@pytest.mark.parametrize("after", [0.0, 4.9], ids=str)
async def test_a_job_that_was_created_just_now_may_not_be_found_yet(
    after: float, service: ScriptedService, session: PlayAISession
) -> None:
    """The service may have replicas. A 404 is transient for five seconds, in waits of this session."""
    service.creates(created())
    service.answers(Answer(404), Answer(payload=job_json(FAILED)))
    job = await session.create_job(PARAMETERS)
    await asyncio.sleep(after)
    assert (await session.wait_for_completion(job)).output == Failed()
    assert session.stats.transient_failures == 1


async def test_a_job_that_is_not_found_later_does_not_exist(service: ScriptedService, session: PlayAISession) -> None:
    """Nor does one that somebody else created."""
    service.creates(created())
    service.answers(Answer(404))
    service.answers(Answer(404), job_id=OTHER_ID)
    began = now()
    await session.create_job(PARAMETERS)
    with pytest.raises(NotFoundError):
        await session.wait_for_completion(OTHER_ID)
    assert now() == began
    with pytest.raises(NotFoundError):
        await session.get_job(JOB_ID)
    with pytest.raises(NotFoundError):
        await session.wait_for_completion(JOB_ID)
    assert 5 < now() - began < 15


async def test_new_jobs_are_forgotten_in_the_end() -> None:
    """With thousands of creations in a few seconds, the latest are remembered."""
    ids = [UUID(int=number) for number in range(1_025)]
    jobs = iter([TtsJob(job_id, datetime.now(UTC), {}, None, InProgress()) for job_id in ids])

    async def create(_: bytes) -> TtsJob:
        return next(jobs)

    new_jobs, seen = NewJobs(asyncio.get_running_loop()), list[TtsJob]()
    for _ in ids:
        await new_jobs.remember(create, seen.append)(b"")
    assert [job.id for job in seen] == ids
    lost_ones = [NotFoundError("No.", status=404, job_id=job_id) for job_id in (ids[0], ids[1], ids[-1], None)]
    assert [new_jobs.classify(error) for error in lost_ones] == [None, Transient(), Transient(), None]


# Slots


async def test_creations_and_polls_share_the_slots(service: ScriptedService) -> None:
    """No more are under way together than `max_in_flight`, and creations get every other turn at least."""
    service.creates(Answer(201, payload=job_json(), takes=1))
    ids = [f"00000000-0000-4000-8000-{number:012}" for number in range(40)]
    for job_id in ids:
        service.answers(Answer(payload={**job_json(FAILED), "id": job_id}, takes=1), job_id=job_id)  # type: ignore[arg-type]
    pacing = Pacing(requests_per_window=10**6, max_in_flight=4)
    async with PlayAISession(API_KEY, USER_ID, pacing=pacing) as session:
        waits = [asyncio.create_task(session.wait_for_completion(job_id)) for job_id in ids]
        await asyncio.sleep(0.5)
        assert session.stats.in_flight == 4
        creations = [asyncio.create_task(session.create_job(PARAMETERS)) for _ in range(8)]
        await asyncio.gather(*creations)
        assert now() == pytest.approx(4.0, abs=0.1), "theirs were the next four turns, and four of the next eight"
        await asyncio.gather(*waits)
    assert service.most_under_way == 4
    assert now() == pytest.approx(12.0, abs=0.1), "no slot was left free"


@pytest.mark.parametrize("slots", [1, 2, 8], ids=str)
async def test_a_wait_that_begins_while_creations_hold_every_slot_is_polled(
    slots: int, service: ScriptedService
) -> None:
    """As soon as one of them is free, also where no wait was open when they took the last one."""
    service.creates(Answer(201, payload=job_json(), takes=1))
    service.answers(Answer(payload=job_json(FAILED), takes=0.1))
    service.answers(Answer(payload=job_json(FAILED, OTHER_ID)), job_id=OTHER_ID)
    async with PlayAISession(API_KEY, USER_ID, pacing=Pacing(max_in_flight=slots)) as session:
        polled = asyncio.create_task(session.wait_for_completion(JOB_ID))
        await asyncio.sleep(0.05)
        creations = [asyncio.create_task(session.create_job(PARAMETERS)) for _ in range(slots)]
        await polled
        await asyncio.sleep(0.2)
        await session.wait_for_completion(OTHER_ID, timeout=5)
        assert now() <= 1.15
        await asyncio.gather(*creations)


async def test_thousands_of_creations_that_are_given_up_leave_nothing(service: ScriptedService) -> None:
    """Most of them have never been sent."""
    service.creates(throttled())
    async with PlayAISession(API_KEY, USER_ID) as session:
        creations = [asyncio.create_task(session.create_job(PARAMETERS)) for _ in range(2_000)]
        await asyncio.sleep(10)
        assert session.stats.queued > 1_900
        for creation in creations:
            creation.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*creations)
        await asyncio.sleep(1)
        assert (session.stats.queued, session.stats.in_flight) == (0, 0)
