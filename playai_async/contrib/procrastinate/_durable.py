"""Durable waits, as their users see them: handlers by name, waits by row, and the tasks that a worker runs.

Decides nothing: `_turns` says what follows from an answer, `_rows` writes it down.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from types import EllipsisType
from typing import TypeAlias, TypeVar
from uuid import UUID

from procrastinate import Blueprint, JobContext
from procrastinate.job_context import AbortReason

from playai_async._exceptions import ConfigurationError, PlayAIError, SessionClosedError
from playai_async._models import TtsJob, job_id_of
from playai_async._session import PlayAISession
from playai_async._settings import Polling, checked, wait_settings
from playai_async.contrib.procrastinate._constants import LONGEST_TURN, MAX_HANDLER_FAILURES, QUEUE, RESCUES
from playai_async.contrib.procrastinate._rescue import Settling, rescue
from playai_async.contrib.procrastinate._rows import PuttingBack, now, priority_of, put_back
from playai_async.contrib.procrastinate._turns import absent, answered, called_in_vain, held, stopped, unanswered
from playai_async.contrib.procrastinate._values import Again, Outcome, Row

__all__ = ["DurableWaits"]

logger = logging.getLogger("playai_async")

Handler: TypeAlias = Callable[[Outcome], Awaitable[None]]
HandlerT = TypeVar("HandlerT", bound=Handler)


class DurableWaits:
    """Waits that outlive the processes that wait.

    Make one where the web processes and the workers both import it, name what is to be called, and give its blueprint
    to your procrastinate app::

        waits = DurableWaits(playai)

        @waits.on_done("store_audio")
        async def store_audio(outcome: Outcome) -> None: ...

        app.add_tasks_from(waits.blueprint, namespace="playai")

    A wait polls as `wait_for_completion` does, with the same pauses, deadline and errors, but that a poll due is sent
    when a worker next looks. Times are those of the hosts' clocks, which are to agree.

    Args:
        playai: The session that a worker asks with. Whoever made it closes it.
        polling: How waits poll, in place of the session's. A `wait` of its own goes by the state that it is given, not
            by what it remembers: each poll may be another process's.
        queue: The procrastinate queue of the waits, and of nothing else: the priorities of its rows are times.
        max_handler_failures: How often in a row a handler may raise before its row is left as failed.

    Attributes:
        blueprint: The tasks that a worker runs, to be added to one app.
        queue: The queue that a worker takes waits from.

    Raises:
        TypeError: A value has the wrong type.
        ConfigurationError: A value is out of range.
    """

    def __init__(
        self,
        playai: PlayAISession,
        *,
        polling: Polling | None = None,
        queue: str = QUEUE,
        max_handler_failures: int = MAX_HANDLER_FAILURES,
    ) -> None:
        self._playai = checked("playai", playai, PlayAISession)
        self._polling, _ = _wait_settings(playai, polling, ...)
        if not checked("queue", queue, str):
            raise ConfigurationError("queue is empty")
        if checked("max_handler_failures", max_handler_failures, int) < 1:
            raise ConfigurationError("max_handler_failures must be at least 1")
        self._max_handler_failures = max_handler_failures
        self._handlers: dict[str, Handler] = {}
        self._settling = Settling()
        self.blueprint = Blueprint()
        self.queue = queue
        self._waiting = self.blueprint.task(name="wait", queue=queue, retry=PuttingBack(), pass_context=True)(
            self._take_turn
        )
        # Not a `lock`: a rescue that died with its worker would hold it for ever.
        only_one = f"playai_async: rescue in {queue}"
        self._rescuing = self.blueprint.task(name="rescue", queue=queue, queueing_lock=only_one, pass_context=True)(
            self._rescue
        )
        self.blueprint.periodic(cron=RESCUES)(self._rescuing)

    def on_done(self, name: str) -> Callable[[HandlerT], HandlerT]:
        """Name a coroutine function to be called with what became of a job.

        It is called at least once for each wait, and again, with the job asked for anew, until it returns. A worker
        may die between its last statement and the note that it returned; `Outcome.key` tells a second call from a
        first. It holds one of its worker's slots while it runs.

        Args:
            name: What rows call it; it stays the same for as long as there are any.

        Returns:
            A decorator that leaves the function as it is.

        Raises:
            ValueError: The name is empty, or names another function already.
            TypeError: The name is no text, or what is decorated is no coroutine function.
        """
        if not checked("name", name, str) or name in self._handlers:
            raise ValueError(f"not a name for a handler, or that of another one: {name!r}")

        def named(handler: HandlerT) -> HandlerT:
            function: object = handler  # lest checkers narrow it to something else
            if not inspect.iscoroutinefunction(function):
                raise TypeError(f"a handler is a coroutine function, not a {type(handler).__name__}")
            self._handlers[name] = handler
            return handler

        return named

    async def defer(self, job: UUID | str | TtsJob, *, on_done: str, timeout: float | EllipsisType | None = ...) -> int:
        """Begin a wait: store the job's id, for any worker to poll from now on.

        Needs the app to be open, and neither a worker nor a request. Two waits for one job are two rows; with the same
        handler, their outcomes have the same key.

        Args:
            job: The job, its id, or the id's text.
            on_done: The name of the handler.
            timeout: Seconds over the whole wait, or None for no deadline; left out, it is `polling.timeout`.

        Returns:
            The id of the row in `procrastinate_jobs`.

        Raises:
            ValueError: A text that is no UUID, a timeout that is not positive, or a name that no handler has; nothing
                was stored.
            TypeError: Something that names no job, or an argument of the wrong type.
            procrastinate.exceptions.ProcrastinateException: The row could not be stored: the database, an app that is
                not open, or a blueprint that no app has.

        A cancellation leaves open whether the row was stored. May be called from many tasks at once.
        """
        job_id = job_id_of(job)
        _, seconds = _wait_settings(self._playai, self._polling, timeout, job_id)
        if on_done not in self._handlers:
            raise ValueError(f"no handler is named {on_done!r}")
        started = now()
        return await self._waiting.configure(priority=priority_of(started)).defer_async(
            job_id=str(job_id),
            on_done=on_done,
            started=started,
            deadline=None if seconds is None else started + seconds,
        )

    async def _take_turn(
        self,
        context: JobContext,
        /,
        *,
        job_id: str,
        on_done: str,
        started: float,
        deadline: float | None,
        unasked: int = 0,
        throttled: int = 0,
        failures: int = 0,
        calls: int = 0,
        late_since: float = 0.0,
        **_: object,  # of a later version, in a worker that this one is about to give way to
    ) -> None:
        """Make one status request, and end the wait or put its row back."""
        row = Row(
            job_id=UUID(job_id),
            on_done=on_done,
            started=started,
            deadline=deadline,
            turns=context.job.attempts,
            unasked=unasked,
            throttled=throttled,
            failures=failures,
            calls=calls,
            late_since=late_since,
        )
        self._settling.watch(context)
        try:
            again = await self._outcome_of(row, context)
        except asyncio.CancelledError:
            # Aborted by its user a row is over, and so is that of a handler which cancelled nothing but itself.
            if context.abort_reason() is AbortReason.USER_REQUEST or not _is_cancelled():
                raise
            again = stopped(row, now())
        if again is not None:
            raise await put_back(context.app.connector, context.job, again)

    async def _outcome_of(self, row: Row, context: JobContext) -> Again | None:
        """Ask, and hand over what came if that is the end."""
        handler = self._handlers.get(row.on_done)
        if handler is None:
            words = "Job %s is for the handler %r, which this worker does not know."
            logger.error(words, row.job_id, row.on_done, extra=_fields("handler_unknown", row))
            return absent(row, now(), "its handler is not known here")
        outcome = await self._ask(row)
        if isinstance(outcome, Again):
            return outcome
        try:
            await handler(outcome)
        except BaseException as error:  # procrastinate lets none through, and would end the row
            if _is_cancelled() and context.abort_reason() is not None:
                raise asyncio.CancelledError from error  # whatever the handler made of it
            _take_back_cancellations()
            again = called_in_vain(row, now(), self._max_handler_failures)
            words, name = "The handler %r failed (%s) for job %s; %s.", type(error).__name__
            fields = _fields("handler_failed", row, error)
            if again is None:
                logger.error(words, row.on_done, name, row.job_id, "it is not called again", extra=fields)  # noqa: TRY400 - procrastinate logs the traceback
                raise
            logger.warning(words, row.on_done, name, row.job_id, again.why, exc_info=error, extra=fields)
            return again
        return None

    async def _ask(self, row: Row) -> Again | Outcome:
        """Make one status request, unless the session would only queue it, and decide what follows."""
        asked = now()
        instead = held(row, asked, self._playai.stats.paused_for)
        if instead is not None:
            return instead
        came: TtsJob | PlayAIError
        try:
            async with asyncio.timeout(LONGEST_TURN):
                came = await self._playai.get_job(row.job_id)
        except TimeoutError:
            return unanswered(row, now(), why="its turn did not come")
        except PlayAIError as error:
            came = error
        try:
            return answered(row, came, asked, now(), pause=self._playai.stats.paused_for, polling=self._polling)
        except (ConfigurationError, SessionClosedError) as error:
            # One worker's mistake must not end every wait; whoever mends it finds them all.
            fields = _fields("worker_misconfigured", row, error)
            logger.error("Job %s cannot be waited for by this worker: %s", row.job_id, error, extra=fields)  # noqa: TRY400 - it says all
            return absent(row, now(), "this worker's settings are wrong")

    async def _rescue(self, context: JobContext, timestamp: int) -> None:  # noqa: ARG002 - procrastinate gives it
        """Put back what dead workers held."""
        await rescue(context.app.job_manager, self._waiting.name, self._rescuing.name)


def _fields(event: str, row: Row, error: BaseException | None = None) -> dict[str, str]:
    fields = {"playai_event": event, "playai_job_id": str(row.job_id), "playai_handler": row.on_done}
    return fields if error is None else {**fields, "playai_error": type(error).__name__}


def _is_cancelled() -> bool:
    """Say whether somebody cancelled the task that this runs in."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _take_back_cancellations() -> None:
    """Forget those that no worker asked for: a handler that cancelled its own task is not to be called for ever."""
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()


def _wait_settings(
    playai: PlayAISession,
    polling: Polling | None,
    timeout: float | EllipsisType | None,
    job_id: UUID | None = None,
) -> tuple[Polling, float | None]:
    """Read how to wait just as the session's own waits do."""
    default = playai._polling  # noqa: SLF001 - ours # pyright: ignore[reportPrivateUsage]
    try:
        return wait_settings(default, polling, timeout)
    except ConfigurationError as error:
        raise (error if job_id is None else error.for_job(job_id)) from None
