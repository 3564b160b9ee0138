"""OpenAI's status endpoint for batches, for the examples of the pages that use its client."""

from __future__ import annotations

from collections import Counter
from typing import Self

import pytest
from aiohttp import web


class BatchServer:
    """A server on loopback whose batches complete at the second answer for each.

    Attributes:
        requests: How often each batch was asked for.
        refusals: How many of the next requests get a 429.
    """

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.refusals = 0
        app = web.Application()
        app.router.add_get("/batches/{id}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=1.0)
        self._environment = pytest.MonkeyPatch()

    @classmethod
    async def started(cls) -> Self:
        """Start a server, and lead the client of OpenAI to it by the environment."""
        server = cls()
        await server._runner.setup()
        await web.TCPSite(server._runner, "127.0.0.1", 0).start()
        server._environment.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server._runner.addresses[0][1]}")
        server._environment.setenv("OPENAI_API_KEY", "a-key-for-examples")
        return server

    async def stop(self) -> None:
        """Stop it."""
        self._environment.undo()
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        batch_id = request.match_info["id"]
        if self.refusals:
            self.refusals -= 1
            return web.json_response({}, status=429)
        self.requests[batch_id] += 1
        batch = {"id": batch_id, "object": "batch", "created_at": 1, "endpoint": "/v1/responses"}
        return web.json_response({**batch, "status": "in_progress" if self.requests[batch_id] == 1 else "completed"})
