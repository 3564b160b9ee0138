"""The exceptions, sorted by what a caller can do about them.

    PlayAIError
    ├── ConfigurationError (also ValueError)      fix the settings
    ├── SessionClosedError (also RuntimeError)    don't use a closed session
    ├── TransportError                            retry later: no answer came
    ├── InvalidResponseError                      report it: a 2xx that breaks the contract
    ├── APIStatusError                            any other status
    │   ├── InvalidParametersError  400           fix the request
    │   ├── UnauthorizedError       401           fix the key
    │   ├── ForbiddenError          403           get the plan or the permission
    │   ├── NotFoundError           404           fix the id
    │   ├── RateLimitedError        429           wait
    │   └── UnexpectedServiceError  5xx           retry later
    ├── WaitTimeoutError (also TimeoutError)      wait again: the job goes on
    ├── JobFailedError                            create another job
    └── DownloadError                             download again, or fetch a fresh link

`PollerClosedError` and `JobTimeoutError` are what a `JobPoller` raises for any service; `SessionClosedError` and
`WaitTimeoutError` are kinds of them. Every error can be copied and pickled, which drops `__cause__` and `__traceback__`
as for any exception. This module must know nothing of HTTP libraries or of the session: errors outlive both.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Self, TypeVar
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from playai_async._models import Failed, TtsJob

__all__ = [
    "TRANSIENT",
    "APIStatusError",
    "ConfigurationError",
    "DownloadError",
    "ForbiddenError",
    "InvalidParametersError",
    "InvalidResponseError",
    "JobFailedError",
    "JobTimeoutError",
    "NotFoundError",
    "PlayAIError",
    "PollerClosedError",
    "RateLimitedError",
    "SessionClosedError",
    "TransportError",
    "UnauthorizedError",
    "UnexpectedServiceError",
    "WaitTimeoutError",
    "about",
    "copied",
    "is_transient",
]

_E = TypeVar("_E", bound=Exception)


class PlayAIError(Exception):
    """Base class of the exceptions of `playai_async`. Those of `playai_async.jobs` are separate.

    Attributes:
        job_id: The job that the failed call was about, or None.
    """

    job_id: UUID | None

    def __init__(self, message: str, *, job_id: UUID | None = None) -> None:
        Exception.__init__(self, message)  # not the next class, whose parameters may differ
        self.job_id = job_id

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception would rebuild with positional arguments alone, and the keyword-only ones have no defaults.
        return _restore, (type(self), self.args, self.__dict__)

    def add_sentence(self, words: str) -> None:
        """Add a sentence to the message."""
        self.args = (f"{self.args[0]} {words}", *self.args[1:])

    def for_job(self, job_id: UUID) -> Self:
        """Return a copy that names a job, with the same cause.

        Callers that share a request each get a copy of its error, because a raised exception grows the traceback of
        the caller that raises it.

        Args:
            job_id: The job.

        Returns:
            The copy.
        """
        twin = _restore(type(self), self.args, self.__dict__)
        twin.job_id = job_id
        twin.__cause__ = self.__cause__
        return twin


def about(job_id: Hashable | None) -> str:
    """Name what a request is about, for a message."""
    return "to create a job" if job_id is None else f"for job {job_id}"


def copied(error: _E) -> _E:
    """Return a copy of an error with the same cause, context and traceback; the error itself if it cannot be copied.

    An error whose class defines no `__reduce__` is rebuilt without its `__init__`, which may want other arguments than
    `args`, or add to them.
    """
    try:
        if type(error).__reduce__ is BaseException.__reduce__:
            twin = _restore(type(error), error.args, error.__dict__)
        else:
            twin = copy.copy(error)
        if type(twin) is not type(error) or str(twin) != str(error):
            return error
        twin.__cause__, twin.__context__ = error.__cause__, error.__context__
        twin.__suppress_context__ = error.__suppress_context__
        return twin.with_traceback(error.__traceback__)
    except Exception:  # noqa: BLE001 - an exception of any library
        return error


def _restore(kind: type[_E], args: tuple[Any, ...], state: dict[str, Any]) -> _E:
    error = kind.__new__(kind, *args)
    error.args = args  # OSError, a base of TimeoutError, sets this in its __init__, which does not run here
    error.__dict__.update(state)
    if "__notes__" in state:
        error.__notes__ = list(state["__notes__"])  # a note on one copy must not appear on another
    return error


class ConfigurationError(PlayAIError, ValueError):
    """A setting is missing or cannot work.

    Raised before anything is sent, except when `polling.wait` fails later.
    """


class PollerClosedError(RuntimeError):
    """The poller was closed, before the call or during it.

    Attributes:
        job_id: The job that the call was about, or None.
    """

    job_id: Any

    def __init__(self, message: str, *, job_id: Any = None) -> None:
        super().__init__(message)
        self.job_id = job_id

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.args, self.__dict__)


class SessionClosedError(PlayAIError, PollerClosedError):
    """The session was closed, before the call or during it."""


class TransportError(PlayAIError):
    """No answer came: connection, TLS, DNS, proxy or request timeout.

    `__cause__` is the lower error without its frames. If its `repr()` would show request headers, `__cause__` is a copy
    without the request.

    Attributes:
        maybe_received: Whether the service may have received the request. False if it was surely not sent, because
            connecting failed: refused, DNS, TLS, or a proxy that refuses or fails.
    """

    maybe_received: bool = True


class InvalidResponseError(PlayAIError):
    """A 2xx whose content breaks the contract.

    Attributes:
        problems: What is wrong and where, each as `message @ $.path`.
        excerpt: The beginning of the body, as redacted text. It may contain the spoken text.
    """

    problems: tuple[str, ...]
    excerpt: str

    def __init__(self, message: str, *, problems: Sequence[str], excerpt: str = "", job_id: UUID | None = None) -> None:
        super().__init__(message, job_id=job_id)
        self.problems = tuple(problems)
        self.excerpt = excerpt


class APIStatusError(PlayAIError):
    """The service answered with a status other than 2xx.

    Attributes:
        status: The HTTP status.
        error_id: The service's `errorId`, such as `INVALID_PARAMETERS`, or None.
        message: The service's own message (`errorMessage`, or the bare string of a 429), redacted, or None.
        excerpt: The beginning of the body, as redacted text.
        request_id: The `X-Request-ID` header of the reply, redacted, or None. Quote it to the service's support.
        retry_after: Seconds that the service asked to wait (`Retry-After`), or None if it named no usable time.
    """

    status: int
    error_id: str | None
    message: str | None
    excerpt: str
    request_id: str | None
    retry_after: float | None = None

    def __init__(
        self,
        summary: str,
        *,
        status: int,
        error_id: str | None = None,
        message: str | None = None,
        excerpt: str = "",
        request_id: str | None = None,
        job_id: UUID | None = None,
    ) -> None:
        super().__init__(summary, job_id=job_id)
        self.status = status
        self.error_id = error_id
        self.message = message
        self.excerpt = excerpt
        self.request_id = request_id


class InvalidParametersError(APIStatusError):
    """400: the service refused the request's parameters."""


