"""The shared quota on a Redis that may be away: real connections, and therefore real time."""

from __future__ import annotations

import asyncio
import logging
import random
from pathlib import Path

import pytest
from redis.exceptions import ReadOnlyError

from playai_async import ConfigurationError, Pacing, PlayAISession, Polling, SessionStats
from playai_async._shared_quota import Answer, Ask, Terms
from playai_async.contrib.redis import RedisQuota, decode_answer
from playai_async.emulator import Emulator, EmulatorStats
from tests.support.scripted import API_KEY, USER_ID
from tools.servers.machine import free_port
from tools.servers.redis import RedisServer

QUOTA = 20
WINDOW = 0.8
"""Seconds: so short that many are over soon."""

POLLING = Polling(initial=0.01, maximum=0.1)


async def waits_on(
    url: str, jobs: int, *, sessions: int = 2, outage: tuple[RedisServer, float, float] | None = None
) -> tuple[EmulatorStats, list[SessionStats]]:
    """Wait for so many jobs in sessions that share a quota, while Redis is killed and started as said."""
    async with Emulator(QUOTA, WINDOW) as emulator, asyncio.timeout(60):
        pacing = Pacing(requests_per_window=QUOTA, window=WINDOW, shared=RedisQuota(url))
        processes = [
            PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url, pacing=pacing, polling=POLLING)
            for _ in range(sessions)
        ]
        ids = [emulator.add_job(duration=random.uniform(0, WINDOW)) for _ in range(jobs)]  # noqa: S311 - no secret
        shares = [process.wait_for_all(ids[number::sessions]) for number, process in enumerate(processes)]
        waits = asyncio.gather(*shares)
        if outage is not None:
            server, begins, lasts = outage
            await asyncio.sleep(begins)
            server.kill()
            await asyncio.sleep(lasts)
            server.start()
        found = await waits
        assert sum(len(share) for share in found) == jobs
        stats = [process.stats for process in processes]
        for process in processes:
            await process.aclose()
        return emulator.stats, stats


def test_sessions_share_a_quota_over_redis(redis_server: RedisServer) -> None:
    """They never exceed it together, and each gets its part."""
    service, sessions = asyncio.run(waits_on(redis_server.url, 60))
    assert service.throttled == 0
    assert min(session.requests for session in sessions) >= 30
    with redis_server.client() as client:
        keys = list(client.scan_iter())
        assert 2 <= len(keys) <= 4
        assert all(0 < client.pttl(key) <= 60_000 for key in keys)


def test_what_is_kept_is_kept_for_the_longest_lease(redis_server: RedisServer) -> None:
    """A process with a short one does not make Redis forget what another has under way."""

    async def told(lease: float) -> None:
        link = RedisQuota(redis_server.url).open(Terms("q", 60, 60.0, burst=5, lease=lease, ask_again=1.0))
        await link.exchange(Ask(1, False, 0, {}, (), None, None, None, True))  # noqa: FBT003 - its fields, in order
        await link.aclose()

    asyncio.run(told(600.0))
    asyncio.run(told(20.0))
    with redis_server.client() as client:
        assert all(client.pttl(key) > 1_200_000 for key in client.scan_iter())


