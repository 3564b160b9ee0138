"""The session: one key, one quota, one pool of connections, shared by all who wait.

Opening, closing and ownership, and the public methods that make audio; those that wait are in `_waits`. A few lines
each: what they promise is kept by the modules that they call.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from types import EllipsisType, TracebackType
from typing import NoReturn, Self
from uuid import UUID

import aiohttp
from yarl import URL

from playai_async._audio.download import OnProgress
from playai_async._models import Completed, SessionStats, TtsJob, TtsParameters, job_id_of
from playai_async._runtime import Client
from playai_async._settings import REQUEST_TIMEOUT, Pacing, Polling, checked
from playai_async._waits import Waits

__all__ = ["PlayAISession"]


class PlayAISession(Waits):
    """A client of PlayAI's text-to-speech jobs, for one key.

    Make one for each key and share it: all waits of a session draw on one quota, and many callers that wait for one job
    cost what one costs. It may be used by any number of tasks of one event loop, the one it is first used in. It may be
    made before any loop runs::

        async with PlayAISession() as playai:
            job = await playai.wait_for_completion(job_id)

    Args:
        api_key: The key, with or without `Bearer` before it; left out, it is the environment's `PLAYAI_API_KEY`.
        user_id: The user id; left out, it is the environment's `PLAYAI_USER_ID`.
        base_url: Where the service is, https or a loopback host; a path in it is kept. Left out, it is the
            environment's `PLAYAI_BASE_URL`, or else https://api.play.ai.
        http_session: An `aiohttp.ClientSession` of the caller's to send with, which the caller closes; left out, the
            session makes one of its own. No more requests are under way than its pool has connections. One with an
            `auth` of its own is refused; so is each request of one that trusts an environment whose netrc has a
            password for the service, with a `ConfigurationError`. A download uses its connector and its `trust_env`,
            and neither its headers, its cookies nor its default proxy.
        polling: How waits poll, where a wait does not say otherwise.
        pacing: What is known of the quota.
        request_timeout: Seconds for one HTTP exchange, from connecting to the last byte, or of a download's without a
            byte; 10 if left out.

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
        self._polling = checked("polling", polling, Polling)
        self._client = Client(
            api_key,
            user_id,
            base_url=base_url,
            http_session=http_session,
            polling=self._polling,
            pacing=pacing,
            request_timeout=request_timeout,
        )

    async def __aenter__(self) -> Self:
        """Bind the session to the running loop.

        Raises:
            SessionClosedError: The session was closed.
            ConfigurationError: The session belongs to another event loop.
        """
        self._client.poller()
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

        Leaves no task and no connection behind. The caller's own `http_session` stays open. Closing again does
        nothing. A cancellation lets the closing be, with every wait already ended; close again to see it through. May
        be called from many tasks at once.

        Raises:
            ConfigurationError: The session belongs to another event loop.
        """
        await self._client.close()

    async def create_job(self, parameters: TtsParameters, *, timeout: float | EllipsisType | None = ...) -> TtsJob:
        """Create a job, with one POST.

        Takes its turn under a pacing of its own, since the service counts these requests apart. Sent again after a
        429, and where no connection came about (refused, DNS, TLS), at most the session's `polling.max_failures`
        times; never otherwise, since a request that may have been received may have made a job, which costs money.

        Args:
            parameters: What the job is created from.
            timeout: Seconds over all of it, turns and pauses counted, or None for no deadline; left out, it is the
                session's `polling.timeout`.

        Returns:
            The job, normally in progress.

        Raises:
            WaitTimeoutError: The deadline passed, and no job is known; `polls` is how often the request was sent.
            TransportError, UnexpectedServiceError, InvalidResponseError: No job came of it, as far as is known; the
                message says where one may exist all the same.
            APIStatusError: The service refused: 400, 401, 403, any other 4xx, a redirect; or 429 too often.
            SessionClosedError: The session was closed, before or meanwhile.
            ConfigurationError: The session belongs to another event loop, or `polling.wait` failed.
            ValueError, TypeError: Something in the parameters has no JSON, or the timeout is not positive.

        A cancellation gives the turn back, or ends the request; what was sent by then may make a job. May be called
        from many tasks at once.
        """
        checked("parameters", parameters, TtsParameters)
        return await self._client.speech().create(parameters, *self._wait_settings(None, timeout))

    async def download(
        self,
        job: UUID | str | TtsJob,
        destination: str | os.PathLike[str],
        *,
        on_progress: Callable[[int, int | None], object] | None = None,
    ) -> Path:
        """Download the audio of a completed job into a file, whole or not at all.

        No credentials go to the audio's host. Its length is checked. A connection that is lost, or silent for
        `request_timeout`, is made again a few times, and goes on where it stopped if the host offers that. An
        existing file is replaced at the very end, and until then nothing is seen but a part file beside it.

        Args:
            job: The job, its id, or the id's text. An id is asked for once, which brings a fresh link.
            destination: The file; or a directory, in which it is named by the job's id and the audio's content type.
            on_progress: Called with the bytes received so far, and those there will be or None, after each piece;
                starts over where the host does. What it raises ends the download.

        Returns:
            The path of the file.

        Raises:
            DownloadError: The audio could not be had whole: the link has expired, say, or the connection was lost
                too often.
            JobFailedError: The job failed.
            ValueError: The job is not done; a text that is no UUID; or a destination that cannot be a path.
            TypeError: Something that names no job, or an argument of the wrong type.
            OSError: The file cannot be written.
            SessionClosedError: The session was closed, before or meanwhile.
            ConfigurationError: The session belongs to another event loop.
            PlayAIError: What `get_job` raises, where an id was given.

        A cancellation ends the request and removes the part file. May be called from many tasks at once.
        """
        job_id = job_id_of(job)
        return await self._client.speech(job_id).download(job, destination, _callable(on_progress))

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
            destination: The file, or a directory, as for `download`; looked at before the job is created.
            polling: How to poll, and how often to send the first request again, in place of the session's.
            timeout: Seconds over all three, or None for no deadline; left out, it is `polling.timeout`.
            on_progress: As for `download`.

        Returns:
            The job, completed.

        Raises:
            JobFailedError: The job failed.
            WaitTimeoutError: The deadline passed. Its `job`, if there is one, goes on, and can be waited for or
                downloaded. Its `elapsed` and `polls` are those of the one that took too long.
            PlayAIError: What the three raise; `job_id` is the job's, once it was created.
            OSError: The file cannot be written.
            ValueError, TypeError: An argument is wrong; nothing was sent.

        A cancellation ends whatever is under way, and leaves no file behind; a job that was created goes on, and
        nothing names it. Any other error that is no `PlayAIError` names it in a note. May be called from many tasks at
        once.
        """
        checked("parameters", parameters, TtsParameters)
        settings = self._wait_settings(polling, timeout)
        return await self._client.speech().speak(parameters, destination, *settings, _callable(on_progress))

    @property
    def stats(self) -> SessionStats:
        """A snapshot of what the session did and is doing; may be taken at any time, also before the first use."""
        return self._client.stats()

    def __repr__(self) -> str:
        client = self._made
        if client is None:
            return "<PlayAISession never made>"
        return f"<PlayAISession {client.base_url} {'closed' if client.closed else 'open'}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a PlayAISession holds a key and connections, and is not pickled or copied")

    @property
    def _made(self) -> Client | None:
        """What the session is made of; none after a call that never got through `__init__`."""
        return getattr(self, "_client", None)

    def __del__(self) -> None:
        client = self._made
        if client is not None and client.used and not client.closed:
            warnings.warn(f"{self!r} was never closed", ResourceWarning, source=self, stacklevel=1)


def _callable(on_progress: OnProgress | None) -> OnProgress | None:
    if on_progress is not None and not callable(on_progress):
        raise TypeError(f"on_progress must be callable, not a {type(on_progress).__name__}")
    return on_progress
