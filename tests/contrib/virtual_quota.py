"""The quota script on Redis, in virtual time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import redis

from playai_async._shared_quota import Answer, Ask, QuotaLink, Terms
from playai_async.contrib.redis import SCRIPT, ScriptLink
from tests.support.clock import now

_EPOCH = 1_700_000_000

# The time is an argument. Nothing expires, because that would use the clock of Redis.
_SCRIPT = SCRIPT.replace("redis.call('TIME')", "{ARGV[2], ARGV[3]}").replace(
    "redis.call('PEXPIRE', key, whole(lifetime))", ""
)


@attrs.define
class VirtualQuota:
    """The quota script on a real Redis, by the clock of the test's event loop. An exchange takes no virtual time.

    Attributes:
        client: The connection to Redis.
        down: Whether Redis is unreachable.
        clock_step: Seconds by which the clock of Redis is wrong.
        frozen: Whether the clock of Redis stands still.
        repeats: How often Redis runs the script for each exchange, as a connection does that breaks.
        lost: Whether exchanges are held up on their way, until `deliver_lost`.
        exchanges: All asks and answers.
    """

    client: redis.Redis
    down: bool = False
    clock_step: float = 0.0
    frozen: bool = False
    repeats: int = 1
    lost: bool = False
    exchanges: list[tuple[Ask, Answer]] = attrs.field(factory=list[tuple[Ask, Answer]])
    opened: int = 0
    closed: int = 0
    _held_up: list[tuple[Sequence[str], str]] = attrs.field(factory=list[tuple[Sequence[str], str]])
    _time: float = 0.0
    _script: str = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        """Send the script once. Redis keeps it when its data is deleted."""
        client: Any = self.client
        self._script = client.script_load(_SCRIPT)

    def open(self, terms: Terms) -> QuotaLink:
        """Create a link."""
        self.opened += 1
        return _RecordingLink(self, ScriptLink(terms, f"process-{self.opened}", self._run, self._close))

    def lose_all(self) -> None:
        """Delete all data, as a restart of Redis without persistence does."""
        self.client.flushall()

    def deliver_lost(self) -> None:
        """Run the script for the exchanges that were held up."""
        for keys, argument in self._held_up:
            self._evaluate(keys, argument)

    async def _run(self, keys: Sequence[str], argument: str) -> bytes:
        if self.lost:
            self._held_up.append((keys, argument))
        if self.lost or self.down:
            raise redis.ConnectionError("refused")
        return [self._evaluate(keys, argument) for _ in range(self.repeats)][-1]

    def _evaluate(self, keys: Sequence[str], argument: str) -> bytes:
        client: Any = self.client
        if not self.frozen:
            self._time = now() + self.clock_step
        seconds, parts = divmod(self._time, 1.0)
        time = (_EPOCH + int(seconds), int(parts * 1e6))
        reply: bytes = client.evalsha(self._script, len(keys), *keys, argument, *time)
        return reply

    async def _close(self) -> None:
        self.closed += 1


@attrs.frozen
class _RecordingLink:
    quota: VirtualQuota
    link: ScriptLink

    async def exchange(self, ask: Ask) -> Answer:
        answer = await self.link.exchange(ask)
        self.quota.exchanges.append((ask, answer))
        return answer

    async def aclose(self) -> None:
        await self.link.aclose()
