"""An HTTP client without knowledge of the contract: it sends what it is given and returns the response."""

import io
import json
from collections.abc import Mapping
from typing import Any, Self
from uuid import UUID

import aiohttp
import attrs

from playai_async.emulator import Emulator

CREDENTIALS = {"Authorization": "Bearer key", "X-USER-ID": "user"}
PARAMETERS = {"text": "Hello.", "voice": "s3://voices/one/manifest.json"}


@attrs.frozen
class Reply:
    """An HTTP response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class PlainClient:
    """Sends requests to an emulator; an async context manager."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        # aiohttp's own timeout of five minutes would end requests that should hang.
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None))
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._session.close()

    async def send(
        self, method: str, path: str, headers: Mapping[str, str] = CREDENTIALS, body: bytes | None = None
    ) -> Reply:
        """Send any request to the API."""
        return await self.fetch(self._emulator.base_url + path, method, headers, body)

    async def fetch(
        self, url: str, method: str = "GET", headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Reply:
        """Send a request to any URL, such as a link to audio, without credentials."""
        data = None if body is None else io.BytesIO(body)  # aiohttp warns of large bytes objects
        async with self._session.request(method, url, headers=headers, data=data, allow_redirects=False) as response:
            return Reply(response.status, response.headers, await response.read())

    async def ask(self, job_id: UUID | str, headers: Mapping[str, str] = CREDENTIALS) -> Reply:
        """Request the status of a job."""
        return await self.send("GET", f"/api/v1/tts/{job_id}", headers)

    async def create(self, parameters: Any = PARAMETERS, headers: Mapping[str, str] = CREDENTIALS) -> Reply:
        """Create a job; parameters that are not bytes are sent as JSON."""
        body = parameters if isinstance(parameters, bytes) else json.dumps(parameters).encode()
        return await self.send("POST", "/api/v1/tts", {"Content-Type": "application/json", **headers}, body)
