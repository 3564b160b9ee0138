"""`DurableWaits`: handlers by name, waits by row, and the tasks that a worker runs.

This module connects the parts. `_decisions` decides what follows from a result, and `_rows` stores it.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from types import EllipsisType
from typing import Any, TypeVar, overload
from uuid import UUID

import attrs
from procrastinate import Blueprint, JobContext
from procrastinate.job_context import AbortReason
from procrastinate.testing import InMemoryConnector

from playai_async._exceptions import ConfigurationError, PollerClosedError
from playai_async._models import TtsJob
from playai_async._session import PlayAISession
from playai_async._settings import Polling, checked, wait_settings
from playai_async._telemetry.emitter import Emitter
from playai_async._telemetry.events import (
    DurableHandlerFailed,
    DurableHandlerUnknown,
    DurableKeyRefused,
    DurableRowTaken,
    DurableRowUnknown,
    DurableWorkerMisconfigured,
)
from playai_async._telemetry.log import Log
from playai_async.contrib.procrastinate._connector import psycopg_connection
from playai_async.contrib.procrastinate._constants import MAX_HANDLER_FAILURES, MAX_POLL_TIME, QUEUE, RESCUE_CRON
from playai_async.contrib.procrastinate._decisions import (
    before_request,
    on_handler_error,
    on_misconfigured_worker,
    on_no_reply,
    on_result,
    on_unknown_row,
    on_worker_shutdown,
)
from playai_async.contrib.procrastinate._rescue import WriteRetrier, heartbeats_of, rescue, timeout_of
from playai_async.contrib.procrastinate._rows import ReschedulePolicy, RowTaken, Turn, bring_forward, now, priority_of
from playai_async.contrib.procrastinate._services import Meaning, Service, playai_service, poller_service
from playai_async.contrib.procrastinate._values import AnyOutcome, JobOutcome, Outcome, Reschedule, Row, row_of
from playai_async.jobs import JobPoller

__all__ = ["DurableWaits"]

HandlerT = TypeVar("HandlerT", bound=Callable[[Outcome], Awaitable[None]])
JobHandlerT = TypeVar("JobHandlerT", bound=Callable[[JobOutcome[Any]], Awaitable[None]])


@attrs.frozen
class Handler:
    """A handler that was registered.

    Attributes:
        function: The coroutine function.
        poller: The name of the poller whose jobs it takes; None for PlayAI's.
    """

    function: Callable[[Any], Awaitable[None]]
    poller: str | None


class DurableWaits:
    """Waits that survive the process that started them.

    Create one in a module that both the web processes and the workers import. Register handlers, and add the blueprint
    to your procrastinate app::

        waits = DurableWaits(playai)

        @waits.on_done("store_audio")
        async def store_audio(outcome: Outcome) -> None: ...

        app.add_tasks_from(waits.blueprint, namespace="playai")

    It waits for jobs of any service with a `JobPoller` that has a name::

        waits = DurableWaits(pollers={"runway": JobPoller(client.tasks.retrieve, is_done=is_done)})

        @waits.on_done("store_video", poller="runway")
        async def store_video(outcome: JobOutcome[Task]) -> None: ...

    A wait has the same pauses, deadline and errors as `wait_for_completion`. A poll that is due is sent when a worker
    fetches the row. Times come from the clocks of the hosts, so keep the clocks synchronized.

    Args:
        playai: The session that the workers use. It is never closed here.
        pollers: Pollers for the jobs of other services, by name. They are never closed here. Rows store the name, so it
            must not change as long as rows with this name exist. The ids of the jobs are texts.
        polling: How the waits poll, instead of the `polling` of the session or the poller. A custom `polling.wait` must
            depend only on its argument, because each poll may be sent by another process.
        queue: The procrastinate queue. It must contain nothing else, because the priorities of its rows are times.
        max_handler_failures: How often in a row a handler may raise. After that the row is left as failed.

    Attributes:
        blueprint: The tasks that a worker runs. Add it to one app.
        queue: The queue that workers must process.

    Raises:
        TypeError: A value has the wrong type.
        ConfigurationError: A value is out of range.
    """

    def __init__(
        self,
        playai: PlayAISession | None = None,
        *,
        pollers: Mapping[str, JobPoller[str, Any]] | None = None,
        polling: Polling | None = None,
        queue: str = QUEUE,
        max_handler_failures: int = MAX_HANDLER_FAILURES,
    ) -> None:
        self._services = _services(playai, {} if pollers is None else pollers, polling)
        if not checked("queue", queue, str):
            raise ConfigurationError("queue is empty")
        if checked("max_handler_failures", max_handler_failures, int) < 1:
            raise ConfigurationError("max_handler_failures must be at least 1")
        self._max_handler_failures = max_handler_failures
        self._handlers: dict[str, Handler] = {}
        self._emitter = Emitter(Log())
        self._write_retrier = WriteRetrier(self._emitter)
        self._refused = set[str | None]()
        self.blueprint = Blueprint()
        self.queue = queue
        self._wait_task = self.blueprint.task(name="wait", queue=queue, retry=ReschedulePolicy(), pass_context=True)(
            self._poll
        )
        # Not a `lock`, which a rescue that died with its worker would hold for ever.
        lock = f"playai_async: rescue in {queue}"
        self._rescue_task = self.blueprint.task(
            name="rescue", queue=queue, queueing_lock=lock, pass_context=True, task_middleware=[heartbeats_of]
        )(self._rescue)
        self.blueprint.periodic(cron=RESCUE_CRON)(self._rescue_task)

    @overload
    def on_done(self, name: str) -> Callable[[HandlerT], HandlerT]: ...

    @overload
    def on_done(self, name: str, *, poller: str) -> Callable[[JobHandlerT], JobHandlerT]: ...

    def on_done(self, name: str, *, poller: str | None = None) -> Callable[[Any], Any]:
        """Register a coroutine function as the handler of finished waits.

        The handler is called at least once for each wait, with an `Outcome`, or with a `JobOutcome` for the job of a
        poller. If it raises, it is called again after a pause, with the job requested anew. A worker may also die after
        the handler returned and before that is stored: use `Outcome.key` to recognize a repeated call. A running
        handler occupies one of the worker's slots.

        Args:
            name: The name that rows store. It must not change as long as rows with this name exist.
            poller: The name of the poller whose jobs the handler takes, instead of PlayAI's.

        Returns:
            A decorator that returns the function unchanged.

        Raises:
            ValueError: The name is empty, another handler has the same name, no poller has this name, or there is no
                session.
            TypeError: The name is not a str, or the decorated object is not a coroutine function.
        """
        if not checked("name", name, str):
            raise ValueError("the name of a handler is empty")
        if name in self._handlers:
            raise ValueError(f"another handler is named {name!r}")
        self._service(poller)

        def register(handler: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
            function: object = handler  # typed as object, or else checkers would narrow the type
            if not inspect.iscoroutinefunction(function):
                raise TypeError(f"a handler must be a coroutine function, not a {type(handler).__name__}")
            self._handlers[name] = Handler(handler, poller)
            return handler

        return register

    async def defer(
        self,
        job: UUID | str | TtsJob,
        *,
        on_done: str,
        timeout: float | EllipsisType | None = ...,
        connection: object | None = None,
    ) -> int:
        """Start a wait: store the job's id in PostgreSQL, for any worker to poll.

        The app must be open. No worker needs to run, and no request is sent. May be called from many tasks at once.
        Two waits for the same job are two rows; with the same handler, their outcomes have the same key.

        If the call is cancelled, the row may or may not have been stored.

        Args:
            job: The job, its id, or the text of its id. For the handler of a poller, the id, a text.
            on_done: The name of the handler.
            timeout: Seconds for the whole wait, or None for no deadline. The default is `polling.timeout`.
            connection: Your own connection to the database of the app, which inserts the row in its transaction: the
                wait starts with the commit, and a rollback leaves no row. A `psycopg.AsyncConnection`, or SQLAlchemy's
                `AsyncConnection` on psycopg.

        Returns:
            The id of the row in `procrastinate_jobs`.

        Raises:
            ValueError: The text is not a UUID, the timeout is not positive, or no handler has this name. Nothing was
                stored.
            TypeError: An argument has the wrong type. Nothing was stored.
            procrastinate.exceptions.ProcrastinateException: The row could not be stored: a database error, an app that
                is not open, or a blueprint that was not added to an app.
        """
        handler = self._handlers.get(on_done)
        if handler is None:
            raise ValueError(f"no handler is named {on_done!r}")
        service = self._service(handler.poller)
        job_id = service.parse(job)
        _, seconds = wait_settings(service.polling, None, timeout)
        started = now()
        task = self._wait_task.configure(priority=priority_of(started))
        if connection is not None and not isinstance(task.job_manager.connector, InMemoryConnector):
            connection = await psycopg_connection(connection)
        task.connection = connection
        name = {} if handler.poller is None else {"poller": handler.poller}
        deadline = None if seconds is None else started + seconds
        return await task.defer_async(job_id=str(job_id), on_done=on_done, started=started, deadline=deadline, **name)

    async def hint(self, job: UUID | str | TtsJob, *, poller: str | None = None) -> bool:
        """Tell the workers that a job may have finished, for example from a webhook handler in any process.

        The next poll of the job becomes due now. It takes its turn after the polls that have been due for longer, and
        is sent when a worker fetches the row. A hint is never believed, and brings a row forward at most once per
        second. The pauses after a failure of the service and after a handler that raised are not shortened.

        The app must be open. May be called from many tasks at once.

        Args:
            job: The job, its id, or the text of its id.
            poller: The name of the job's poller, if it is not a job of PlayAI.

        Returns:
            Whether a poll was brought forward. False if no wait for the job is stored, or its poll is due already, is
            being sent, or was brought forward less than a second ago.

        Raises:
            ValueError: The text is not a UUID, or no poller has this name.
            TypeError: The argument is not a job, a job id or its text.
            procrastinate.exceptions.ProcrastinateException: A database error, an app that is not open, or a blueprint
                that was not added to an app.
        """
        job_id = self._service(poller).parse(job)
        task = self._wait_task.configure()
        return await bring_forward(task.job_manager.connector, task.job.task_name, job_id, poller)

    def _service(self, poller: str | None) -> Service:
        service = self._services.get(poller)
        if service is None:
            raise ValueError("there is no session" if poller is None else f"no poller is named {poller!r}")
        return service

    async def _poll(self, context: JobContext, /, **arguments: object) -> None:
        """Poll the job once, and end the wait or reschedule the row. A procrastinate task; its arguments are stored."""
        self._write_retrier.watch(context)
        turn = Turn(context)
        row = row_of(arguments, context.job.attempts)
        try:
            reschedule = await self._poll_and_notify(row, turn, context)
        except asyncio.CancelledError:
            # Aborted by the user, the row is finished. So is the row of a handler that only raised CancelledError.
            if row is None or context.abort_reason() is AbortReason.USER_REQUEST or not _is_cancelled():
                raise
            reschedule = on_worker_shutdown(row, now())
        except RowTaken as taken:
            self._emitter.emit(DurableRowTaken(context.job.id))
            raise taken from None
        if reschedule is not None:
            end = await turn.reschedule(reschedule)
            if isinstance(end, RowTaken):
                self._emitter.emit(DurableRowTaken(context.job.id))
            raise end

    async def _poll_and_notify(self, row: Row | None, turn: Turn, context: JobContext) -> Reschedule | None:
        """Poll the job, and call the handler if the wait has ended."""
        if row is None:
            self._emitter.emit(DurableRowUnknown(context.job.id))
            return on_unknown_row(now())
        handler = self._handlers.get(row.on_done)
        if handler is None or handler.poller != row.poller:
            self._emitter.emit(DurableHandlerUnknown(row.job_id, row.on_done))
            return on_misconfigured_worker(row, now(), "this worker does not have its handler")
        outcome = await self._request(row, self._services[row.poller])
        if isinstance(outcome, Reschedule):
            return outcome
        async with turn.held():
            return await self._call(handler, outcome, row, context)

    async def _call(self, handler: Handler, outcome: AnyOutcome, row: Row, context: JobContext) -> Reschedule | None:
        """Call the handler. Return when it is called again, or None."""
        try:
            await handler.function(outcome)
        except BaseException as error:  # procrastinate suppresses even SystemExit, and would end the row
            if _is_cancelled() and context.abort_reason() is not None:
                raise asyncio.CancelledError from error  # the worker shuts down, whatever the handler raised
            _uncancel()
            reschedule = on_handler_error(row, now(), self._max_handler_failures)
            plan = None if reschedule is None else reschedule.reason
            self._emitter.emit(DurableHandlerFailed(row.job_id, row.on_done, error, plan))
            if reschedule is None:
                raise
            return reschedule
        return None

    async def _request(self, row: Row, service: Service) -> Reschedule | AnyOutcome:
        """Send one status request, unless the session is paused, and decide what happens next."""
        sent_at, judge = now(), service.judge
        decision = before_request(row, sent_at, service.paused_for(), judge)
        if decision is not None:
            return decision
        result: object
        timeout = asyncio.timeout(MAX_POLL_TIME)
        try:
            async with timeout:
                result = await service.get(row.job_id)
        except Exception as error:  # noqa: BLE001 - whatever a client raises
            if timeout.expired() and isinstance(error, TimeoutError):
                return on_no_reply(row, now(), reason="the rate limit delayed the request too long", judge=judge)
            result = error
        try:
            self._note_refusal(row, result, judge.meaning(result))
            pause = service.paused_for()
            return on_result(row, result, sent_at, now(), pause=pause, polling=service.polling, judge=judge)
        except (ConfigurationError, PollerClosedError) as error:
            # A mistake in one worker must not end waits: they continue when the worker is fixed.
            self._emitter.emit(DurableWorkerMisconfigured(row.job_id, row.on_done, error))
            return on_misconfigured_worker(row, now(), "the settings of this worker are wrong")

    def _note_refusal(self, row: Row, result: object, meaning: Meaning) -> None:
        """Report a refused key once: a night of it concerns every row."""
        if meaning is Meaning.REFUSED and isinstance(result, Exception):
            if row.poller not in self._refused:
                self._refused.add(row.poller)
                self._emitter.emit(DurableKeyRefused(row.job_id, row.on_done, result))
        elif meaning in {Meaning.DONE, Meaning.UNFINISHED}:
            self._refused.discard(row.poller)

    async def _rescue(self, context: JobContext, timestamp: int) -> None:  # noqa: ARG002 - procrastinate passes it
        """Reschedule the rows of dead workers. A periodic procrastinate task."""
        names = self._wait_task.name, self._rescue_task.name
        await rescue(context.app.job_manager, *names, self._emitter, timeout=timeout_of(context))


def _is_cancelled() -> bool:
    """Return whether the current task was cancelled."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _uncancel() -> None:
    """Undo cancellations that no worker requested: a handler that cancels its own task must not be called for ever."""
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()


def _services(
    playai: object, pollers: Mapping[str, JobPoller[str, Any]], polling: Polling | None
) -> dict[str | None, Service]:
    """Return the services to wait for, by the name of their poller; None is PlayAI's."""
    services: dict[str | None, Service] = {}
    if playai is not None:
        services[None] = playai_service(checked("playai", playai, PlayAISession))
    for name, poller in dict(pollers).items():
        if not checked("the name of a poller", name, str):
            raise ConfigurationError("the name of a poller is empty")
        checked(f"pollers[{name!r}]", poller, JobPoller)
        services[name] = poller_service(poller)
    if not services:
        raise ConfigurationError("DurableWaits needs a session or pollers")
    if polling is None:
        return services
    checked("polling", polling, Polling)
    return {name: attrs.evolve(service, polling=polling) for name, service in services.items()}
