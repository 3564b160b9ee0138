"""The exception tree: its shape, and that its members survive travelling."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

import playai_async
from playai_async import (
    APIStatusError,
    ConfigurationError,
    DownloadError,
    Failed,
    ForbiddenError,
    InProgress,
    InvalidParametersError,
    InvalidResponseError,
    JobFailedError,
    NotFoundError,
    PlayAIError,
    RateLimitedError,
    SessionClosedError,
    TransportError,
    TtsJob,
    UnauthorizedError,
    UnexpectedServiceError,
    WaitTimeoutError,
)
from playai_async.jobs import JobTimeoutError, PollerClosedError

JOB_ID = UUID("5b9b8f3e-1c52-4a56-9d1f-0c7f8a4f6a11")
OTHER_ID = UUID("00000000-0000-4000-8000-000000000001")
CREATED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
IN_PROGRESS = TtsJob(JOB_ID, CREATED, {"text": "Hello"}, None, InProgress())
FAILED = TtsJob(JOB_ID, CREATED, {"text": "Hello"}, CREATED, Failed())

BASES: dict[type[PlayAIError], tuple[type, ...]] = {
    PlayAIError: (Exception,),
    ConfigurationError: (PlayAIError, ValueError),
    SessionClosedError: (PlayAIError, PollerClosedError),
    TransportError: (PlayAIError,),
    InvalidResponseError: (PlayAIError,),
    APIStatusError: (PlayAIError,),
    InvalidParametersError: (APIStatusError,),
    UnauthorizedError: (APIStatusError,),
    ForbiddenError: (APIStatusError,),
    NotFoundError: (APIStatusError,),
    RateLimitedError: (APIStatusError,),
    UnexpectedServiceError: (APIStatusError,),
    WaitTimeoutError: (PlayAIError, JobTimeoutError),
    JobFailedError: (PlayAIError,),
    DownloadError: (PlayAIError,),
}


def throttled(retry_after: float | None) -> RateLimitedError:
    """Make the error of a 429, as the protocol does."""
    error = RateLimitedError(
        "Too many.", status=429, error_id="SLOW_DOWN", message="Wait.", excerpt='"Wait."', job_id=JOB_ID
    )
    error.retry_after = retry_after
    return error


def timed_out() -> WaitTimeoutError:
    """Make the error with the most aboard."""
    return WaitTimeoutError(
        "Too late.", job=IN_PROGRESS, last_error=throttled(2.5), elapsed=600.0, polls=60, job_id=JOB_ID
    )


def of_status(kind: type[APIStatusError], status: int) -> APIStatusError:
    """Make the error of a status, with every attribute set."""
    return kind(f"Answered {status}.", status=status, error_id="E", message="M", excerpt="X", job_id=JOB_ID)


ERRORS: tuple[PlayAIError, ...] = (
    PlayAIError("It went wrong.", job_id=JOB_ID),
    PlayAIError("It went wrong, for no job."),
    ConfigurationError("No key.", job_id=JOB_ID),
    SessionClosedError("Closed.", job_id=JOB_ID),
    TransportError("No connection.", job_id=JOB_ID),
    InvalidResponseError("Garbled.", problems=["not JSON @ $"], excerpt="<html>", job_id=JOB_ID),
    of_status(APIStatusError, 418),
    of_status(InvalidParametersError, 400),
    of_status(UnauthorizedError, 401),
    of_status(ForbiddenError, 403),
    of_status(NotFoundError, 404),
    throttled(None),
    throttled(2.5),
    of_status(UnexpectedServiceError, 503),
    timed_out(),
    WaitTimeoutError("Too late, and nothing seen.", elapsed=1.0, polls=0),
    JobFailedError("Failed.", job=FAILED),
    DownloadError("Cut.", job_id=JOB_ID),
)


def kind_of(value: object) -> str:
    """Name a case by its class."""
    return type(value).__name__


def pickled(protocol: int) -> Callable[[Any], Any]:
    """Make a way of copying out of a pickle protocol."""
    return lambda error: pickle.loads(pickle.dumps(error, protocol))  # noqa: S301 - our own pickle


WAYS = pytest.mark.parametrize(
    "twin_of",
    [copy.copy, copy.deepcopy, *(pickled(protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1))],
    ids=["copy", "deepcopy", *(f"pickle{protocol}" for protocol in range(pickle.HIGHEST_PROTOCOL + 1))],
)


def described(error: BaseException) -> tuple[Any, ...]:
    """Say all that there is to an error, errors aboard included, in values that compare."""
    state = {
        name: described(value) if isinstance(value, BaseException) else value for name, value in vars(error).items()
    }
    return type(error), error.args, str(error), state


def family(kind: type[PlayAIError]) -> Iterator[type[PlayAIError]]:
    """Walk over a class and all below it in the package."""
    yield kind
    for child in kind.__subclasses__():
        if child.__module__.partition(".")[0] == "playai_async":
            yield from family(child)


def test_the_tree_is_the_documented_one() -> None:
    """No class more, none less, each under its parents."""
    assert {kind: kind.__bases__ for kind in family(PlayAIError)} == BASES


def test_every_error_is_public() -> None:
    """What can be raised can be caught by name."""
    assert {getattr(playai_async, kind.__name__) for kind in family(PlayAIError)} == set(BASES)


def test_the_tree_in_the_docstring_names_every_error() -> None:
    """It is what a reader looks at first."""
    drawn = playai_async.PlayAIError.__init__.__globals__["__doc__"]
    assert [kind.__name__ for kind in BASES if kind.__name__ not in drawn] == []


def test_every_class_is_among_those_tried_below() -> None:
    """A class added later must be tried too."""
    assert {type(error) for error in ERRORS} == set(BASES)


@WAYS
@pytest.mark.parametrize("error", ERRORS, ids=kind_of)
def test_a_copy_has_all_that_the_error_has(error: PlayAIError, twin_of: Callable[[Any], Any]) -> None:
    """Errors cross process pools and task queues, with message, attributes and errors aboard."""
    twin = twin_of(error)
    assert twin is not error
    assert described(twin) == described(error)


@WAYS
def test_a_copy_keeps_the_notes(twin_of: Callable[[Any], Any]) -> None:
    """Notes are attributes like any other."""
    error = timed_out()
    error.add_note("while waiting for the intro")
    assert twin_of(error).__notes__ == ["while waiting for the intro"]


@pytest.mark.parametrize("twin_of", [copy.copy, lambda error: error.for_job(OTHER_ID)], ids=["copy", "for another job"])
def test_a_note_on_a_copy_is_on_no_other(twin_of: Callable[[Any], Any]) -> None:
    """Callers that share one request each add what they know to their own error."""
    error = TransportError("No connection.")
    error.add_note("seen by all")
    twin_of(error).add_note("seen by one")
    assert error.__notes__ == ["seen by all"]


@pytest.mark.parametrize("error", ERRORS, ids=kind_of)
def test_an_error_prints_as_its_message(error: PlayAIError) -> None:
    """Second bases such as OSError have a way of printing of their own."""
    assert error.args == (str(error),)
    assert str(error)


@pytest.mark.parametrize("error", ERRORS, ids=kind_of)
def test_naming_a_job_changes_nothing_else(error: PlayAIError) -> None:
    """The twin is of the same class with the same attributes; the original is left as it was."""
    before = described(error)
    twin = error.for_job(OTHER_ID)
    assert twin is not error
    assert described(twin) == (*before[:3], {**before[3], "job_id": OTHER_ID})
    assert described(error) == before


def test_naming_a_job_keeps_the_cause() -> None:
    """The lower error says what really happened."""
    error = TransportError("No connection.")
    error.__cause__ = OSError("unreachable")
    twin = error.for_job(JOB_ID)
    assert twin.__cause__ is error.__cause__


def test_naming_a_job_leaves_the_traceback_behind() -> None:
    """Callers that share an error must not share the frames of one of them."""
    error = TransportError("No connection.")
    with pytest.raises(TransportError):
        raise error
    assert error.__traceback__ is not None
    assert error.for_job(JOB_ID).__traceback__ is None


@pytest.mark.parametrize("kind", BASES, ids=lambda kind: kind.__name__)
def test_an_error_takes_one_positional_argument(kind: type[Any]) -> None:
    """The rest have names, so that no two can be mixed up."""
    with pytest.raises(TypeError, match="positional"):
        kind("It went wrong.", JOB_ID)


def test_problems_are_kept_as_a_tuple() -> None:
    """A list of the raiser's own must not change under the catcher."""
    problems = ["not JSON @ $"]
    error = InvalidResponseError("Garbled.", problems=problems)
    problems.clear()
    assert (error.problems, error.excerpt, error.job_id) == (("not JSON @ $",), "", None)


def test_a_status_error_may_know_nothing_but_the_status() -> None:
    """A proxy's page has no error id and no message."""
    error = APIStatusError("Answered 418.", status=418)
    names = {"error_id": None, "message": None, "excerpt": "", "request_id": None}
    assert vars(error) == {"job_id": None, "status": 418, **names}
    assert error.retry_after is None


def test_a_rate_limit_has_no_hint_unless_one_was_given() -> None:
    """None is no hint; there is no zero."""
    assert RateLimitedError("Too many.", status=429).retry_after is None


def test_a_failed_job_gives_its_error_the_id() -> None:
    """The id need not be said twice."""
    assert JobFailedError("Failed.", job=FAILED).job_id == JOB_ID
