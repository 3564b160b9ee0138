"""A Redis of the tests' own, and the quota's script in virtual time."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import attrs
import redis

from playai_async._shared import Answer, Ask, Terms
from playai_async.contrib.redis import _SCRIPT, keys_of, read, written
from tests.clock import now
from tests.contrib.servers import program

_SECONDS = 20
_CLOCK = "clock"
_EPOCH = 1_700_000_000


class RedisServer:
    """A `redis-server` on a socket in a directory, which keeps nothing.

    Args:
        directory: Where its socket is; its path must be short.
    """

    def __init__(self, directory: Path) -> None:
        self._program = program("redis-server", "redis-server")
        self._directory = directory
        self._socket = directory / "redis.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.kill()

    @property
    def url(self) -> str:
        """Where it is, as `RedisQuota` has it."""
        return f"redis+unix://{self._socket}"

    def client(self) -> redis.Redis:
        """A client that blocks; to be closed."""
        return redis.Redis(unix_socket_path=str(self._socket))

    def start(self) -> None:
        """Start it, empty, and see that it answers."""
        self._process = subprocess.Popen(  # noqa: S603 - a program of this machine's, with arguments of ours
            [self._program, "--port", "0", "--unixsocket", self._socket, "--save", "", "--appendonly", "no"],
            cwd=self._directory,
            stdout=subprocess.DEVNULL,
        )
        until = time.monotonic() + _SECONDS
        with self.client() as client:
            while True:
                try:
                    client.ping()
                except redis.ConnectionError:
                    assert time.monotonic() < until, "redis-server does not answer"
                    time.sleep(0.01)
                else:
                    return

    def kill(self) -> None:
        """End it as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_SECONDS)
            self._process = None


@attrs.define
class VirtualQuota:
    """The quota's script on a real Redis, by the clock of the test's loop: each exchange takes no time at all.

    Attributes:
        client: Redis.
        down: Whether it is out of reach.
        exchanges: What was asked and answered.
    """

    client: redis.Redis
    down: bool = False
    exchanges: list[tuple[Ask, Answer]] = attrs.field(factory=list[tuple[Ask, Answer]])
    opened: int = 0
    closed: int = 0

    def open(self, terms: Terms) -> _VirtualLink:
        """Return a way to it."""
        self.opened += 1
        return _VirtualLink(self, terms, f"process-{self.opened}")

    def lose_all(self) -> None:
        """Forget all, as a Redis does that is killed."""
        self.client.flushall()


@attrs.frozen
class _VirtualLink:
    quota: VirtualQuota
    terms: Terms
    process: str

    async def exchange(self, ask: Ask) -> Answer:
        if self.quota.down:
            raise redis.ConnectionError("refused")
        client: Any = self.quota.client
        seconds, parts = divmod(now(), 1.0)
        client.delete(_CLOCK)
        client.rpush(_CLOCK, _EPOCH + int(seconds), int(parts * 1e6))
        script = _SCRIPT.replace("redis.call('TIME')", f"redis.call('LRANGE', '{_CLOCK}', 0, 1)")
        # No expiry: it goes by the clock of Redis.
        script = script.replace("for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, whole(kept)) end", "")
        keys = keys_of(self.terms)
        answer = read(client.eval(script, len(keys), *keys, written(ask, self.terms, self.process)))
        self.quota.exchanges.append((ask, answer))
        return answer

    async def aclose(self) -> None:
        self.quota.closed += 1
