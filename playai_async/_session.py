"""`PlayAISession`: the public methods, a few lines each. What they promise is kept by the modules that they call."""

from __future__ import annotations

import os
import warnings
from collections.abc import AsyncGenerator, Callable, Iterable
from pathlib import Path
from types import EllipsisType, TracebackType
from typing import Any, Literal, NoReturn, Self, cast, overload
from uuid import UUID

import aiohttp
from yarl import URL

from playai_async._audio.speech import checked_callback
from playai_async._exceptions import PlayAIError
from playai_async._models import Completed, Failed, TtsJob, TtsParameters, job_id_of
from playai_async._runtime import Runtime
from playai_async._settings import REQUEST_TIMEOUT, Pacing, Polling, checked, wait_settings
from playai_async._telemetry.stats import SessionStats

__all__ = ["PlayAISession"]


class PlayAISession:
    """A client of PlayAI's text-to-speech jobs, for one key.

    Create one session per key and share it. All waits of a session draw on one quota, and callers that wait for the
    same job share its requests. Any number of tasks may use it. It belongs to the first event loop that uses it, and
    may be created before any loop runs::

        async with PlayAISession() as playai:
            job = await playai.wait_for_completion(job_id)

    Args:
        api_key: The key, with or without `Bearer` before it. Default: the environment variable `PLAYAI_API_KEY`.
        user_id: The user id. Default: the environment variable `PLAYAI_USER_ID`.
        base_url: Where the service is: https, or http for a loopback host. Its path is kept. Default: the environment
            variable `PLAYAI_BASE_URL`, or else https://api.play.ai.
        http_session: Your own `aiohttp.ClientSession` to send with; the session never closes it. Default: the session
            opens one. Its connection pool limits the requests in flight. A client session with an `auth` is refused. A
            request fails with `ConfigurationError` if the client session belongs to another event loop, or trusts the
            environment and a netrc file has a password for the service. Downloads use its connector and its
            `trust_env`, but not its headers, cookies, default proxy or trace callbacks. A trace callback that raises
            does not disturb a request.
        polling: How waits poll, unless a wait has its own.
        pacing: What is known of the quota.
        request_timeout: Seconds for one HTTP exchange, from connecting to the last byte; for a download, seconds
            without a byte. Time in the queue is not counted.

    Raises:
        ConfigurationError: A setting is missing or cannot work.
        TypeError: A setting has the wrong type.
    """

    def __init__(
        self,
        api_key: str | None = None,
        user_id: str | None = None,
        *,
        base_url: str | URL | None = None,
        http_session: aiohttp.ClientSession | None = None,
        polling: Polling = Polling(),  # noqa: B008 - a frozen value
        pacing: Pacing = Pacing(),  # noqa: B008 - a frozen value
        request_timeout: float = REQUEST_TIMEOUT,
    ) -> None:
        self._polling = polling
        self._runtime = Runtime(
            api_key,
            user_id,
            base_url=base_url,
            http_session=http_session,
            polling=polling,
            pacing=pacing,
            request_timeout=request_timeout,
        )
        self._jobs = self._runtime.jobs

    async def __aenter__(self) -> Self:
        """Bind the session to the running loop.

        Raises:
            SessionClosedError: The session was closed.
            ConfigurationError: The session belongs to another event loop.
        """
        self._runtime.open(None)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the session, as `aclose` does."""
        await self.aclose()

    async def aclose(self) -> None:
        """Close the session: every open wait and call ends with `SessionClosedError`.

        Leaves no task and no connection behind. Your own `http_session` stays open. Closing again does nothing. After a
        cancellation every wait has ended; close again to wait for what still runs. Many tasks may call this at once.

        Raises:
            ConfigurationError: The session belongs to another event loop.
        """
        await self._jobs.aclose()

    async def get_job(self, job: UUID | str | TtsJob) -> TtsJob:
        """Fetch a job's state once.

        Always sends one request, also for a finished job, whose link may have expired. The request waits for its turn
        under the session's pacing, ahead of polls. It has no deadline: a 429, an outage or a spent quota may hold it.
        Put an `asyncio.timeout` around it where that matters.

        Args:
            job: The job, its id, or the id's text.

        Returns:
            The job as it is now.

        Raises:
            APIStatusError: The service answered with an error; the class says which.
            InvalidResponseError: The answer breaks the contract.
            TransportError: No answer came.
            SessionClosedError: The session was closed, before the call or during it.
            ConfigurationError: The session belongs to another event loop.
            ValueError: A text that is not a UUID.
            TypeError: The argument is not a job, a job id or its text.

        A cancellation takes the request off the queue, or cancels it in flight. Many tasks may call this at once.
        """
        return await self._jobs.get(job)

    async def wait_for_completion(
        self,
        job: UUID | str | TtsJob,
        *,
        polling: Polling | None = None,
        timeout: float | EllipsisType | None = ...,
    ) -> TtsJob[Completed | Failed]:
        """Wait until a job completes or fails.

        Polls at once, and then after each pause of tenacity's backoff. Waits for one job under equal `Polling` share
        their requests. A 429 never ends a wait: it pauses all polls of the session until the service answers again.
        5xx, broken replies and lost connections are retried until `polling.max_failures` of them came in a row.

        Args:
            job: The job, its id, or the id's text. A finished job is returned without a request.
            polling: How to poll, in place of the session's own.
            timeout: Seconds for the whole wait, or None for no deadline; left out, it is `polling.timeout`.

        Returns:
            The job, completed or failed. A failed job is returned, not raised; `job.raise_for_failure()` raises it.

        Raises:
            WaitTimeoutError: The deadline passed. The job goes on and can be waited for again.
            TransportError, InvalidResponseError, UnexpectedServiceError: `polling.max_failures` came in a row.
            APIStatusError: The service refused: 400, 401, 403, 404, any redirect or other 4xx.
            SessionClosedError: The session was closed, before the call or during it.
            ConfigurationError: The session belongs to another event loop, or `polling.wait` failed.
            ValueError: A text that is not a UUID, or a timeout that is not positive.
            TypeError: An argument has the wrong type.

        A cancellation ends the wait at once. When nobody else waits for the job, polling stops. Many tasks may call
        this at once, for one job or for many.
        """
        done = await self._jobs.wait_for_completion(job, polling=polling, timeout=timeout)
        return cast("TtsJob[Completed | Failed]", done)

    def watch(
        self,
        job: UUID | str | TtsJob,
        *,
        polling: Polling | None = None,
        timeout: float | EllipsisType | None = ...,
    ) -> AsyncGenerator[TtsJob, None]:
        """Iterate over a job's states: the first answer at once, then each change, the finished job last.

        The wait begins with the first step of the iteration. A slow reader loses no change.

        Args:
            job: The job, its id, or the id's text. A finished job is yielded without a request.
            polling: How to poll, in place of the session's own.
            timeout: Seconds for the whole iteration, or None for no deadline; left out, it is `polling.timeout`.

        Returns:
            An async generator of the job. Close it to end the wait early, for example with `contextlib.aclosing`.

        Raises:
            ValueError: A text that is not a UUID, or a timeout that is not positive.
            TypeError: An argument has the wrong type.

        The iteration raises what `wait_for_completion` raises, and a cancellation ends it in the same way. Many tasks
        may call this at once; each iteration belongs to one of them.
        """
        return self._jobs.watch(job, polling=polling, timeout=timeout)

    @overload
    def as_completed(
        self,
        jobs: Iterable[UUID | str | TtsJob],
        *,
        polling: Polling | None = None,
        timeout: float | EllipsisType | None = ...,
        return_exceptions: Literal[False] = False,
    ) -> AsyncGenerator[TtsJob[Completed | Failed], None]: ...

    @overload
    def as_completed(
        self,
        jobs: Iterable[UUID | str | TtsJob],
        *,
        polling: Polling | None = None,
        timeout: float | EllipsisType | None = ...,
        return_exceptions: bool,
    ) -> AsyncGenerator[TtsJob[Completed | Failed] | PlayAIError, None]: ...

    def as_completed(
        self,
        jobs: Iterable[UUID | str | TtsJob],
        *,
        polling: Polling | None = None,
        timeout: float | EllipsisType | None = ...,
        return_exceptions: bool = False,
    ) -> AsyncGenerator[Any, None]:
        """Iterate over jobs in the order in which they finish, each as `wait_for_completion` returns it.

        The waits begin with the first step of the iteration. A slow reader loses no job.

        Args:
            jobs: The jobs, their ids, or the ids' texts. Finished jobs come first, without a request. A job that is
                given twice is yielded twice.
            polling: How to poll, in place of the session's own.
            timeout: Seconds for each wait, or None for no deadline; left out, it is `polling.timeout`.
            return_exceptions: Whether to yield the `PlayAIError` of a wait that failed; its `job_id` says which one.
                Otherwise the first one is raised, which ends the iteration and the other waits.

        Returns:
            An async generator of the jobs. Close it to end the waits early, for example with `contextlib.aclosing`.

        Raises:
            ValueError: A text that is not a UUID, or a timeout that is not positive; nothing was sent.
            TypeError: An argument has the wrong type.

        The iteration raises what `wait_for_completion` raises, and a cancellation ends it in the same way. Many tasks
        may call this at once; each iteration belongs to one of them.
        """
        return self._jobs.as_completed(jobs, polling=polling, timeout=timeout, return_exceptions=return_exceptions)

    @overload
    async def wait_for_all(
        self,
        jobs: Iterable[UUID | str | TtsJob],
        *,
        polling: Polling | None = None,
        timeout: float | EllipsisType | None = ...,
        return_exceptions: Literal[False] = False,
    ) -> list[TtsJob[Completed | Failed]]: ...

    @overload
    async def wait_for_all(
        self,
        jobs: Iterable[UUID | str | TtsJob],
        *,
        polling: Polling | None = None,
        timeout: float | EllipsisType | None = ...,
        return_exceptions: bool,
    ) -> list[TtsJob[Completed | Failed] | PlayAIError]: ...

    async def wait_for_all(
        self,
        jobs: Iterable[UUID | str | TtsJob],
        *,
        polling: Polling | None = None,
        timeout: float | EllipsisType | None = ...,
        return_exceptions: bool = False,
    ) -> list[Any]:  # the overloads say of what
        """Wait until all of these jobs complete or fail.

        Args:
            jobs: The jobs, their ids, or the ids' texts. Finished jobs need no request. A job that is given twice is
                returned twice.
            polling: How to poll, in place of the session's own.
            timeout: Seconds for each wait, or None for no deadline; left out, it is `polling.timeout`.
            return_exceptions: Whether to return the `PlayAIError` of a wait that failed in place of its job. Otherwise
                the first one is raised, and the other waits end.

        Returns:
            One result per entry, in the given order.

        Raises:
            PlayAIError: What `wait_for_completion` raises, unless `return_exceptions` is true.
            ValueError: A text that is not a UUID, or a timeout that is not positive; nothing was sent.
            TypeError: An argument has the wrong type.

        A cancellation ends all of these waits. Many tasks may call this at once.
        """
        return await self._jobs.wait_for_all(
            jobs, polling=polling, timeout=timeout, return_exceptions=return_exceptions
        )

    def hint(self, job: UUID | str | TtsJob) -> bool:
        """Tell the session that a job may have finished, for example from a webhook handler.

        If somebody in this session waits for the job, its next poll goes ahead of other polls (but behind `get_job`),
        under the same quota. While hints prove true, it does not wait for the even spacing of polls either. A pause
        after a 429 or a failure is not shortened. If a poll of the job is in flight, one more follows it.

        A hint changes the order of polls, never a result, so a false hint does little harm. While fewer than half of
        the last ten hinted polls found their job finished, only one hint in ten is followed.

        With a shared quota, the hint is also passed on to the other sessions, at most once a second for each job. It
        may get lost on the way.

        Args:
            job: The job, its id, or the id's text.

        Returns:
            Whether this session follows the hint. False for a finished job, and if nobody waits for the job: such a
            hint is dropped, and not kept for a wait that begins later.

        Raises:
            SessionClosedError: The session was closed.
            ConfigurationError: The session belongs to another event loop. From another thread, use
                `loop.call_soon_threadsafe(playai.hint, job)`.
            ValueError: A text that is not a UUID.
            TypeError: The argument is not a job, a job id or its text.

        Does not block. May be called at any time in the session's event loop.
        """
        followed = self._jobs.hint(job)
        self._runtime.relay_hint(job)
        return followed

    async def create_job(self, parameters: TtsParameters, *, timeout: float | EllipsisType | None = ...) -> TtsJob:
        """Create a job, with one POST.

        The request waits for its turn under a separate pacing, because the service counts creations separately. It is
        sent again after a 429 or a 425, and if it was surely not sent (refused, DNS, TLS, a proxy that refuses), at
        most `polling.max_failures` times. It is never sent again otherwise: a request that the service received may
        have created a job, which costs money. It has a separate connection, which is closed afterwards.

        Args:
            parameters: What the job is created from.
            timeout: Seconds for all of it, with turns and pauses, or None for no deadline; left out, it is the
                session's `polling.timeout`.

        Returns:
            The job, normally in progress.

        Raises:
            WaitTimeoutError: The deadline passed, and no job is known; `polls` counts the requests sent.
            TransportError, UnexpectedServiceError, InvalidResponseError: No valid job came; the message says whether
                one may exist all the same. `job_id` is set if what came of the reply names the job.
            APIStatusError: The service refused: 400, 401, 403, any other 4xx, a redirect; or 429 too often.
            SessionClosedError: The session was closed, before the call or during it; the message says whether a job may
                exist.
            ConfigurationError: The session belongs to another event loop, or `polling.wait` failed.
            ValueError, TypeError: A parameter has no JSON form, or the timeout is not positive.

        A cancellation takes the request off the queue, or cancels it in flight; a request that was sent may create a
        job, and a warning is logged then. Many tasks may call this at once.
        """
        checked("parameters", parameters, TtsParameters)
        return await self._runtime.speech().create(parameters, *wait_settings(self._polling, None, timeout))

    async def download(
        self,
        job: UUID | str | TtsJob,
        destination: str | os.PathLike[str],
        *,
        on_progress: Callable[[int, int | None], object] | None = None,
    ) -> Path:
        """Download the audio of a completed job into a file, whole or not at all.

        No credentials go to the audio's host. The length is checked. If the connection is lost, or silent for
        `request_timeout`, the download is retried until five attempts in a row brought nothing new. It resumes where it
        stopped if the host shows, by a strong validator, that the audio is the same; otherwise it starts over. If the
        link has expired, the job is fetched once, which brings a fresh link. An existing file is replaced at the very
        end, and its mode is kept; until then there is only a part file beside it. Files are written in threads.

        Args:
            job: The job, its id, or the id's text. For an id the job is fetched first.
            destination: The file; or a directory, in which the file is named by the job's id and the content type, or
                by the job's `outputFormat` if the content type is not that of an audio format.
            on_progress: A plain callable, called after each chunk with the bytes received and the bytes in total, or
                None if that is unknown. It starts over if the download does. An exception that it raises ends the
                download.

        Returns:
            The path of the file.

        Raises:
            DownloadError: The audio could not be downloaded whole: the link and a fresh link were refused, or the
                connection was lost too often.
            JobFailedError: The job failed.
            ValueError: The job is not finished; a text that is not a UUID; or a destination that cannot be a path.
            TypeError: An argument has the wrong type, or `on_progress` is a coroutine function.
            OSError: The file cannot be written.
            SessionClosedError: The session was closed, before the call or during it.
            ConfigurationError: The session belongs to another event loop.
            PlayAIError: What `get_job` raises, if an id was given.

        A cancellation ends the request and removes the part file. Many tasks may call this at once.
        """
        job_id = job_id_of(job)
        return await self._runtime.speech(job_id).download(job, destination, checked_callback(on_progress))

    async def speak(
        self,
        parameters: TtsParameters,
        destination: str | os.PathLike[str],
        *,
        polling: Polling | None = None,
        timeout: float | EllipsisType | None = ...,
        on_progress: Callable[[int, int | None], object] | None = None,
    ) -> TtsJob[Completed]:
        """Create a job, wait for it, and download its audio: `create_job`, `wait_for_completion` and `download` in one.

        Args:
            parameters: What the job is created from.
            destination: The file, or a directory, as for `download`; checked before the job is created. If
                `parameters` has no `output_format`, and the file's suffix is a format of the service (`.mp3`, `.mulaw`,
                `.raw`, `.wav`, `.ogg` or `.flac`), that format is requested. Audio of another format than the suffix is
                logged as a warning.
            polling: How to poll, and how often to send the first request again, in place of the session's own.
            timeout: Seconds for all three steps, or None for no deadline; left out, it is `polling.timeout`.
            on_progress: As for `download`.

        Returns:
            The completed job.

        Raises:
            JobFailedError: The job failed.
            WaitTimeoutError: The deadline passed. Its `job`, if there is one, goes on, and can be waited for or
                downloaded. Its `elapsed` and `polls` are those of the step that took too long.
            PlayAIError: What the three methods raise; `job_id` is the job's, once it was created.
            OSError: The file cannot be written.
            ValueError, TypeError: An argument is wrong; nothing was sent.

        A cancellation ends whatever runs, and leaves no file behind; a job that was created goes on, but its id is
        lost. Any other exception that is no `PlayAIError` names the job in a note. Many tasks may call this at once.
        """
        checked("parameters", parameters, TtsParameters)
        settings = wait_settings(self._polling, polling, timeout)
        return await self._runtime.speech().speak(parameters, destination, *settings, checked_callback(on_progress))

    @property
    def stats(self) -> SessionStats:
        """A snapshot of what the session did and is doing; may be taken at any time, also before the first use."""
        return self._runtime.stats()

    def __repr__(self) -> str:
        runtime = self._made
        if runtime is None:
            return "<PlayAISession not initialized>"
        return f"<PlayAISession {runtime.base_url} {'closed' if runtime.closed else 'open'}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a PlayAISession holds a key and connections, and cannot be pickled or copied")

    @property
    def _made(self) -> Runtime | None:
        """The runtime; None if `__init__` raised."""
        return getattr(self, "_runtime", None)

    def __del__(self) -> None:
        runtime = self._made
        if runtime is not None and runtime.used and not runtime.closed:
            warnings.warn(f"{self!r} was never closed", ResourceWarning, source=self, stacklevel=1)
