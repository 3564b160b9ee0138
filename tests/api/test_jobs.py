"""Status requests: replies that repeat, and the request timeout that all requests share."""

from __future__ import annotations

import asyncio
import gc
import json
import weakref
from uuid import UUID

import pytest

from playai_async import APIStatusError, Failed, InProgress, InvalidResponseError, PlayAISession, TransportError
from playai_async.emulator import Emulator, Hang
from tests.support.scripted import API_KEY, FAILED, JOB_ID, OTHER_ID, USER_ID, Answer, ScriptedService, job, job_json

BODY = json.dumps(job_json())


async def test_a_repeated_reply_returns_the_same_job(service: ScriptedService, session: PlayAISession) -> None:
    """An identical body is not parsed again; a changed body is."""
    service.answers(job(), job(), job(FAILED))
    one, same, changed = [await session.get_job(JOB_ID) for _ in range(3)]
    assert same is one
    assert (one.output, changed.output) == (InProgress(), Failed())


async def test_jobs_are_not_kept_for_the_next_reply(service: ScriptedService, session: PlayAISession) -> None:
    """A job that nothing references is garbage collected, so a long-running process does not grow."""
    service.answers(job())
    seen = weakref.ref(await session.get_job(JOB_ID))
    await asyncio.sleep(1)  # until the request has ended
    gc.collect()
    assert seen() is None
    assert (await session.get_job(JOB_ID)).id == JOB_ID


async def test_the_body_of_one_job_is_invalid_for_another(service: ScriptedService, session: PlayAISession) -> None:
    """Even if the body was parsed before."""
    service.answers(Answer(body=BODY))
    service.answers(Answer(body=BODY), job_id=OTHER_ID)
    known = await session.get_job(JOB_ID)
    with pytest.raises(InvalidResponseError, match="another job"):
        await session.get_job(OTHER_ID)
    assert await session.get_job(JOB_ID) is known


@pytest.mark.parametrize("status", [201, 404, 500], ids=str)
async def test_a_known_body_with_another_status_is_an_error(
    status: int, service: ScriptedService, session: PlayAISession
) -> None:
    """The status decides first."""
    service.answers(Answer(body=BODY), Answer(status, body=BODY))
    known = await session.get_job(JOB_ID)
    with pytest.raises((InvalidResponseError, APIStatusError)):
        await session.get_job(known)


async def test_each_request_times_out_at_its_own_time(emulator: Emulator) -> None:
    """All requests share one event loop timer, but started at different times."""
    hanging = [emulator.add_job() for _ in range(4)]
    for job_id in hanging:
        emulator.inject(Hang(), job_id=job_id)
    loop = asyncio.get_running_loop()

    async def cut_after(job_id: UUID, begin: float) -> float:
        await asyncio.sleep(begin)
        began = loop.time()
        with pytest.raises(TransportError):
            await playai.get_job(job_id)
        return loop.time() - began

    async with PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url, request_timeout=3) as playai:
        assert (await playai.get_job(emulator.add_job())).done
        times = await asyncio.gather(*map(cut_after, hanging, [0.0, 1.0, 1.0, 20.0]))
    assert times == pytest.approx([3.0] * 4, abs=0.001)
