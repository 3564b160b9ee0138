"""Random storms in virtual time: whatever comes together, each wait ends once, in time, and as documented.

Each seed is a session and some thirty callers over two minutes. The service fails in every way that it can, callers
leave or wait, wait strategies and the log raise, and some sessions close in the middle.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import random
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from playai_async import (
    Pacing,
    PlayAIError,
    PlayAISession,
    Polling,
    SessionClosedError,
    TransportError,
    TtsJob,
    TtsParameters,
    WaitTimeoutError,
)
from playai_async._api.contract import Reply
from playai_async._api.transport import Transport
from tests.support.clock import now
from tests.support.scripted import API_KEY, USER_ID
from tools.virtual_time import run

SEEDS, GROUPS = 208, 16
CALLERS = 30
SECONDS = 120.0
LATE = 0.01
"""Seconds by which a wait may end after its deadline: a few iterations of the loop."""

STATUSES = {"COMPLETED": {"url": "https://a.example/a", "contentType": "audio/mpeg", "fileSize": 1, "duration": 1}}


class Storm:
    """The service of one seed, in place of `Transport`."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)  # noqa: S311 - a plan, no secret
        self.trouble = self.dice.choice([0.0, 0.1, 0.4])
        self.quota = self.dice.choice([None, 20, 60])
        self.ends: dict[UUID, tuple[float, str]] = {}
        self.polls: list[float] = []
        self.finished = 0
        self.outage = (self.dice.uniform(0, SECONDS), self.dice.choice([0.0, 0.0, 15.0]))
        for _ in range(12):
            self.add()

    def add(self) -> UUID:
        """Add a job that ends at some time."""
        job_id = UUID(int=self.dice.getrandbits(128), version=4)
        self.ends[job_id] = now() + self.dice.uniform(0, SECONDS), self.dice.choice(["COMPLETED", "FAILED"])
        return job_id

    async def get(self, url: Any) -> Reply:
        """Answer a status request, or not."""
        self.polls.append(now())
        job_id = UUID(url.path.rpartition("/")[2])
        return await self.answer(lambda: self.body(job_id), 200)

    async def post(self, _: Any, __: bytes) -> Reply:
        """Create a job, or not."""
        return await self.answer(lambda: self.body(self.add()), 201)

    async def answer(self, body: Callable[[], bytes], status: int) -> Reply:
        """Take some time, and fail in some way."""
        await asyncio.sleep(self.dice.uniform(0.01, 0.3))
        began, lasts = self.outage
        if began <= now() < began + lasts:
            raise TransportError("The connection was lost.")
        if self.dice.random() >= self.trouble:
            return Reply(status, None, body())
        if self.dice.random() < 0.2:
            await asyncio.sleep(self.dice.choice([0.0, 10.0]))  # lost at once, or after its timeout
            raise TransportError("No answer came.")
        return self.dice.choice(
            [
                Reply(429, self.dice.choice([None, "0", "1", "7", "soon"]), b'"Too many."'),
                Reply(503, self.dice.choice([None, "3"]), b""),
                Reply(500, None, b"<html>"),
                Reply(200, None, self.dice.choice([b"", b"{", b"null", b"[]", b'{"id": 5}'])),
                Reply(200, None, self.body(self.dice.choice(list(self.ends)))),  # maybe another job's
                Reply(200, None, body().replace(b"IN_PROGRESS", b"QUEUED")),
                Reply(self.dice.choice([400, 404, 302, *[502] * 27]), None, b""),
            ]
        )

    def body(self, job_id: UUID) -> bytes:
        """Describe a job as it is now."""
        end, status = self.ends[job_id]
        status = status if now() >= end else "IN_PROGRESS"
        output = {"status": status, **STATUSES.get(status, {})}
        fields = {"id": str(job_id), "createdAt": "2026-01-02T03:04:05Z", "output": output}
        return json.dumps({**fields, "input": {}, "completedAt": None}).encode()


