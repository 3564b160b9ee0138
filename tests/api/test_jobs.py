"""One status request: what is deciphered anew, what is known already, and how long it may take."""

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


async def test_a_reply_like_the_last_is_the_same_job(service: ScriptedService, session: PlayAISession) -> None:
    """Byte for byte the same reply is not deciphered again; a change of it is."""
    service.answers(job(), job(), job(FAILED))
    one, same, changed = [await session.get_job(JOB_ID) for _ in range(3)]
    assert same is one
    assert (one.output, changed.output) == (InProgress(), Failed())


async def test_no_job_is_kept_for_the_sake_of_the_next_reply(service: ScriptedService, session: PlayAISession) -> None:
    """A backend meets new jobs for ever: what nobody keeps is gone, and deciphered again when it comes back."""
    service.answers(job())
    seen = weakref.ref(await session.get_job(JOB_ID))
    await asyncio.sleep(1)  # for who carried the request to end
    gc.collect()
    assert seen() is None
    assert (await session.get_job(JOB_ID)).id == JOB_ID


async def test_the_same_body_is_no_answer_for_another_job(service: ScriptedService, session: PlayAISession) -> None:
    """However well it is known."""
    service.answers(Answer(body=BODY))
    service.answers(Answer(body=BODY), job_id=OTHER_ID)
    known = await session.get_job(JOB_ID)
    with pytest.raises(InvalidResponseError, match="another job"):
        await session.get_job(OTHER_ID)
    assert await session.get_job(JOB_ID) is known


@pytest.mark.parametrize("status", [201, 404, 500], ids=str)
async def test_the_same_body_under_another_status_is_an_error(
    status: int, service: ScriptedService, session: PlayAISession
) -> None:
    """The status decides first."""
    service.answers(Answer(body=BODY), Answer(status, body=BODY))
    known = await session.get_job(JOB_ID)
    with pytest.raises((InvalidResponseError, APIStatusError)):
        await session.get_job(known)


async def test_each_hang_is_cut_at_its_own_time(emulator: Emulator) -> None:
    """Requests share one timer: those that began apart are cut apart, whatever ended in between."""
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
