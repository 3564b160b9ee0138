"""Fixtures for pytest: the service on loopback for each test, and a session with it.

A plugin that the top-level `conftest.py` of a test suite switches on::

    pytest_plugins = ["playai_async.testing"]

It must change nothing for those who do not: so it is no entry point, which pytest would import in every run of every
environment that has the library. It patches nothing, and keeps nothing from one test to the next.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator

from playai_async._session import PlayAISession
from playai_async.emulator import Emulator

try:
    import pytest
    import pytest_asyncio
except ImportError as error:
    raise ImportError(
        "playai_async.testing needs pytest and pytest-asyncio; install them with: pip install 'playai-async[testing]'"
    ) from error

__all__ = ["playai_emulator", "playai_session"]


@pytest_asyncio.fixture
async def playai_emulator(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Emulator]:
    """The service on loopback, on the loop of the test, until the test ends.

    `PLAYAI_API_KEY`, `PLAYAI_USER_ID` and `PLAYAI_BASE_URL` lead to it, so that whatever makes a `PlayAISession()`
    during the test talks to it. It has no quota and takes any key; what is to be otherwise is set in the test, as
    `playai_emulator.quota` is.

    Under looptime, virtual time begins with the test: add jobs there, and not in a fixture, whose clock is another.
    """
    function = getattr(request.node, "obj", None)
    if not (pytest_asyncio.is_async_test(request.node) or inspect.iscoroutinefunction(function)):
        # The loop stands still during such a test, and requests would wait for an answer until they time out.
        pytest.fail(
            "playai_emulator answers on the event loop of an asynchronous test, and this one is not: write it as"
            " `async def`, or run an Emulator in a thread",
            pytrace=False,
        )
    async with Emulator() as emulator:
        # The test's own fixture, lest what the test sets with it be undone after this, to what this has set.
        monkeypatch.setenv("PLAYAI_API_KEY", "a-key-for-tests")
        monkeypatch.setenv("PLAYAI_USER_ID", "a-user-for-tests")
        monkeypatch.setenv("PLAYAI_BASE_URL", emulator.base_url)
        yield emulator


@pytest_asyncio.fixture
async def playai_session(playai_emulator: Emulator) -> AsyncIterator[PlayAISession]:  # noqa: ARG001 - it has to be there
    """An open session with `playai_emulator`, closed when the test ends; for what is given a session to use."""
    async with PlayAISession() as session:
        yield session
