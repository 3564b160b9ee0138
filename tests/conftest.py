"""What every test runs under: virtual time, and nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import inspect
import random
from collections.abc import AsyncIterator, Generator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from playai_async import PlayAISession
from playai_async.emulator import Emulator
from tests.support.dice import Dice
from tests.support.scripted import API_KEY, USER_ID, ScriptedService


def pytest_configure(config: pytest.Config) -> None:
    """Keep looptime, which asks for a loop at every test, from making asyncio open one that nobody closes."""
    asyncio.set_event_loop(None)
    # At the setup of each fixture, looptime lists all fixtures of pytest-asyncio, which takes 0.1 ms.
    looptime: Any = config.pluginmanager.getplugin("looptime_plugin")
    looptime._should_patch = lambda fixture, _: fixture.func.__module__ == "pytest_asyncio.plugin"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run every asynchronous test in virtual time, and see that it leaves nothing behind."""
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.function):
            # Idle rounds of the loop before time goes on: where no socket is, there is nothing to wait for.
            item.add_marker(pytest.mark.looptime(noop_cycles=0 if "service" in item.fixturenames else 3))
            item.fixturenames.insert(0, "nothing_left")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect no garbage while modules are imported. Exempt these modules from the collection after each test."""
    gc.disable()
    try:
        return (yield)
    finally:
        # Hypothesis looks up once what refers to its random numbers. After `gc.freeze`, Python 3.14 does not find it.
        given(st.none())(lambda _: None)()
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("PLAYAI_API_KEY", "PLAYAI_USER_ID", "PLAYAI_BASE_URL"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
async def nothing_left() -> AsyncIterator[None]:
    """Fail a test that leaves a task behind, or an object that warns of a resource when it goes."""
    before = asyncio.all_tasks()
    yield
    for _ in range(10):  # servers and clients in one loop see each other's connections go a few steps later
        await asyncio.sleep(0)
    assert asyncio.all_tasks() - before - {asyncio.current_task()} == set()
    gc.collect(1)


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    """The service on loopback, without a quota."""
    async with Emulator() as emulator:
        yield emulator


@pytest.fixture
async def playai(emulator: Emulator) -> AsyncIterator[PlayAISession]:
    """A session with the service on loopback."""
    async with PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url) as playai:
        yield playai


@pytest.fixture
async def service() -> AsyncIterator[ScriptedService]:
    """The service as a list of answers, without any socket."""
    with ScriptedService() as service:
        yield service


@pytest.fixture
async def session(service: ScriptedService) -> AsyncIterator[PlayAISession]:
    """A session with the scripted service."""
    async with PlayAISession(API_KEY, USER_ID) as session:
        yield session


@pytest.fixture
def dice(monkeypatch: pytest.MonkeyPatch) -> Dice:
    """Dice that stretch no pause, unless told otherwise."""
    dice = Dice(0.0)
    monkeypatch.setattr(random, "uniform", dice)
    return dice
