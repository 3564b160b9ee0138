"""A quota that processes on many hosts share over one Redis. Needs the extra `redis`.

One script, `_quota.lua`, counts the requests and decides whose turn is next, by the clock of Redis. Ready-made rate
limiters are not used: a fixed window allows twice the quota around an edge, a moving window trusts the clocks of the
callers, and neither has a queue.

The clock of Redis may step, stand still, or belong to another host after a fail-over. So the script keeps a time that
never goes back, and each process reports how much time has passed since its last exchange, at least and at most.

This module must not decide how fast to send, which the script does, nor what to do while Redis is unreachable, which
the session does.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable, Sequence
from importlib import resources
from typing import TypeAlias

import attrs

from playai_async._exceptions import ConfigurationError
from playai_async._settings import MAX_COUNT
from playai_async._shared_quota import EXCHANGE_TIMEOUT, Answer, Ask, HintLink, QuotaLink, Terms
from playai_async.contrib._redis_client import RedisAddress, RedisChannel, RedisScript

__all__ = ["RedisQuota"]

SCRIPT = resources.files("playai_async.contrib").joinpath("_quota.lua").read_text("utf-8")

_PREFIX = "playai_async"

_MISSED_REQUESTS = 3
"""A process in the queue that did not ask again for this many intervals has died or has nothing to send."""

_CALM = 3 * EXCHANGE_TIMEOUT
"""Seconds from the return of one process to that of the last: an exchange may take one, and a pause between two one."""

Run: TypeAlias = Callable[[Sequence[str], str], Awaitable[bytes | str]]
"""Runs the script with these keys and this argument."""


class RedisQuota:
    """A quota that is shared by all sessions that use the same Redis, across processes and hosts.

    Pass it to the pacing of a session::

        pacing = Pacing(requests_per_window=60, shared=RedisQuota("redis://redis.internal:6379/0"))

    Without `requests_per_window`, the sessions learn the quota together from the 429s of all of them.

    Redis stores a digest of the service's URL and the key, random names of processes, numbers and times. It never
    stores the key, the user id or a job id. A hint (`PlayAISession.hint`) passes through it with the job id, and is not
    stored.

    Any number of sessions and event loops may use one `RedisQuota`. Each session opens its own two connections at its
    first use, and closes them when the session is closed. If Redis cannot be reached, each session paces alone until
    Redis is back; no wait fails.

    Args:
        url: The URL of Redis: `redis://[user:password@]host[:port][/database]`, `rediss://` for TLS, `unix://path`,
            `redis+sentinel://host[:port][,host[:port]...]/service[/database]` with the hosts of Sentinels, or
            `redis+cluster://host[:port][,host[:port]...]`. The last two also take `rediss+`, a user and a password.

    Raises:
        ConfigurationError: The URL is not the URL of a Redis.
        TypeError: The URL is not a str.
    """

    def __init__(self, url: str) -> None:
        if not isinstance(url, str):
            raise TypeError(f"url must be a str, not {type(url).__name__}")
        try:
            self._address = RedisAddress.parse(url)
        except ValueError:
            raise ConfigurationError(
                "the URL of a shared quota must be a Redis URL"
            ) from None  # not shown: may have a password

    def open(self, terms: Terms) -> QuotaLink:
        """Create the connection of one session. Sessions call this method; applications do not need it.

        Args:
            terms: The name and the limits of the quota.

        Returns:
            A link for the current event loop. It connects at its first exchange.
        """
        script = RedisScript(self._address, SCRIPT)
        return ScriptLink(terms, uuid.uuid4().hex, script.run, script.aclose)

    def open_hints(self, name: str) -> HintLink:
        """Create the connection that passes hints between sessions. Sessions call this method.

        Args:
            name: The name of the quota.

        Returns:
            A link for the current event loop. It connects at its first use.
        """
        return RedisChannel(self._address, f"{_PREFIX}:{{{name}}}:hints")

    def __repr__(self) -> str:
        return "RedisQuota(hidden)"


@attrs.frozen
class Heard:
    """The last answer.

    Attributes:
        clock: The time of the script, in microseconds.
        asked: When the process asked, by the clock of its event loop.
        answered: When it had the answer.
    """

    clock: int
    asked: float
    answered: float


class ScriptLink:
    """The exchanges of one session with the script.

    Args:
        terms: The name and the limits of the quota.
        process: The name of this session.
        run: Runs the script.
        close: Closes the connection.
    """

    def __init__(self, terms: Terms, process: str, run: Run, close: Callable[[], Awaitable[None]]) -> None:
        self._terms = terms
        self._process = process
        self._run = run
        self._close = close
        self._keys = script_keys(terms, process)
        self._number = 0
        self._heard: Heard | None = None
        self._loop = asyncio.get_running_loop()

    async def exchange(self, ask: Ask) -> Answer:
        asked = self._loop.time()
        self._number += 1
        request = encode_ask(ask, self._terms, self._process, number=self._number, heard=self._heard, now=asked)
        answer, clock = decode_reply(await self._run(self._keys, request))
        if answer.granted > ask.wanted:
            raise ValueError("not a result of the quota script")
        self._heard = Heard(clock, asked, self._loop.time())
        return answer

    async def aclose(self) -> None:
        await self._close()


def script_keys(terms: Terms, process: str) -> list[str]:
    """Return the keys of the script. The braces keep them on one node of a cluster."""
    return [f"{_PREFIX}:{{{terms.name}}}:{part}" for part in ("places", "queue", "heard", "state", process)]


def encode_ask(ask: Ask, terms: Terms, process: str, *, number: int, heard: Heard | None, now: float) -> str:
    """Encode the argument of the script.

    Args:
        ask: What to ask and to report.
        terms: The limits of the quota.
        process: Who asks.
        number: Counts the exchanges of this process. A repeated exchange gets the answer of the first.
        heard: The last answer, or None.
        now: The time.
    """
    return json.dumps(
        {
            "process": process,
            "number": number,
            "heard": None
            if heard is None
            else {
                "clock": str(heard.clock),
                "least": now - heard.answered,
                "most": now - heard.asked + EXCHANGE_TIMEOUT,  # it may take as long to reach Redis
            },
            "requests": terms.requests,
            "window": terms.window,
            "burst": terms.burst,
            "learning": None if terms.learning is None else attrs.asdict(terms.learning),
            "lease": terms.lease,
            "ask_again": terms.ask_again,
            "grace": _MISSED_REQUESTS * terms.ask_again,
            "calm": _CALM,
            "wanted": ask.wanted,
            "hurry": ask.hurry,
            "first": ask.first,
            "places": [[number, seconds] for number, seconds in ask.places.items()],
            "unused": ask.unused,
            "pause": ask.pause,
            "reopened": ask.reopened,
            "era": ask.era,
            "new_era": uuid.uuid4().hex,
            "whole": ask.whole,
            "limit": ask.limit,
        }
    )


def decode_reply(reply: bytes | str) -> tuple[Answer, int]:
    """Decode the result of the script: the answer, and the time of the script.

    Raises:
        ValueError, TypeError, LookupError: The reply is not a result of the script.
    """
    fields = json.loads(reply)
    granted, wait, pause, active = fields["granted"], fields["wait"], fields.get("pause"), fields["active"]
    limit = fields.get("limit")
    answer = Answer(granted, wait, pause, era=fields["era"], closing=fields["closing"], active=active, limit=limit)
    numbers = (wait, 0.0 if pause is None else pause, 0.0 if limit is None else limit - 1)  # a limit is at least 1
    counts = all(isinstance(count, int) and count >= least for count, least in ((granted, 0), (active, 1)))
    if not counts or not all(0 <= each <= MAX_COUNT for each in numbers):
        raise ValueError("not a result of the quota script")  # a wait of NaN would make the session ask in a busy loop
    return answer, int(fields["clock"])
