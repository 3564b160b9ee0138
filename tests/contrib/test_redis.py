"""The shared quota on a Redis that may be unreachable: real connections, and therefore real time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, RedisError

from playai_async import ConfigurationError, Pacing, PlayAISession, Polling, SessionStats
from playai_async._shared_quota import Answer, Ask, HintLink, Terms
from playai_async.contrib._redis_client import RedisAddress
from playai_async.contrib.redis import RedisQuota, ScriptLink, decode_reply
from playai_async.emulator import Emulator, EmulatorStats
from tests.support.scripted import API_KEY, USER_ID
from tools.servers.machine import free_port
from tools.servers.redis import ClusterServers, RedisServer, SentinelServers

QUOTA = 20
WINDOW = 0.8
"""Seconds. Short, so that the test is fast."""

POLLING = Polling(initial=0.01, maximum=0.1)

TERMS = Terms("q", requests=60, window=60.0, burst=5, lease=20.0, ask_again=1.0)


class Mortal(Protocol):
    """A server that is killed and restarted."""

    def kill(self) -> None:
        """Kill it."""
        ...

    def start(self) -> None:
        """Start it again."""
        ...


class Node:
    """The node of a cluster that holds a quota, or another one; known only when it is killed."""

    def __init__(self, servers: ClusterServers, *, with_quota: bool) -> None:
        self._servers = servers
        self._with_quota = with_quota
        self._node: RedisServer | None = None

    def kill(self) -> None:
        """Kill it."""
        sizes = [len(keys_of(node)) for node in self._servers.nodes]
        self._node = self._servers.nodes[sizes.index(max(sizes) if self._with_quota else min(sizes))]
        self._node.kill()

    def start(self) -> None:
        """Start it again. It has forgotten its keys, but not the cluster."""
        assert self._node is not None
        self._node.start()


def keys_of(server: RedisServer) -> list[bytes]:
    """Return the keys that a server holds."""
    with server.client() as client:
        return list(client.scan_iter())


async def waits_on(
    url: str, jobs: int, *, sessions: int = 2, outage: tuple[Mortal, float, Callable[[], None]] | None = None
) -> tuple[EmulatorStats, list[SessionStats]]:
    """Wait for jobs in sessions that share a quota, while `outage` says when Redis is killed, and waits for its end."""
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
            server, begins, wait_for_end = outage
            await asyncio.sleep(begins)
            server.kill()
            await asyncio.to_thread(wait_for_end)
            server.start()
        found = await waits
        assert sum(len(share) for share in found) == jobs
        stats = [process.stats for process in processes]
        for process in processes:
            await process.aclose()
        return emulator.stats, stats


async def a_hint_passes(sender: HintLink, receiver: HintLink) -> None:
    """Send hints until one arrives. A session does not receive its own.

    For a moment after a fail-over, Sentinel knows no primary; then sessions connect again, as this does.
    """
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(RedisError):
                await a_hint_arrives(sender, receiver)
                return
            await asyncio.sleep(0.1)


async def a_hint_arrives(sender: HintLink, receiver: HintLink) -> None:
    """Send hints until one arrives, or the connection is lost."""
    async with contextlib.aclosing(receiver.hints()) as hints:
        received = asyncio.ensure_future(anext(hints))
        while not received.done():
            with contextlib.suppress(RedisError):
                await receiver.send("own")
                await sender.send("a-job")
            await asyncio.wait([received], timeout=0.02)
        assert await received == "a-job"


async def hints_pass(url: str) -> None:
    """Pass a hint from one session to another."""
    sender, receiver = (RedisQuota(url).open_hints("q") for _ in range(2))
    await a_hint_passes(sender, receiver)
    await sender.aclose()
    await receiver.aclose()


def test_hints_pass_through_redis_and_are_not_stored(redis_server: RedisServer) -> None:
    """From any session that shares a quota to any other."""
    asyncio.run(hints_pass(redis_server.url))
    with redis_server.client() as client:
        assert list(client.scan_iter()) == []


def test_hints_pass_again_after_redis_was_restarted(mortal_redis: RedisServer) -> None:
    """The connection is made anew by the next use."""

    async def pass_twice() -> None:
        sender, receiver = (RedisQuota(mortal_redis.url).open_hints("q") for _ in range(2))
        await a_hint_passes(sender, receiver)
        async with contextlib.aclosing(receiver.hints()) as hints:
            received = asyncio.ensure_future(anext(hints))
            await asyncio.sleep(0.1)
            mortal_redis.kill()
            with pytest.raises(RedisConnectionError):
                await received
        mortal_redis.start()
        with contextlib.suppress(RedisConnectionError):  # it may have noticed nothing yet
            await sender.send("lost")
        await a_hint_passes(sender, receiver)
        await sender.aclose()
        await receiver.aclose()

    asyncio.run(pass_twice())


def test_sessions_share_a_quota_over_redis(redis_server: RedisServer) -> None:
    """Together they never exceed it, and each gets its part."""
    service, sessions = asyncio.run(waits_on(redis_server.url, 40))
    assert service.throttled == 0
    assert min(session.requests for session in sessions) >= 20
    with redis_server.client() as client:
        keys = list(client.scan_iter())
        assert 4 <= len(keys) <= 6  # one of them for each session
        assert all(0 < client.pttl(key) <= 60_000 for key in keys)


def test_data_expires_after_the_longest_lease(redis_server: RedisServer) -> None:
    """A process with a short lease must not delete what a process with a longer lease needs."""

    async def exchange(lease: float) -> None:
        link = RedisQuota(redis_server.url).open(Terms("q", 60, 60.0, burst=5, lease=lease, ask_again=1.0))
        await link.exchange(Ask(1, False, 0, {}, (), None, None, None, True))  # noqa: FBT003 - its fields in order
        await link.aclose()

    asyncio.run(exchange(600.0))
    asyncio.run(exchange(20.0))
    with redis_server.client() as client:
        shared = [client.pttl(key) for key in client.scan_iter() if key.endswith((b":places", b":heard", b":state"))]
        assert len(shared) == 3
        assert min(shared) > 1_200_000


def test_a_redis_that_is_killed_loses_no_wait(mortal_redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """Each session paces alone until Redis is back, and logs both changes once."""
    caplog.set_level(logging.INFO, "playai_async")
    service, _ = asyncio.run(
        waits_on(mortal_redis.url, 100, outage=(mortal_redis, 1.5 * WINDOW, partial(time.sleep, 2 * WINDOW)))
    )
    events = [getattr(record, "playai_event", None) for record in caplog.records]
    assert (events.count("shared_quota_away"), events.count("shared_quota_back")) == (2, 2)
    assert (
        service.throttled < 0.2 * service.requests
    )  # 0.1 with windows of a minute, compared with which an exchange takes no time


def test_a_fail_over_by_sentinel_loses_no_wait(sentinel_servers: SentinelServers) -> None:
    """The old primary comes back empty, and nobody asks it: the sessions have found the new one."""
    outage = (sentinel_servers.primary, 1.5 * WINDOW, sentinel_servers.wait_for_failover)
    service, _ = asyncio.run(waits_on(sentinel_servers.url, 100, outage=outage))
    assert service.throttled < 0.2 * service.requests
    service, _ = asyncio.run(waits_on(sentinel_servers.url, 10))
    assert service.throttled == 0
    with sentinel_servers.replica.client() as client:
        assert len(list(client.scan_iter())) >= 4
    asyncio.run(hints_pass(sentinel_servers.url))


def test_sessions_share_a_quota_and_hints_over_a_cluster(cluster_servers: ClusterServers) -> None:
    """All keys of a quota are on one of the three nodes."""

    async def granted_to_two() -> list[int]:
        links = [RedisQuota(cluster_servers.url).open(TERMS) for _ in range(2)]
        ask = Ask(3, False, 0, {}, (), None, None, None, True)  # noqa: FBT003 - its fields in order
        answers = [await link.exchange(ask) for link in links]
        for link in links:
            await link.aclose()
        await hints_pass(cluster_servers.url)
        return [answer.granted for answer in answers]

    assert asyncio.run(granted_to_two()) == [3, 1]  # of a burst of five; the rest is divided
    kept = []
    for node in cluster_servers.nodes:
        with node.client() as client:
            kept.append(client.dbsize())
    assert sorted(kept)[:2] == [0, 0]
    assert max(kept) >= 4


@pytest.mark.parametrize("with_quota", [True, False], ids=["the node of the quota", "another node"])
def test_a_cluster_that_loses_a_node_loses_no_wait(
    cluster_servers: ClusterServers, caplog: pytest.LogCaptureFixture, *, with_quota: bool
) -> None:
    """Only the node that holds the quota matters. Without it, each session paces alone until the node is back."""
    caplog.set_level(logging.INFO, "playai_async")
    node = Node(cluster_servers, with_quota=with_quota)
    outage = (node, 1.5 * WINDOW, partial(time.sleep, 2 * WINDOW))
    jobs = 200 if with_quota else 100  # a node that was restarted takes no writes for two seconds
    service, _ = asyncio.run(waits_on(cluster_servers.url, jobs, outage=outage))
    assert service.throttled < 0.2 * service.requests
    events = [getattr(record, "playai_event", None) for record in caplog.records]
    both = 2 if with_quota else 0
    assert (events.count("shared_quota_away"), events.count("shared_quota_back")) == (both, both)


def test_a_demoted_server_is_disconnected(redis_server: RedisServer, mortal_redis: RedisServer, tmp_path: Path) -> None:
    """A replica rejects writes. A new connection to the same name finds the new primary."""
    name = tmp_path / "s"
    name.symlink_to(mortal_redis.url.removeprefix("redis+unix://"))
    terms = Terms("q", requests=1, window=60.0, burst=1, lease=20.0, ask_again=1.0)
    ask = Ask(1, False, 0, {}, (), None, None, None, True)  # noqa: FBT003 - its fields in order

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


def test_a_session_works_without_redis() -> None:
    """It learns the quota, as it would without sharing."""
    service, (session,) = asyncio.run(waits_on(f"redis://127.0.0.1:{free_port()}", 10, sessions=1))
    assert service.requests == session.requests


def test_the_result_of_the_script_is_decoded() -> None:
    """As the script writes it."""
    reply = b'{"granted":0,"wait":0.5,"pause":30,"era":"e","closing":2,"active":3,"clock":"17"}'
    assert decode_reply(reply) == (Answer(granted=0, wait=0.5, pause=30, era="e", closing=2, active=3), 17)


@pytest.mark.parametrize(
    "reply",
    [
        "[]",
        "{}",
        '{"granted":"1","wait":0,"era":"e","closing":0,"active":1,"clock":"1"}',
        '{"granted":-1,"wait":0,"era":"e","closing":0,"active":1,"clock":"1"}',
        '{"granted":0,"wait":0,"era":"e","closing":0,"active":0,"clock":"1"}',
        '{"granted":0,"wait":0,"era":"e","closing":0,"active":1,"clock":"now"}',
        '{"granted":0,"wait":NaN,"era":"e","closing":0,"active":1,"clock":"1"}',
        '{"granted":0,"wait":null,"era":"e","closing":0,"active":1,"clock":"1"}',
        '{"granted":0,"wait":0,"era":"e","closing":0,"active":1,"limit":0.5,"clock":"1"}',
        '{"granted":0,"wait":0,"era":"e","closing":0,"active":1,"limit":"60","clock":"1"}',
        '{"granted":0,"wait":0,"pause":"long","era":"e","closing":0,"active":1,"clock":"1"}',
    ],
)
def test_other_results_are_rejected(reply: str) -> None:
    """A wait of NaN would make the session ask in a busy loop."""
    with pytest.raises((ValueError, TypeError, LookupError)):
        decode_reply(reply)


async def test_more_requests_than_were_wanted_are_rejected() -> None:
    """A billion of them would take all memory."""

    async def run(_keys: Sequence[str], _argument: str) -> str:
        return '{"granted":1000000000,"wait":0,"era":"e","closing":0,"active":1,"clock":"1"}'

    async def close() -> None:
        pass

    ask = Ask(wanted=1, hurry=False, first=0, places={}, unused=(), pause=None, reopened=None, era=None, whole=True)
    with pytest.raises(ValueError, match="not a result"):
        await ScriptLink(TERMS, "process", run, close).exchange(ask)


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost:6379/1",
        "redis://localhost",
        "rediss://user:pass@[::1]:/1",
        "rediss://user:pass@host:6380/0",
        "unix:///run/redis.sock",
        "redis+unix:///run/redis.sock",
        "redis+sentinel://a,b:2/mymaster/3",
        "rediss+sentinel://user:pass@a/mymaster",
        "redis+cluster://a:1,[::1]:2",
        "rediss+cluster://user:pass@a",
    ],
)
async def test_a_redis_url_is_accepted(url: str) -> None:
    """No connection is opened, and the repr does not contain the URL."""
    quota = RedisQuota(url)
    assert repr(quota) == "RedisQuota(hidden)"
    await quota.open(TERMS).aclose()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:6379",
        "memory://",
        "http://:hidden@host",
        "redis://:hidden@host:port",
        "redis+sentinel://:hidden@host",
        "redis+cluster://:hidden@host/name",
        "redis+cluster://:hidden@",
        "redis+cluster://:hidden@a:1,b:port",
        "redis+sentinel://:hidden@a/name/zero",
    ],
)
def test_another_url_is_rejected(url: str) -> None:
    """The message does not contain the URL, which may contain a password."""
    with pytest.raises(ConfigurationError) as caught:
        RedisQuota(url)
    assert str(caught.value) == "the URL of a shared quota must be a Redis URL"
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_the_parts_of_a_url_of_several_hosts() -> None:
    """The default port is that of Sentinel or Redis, and the login may be quoted."""
    parse = RedisAddress.parse
    assert parse("redis+sentinel://us%40er:p%3Aw@a,b:2/mymaster/3") == RedisAddress(
        "", (("a", 26379), ("b", 2)), "mymaster", (("username", "us@er"), ("password", "p:w"), ("db", 3))
    )
    assert parse("rediss+cluster://a,[::1]:2") == RedisAddress("", (("a", 6379), ("::1", 2)), "", (("ssl", True),))


def test_a_url_must_be_a_str() -> None:
    """A client object, for example, is rejected."""
    with pytest.raises(TypeError, match="url must be a str, not int"):
        RedisQuota(6379)  # type: ignore[arg-type]  # tests the mistake


def test_public_names_report_the_module_that_users_import() -> None:
    """In tracebacks and reprs."""
    assert RedisQuota.__module__ == "playai_async.contrib.redis"
