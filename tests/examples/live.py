"""The example and the service in a thread of their own, in real time: a browser is not of a test's loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import UUID

import attrs
import uvicorn

from examples.fastapi_backend.app import create_app
from examples.fastapi_backend.server import Server
from playai_async import PlayAISession
from playai_async.emulator import Emulator
from tests.support.scripted import API_KEY, USER_ID
from tools.servers.machine import free_port

SECONDS = 60

_T = TypeVar("_T")


class Live:
    """Serves the example on loopback, on an emulator whose jobs end when a test says so."""

    def __init__(self) -> None:
        self.emulator = Emulator(job_duration=float("inf"), api_key=API_KEY, user_id=USER_ID)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._server: Server | None = None
        self._port = free_port()

    def __enter__(self) -> Self:
        self._thread.start()
        self._await(self.emulator.start())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.stop()
        self._await(self.emulator.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(SECONDS)
        self._loop.close()

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self._port}/"

    @property
    def playai(self) -> PlayAISession:
        """The app's session, for looks at its `stats`."""
        assert self._server
        playai: PlayAISession = self._server.lifespan.state["playai"]
        return playai

    def start(self) -> None:
        """Serve, on the same port as before."""
        self._await(self._start())

    def stop(self) -> None:
        """End the server as a signal does."""
        self._await(self._stop())

    def call(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """Call something in the loop that it belongs to."""

        async def called() -> _T:
            return function(*arguments)

        return self._await(called())

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds, in the loop that it belongs to."""
        self._await(self._holds(condition))

    def finish(self, job_id: UUID) -> None:
        """Let a job that was created be done."""
        self.call(self._finish, job_id)

    def call_webhook(self, job_id: UUID) -> None:
        """Let the service call the webhook of a job that is done."""
        self.call(self.emulator._webhooks.on_change, job_id)

    def _finish(self, job_id: UUID) -> None:
        jobs = self.emulator._jobs_api.jobs
        jobs[job_id] = attrs.evolve(jobs[job_id], duration=self._loop.time() - jobs[job_id].began)

    def _await(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(SECONDS)

    async def _holds(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(SECONDS):
            while not condition():
                await asyncio.sleep(0.01)

    async def _start(self) -> None:
        self._server = server = Server(
            uvicorn.Config(create_app(), port=self._port, log_config=None, timeout_graceful_shutdown=5)
        )
        self._serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)

    async def _stop(self) -> None:
        if self._server:
            self._server.should_exit = True
            await self._serving
            self._server = None
