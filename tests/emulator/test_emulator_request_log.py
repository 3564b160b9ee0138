"""The counts and the log of requests."""

import asyncio

import aiohttp
import pytest

from playai_async.emulator import Emulator, Hang, Reset, Status
from tests.emulator.plain_client import CREDENTIALS, PlainClient

pytestmark = pytest.mark.looptime

UNKNOWN = "11111111-2222-4333-8444-555555555555"


async def test_every_request_is_counted(emulator: Emulator, client: PlainClient) -> None:
    """Requests that meet a fault and requests to unknown paths, too. A reset has no status."""
    job_id = emulator.add_job()
    emulator.inject(Status(503))
    emulator.inject(Status(429))
    emulator.inject(Reset(), times=2)
    await client.ask(job_id)
    await client.ask(job_id)
    with pytest.raises(aiohttp.ClientOSError):
        await client.ask(job_id)
    await client.send("GET", "/nowhere")
    assert emulator.stats.requests == 5
    assert emulator.stats.by_status == {503: 1, 429: 1, 404: 1}
    assert emulator.stats.throttled == 1


async def test_requests_are_counted_for_each_job(emulator: Emulator, client: PlainClient) -> None:
    """An invalid id counts for no job."""
    job_id, other = emulator.add_job(), emulator.add_job()
    for asked in (job_id, job_id, "bad"):
        await client.ask(asked)
    assert (emulator.requests_of(job_id), emulator.requests_of(other)) == (2, 0)


async def test_arrivals_have_time_path_and_headers(emulator: Emulator, client: PlainClient) -> None:
    """In the order of arrival, in loop time; the path is unchanged and headers have case-insensitive lookup."""
    job_id = emulator.add_job()
    await asyncio.sleep(1.5)
    await client.ask(job_id)
    await asyncio.sleep(2.0)
    await client.send("GET", f"/api/v1/tts/{UNKNOWN}x?a=%20b")
    first, second = emulator.arrivals
    assert (first.at, first.method, first.path, first.job_id, first.status) == (
        1.5,
        "GET",
        f"/api/v1/tts/{job_id}",
        job_id,
        200,
    )
    assert first.headers["authorization"] == CREDENTIALS["Authorization"]
    assert (second.at, second.path, second.job_id, second.status) == (
        3.5,
        f"/api/v1/tts/{UNKNOWN}x?a=%20b",
        None,
        400,
    )


async def test_an_arrival_does_not_show_the_key(emulator: Emulator, client: PlainClient) -> None:
    """Its repr appears in the output of tests that fail."""
    await client.ask(emulator.add_job(), {"Authorization": "Bearer very-secret", "X-USER-ID": "user"})
    assert "very-secret" not in repr(emulator.arrivals)


async def test_an_arrival_without_a_response_has_no_status(emulator: Emulator, client: PlainClient) -> None:
    """It gets a status if the response is sent later."""
    emulator.inject(Hang())
    asking = asyncio.create_task(client.ask(emulator.add_job()))
    await asyncio.sleep(1.0)
    before = emulator.arrivals[0].status
    emulator.clear_faults()
    await asking
    assert (before, emulator.arrivals[0].status) == (None, 200)


async def test_requests_in_progress_are_counted(emulator: Emulator, client: PlainClient) -> None:
    """The current number and the maximum."""
    job_id = emulator.add_job()
    emulator.inject(Hang(), times=None)
    asking = [asyncio.create_task(client.ask(job_id)) for _ in range(7)]
    await asyncio.sleep(1.0)
    assert (emulator.stats.in_flight, emulator.stats.most_in_flight) == (7, 7)
    emulator.clear_faults()
    await asyncio.gather(*asking)
    assert (emulator.stats.in_flight, emulator.stats.most_in_flight) == (0, 7)


async def test_counts_can_be_reset(emulator: Emulator, client: PlainClient) -> None:
    """Requests in progress stay counted, because their responses will be counted, too."""
    job_id = emulator.add_job()
    await asyncio.gather(*(client.ask(job_id) for _ in range(3)))
    emulator.inject(Hang())
    asking = asyncio.create_task(client.ask(job_id))
    await asyncio.sleep(1.0)
    emulator.reset_stats()
    assert (emulator.stats.requests, emulator.stats.in_flight, emulator.stats.most_in_flight) == (1, 1, 1)
    assert (emulator.arrivals, emulator.requests_of(job_id)) == ((), 0)
    emulator.clear_faults()
    await asking
    assert emulator.stats.by_status == {200: 1}


async def test_an_arrival_holds_the_body_of_a_post(emulator: Emulator, client: PlainClient) -> None:
    """Unchanged, valid or not. It is not in the repr, because it has the text to speak."""
    await client.create(b"{ no JSON")
    await client.ask(emulator.add_job())
    assert [arrival.body for arrival in emulator.arrivals] == [b"{ no JSON", b""]
    assert "no JSON" not in repr(emulator.arrivals)


async def test_requests_for_audio_are_logged_separately(emulator: Emulator, client: PlainClient) -> None:
    """They are not requests to the API; `reset_stats()` forgets them as well."""
    job_id = emulator.add_job()
    await asyncio.sleep(1.5)
    link = emulator.link_of(job_id)
    await client.fetch(link, headers={"Range": "bytes=0-9"})
    (arrival,) = emulator.audio_arrivals
    assert (arrival.at, arrival.method, arrival.job_id, arrival.status) == (1.5, "GET", job_id, 206)
    assert emulator.audio_url + arrival.path == link
    assert arrival.headers["range"] == "bytes=0-9"
    assert (emulator.stats.requests, emulator.arrivals, emulator.requests_of(job_id)) == (0, (), 0)
    emulator.reset_stats()
    assert emulator.audio_arrivals == ()


@pytest.mark.parametrize("history", [0, 2], ids=["none", "two"])
async def test_arrivals_are_bounded_and_counts_are_not(history: int) -> None:
    """The latest arrivals are kept, so that a long run needs no more memory than a short one."""
    async with Emulator(history=history) as emulator, PlainClient(emulator) as client:
        for number in range(5):
            await client.send("GET", f"/{number}")
        assert [arrival.path for arrival in emulator.arrivals] == ["/3", "/4"][:history]
        assert emulator.stats.requests == 5


async def test_a_snapshot_does_not_change(emulator: Emulator, client: PlainClient) -> None:
    """So two snapshots can be compared."""
    before = emulator.stats
    await client.ask(emulator.add_job())
    assert (before.requests, dict(before.by_status)) == (0, {})
