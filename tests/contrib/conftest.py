"""Fixtures for `contrib`: Redis and PostgreSQL servers that the tests start and stop."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from tests.contrib.durable import one_clock
from tests.contrib.postgres import cluster, database
from tests.contrib.servers import program
from tests.contrib.virtual_quota import VirtualQuota
from tools.servers.machine import find_redis_server
from tools.servers.redis import ClusterServers, RedisServer, SentinelServers

__all__ = ["cluster", "database", "one_clock"]


_Servers = TypeVar("_Servers", RedisServer, SentinelServers, ClusterServers)


@contextlib.contextmanager
def a_redis(kind: Callable[[Path, Path], _Servers]) -> Iterator[_Servers]:
    """Start a Redis for tests."""
    found = program(find_redis_server(), "redis-server", "redis-server")
    with tempfile.TemporaryDirectory(prefix="redis") as directory, kind(found, Path(directory)) as servers:
        yield servers


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    """A Redis for all tests that do not stop it. `redis_server` empties it before each test."""
    with a_redis(RedisServer) as server:
        yield server


@pytest.fixture
def redis_server(shared_redis: RedisServer) -> RedisServer:
    """An empty Redis."""
    with shared_redis.client() as client:
        client.flushall()
    return shared_redis


@pytest.fixture
def virtual_quota(redis_server: RedisServer) -> Iterator[VirtualQuota]:
    """The quota script on Redis, in virtual time."""
    with redis_server.client() as client:
        yield VirtualQuota(client)


@pytest.fixture
def mortal_redis() -> Iterator[RedisServer]:
    """A Redis that the test may kill."""
    with a_redis(RedisServer) as server:
        yield server


@pytest.fixture
def sentinel_servers() -> Iterator[SentinelServers]:
    """A primary that the test may kill, a replica and a Sentinel."""
    with a_redis(SentinelServers) as servers:
        yield servers


@pytest.fixture
def cluster_servers() -> Iterator[ClusterServers]:
    """A cluster of three nodes."""
    with a_redis(ClusterServers) as servers:
        yield servers
