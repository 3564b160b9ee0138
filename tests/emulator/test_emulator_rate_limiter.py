"""The rate limit: fixed windows, counted for each key."""

import asyncio
from typing import Any

import pytest

from playai_async.emulator import Emulator, Status
from tests.emulator.plain_client import PlainClient

pytestmark = pytest.mark.looptime


async def statuses(client: PlainClient, count: int) -> list[int]:
    """Request an unknown job `count` times: 404 is within the quota, 429 is beyond."""
    return [(await client.ask("11111111-2222-4333-8444-555555555555")).status for _ in range(count)]


async def test_past_the_quota_comes_429_until_the_window_ends() -> None:
    """The window is fixed: it ends a minute after it began, not a minute after the request."""
    async with Emulator(quota=2) as emulator, PlainClient(emulator) as client:
        await asyncio.sleep(50.0)
        assert await statuses(client, 3) == [404, 404, 429]
        await asyncio.sleep(9.999)
        assert await statuses(client, 1) == [429]
        await asyncio.sleep(0.001)
        assert await statuses(client, 3) == [404, 404, 429]


async def test_a_429_is_a_bare_string_without_retry_after() -> None:
    """In the contract the body is not an object, and Retry-After is not promised."""
    async with Emulator(quota=0) as emulator, PlainClient(emulator) as client:
        reply = await client.ask(emulator.add_job())
    assert reply.json == "Rate limit exceeded. Please wait a few moments and try again."
    assert reply.headers["Content-Type"] == "application/json"
    assert "Retry-After" not in reply.headers


@pytest.mark.parametrize(("asked_at", "hint"), [(0.0, "60"), (0.5, "60"), (59.5, "1"), (60.0, "60")], ids=str)
async def test_retry_after_is_the_end_of_the_window(asked_at: float, hint: str) -> None:
    """In whole seconds, rounded up, so a client that waits that long is always late enough."""
    async with Emulator(quota=0, retry_after=True) as emulator, PlainClient(emulator) as client:
        await asyncio.sleep(asked_at)
        reply = await client.ask(emulator.add_job())
    assert reply.headers["Retry-After"] == hint


async def test_the_phase_is_the_part_of_the_first_window_that_has_passed() -> None:
    """Clients do not know when windows begin, so tests need windows that begin anywhere."""
    async with Emulator(quota=1, window=10.0, phase=8.0) as emulator, PlainClient(emulator) as client:
        assert await statuses(client, 2) == [404, 429]
        await asyncio.sleep(2.0)
        assert await statuses(client, 2) == [404, 429]
        await asyncio.sleep(9.999)
        assert await statuses(client, 1) == [429]


async def test_windows_begin_when_the_emulator_first_starts() -> None:
    """Not when the loop began, and not again after a restart."""
    await asyncio.sleep(33.0)
    async with Emulator(quota=1) as emulator, PlainClient(emulator) as client:
        await asyncio.sleep(30.0)
        assert await statuses(client, 1) == [404]
        await emulator.restart()
        await asyncio.sleep(29.999)
        assert await statuses(client, 1) == [429]
        await asyncio.sleep(0.001)
        assert await statuses(client, 1) == [404]


async def test_windows_begin_at_zero_when_the_clock_goes_back(emulator: Emulator, client: PlainClient) -> None:
    """Fixtures run by the wall clock, which must not move the windows of virtual time."""
    emulator.quota = 1
    await asyncio.sleep(59.999)
    assert await statuses(client, 2) == [404, 429]
    await asyncio.sleep(0.001)
    assert await statuses(client, 2) == [404, 429]


async def test_each_key_has_its_own_quota() -> None:
    """The user id has no effect on the quota."""
    async with Emulator(quota=1) as emulator, PlainClient(emulator) as client:
        job_id = emulator.add_job()
        asked = [("a", "x"), ("a", "y"), ("b", "x")]
        replies = [
            await client.ask(job_id, {"Authorization": f"Bearer {key}", "X-USER-ID": user}) for key, user in asked
        ]
    assert [reply.status for reply in replies] == [200, 429, 200]


async def test_the_quota_can_be_changed_at_run_time() -> None:
    """Refused requests spend nothing, so a higher quota lets exactly the difference through."""
    async with Emulator(quota=1) as emulator, PlainClient(emulator) as client:
        assert await statuses(client, 3) == [404, 429, 429]
        emulator.quota = 2
        assert await statuses(client, 2) == [404, 429]
        emulator.quota = None
        assert await statuses(client, 2) == [404, 404]
        assert emulator.quota is None


async def test_a_request_that_meets_a_fault_spends_quota_too() -> None:
    """A service that fails has already counted the request."""
    async with Emulator(quota=1) as emulator, PlainClient(emulator) as client:
        emulator.inject(Status(503))
        assert await statuses(client, 2) == [503, 429]


async def test_no_window_lets_more_than_the_quota_through() -> None:
    """Whatever the pace is."""
    async with Emulator(quota=3, window=10.0) as emulator, PlainClient(emulator) as client:
        for _ in range(46):
            await statuses(client, 1)
            await asyncio.sleep(1.3)
        accepted = [arrival.at // 10.0 for arrival in emulator.arrivals if arrival.status == 404]
    assert {window: accepted.count(window) for window in accepted} == dict.fromkeys(range(6), 3)


async def test_creating_has_its_own_quota() -> None:
    """For each key, in windows of the same length and phase. Neither quota spends the other."""
    async with (
        Emulator(quota=1, create_quota=2, window=10.0, phase=8.0, retry_after=True) as emulator,
        PlainClient(emulator) as client,
    ):
        replies = [await client.create() for _ in range(3)]
        assert [reply.status for reply in replies] == [201, 201, 429]
        assert (replies[2].headers["Retry-After"], len(emulator.jobs)) == ("2", 2)
        assert (await client.create(headers={"Authorization": "Bearer other", "X-USER-ID": "user"})).status == 201
        assert await statuses(client, 2) == [404, 429]
        await asyncio.sleep(2.0)
        assert (await client.create()).status == 201


async def test_the_create_quota_can_be_changed_at_run_time(emulator: Emulator, client: PlainClient) -> None:
    """By default it is unlimited."""
    assert (emulator.create_quota, (await client.create()).status) == (None, 201)
    emulator.create_quota = 1
    assert (emulator.create_quota, (await client.create()).status) == (1, 429)


@pytest.mark.parametrize("name", ["quota", "create_quota"])
@pytest.mark.parametrize("quota", [-1, 1.5, True, "60"], ids=repr)
async def test_an_invalid_quota_is_refused(emulator: Emulator, name: str, quota: Any) -> None:
    """At run time as at construction."""
    with pytest.raises((TypeError, ValueError), match=f"^{name} "):
        setattr(emulator, name, quota)
    with pytest.raises((TypeError, ValueError), match=f"^{name} "):
        Emulator(**{name: quota})
