"""Status endpoints of other services, for the examples of the pages."""

from __future__ import annotations

import os
from collections import Counter
from typing import Self

from aiohttp import web


class OtherServices:
    """A server on loopback with OpenAI's batches and the tasks of some service. Jobs end at their second answer.

    Attributes:
        url: Its address.
        answers: How often each job was answered for.
        endless: The jobs that never end.
        refusals: How many of the next requests get a 429 with `Retry-After: 7`.
    """

    def __init__(self) -> None:
        self.url = ""
        self.answers: Counter[str] = Counter()
        self.endless: set[str] = set()
        self.refusals = 0
        app = web.Application()
        app.router.add_get("/batches/{id}", self._batch)
        app.router.add_get("/tasks/{id}", self._task)
        self._runner = web.AppRunner(app, shutdown_timeout=1.0)

    @classmethod
    async def started(cls) -> Self:
        """Start a server, and lead the client of OpenAI to it by the environment."""
        server = cls()
        await server._runner.setup()
        await web.TCPSite(server._runner, "127.0.0.1", 0).start()
        server.url = f"http://127.0.0.1:{server._runner.addresses[0][1]}"
        os.environ |= {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "a-key-for-examples"}
        return server

    async def stop(self) -> None:
        """Stop it."""
        del os.environ["OPENAI_BASE_URL"], os.environ["OPENAI_API_KEY"]
        await self._runner.cleanup()

    async def _batch(self, request: web.Request) -> web.Response:
        fields = {"object": "batch", "created_at": 1, "endpoint": "/v1/responses"}
        return self._answer(request.match_info["id"], fields, ("in_progress", "completed"))

    async def _task(self, request: web.Request) -> web.Response:
        return self._answer(request.match_info["id"], {}, ("RUNNING", "SUCCEEDED"))

    def _answer(self, job_id: str, fields: dict[str, object], statuses: tuple[str, str]) -> web.Response:
        if self.refusals:
            self.refusals -= 1
            return web.json_response({}, status=429, headers={"Retry-After": "7"})
        self.answers[job_id] += 1
        ended = self.answers[job_id] > 1 and job_id not in self.endless
        return web.json_response({"id": job_id, **fields, "status": statuses[ended]})