def test_a_redis_that_is_killed_loses_no_wait(mortal_redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """Each session paces alone until it is back, says so once, and comes back by itself."""
    caplog.set_level(logging.INFO, "playai_async")
    service, _ = asyncio.run(waits_on(mortal_redis.url, 150, outage=(mortal_redis, 1.5 * WINDOW, 2 * WINDOW)))
    events = [getattr(record, "playai_event", None) for record in caplog.records]
    assert (events.count("shared_quota_away"), events.count("shared_quota_back")) == (2, 2)
    assert service.throttled < 0.2 * service.requests  # a tenth where windows are minutes, and an ask is no part of one


def test_a_server_that_was_demoted_is_left(
    redis_server: RedisServer, mortal_redis: RedisServer, tmp_path: Path
) -> None:
    """It answers, and refuses to write: the one that took over has its name, and takes a new connection to find."""
    name = tmp_path / "s"
    name.symlink_to(mortal_redis.url.removeprefix("redis+unix://"))
    terms = Terms("q", requests=1, window=60.0, burst=1, lease=20.0, ask_again=1.0)
    ask = Ask(1, False, 0, {}, (), None, None, None, True)  # noqa: FBT003 - its fields, in order

    async def asked_of_both() -> list[int]:
        link = RedisQuota(f"redis+unix://{name}").open(terms)
        try:
            first = await link.exchange(ask)
            with mortal_redis.client() as client:
                client.execute_command("REPLICAOF", "127.0.0.1", free_port())
            name.unlink()
            name.symlink_to(redis_server.url.removeprefix("redis+unix://"))
            with pytest.raises(ReadOnlyError):
                await link.exchange(ask)
            second = await link.exchange(ask)
        finally:
            await link.aclose()
        return [first.granted, second.granted]

    assert asyncio.run(asked_of_both()) == [1, 1]


def test_a_redis_that_was_never_there_is_no_hindrance() -> None:
    """The session learns the quota, as without sharing."""
    service, (session,) = asyncio.run(waits_on(f"redis://127.0.0.1:{free_port()}", 10, sessions=1))
    assert service.requests == session.requests


def test_an_answer_is_read() -> None:
    """As the script writes it."""
    reply = b'{"granted":0,"wait":0.5,"pause":30,"era":"e","closing":2}'
    assert decode_answer(reply) == Answer(granted=0, wait=0.5, pause=30, era="e", closing=2)


@pytest.mark.parametrize(
    "reply",
    [
        "[]",
        "{}",
        '{"granted":"1","wait":0,"era":"e","closing":0}',
        '{"granted":-1,"wait":0,"era":"e","closing":0}',
        '{"granted":0,"wait":NaN,"era":"e","closing":0}',
        '{"granted":0,"wait":null,"era":"e","closing":0}',
        '{"granted":0,"wait":0,"pause":"long","era":"e","closing":0}',
    ],
)
def test_what_is_no_answer_is_refused(reply: str) -> None:
    """Then the quota is out of reach; taken for an answer, it would be asked again without a pause."""
    with pytest.raises((ValueError, TypeError, LookupError)):
        decode_answer(reply)


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost:6379/1",
        "redis://localhost",
        "rediss://user:pass@[::1]:/1",
        "rediss://user:pass@host:6380/0",
        "redis+unix:///run/redis.sock",
        "redis+cluster://a:1,b:2",
    ],
)
def test_a_url_that_names_a_redis_is_accepted(url: str) -> None:
    """Nothing is opened, and nothing of it is shown."""
    assert repr(RedisQuota(url)) == "RedisQuota(hidden)"


@pytest.mark.parametrize("url", ["", "localhost:6379", "memory://", "http://:hidden@host", "redis://:hidden@host:port"])
def test_a_url_that_names_none_is_refused(url: str) -> None:
    """Without repeating it: it may have a password."""
    with pytest.raises(ConfigurationError) as caught:
        RedisQuota(url)
    assert str(caught.value) == "the URL of a shared quota must be a Redis URL"
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_url_without_a_port_leads_where_redis_listens() -> None:
    """Whichever `limits` is there, some of which ask for a port."""
    link = RedisQuota("redis://localhost/2").open(Terms("q", 60, 60.0, burst=5, lease=20.0, ask_again=1.0))
    options = link._connection.connection_pool.connection_kwargs  # type: ignore[attr-defined]  # it is the one of ours
    assert (options["host"], options["port"], options["db"]) == ("localhost", 6379, 2)


def test_what_is_no_url_is_refused() -> None:
    """A client of another library's is none."""
    with pytest.raises(TypeError, match="url must be a str, not int"):
        RedisQuota(6379)  # type: ignore[arg-type]  # that is the mistake


def test_public_names_report_the_module_that_users_import() -> None:
    """In tracebacks and reprs."""
    assert RedisQuota.__module__ == "playai_async.contrib.redis"
