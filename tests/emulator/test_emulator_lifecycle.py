"""Start, stop and restart, arguments, and the public names."""

import ast
import asyncio
import logging
import math
import pickle
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import aiohttp
import pytest

import playai_async.emulator
from playai_async.emulator import Arrival, Emulator, EmulatorStats, Fault, Hang, Malformed, Reset, Slow, Status
from tests.emulator.plain_client import CREDENTIALS, PlainClient

UNKNOWN = "11111111-2222-4333-8444-555555555555"


@pytest.mark.looptime
async def test_a_restart_keeps_port_jobs_faults_and_counts(emulator: Emulator, client: PlainClient) -> None:
    """To a client, the service was unreachable for a moment."""
    job_id, urls = emulator.add_job(duration=10.0), (emulator.base_url, emulator.audio_url)
    emulator.inject(Hang(), times=None)
    asking = asyncio.create_task(client.ask(job_id))
    await asyncio.sleep(1.0)
    await emulator.restart()
    emulator.clear_faults()
    with pytest.raises(aiohttp.ClientError):
        await asking
    await asyncio.sleep(9.0)
    assert (await client.ask(job_id)).json["output"]["status"] == "COMPLETED"
    assert (emulator.base_url, emulator.audio_url) == urls
    assert (emulator.stats.requests, emulator.stats.by_status) == (2, {200: 1})


@pytest.mark.looptime
async def test_between_stop_and_start_connections_are_refused(emulator: Emulator, client: PlainClient) -> None:
    """Nothing listens on either port."""
    link = emulator.link_of(emulator.add_job())
    await emulator.stop()
    with pytest.raises(aiohttp.ClientConnectorError):
        await client.ask(UNKNOWN)
    with pytest.raises(aiohttp.ClientConnectorError):
        await client.fetch(link)
    await emulator.start()
    assert (await client.fetch(link)).status == 200
    assert (await client.ask(UNKNOWN)).status == 404


@pytest.mark.looptime
@pytest.mark.parametrize("fault", [Hang(), Slow(1000.0)], ids=["hang", "slow"])
async def test_stop_aborts_requests_in_progress_at_once(client: PlainClient, emulator: Emulator, fault: Fault) -> None:
    """It takes no virtual time."""
    loop = asyncio.get_running_loop()
    emulator.inject(fault, times=None)
    asking = [asyncio.create_task(client.ask(emulator.add_job())) for _ in range(20)]
    await asyncio.sleep(1.0)
    await emulator.stop()
    assert loop.time() == 1.0
    results = await asyncio.gather(*asking, return_exceptions=True)
    assert all(isinstance(result, aiohttp.ClientError) for result in results)
    assert emulator.stats.in_flight == 0


