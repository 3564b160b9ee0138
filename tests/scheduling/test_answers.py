"""Only an answer shows that the service accepts requests again: an error without one is no evidence."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import attrs
import pytest

from playai_async import (
    ConfigurationError,
    InvalidResponseError,
    NotFoundError,
    Pacing,
    Polling,
    SessionClosedError,
    TransportError,
)
from playai_async._runtime import SessionErrors
from playai_async.jobs import JobPoller, Throttled, Transient
from playai_async.jobs._errors import JobErrors
from tests.support.clock import now

pytestmark = pytest.mark.looptime


class BusyError(Exception):
    """The service's 429."""


class StatusError(Exception):
    """An error with a status, as a client raises it."""

    def __init__(self, status: object) -> None:
        super().__init__(f"status {status}")
        self.status_code = status


@attrs.frozen
class Response:
    """A response, as a client attaches it to an error."""

    status: int


class ResponseError(Exception):
    """An error with a response."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.response = Response(status)


class UnreadableError(Exception):
    """An error that raises when it is read."""

    @property
    def response(self) -> object:
        raise RuntimeError


def classify(error: Exception) -> Throttled | Transient | None:
    return Throttled(5.0) if isinstance(error, BusyError) else None


async def reason_after_the_probe(end: Callable[[], bool], *, is_done: Callable[[bool], bool] = bool) -> str | None:
    """Let a 429 close the gate, end the probe in this way, and return why requests are paused after that."""
    answers: list[Callable[[], bool]] = [throttle, end]

    async def fetch(_: str) -> bool:
        return answers.pop(0)() if answers else await asyncio.Event().wait()

    async with JobPoller(fetch, is_done=is_done, classify=classify, polling=Polling(jitter=0)) as poller:
        ended = asyncio.create_task(poller.wait_for_completion("a"))
        await asyncio.wait([ended])
        assert now() > 5
        return poller.stats.pause_reason


def throttle() -> bool:
    raise BusyError


def fail(error: Exception) -> Callable[[], bool]:
    def end() -> bool:
        raise error

    return end


@pytest.mark.parametrize("error", [KeyError("a bug"), StatusError("404"), StatusError(7), UnreadableError()], ids=repr)
async def test_a_final_error_without_an_answer_does_not_end_a_pause(error: Exception) -> None:
    """Another probe may go."""
    assert await reason_after_the_probe(fail(error)) == "throttled"


@pytest.mark.parametrize("error", [StatusError(404), ResponseError(401)], ids=repr)
async def test_a_final_status_ends_a_pause(error: Exception) -> None:
    """It is an answer, and not a 429."""
    assert await reason_after_the_probe(fail(error)) is None


async def test_an_answer_ends_a_pause_even_if_it_cannot_be_judged() -> None:
    """The service sent a job, and `is_done` is the caller's."""

    def broken(_: object) -> bool:
        raise KeyError

    assert await reason_after_the_probe(lambda: True, is_done=broken) is None


async def test_a_fetch_that_always_fails_lets_the_other_waits_go_on() -> None:
    """One probe after another, until one is answered."""
    requests: list[str] = []

    async def fetch(name: str) -> bool:
        requests.append(name)
        if len(requests) == 1:
            raise BusyError
        if name != "good":
            raise KeyError(name)
        return True

    polling, pacing = Polling(jitter=0), Pacing(max_in_flight=1)
    async with JobPoller(fetch, is_done=bool, classify=classify, polling=polling, pacing=pacing) as poller:
        names = ["first", "second", "third", "good"]
        outcomes = await asyncio.gather(*map(poller.wait_for_completion, names), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [KeyError, KeyError, KeyError, bool]
        assert now() < 10
        assert poller.stats.pause_reason is None


def test_a_session_knows_its_answers() -> None:
    """A status, and a reply that breaks the contract."""
    errors = SessionErrors()
    assert errors.is_answer(NotFoundError("gone", status=404))
    assert errors.is_answer(InvalidResponseError("broken", problems=()))
    for error in (ConfigurationError("x"), SessionClosedError("x"), TransportError("x"), KeyError("x")):
        assert not errors.is_answer(error)


def test_an_error_without_a_status_is_no_answer() -> None:
    """Of any client."""
    assert not JobErrors().is_answer(TimeoutError())
