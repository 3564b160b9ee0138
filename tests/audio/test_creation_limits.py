"""Creations behind limits of every kind: none is lost, and each service is used about as fast as it allows."""

from __future__ import annotations

import asyncio
import json
import math
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from playai_async import PlayAISession, TtsParameters
from playai_async._api.contract import Reply
from playai_async._api.transport import Transport
from tests.support.clock import now
from tests.support.scripted import API_KEY, USER_ID

JOB_TAKES = 1.0


class Limited:
    """A service that refuses some creations."""

    def __init__(self, allows: Callable[[list[float], float], bool]) -> None:
        self.allows = allows
        self.accepted: list[float] = []
        self.refused = 0

    async def post(self, *_: object) -> Reply:
        """Create a job, or refuse it."""
        await asyncio.sleep(0.05)
        at = now()
        if not self.allows(self.accepted, at):
            self.refused += 1
            return Reply(429, None, b'"Too many."')
        self.accepted.append(at)
        await asyncio.sleep(0.05)
        fields: dict[str, Any] = {"id": str(uuid.uuid4()), "createdAt": "2026-01-02T03:04:05Z", "completedAt": None}
        return Reply(201, None, json.dumps({**fields, "input": {}, "output": {"status": "IN_PROGRESS"}}).encode())


def five_jobs_at_once(accepted: list[float], at: float) -> bool:
    """Each job runs for a second."""
    return sum(start > at - JOB_TAKES for start in accepted) < 5


def one_a_second(accepted: list[float], at: float) -> bool:
    """As nginx does without a burst."""
    return not accepted or at - accepted[-1] >= 1.0 - 1e-6


def twenty_a_minute(accepted: list[float], at: float) -> bool:
    """In fixed windows."""
    return sum(math.floor(start / 60) == math.floor(at / 60) for start in accepted) < 20


def twenty_in_any_minute(accepted: list[float], at: float) -> bool:
    """As a sliding log counts."""
    return sum(start > at - 60 for start in accepted) < 20


@pytest.mark.parametrize(
    ("allows", "jobs", "at_best", "refused"),
    [
        (five_jobs_at_once, 40, 8.0, 1.0),
        (one_a_second, 40, 40.0, 2.5),
        (twenty_a_minute, 100, 300.0, 0.2),
        (twenty_in_any_minute, 100, 240.0, 0.6),
    ],
    ids=["jobs at once", "leaky", "fixed windows", "sliding log"],
)
async def test_no_creation_is_lost_behind_any_limit(
    allows: Callable[[list[float], float], bool],
    jobs: int,
    at_best: float,
    refused: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A quota that was learned from a 429 is forgotten at once where creations are accepted again too soon for it."""
    service = Limited(allows)
    monkeypatch.setattr(Transport, "post", lambda _, *arguments: service.post(*arguments))
    began = now()
    async with PlayAISession(API_KEY, USER_ID) as session:
        parameters = TtsParameters("Hello", "v")
        await asyncio.gather(*(session.create_job(parameters, timeout=None) for _ in range(jobs)))
    assert len(service.accepted) == jobs
    assert now() - began <= 1.6 * at_best
    assert service.refused <= refused * jobs
