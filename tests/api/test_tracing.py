"""Trace callbacks of a client session, which run inside of aiohttp's requests, cannot disturb them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from playai_async import PlayAISession, Polling, TransportError, TtsParameters
from playai_async.emulator import Emulator, Hang, Status
from tests.support.scripted import API_KEY, USER_ID

pytestmark = pytest.mark.looptime

SIGNALS = tuple(name for name in dir(aiohttp.TraceConfig) if name.startswith("on_"))
REPORT = "A trace callback of aiohttp raised KeyError; waits go on."


class Recorder(aiohttp.TraceConfig):
    """Keeps what it is called with, and then raises."""

    def __init__(self, error: BaseException | None = None, *, signals: tuple[str, ...] = SIGNALS) -> None:
        super().__init__()
        self.calls: list[tuple[str, aiohttp.ClientSession, Any]] = []
        self._error = error
        for name in signals:
            getattr(self, name).append(self._callback(name))

    def _callback(self, name: str) -> Any:
        async def callback(session: aiohttp.ClientSession, _: object, params: Any) -> None:
            self.calls.append((name, session, params))
            if self._error is not None:
                raise self._error

        return callback

    @property
    def names(self) -> set[str]:
        return {name for name, _, _ in self.calls}


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator() as emulator:
        yield emulator


def session_over(http: aiohttp.ClientSession, emulator: Emulator) -> PlayAISession:
    return PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url, http_session=http, polling=Polling(initial=0.1))


@pytest.mark.parametrize("error", [KeyError("request_id"), asyncio.CancelledError()], ids=["error", "cancelled"])
async def test_trace_callbacks_that_raise_disturb_nothing(
    emulator: Emulator, tmp_path: Path, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    """Neither polls through failures, nor a creation, whose job would be lost. The log says it once."""
    broken = Recorder(error)
    async with aiohttp.ClientSession(trace_configs=[broken]) as http, session_over(http, emulator) as playai:
        job = emulator.add_job(1.0)
        emulator.inject(Status(500), endpoint="status", times=2)
        assert (await playai.wait_for_completion(job)).done
        assert playai.stats.transient_failures == 2
        done = await playai.speak(TtsParameters("Hello.", "v"), tmp_path)
        assert set(emulator.jobs) == {job, done.id}
        reports = [message for message in caplog.messages if "trace callback" in message]
        assert reports == [REPORT.replace("KeyError", type(error).__name__)]
    assert {"on_request_start", "on_request_end", "on_request_headers_sent"} <= broken.names


async def test_an_exception_of_a_trace_callback_hides_no_error(emulator: Emulator) -> None:
    """The caller sees what happened to the request."""
    await emulator.stop()
    broken = Recorder(KeyError("request_id"), signals=("on_request_exception",))
    async with aiohttp.ClientSession(trace_configs=[broken]) as http, session_over(http, emulator) as playai:
        with pytest.raises(TransportError, match="no connection to 127") as caught:
            await playai.get_job("8a1f4c9e-3f1b-4b8e-9d57-0c2f6a7b1e42")
        assert not caught.value.maybe_received


async def test_a_context_factory_that_raises_disturbs_nothing(
    emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    """Callbacks get a plain context then."""

    def factory(**_: object) -> Any:
        raise KeyError

    config = aiohttp.TraceConfig(factory)  # type: ignore[arg-type]  # a function is what it is called as
    async with aiohttp.ClientSession(trace_configs=[config]) as http, session_over(http, emulator) as playai:
        assert (await playai.wait_for_completion(emulator.add_job())).done
    assert caplog.messages == [REPORT]


async def test_trace_callbacks_see_requests_as_aiohttp_shows_them(emulator: Emulator) -> None:
    """With the caller's client session, and a later callback although an earlier one raised."""
    broken, sound = Recorder(KeyError(), signals=("on_request_start",)), Recorder()
    broken.on_request_start.append(sound.on_request_start[0])
    configs = [broken, sound]
    async with aiohttp.ClientSession(trace_configs=configs) as http:  # type: ignore[arg-type]  # a list is invariant
        async with session_over(http, emulator) as playai:
            await playai.get_job(emulator.add_job())
        assert http.trace_configs == [broken, sound]
        assert not http.closed
        assert {session for _, session, _ in sound.calls} == {http}
        ended = next(params for name, _, params in sound.calls if name == "on_request_end")
        assert (ended.method, ended.response.status) == ("GET", 200)
        assert [name for name, _, _ in sound.calls].count("on_request_start") == 2
        with pytest.raises(KeyError):  # a request of the caller's own is not guarded
            await http.get(emulator.base_url)


async def test_a_request_can_be_cancelled_inside_of_a_trace_callback(emulator: Emulator) -> None:
    """A cancellation is not taken for an exception of the callback."""
    config = aiohttp.TraceConfig()
    inside = asyncio.Event()

    async def hang(*_: object) -> None:
        inside.set()
        await asyncio.Event().wait()

    config.on_request_end.append(hang)
    async with aiohttp.ClientSession(trace_configs=[config]) as http, session_over(http, emulator) as playai:
        wait = asyncio.create_task(playai.wait_for_completion(emulator.add_job()))
        await inside.wait()
        wait.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wait
        assert playai.stats.in_flight == 0


async def test_downloads_are_not_traced(emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by the caller's client session, nor by a tool that instruments each one: the URL is signed."""
    instrumented, own = Recorder(), Recorder()
    init = aiohttp.ClientSession.__init__

    def instrument(self: aiohttp.ClientSession, *args: Any, **options: Any) -> None:
        options["trace_configs"] = [*(options.get("trace_configs") or ()), instrumented]
        init(self, *args, **options)

    monkeypatch.setattr(aiohttp.ClientSession, "__init__", instrument)
    async with aiohttp.ClientSession(trace_configs=[own]) as http, session_over(http, emulator) as playai:
        await playai.download(await playai.get_job(emulator.add_job()), tmp_path)
    urls = {str(params.url) for _, _, params in own.calls + instrumented.calls if hasattr(params, "url")}
    assert len(urls) == 1
    assert "?" not in urls.pop()


async def test_a_request_that_hangs_with_traces_times_out(emulator: Emulator) -> None:
    """As without traces."""
    emulator.inject(Hang())
    async with aiohttp.ClientSession(trace_configs=[Recorder()]) as http, session_over(http, emulator) as playai:
        with pytest.raises(TransportError, match="timed out"):
            await playai.get_job(emulator.add_job())