class UnauthorizedError(APIStatusError):
    """401: the service does not know the key, or the key and the user id do not belong together."""


class ForbiddenError(APIStatusError):
    """403: the key is valid, but the plan does not allow the request."""


class NotFoundError(APIStatusError):
    """404: the service does not know the job."""


class RateLimitedError(APIStatusError):
    """429: the quota of the key, or of the IP address, is spent."""


class UnexpectedServiceError(APIStatusError):
    """5xx: the service failed."""


class JobTimeoutError(TimeoutError):
    """The deadline of a wait passed; the job itself goes on and can be waited for again.

    Attributes:
        job_id: The job.
        job: The job as last seen, or None if no answer came.
        last_error: The last error of the wait, or None.
        elapsed: Seconds that the wait took.
        polls: Status requests sent for the job during the wait.
    """

    job_id: Any
    job: Any
    last_error: Exception | None
    elapsed: float
    polls: int

    def __init__(
        self,
        message: str,
        *,
        job_id: Any = None,
        job: Any = None,
        last_error: Exception | None = None,
        elapsed: float,
        polls: int,
    ) -> None:
        super().__init__(message)
        self.job_id = job_id
        self.job = job
        self.last_error = last_error
        self.elapsed = elapsed
        self.polls = polls

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.args, self.__dict__)


class WaitTimeoutError(PlayAIError, JobTimeoutError):
    """The deadline of a wait passed; the job itself, if there is one, goes on and can be waited for again.

    Attributes:
        job: The job as last seen, or None if no valid answer came.
        last_error: The last error of the wait, or None.
        elapsed: Seconds that the wait took.
        polls: Status requests sent for the job during the wait; for `create_job`, its requests.
    """

    job: TtsJob | None
    last_error: PlayAIError | None  # pyright: ignore[reportIncompatibleVariableOverride]  # nobody sets it
    elapsed: float
    polls: int

    def __init__(
        self,
        message: str,
        *,
        job: TtsJob | None = None,
        last_error: PlayAIError | None = None,
        elapsed: float,
        polls: int,
        job_id: UUID | None = None,
    ) -> None:
        JobTimeoutError.__init__(
            self, message, job_id=job_id, job=job, last_error=last_error, elapsed=elapsed, polls=polls
        )


class JobFailedError(PlayAIError):
    """The service could not create the audio; the contract gives no reason.

    Attributes:
        job: The failed job.
    """

    job: TtsJob[Failed]

    def __init__(self, message: str, *, job: TtsJob[Failed]) -> None:
        super().__init__(message, job_id=job.id)
        self.job = job


class DownloadError(PlayAIError):
    """The audio of a completed job could not be downloaded whole."""


_TRANSIENT_STATUSES = {408, 425}
"""A connection that was closed while it was idle, and TLS early data: the same request is accepted later."""

TRANSIENT = (TransportError, InvalidResponseError, UnexpectedServiceError)
"""Errors that may pass by themselves. Listed one by one: a rule of "all but" would match a cancellation."""


def is_transient(error: object) -> bool:
    """Return whether an error may pass by itself."""
    return isinstance(error, TRANSIENT) or (isinstance(error, APIStatusError) and error.status in _TRANSIENT_STATUSES)
