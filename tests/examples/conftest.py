"""A service on loopback that the environment leads to, and a place for copies of the examples."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from playai_async.emulator import Emulator
from tests.examples.copies import Site
from tests.support.scripted import API_KEY, USER_ID


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key and a user id in the environment."""
    monkeypatch.setenv("PLAYAI_API_KEY", API_KEY)
    monkeypatch.setenv("PLAYAI_USER_ID", USER_ID)


@pytest.fixture
async def emulator(credentials: None, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Emulator]:
    """The service, which insists on those credentials."""
    async with Emulator(api_key=API_KEY, user_id=USER_ID) as emulator:
        monkeypatch.setenv("PLAYAI_BASE_URL", emulator.base_url)
        yield emulator


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A place for a copy of an example."""
    return Site.below(tmp_path)
