"""Connects to Redis: to one server, to the primary that Sentinel names, or to a cluster.

This module parses the URL, runs a script, and publishes and receives texts. It must not know what they mean.
"""

from __future__ import annotations

import hashlib
import itertools
import uuid
from collections.abc import AsyncGenerator, Awaitable, Sequence
from typing import Any, TypeAlias, cast
from urllib.parse import unquote, urlsplit

import attrs
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, ReadOnlyError

__all__ = ["RedisAddress", "RedisChannel", "RedisScript"]

_Client: TypeAlias = Redis | RedisCluster

_PORT = 6379
_SENTINEL_PORT = 26379


@attrs.frozen
class RedisAddress:
    """Where Redis is; `parse` makes one of a URL.

    Attributes:
        url: The URL of one server, or an empty text.
        hosts: The hosts and ports of Sentinels, or of nodes of a cluster.
        service: The name of the primary that Sentinel knows; an empty text for a cluster.
        options: More options of the connection.
    """

    url: str
    hosts: tuple[tuple[str, int], ...] = ()
    service: str = ""
    options: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def parse(cls, url: str) -> RedisAddress:
        """Parse a URL.

        Raises:
            ValueError: It is not the URL of a Redis.
        """
        scheme, _, rest = url.partition("://")
        if scheme in {"redis+cluster", "rediss+cluster", "redis+sentinel", "rediss+sentinel"}:
            return cls._parse_several(scheme, rest)
        one_server = f"unix://{rest}" if scheme == "redis+unix" else url
        parse_url(one_server)
        return cls(one_server)

    @classmethod
    def _parse_several(cls, scheme: str, rest: str) -> RedisAddress:
        sentinel = scheme.endswith("+sentinel")
        network, _, path = rest.partition("/")
        login, _, hosts = network.rpartition("@")
        service, _, database = path.partition("/")
        if sentinel != bool(service):
            raise ValueError("a Sentinel URL names a service, and a cluster URL does not")
        user, _, password = login.partition(":")
        options: dict[str, Any] = {"username": unquote(user), "password": unquote(password), "db": int(database or 0)}
        if scheme.startswith("rediss"):
            options["ssl"] = True
        default_port = _SENTINEL_PORT if sentinel else _PORT
        return cls(
            "",
            tuple(_host_and_port(each, default_port) for each in hosts.split(",")),
            service,
            tuple((name, value) for name, value in options.items() if value),
        )


class RedisScript:
    """A script, and the connection to the Redis that runs it. It connects at the first run.

    Args:
        address: Where Redis is.
        text: The script.
    """

    def __init__(self, address: RedisAddress, text: str) -> None:
        self._text = text
        self._digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        # One immediate retry: the first attempt may find a lost connection, and an exchange has little time.
        self._client, self._sentinels = _connect(address, retry=Retry(NoBackoff(), 1))

    async def run(self, keys: Sequence[str], argument: str) -> bytes | str:
        """Run the script, and return its result.

        Raises:
            Exception: Redis is out of reach, or refuses the script.
        """
        arguments = (str(len(keys)), *keys, argument)
        try:
            try:
                return await self._call("EVALSHA", self._digest, *arguments)
            except NoScriptError:  # another server, or one that was restarted
                return await self._call("EVAL", self._text, *arguments)
        except ReadOnlyError:
            await self._client.aclose()  # reconnect next time, to the server that took over
            raise

    async def aclose(self) -> None:
        """Close the connections."""
        for client in (self._client, *self._sentinels):
            await client.aclose()

    async def _call(self, *command: str) -> bytes | str:
        return await cast("Awaitable[bytes | str]", cast("Any", self._client).execute_command(*command))


class RedisChannel:
    """Publishes texts to all other users of a channel, and receives theirs.

    Args:
        address: Where Redis is.
        name: The name of the channel.
    """

    def __init__(self, address: RedisAddress, name: str) -> None:
        self._name = name
        self._me = uuid.uuid4().hex
        # Every node of a cluster publishes to all nodes, so one of them is enough.
        nodes = [attrs.evolve(address, hosts=(host,)) for host in address.hosts] or [address]
        self._addresses = itertools.cycle([address] if address.service else nodes)
        self._client: _Client | None = None
        self._others: Sequence[Redis] = ()

    async def send(self, hint: str) -> None:
        """Publish a text."""
        await self._connected().publish(self._name, f"{self._me} {hint}")

    async def hints(self) -> AsyncGenerator[str, None]:
        """Return the texts that others publish from now on."""
        pubsub = self._connected().pubsub()
        try:
            await pubsub.subscribe(self._name)
            while True:
                message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=None)
                sender, _, text = message["data"].decode().partition(" ") if message else (self._me, "", "")
                if sender != self._me:
                    yield text
        except Exception:
            await self.aclose()  # and connect to the next node
            raise
        finally:
            await pubsub.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        clients = [*self._others] if self._client is None else [self._client, *self._others]
        self._client, self._others = None, ()
        for client in clients:
            await client.aclose()

    def _connected(self) -> Any:
        if self._client is None:
            self._client, self._others = _connect(next(self._addresses), node=True, socket_timeout=None)
        return self._client


def _connect(address: RedisAddress, *, node: bool = False, **more: Any) -> tuple[_Client, Sequence[Redis]]:
    """Make a client, and those of the Sentinels that it asks; `node`: for the first host of a cluster alone."""
    options: dict[str, Any] = {**dict(address.options), **more}
    if address.url:
        return cast("Any", Redis).from_url(address.url, **options), ()
    if address.service:
        login = {name: value for name, value in options.items() if name != "db"}
        sentinel = cast("Any", Sentinel)(address.hosts, sentinel_kwargs=login, **options)
        return sentinel.master_for(address.service), sentinel.sentinels
    if node:
        host, port = address.hosts[0]
        return Redis(host=host, port=port, **options), ()
    return RedisCluster(startup_nodes=[ClusterNode(*each) for each in address.hosts], **options), ()


def _host_and_port(text: str, default_port: int) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname or parts.username is not None or parts.path:
        raise ValueError("a host is missing")
    return parts.hostname, parts.port or default_port