class Caller:
    """One who asks, and what came of it."""

    def __init__(self, storm: Storm, session: PlayAISession) -> None:
        self.storm, self.session, self.dice = storm, session, storm.dice
        self.ends = 0

    async def run(self) -> None:
        """Ask for something, some time, and check how that ends."""
        await asyncio.sleep(self.dice.uniform(0, SECONDS / 2))
        timeout = self.dice.choice([None, 0.01, 1.0, 5.0, 30.0, 90.0])
        job_ids = self.dice.choices(list(self.storm.ends), k=self.dice.randint(1, 6))
        ways: list[Callable[..., Coroutine[Any, Any, None]]]
        ways = [self.wait, self.wait, self.watch, self.gather, self.each, self.get, self.create, self.hint]
        way = self.dice.choice(ways)
        began = now()
        leaves = self.dice.choice([math.inf, math.inf, self.dice.uniform(0, 30)])
        task = asyncio.create_task(way(job_ids, timeout))
        done, _ = await asyncio.wait([task], timeout=min(leaves, 600.0))
        if not done:
            assert leaves < 600.0, "a wait hangs"
            task.cancel()
            left = now()
            await asyncio.wait([task])
            assert now() - left <= LATE, "a cancellation passes through at once"
        if not task.cancelled():
            task.result()
        if timeout is not None and way not in (self.get, self.each, self.hint):
            assert now() - began <= timeout + LATE, way.__name__

    def polling(self) -> Polling:
        """Choose how to poll; some strategies are broken."""
        broken: list[Any] = [lambda _: math.nan, lambda _: -1.0, lambda _: 1 / 0, lambda _: "soon"]
        wait = self.dice.choice([None, None, None, None, *broken])
        return Polling(initial=self.dice.choice([0.1, 1.0]), wait=wait, max_failures=self.dice.choice([1, 8, 1_000]))

    def check(self, job_id: UUID, end: object) -> None:
        """An end is the right job, finished, or a documented error that names it."""
        if isinstance(end, TtsJob):
            assert (end.id, end.done) == (job_id, True)
            self.storm.finished += 1
            assert now() >= self.storm.ends[job_id][0]
        else:
            assert isinstance(end, PlayAIError), end
            assert end.job_id == job_id
            assert isinstance(end, WaitTimeoutError | SessionClosedError) or str(end)
        self.ends += 1

    async def wait(self, job_ids: list[UUID], timeout: float | None) -> None:
        """Wait for one job."""
        try:
            end: object = await self.session.wait_for_completion(job_ids[0], polling=self.polling(), timeout=timeout)
        except PlayAIError as error:
            end = error
        self.check(job_ids[0], end)
        assert self.ends == 1

    async def watch(self, job_ids: list[UUID], timeout: float | None) -> None:
        """Follow one job: each state differs from the one before, and the last is final."""
        states: list[TtsJob] = []
        try:
            async for job in self.session.watch(job_ids[0], polling=self.polling(), timeout=timeout):
                assert not states or (job != states[-1] and not states[-1].done)
                states.append(job)
                if timeout is None:
                    await asyncio.sleep(self.dice.choice([0.0, 0.5]))  # a slow reader
        except PlayAIError as error:
            self.check(job_ids[0], error)
        else:
            self.check(job_ids[0], states[-1])

    async def gather(self, job_ids: list[UUID], timeout: float | None) -> None:
        """Wait for several jobs."""
        wait = self.session.wait_for_all(job_ids, polling=self.polling(), timeout=timeout, return_exceptions=True)
        ends = await wait
        for job_id, end in zip(job_ids, ends, strict=True):
            self.check(job_id, end)
        assert self.ends == len(job_ids)

    async def each(self, job_ids: list[UUID], timeout: float | None) -> None:
        """Take several jobs as they end, and maybe leave early."""
        left = list(job_ids)
        ends = self.session.as_completed(job_ids, polling=self.polling(), timeout=timeout, return_exceptions=True)
        async for end in ends:
            job_id = end.id if isinstance(end, TtsJob) else end.job_id
            assert job_id is not None
            left.remove(job_id)
            self.check(job_id, end)
            if self.dice.random() < 0.1:
                await ends.aclose()
                return
        assert left == []

    async def get(self, job_ids: list[UUID], _: float | None) -> None:
        """Ask once."""
        answered: set[UUID | None]
        try:
            answered = {(await self.session.get_job(job_ids[0])).id}
        except PlayAIError as error:
            answered = {error.job_id}
        assert answered == {job_ids[0]}

    async def hint(self, job_ids: list[UUID], _: float | None) -> None:
        """Hint at some jobs again and again, whether they have ended or not."""
        for _ in range(30):
            try:
                self.session.hint(self.dice.choice(job_ids))
            except SessionClosedError:
                return
            await asyncio.sleep(self.dice.choice([0.0, 0.1, 2.0]))

    async def create(self, _: list[UUID], timeout: float | None) -> None:
        """Create a job."""
        try:
            job = await self.session.create_job(TtsParameters("Hello", "v"), timeout=timeout)
        except PlayAIError:
            return
        assert job.id in self.storm.ends


async def endure(seed: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Go through the storm of a seed; return how many ends were finished jobs."""
    storm = Storm(seed)
    monkeypatch.setattr(Transport, "get", lambda _, url: storm.get(url))
    monkeypatch.setattr(Transport, "post", lambda _, url, body: storm.post(url, body))
    deaf = storm.dice.random() < 0.3
    monkeypatch.setattr(logging.getLogger("playai_async"), "filters", [lambda _: 1 / 0] if deaf else [])
    before = asyncio.all_tasks()
    pacing = Pacing(storm.quota, window=30.0, max_in_flight=storm.dice.choice([1, 4, 32]))
    session = PlayAISession(API_KEY, USER_ID, pacing=pacing)
    callers = [asyncio.create_task(Caller(storm, session).run()) for _ in range(CALLERS)]
    if storm.dice.random() < 0.3:
        await asyncio.sleep(storm.dice.uniform(0, SECONDS))
        await session.aclose()
    await asyncio.gather(*callers)
    stats = session.stats
    assert (stats.open_waits, stats.distinct_jobs, stats.in_flight, stats.queued) == (0, 0, 0, 0), seed
    await session.aclose()
    assert asyncio.all_tasks() == before
    if storm.quota is not None:
        overlaps = zip(storm.polls, storm.polls[storm.quota :], strict=False)
        assert all(later - earlier >= 30.0 - 1e-6 for earlier, later in overlaps), seed
    return storm.finished


@pytest.mark.parametrize("group", range(GROUPS))
def test_whatever_comes_together_each_wait_ends_once_and_in_time(group: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A known quota is never exceeded, and nothing is left."""
    storms = [run(partial(endure, seed, monkeypatch)) for seed in range(group, SEEDS, GROUPS)]
    assert sum(storms) > 60, "a storm in which nothing ends well shows little"
