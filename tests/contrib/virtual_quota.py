"""The quota script on Redis, in virtual time."""

from __future__ import annotations

from typing import Any

import attrs
import redis

from playai_async._shared_quota import Answer, Ask, Terms
from playai_async.contrib.redis import _SCRIPT, decode_answer, encode_ask, script_keys
from tests.support.clock import now

_CLOCK = "clock"
_EPOCH = 1_700_000_000


@attrs.define
class VirtualQuota:
    """The quota script on a real Redis, by the clock of the test's event loop. An exchange takes no virtual time.

    Attributes:
        client: The connection to Redis.
        down: Whether Redis is unreachable.
        exchanges: All asks and answers.
    """

    client: redis.Redis
    down: bool = False
    exchanges: list[tuple[Ask, Answer]] = attrs.field(factory=list[tuple[Ask, Answer]])
    opened: int = 0
    closed: int = 0

    def open(self, terms: Terms) -> _VirtualLink:
        """Create a link."""
        self.opened += 1
        return _VirtualLink(self, terms, f"process-{self.opened}")

    def lose_all(self) -> None:
        """Delete all data, as a restart of Redis without persistence does."""
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
        pipeline = client.pipeline(transaction=False)
        pipeline.delete(_CLOCK)
        pipeline.rpush(_CLOCK, _EPOCH + int(seconds), int(parts * 1e6))
        script = _SCRIPT.replace("redis.call('TIME')", f"redis.call('LRANGE', '{_CLOCK}', 0, 1)")
        # No expiry, which would use the clock of Redis.
        script = script.replace("redis.call('PEXPIRE', key, whole(lifetime))", "")
        keys = script_keys(self.terms)
        pipeline.eval(script, len(keys), *keys, encode_ask(ask, self.terms, self.process))
        answer = decode_answer(pipeline.execute()[-1])
        self.quota.exchanges.append((ask, answer))
        return answer

    async def aclose(self) -> None:
        self.quota.closed += 1