@pytest.mark.looptime
async def test_stop_closes_idle_connections() -> None:
    """Kept alive or never used; no task is left."""
    async with Emulator() as emulator:
        port = int(emulator.base_url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with aiohttp.ClientSession(headers=CREDENTIALS) as session:
            async with session.get(f"{emulator.base_url}/api/v1/tts/{UNKNOWN}") as response:
                await response.read()
            await emulator.stop()
            assert await reader.read() == b""
            assert asyncio.all_tasks() == {asyncio.current_task()}
        writer.close()
        await writer.wait_closed()


@pytest.mark.looptime
async def test_stop_is_idempotent(emulator: Emulator) -> None:
    """Stopping twice, or before a start, does nothing."""
    await Emulator().stop()
    await emulator.stop()
    await emulator.stop()


@pytest.mark.looptime
async def test_start_while_running_is_an_error(emulator: Emulator) -> None:
    """Two servers would share one log, and only one of them would be stopped."""
    with pytest.raises(RuntimeError, match="already running"):
        await emulator.start()


@pytest.fixture
def listeners(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Count the listening sockets that were opened since the test began."""
    opened: list[socket.socket] = []

    class Recorded(socket.socket):
        def listen(self, *backlog: int) -> None:
            opened.append(self)
            super().listen(*backlog)

    monkeypatch.setattr(socket, "socket", Recorded)
    return lambda: sum(each.fileno() >= 0 for each in set(opened))


STEPS = range(12)
"""Iterations of the loop after which a test interrupts: more than `start()` and `stop()` take."""


@pytest.mark.looptime
@pytest.mark.parametrize("steps", STEPS)
async def test_a_cancelled_start_leaves_no_listening_socket(listeners: Callable[[], int], steps: int) -> None:
    """At whatever step it is cancelled. Afterwards, the emulator can start, on the same ports."""
    emulator = Emulator()
    starting = asyncio.create_task(emulator.start())
    for _ in range(steps):
        await asyncio.sleep(0)
    if starting.cancel():
        with pytest.raises(asyncio.CancelledError):
            await starting
    else:
        await emulator.stop()
    assert listeners() == 0
    async with emulator, PlainClient(emulator) as client:
        assert (await client.ask(UNKNOWN)).status == 404
    assert listeners() == 0


@pytest.mark.looptime
@pytest.mark.parametrize("steps", STEPS)
async def test_a_stop_while_starting_leaves_no_listening_socket(listeners: Callable[[], int], steps: int) -> None:
    """A start that was interrupted says so: its caller must not believe that the emulator listens."""
    emulator = Emulator()
    starting = asyncio.create_task(emulator.start())
    for _ in range(steps):
        await asyncio.sleep(0)
    running = bool(listeners())
    finished = starting.done()
    await emulator.stop()
    if running and not finished:
        with pytest.raises(RuntimeError, match="stopped"):
            await starting
    else:
        await starting
        await emulator.stop()
    assert listeners() == 0


@pytest.mark.looptime
@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("again", ["stop", "start", "restart"])
async def test_a_cancelled_stop_leaves_no_listening_socket(
    listeners: Callable[[], int], client: PlainClient, emulator: Emulator, steps: int, again: str
) -> None:
    """At whatever step it is cancelled; another `stop()` completes it, and `start()` needs none."""
    emulator.inject(Hang(), times=None)
    asking = asyncio.create_task(client.ask(UNKNOWN))
    await asyncio.sleep(1.0)
    stopping = asyncio.create_task(emulator.stop())
    for _ in range(steps):
        await asyncio.sleep(0)
    begun = steps > 0
    stopping.cancel()
    await asyncio.gather(stopping, return_exceptions=True)
    if begun:
        with pytest.raises(aiohttp.ClientConnectorError):
            await client.ask(UNKNOWN)
    if begun or again != "start":
        await getattr(emulator, again)()
    await emulator.stop()
    assert emulator.stats.in_flight == 0
    assert listeners() == 0
    assert isinstance((await asyncio.gather(asking, return_exceptions=True))[0], aiohttp.ClientError)


@pytest.mark.looptime
@pytest.mark.parametrize("steps", STEPS)
async def test_a_second_start_disturbs_the_first_at_no_step(listeners: Callable[[], int], steps: int) -> None:
    """It fails, and the emulator that the first one starts goes on."""
    emulator = Emulator()
    starting = asyncio.create_task(emulator.start())
    for _ in range(steps + 1):
        await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="already running"):
        await emulator.start()
    await starting
    assert listeners() == 2
    async with PlainClient(emulator) as client:
        assert (await client.ask(UNKNOWN)).status == 404
    await emulator.stop()
    assert listeners() == 0


@pytest.mark.looptime
@pytest.mark.parametrize("name", ["port", "audio_port"])
async def test_a_port_in_use_is_an_error_that_leaves_nothing(emulator: Emulator, name: str) -> None:
    """Neither server listens, and a later start can succeed."""
    port = int(emulator.base_url.rpartition(":")[2])
    second = Emulator(port=port) if name == "port" else Emulator(audio_port=port)
    with pytest.raises(OSError, match=str(port)):
        await second.start()
    await emulator.stop()
    async with second:
        assert emulator.base_url in {second.base_url, second.audio_url}


@pytest.mark.looptime
@pytest.mark.parametrize("fault", [None, Hang(), Slow(50.0), Reset(), Reset(midway=True)], ids=repr)
async def test_nothing_is_logged(
    emulator: Emulator, client: PlainClient, caplog: pytest.LogCaptureFixture, fault: Fault | None
) -> None:
    """There is no access log, and a disconnect is not an error."""
    caplog.set_level(logging.INFO)
    if fault:
        emulator.inject(fault)
    asking = asyncio.create_task(client.ask(UNKNOWN))
    await asyncio.sleep(5.0)
    await emulator.stop()
    await asyncio.gather(asking, return_exceptions=True)
    assert caplog.records == []


def test_a_job_is_not_added_from_another_loop() -> None:
    """Requests for it would wait in vain, without a hint why."""
    emulator = Emulator()

    async def started() -> None:
        async with emulator:
            emulator.add_job()

    async def elsewhere() -> None:
        with pytest.raises(RuntimeError, match="another event loop"):
            emulator.add_job()

    asyncio.run(started())
    asyncio.run(elsewhere())
    assert len(emulator.jobs) == 1


def test_base_url_needs_a_port() -> None:
    """Before its first start an emulator has no port unless it was given one."""
    with pytest.raises(RuntimeError, match="first start"):
        assert Emulator(audio_port=8124).base_url
    assert Emulator(port=8123).base_url == "http://127.0.0.1:8123"
    assert Emulator(host="::1", port=8123).base_url == "http://[::1]:8123"


def test_audio_url_needs_a_port() -> None:
    """The audio origin has a port of its own."""
    with pytest.raises(RuntimeError, match="first start"):
        assert Emulator(port=8123).audio_url
    assert Emulator(audio_port=8124).audio_url == "http://127.0.0.1:8124"


@pytest.mark.parametrize(
    "arguments",
    [
        {"window": 0.0},
        {"window": math.inf},
        {"window": "60"},
        {"phase": -1.0},
        {"api_key": ""},
        {"user_id": 7},
        {"host": "0.0.0.0"},  # noqa: S104 - it is refused
        {"host": "localhost"},
        {"port": -1},
        {"port": 65_536},
        {"port": "80"},
        {"audio_port": 65_536},
        {"job_duration": -1.0},
        {"job_duration": "1"},
        {"link_lifetime": -1.0},
        {"link_lifetime": math.inf},
        {"history": -1},
    ],
    ids=str,
)
def test_invalid_arguments_are_refused(arguments: dict[str, Any]) -> None:
    """At construction; the error names the argument."""
    with pytest.raises((TypeError, ValueError), match=next(iter(arguments)) + "|address"):
        Emulator(**arguments)


def test_the_public_names_are_exact_and_sorted() -> None:
    """Every public name is public on purpose."""
    public = sorted(name for name in vars(playai_async.emulator) if not name.startswith("_"))
    assert playai_async.emulator.__all__ == public


NAMED = [name for name in playai_async.emulator.__all__ if name != "Fault"]
"""Every public name except the union, which has no name of its own."""


@pytest.mark.parametrize("name", NAMED)
def test_public_names_report_the_public_module(name: str) -> None:
    """Pickle finds them there, and their annotations can still be resolved."""
    public = getattr(playai_async.emulator, name)
    assert (public.__module__, public.__qualname__) == ("playai_async.emulator", name)
    assert pickle.loads(pickle.dumps(public)) is public  # noqa: S301 - our own pickle
    get_type_hints(public)
    get_type_hints(vars(public).get("__init__", public))


@pytest.mark.parametrize("fault", [Status(503, headers={"A": "b"}), Malformed(), Hang(), Slow(1.0), Reset()], ids=repr)
def test_faults_are_pickled_under_their_public_names(fault: Fault) -> None:
    """So a pickle does not depend on where a class is defined."""
    pickled = pickle.dumps(fault, protocol=0)
    assert f"playai_async.emulator\n{type(fault).__name__}\n".encode() in pickled
    assert pickle.loads(pickled) == fault  # noqa: S301 - our own pickle


@pytest.mark.parametrize("public", [Emulator, Status, Malformed, Hang, Slow, Reset, Arrival, EmulatorStats])
def test_an_unknown_argument_is_reported_with_the_public_class(public: type) -> None:
    """The message names what the caller called."""
    with pytest.raises(TypeError, match=rf"^{public.__name__}\.__init__\(\) got an unexpected keyword"):
        public(unknown=1)


def test_it_imports_nothing_of_the_client() -> None:
    """So a mistake in one of the two shows against the other."""
    package = Path(playai_async.emulator.__file__).parent
    imported = {
        node.module or ""
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
    }
    own = {name for name in imported if name.startswith(("playai_async", "."))}
    assert own
    assert all(name.startswith("playai_async.emulator.") for name in own)
