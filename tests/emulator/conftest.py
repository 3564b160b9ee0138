"""A client for the emulator of the tests above."""

from collections.abc import AsyncIterator

import pytest

from playai_async.emulator import Emulator
from tests.emulator.plain_client import PlainClient


@pytest.fixture
async def client(emulator: Emulator) -> AsyncIterator[PlainClient]:
    """A client of the emulator."""
    async with PlainClient(emulator) as client:
        yield client
