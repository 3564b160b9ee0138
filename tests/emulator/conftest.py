"""Fixtures for the tests of the emulator."""

from collections.abc import AsyncIterator

import pytest

from playai_async.emulator import Emulator
from tests.emulator.plain_client import PlainClient


@pytest.fixture
async def client(emulator: Emulator) -> AsyncIterator[PlainClient]:
    """A plain HTTP client connected to the emulator."""
    async with PlainClient(emulator) as client:
        yield client
