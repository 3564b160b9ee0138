"""Fixtures for pytest: an emulator of the service for each test, and a session connected to it.

The fixtures are a plugin. Enable it in the top-level `conftest.py` of a test suite::

    pytest_plugins = ["playai_async.testing"]

The plugin is not registered as an entry point, because pytest would then import it in every test run of every
environment that has the library installed. It patches nothing, and keeps no state from one test to the next.
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
        "playai_async.testing needs the extra 'testing' (pytest and pytest-asyncio): pip install pytest pytest-asyncio"
    ) from error

__all__ = ["playai_emulator", "playai_session"]


@pytest_asyncio.fixture
async def playai_emulator(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Emulator]:
    """Run an `Emulator` in the event loop of the test, until the test ends.

    The environment variables `PLAYAI_API_KEY`, `PLAYAI_USER_ID` and `PLAYAI_BASE_URL` point to it, so every
    `PlayAISession()` created during the test connects to it. The emulator has no quota and accepts any key. Change
    its settings in the test, for example with `playai_emulator.quota = 60`.

    With looptime, virtual time begins with the test. Add jobs in the test and not in a fixture, which has another
    clock. A test that is not `async def` fails.

    Returns:
        The running emulator. It is stopped when the test ends, also when the test fails or is cancelled.
    """
    function = getattr(request.node, "obj", None)
    if not (pytest_asyncio.is_async_test(request.node) or inspect.iscoroutinefunction(function)):
        # The loop does not run during such a test, so requests would wait for a response until they time out.
        pytest.fail(
            "playai_emulator runs in the event loop of an async test, and this test is not async:"
            " write it as `async def`, or run an Emulator in a thread",
            pytrace=False,
        )
    async with Emulator() as emulator:
        # The same fixture as the test's: two would be undone in the wrong order, and the test's would then restore the
        # values that are set here.
        monkeypatch.setenv("PLAYAI_API_KEY", "a-key-for-tests")
        monkeypatch.setenv("PLAYAI_USER_ID", "a-user-for-tests")
        monkeypatch.setenv("PLAYAI_BASE_URL", emulator.base_url)
        yield emulator


@pytest_asyncio.fixture
async def playai_session(playai_emulator: Emulator) -> AsyncIterator[PlayAISession]:  # noqa: ARG001 - it must be running
    """Open a `PlayAISession` connected to `playai_emulator`, for code that is given a session.

    Returns:
        The open session. It is closed when the test ends, which cancels its requests.
    """
    async with PlayAISession() as session:
        yield session
