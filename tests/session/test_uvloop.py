"""The event loop that many backends run on, which is not asyncio's own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from playai_async import PlayAISession, TtsJob, WaitTimeoutError
from playai_async.emulator import Emulator
from tests.support.scripted import API_KEY, USER_ID

uvloop = pytest.importorskip("uvloop", reason="uvloop has no wheel for this platform")


async def ends() -> Sequence[TtsJob | BaseException]:
    """Wait for jobs that are done at once, and for one that is not, with deadlines close to each other."""
    async with Emulator() as emulator, PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url) as playai:
        slow, quick = emulator.add_job(duration=60.0), [emulator.add_job() for _ in range(10)]
        late = [playai.wait_for_completion(slow, timeout=0.0003 * (1 + number)) for number in range(200)]
        ends = await asyncio.gather(*late, *map(playai.wait_for_completion, quick), return_exceptions=True)
        assert playai.stats.open_waits == 0
    return ends


def test_waits_end_on_uvloop_as_they_do_on_asyncio() -> None:
    """Its timers have other handles, and its sockets other errors."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(ends())
    assert [type(end) for end in found] == [WaitTimeoutError] * 200 + [TtsJob] * 10
