"""A quota that processes on many hosts share over one Redis. Needs the extra `redis`.

The connection comes from the asyncio Redis storage of the `limits` package, which parses the URL. The counters of
`limits` are not used: its fixed window allows twice the quota around an edge, its moving window trusts the clocks of
the callers, and neither has a queue. One script, `_quota.lua`, counts the requests and decides whose turn is next, by
the clock of Redis.

This module must not decide how fast to send, which the script does, nor what to do while Redis is unreachable, which
the session does.
"""

from __future__ import annotations

import json
import math
import uuid
from importlib import resources
from typing import Any, cast
from urllib.parse import urlsplit, urlunsplit

from limits.aio.storage import RedisStorage
from limits.errors import ConfigurationError as LimitsError
from limits.storage import storage_from_string
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ReadOnlyError

from playai_async._exceptions import ConfigurationError
from playai_async._shared_quota import Answer, Ask, QuotaLink, Terms

__all__ = ["RedisQuota"]

_SCRIPT = resources.files("playai_async.contrib").joinpath("_quota.lua").read_text("utf-8")

_PREFIX = "playai_async"

_PORT = 6379
"""The default port of Redis."""

_MISSED_REQUESTS = 3
"""A process in the queue that did not ask again for this many intervals has died or has nothing to send."""


class RedisQuota:
    """A quota that is shared by all sessions that use the same Redis, across processes and hosts.

    Pass it to the pacing of a session::

        pacing = Pacing(requests_per_window=60, shared=RedisQuota("redis://redis.internal:6379/0"))

    Redis stores a digest of the service's URL and the key, random names of processes, numbers and times. It never
    stores the key, the user id or a job id.

    Any number of sessions and event loops may use one `RedisQuota`. Each session opens its own connection at its
    first wait, and closes it when the session is closed. If Redis cannot be reached, each session paces alone until
    Redis is back; no wait fails.

    Args:
        url: The URL of Redis, in the format of redis-py: `redis://`, `rediss://` (TLS) or `redis+unix://`; or in the
            format of `limits`: `redis+cluster://`, `redis+sentinel://`.

    Raises:
        ConfigurationError: The URL is not the URL of a Redis.
        TypeError: The URL is not a str.
    """

    def __init__(self, url: str) -> None:
        if not isinstance(url, str):
            raise TypeError(f"url must be a str, not {type(url).__name__}")
        self._url = url
        try:
            _storage(url)
        except (LimitsError, ValueError, TypeError):
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
        return _RedisLink(_storage(self._url), terms)

    def __repr__(self) -> str:
        return "RedisQuota(hidden)"


class _RedisLink:
    """The connection of one session."""

    def __init__(self, storage: RedisStorage, terms: Terms) -> None:
        self._connection = cast("Any", storage.bridge).get_connection()
        self._script = self._connection.register_script(_SCRIPT)
        self._keys = script_keys(terms)
        self._terms = terms
        self._process = uuid.uuid4().hex

    async def exchange(self, ask: Ask) -> Answer:
        try:
            request = encode_ask(ask, self._terms, self._process)
            return decode_answer(await self._script(keys=self._keys, args=[request]))
        except ReadOnlyError:
            await self._connection.aclose()  # reconnect next time, to the server that took over
            raise

    async def aclose(self) -> None:
        await self._connection.aclose()


def script_keys(terms: Terms) -> list[str]:
    """Return the keys of the script. The braces keep them on one node of a cluster."""
    return [f"{_PREFIX}:{{{terms.name}}}:{part}" for part in ("places", "queue", "heard", "state")]


def encode_ask(ask: Ask, terms: Terms, process: str) -> str:
    """Encode the argument of the script."""
    return json.dumps(
        {
            "process": process,
            "requests": terms.requests,
            "window": terms.window,
            "burst": terms.burst,
            "lease": terms.lease,
            "ask_again": terms.ask_again,
            "grace": _MISSED_REQUESTS * terms.ask_again,
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
        }
    )


def decode_answer(reply: bytes | str) -> Answer:
    """Decode the result of the script.

    Raises:
        ValueError, TypeError, LookupError: The reply is not a result of the script.
    """
    fields = json.loads(reply)
    granted, wait, pause = fields["granted"], fields["wait"], fields.get("pause")
    answer = Answer(granted, wait, pause, era=fields["era"], closing=fields["closing"])
    seconds = (answer.wait, 0.0 if answer.pause is None else answer.pause)
    if not isinstance(answer.granted, int) or answer.granted < 0 or not all(0 <= each < math.inf for each in seconds):
        raise ValueError("not a result of the quota script")  # a wait of NaN would make the session ask in a busy loop
    return answer


def _with_port(url: str) -> str:
    """Add the default port to a URL of one host without a port, because some versions of `limits` require a port."""
    parts = urlsplit(url)
    if parts.scheme not in {"redis", "rediss"} or not parts.hostname or parts.port is not None:
        return url
    return urlunsplit(parts._replace(netloc=f"{parts.netloc.removesuffix(':')}:{_PORT}"))


def _storage(url: str) -> RedisStorage:
    # One immediate retry: the first attempt may find a lost connection, and an exchange has little time.
    retry = cast("Any", Retry(NoBackoff(), 1))  # an option of redis-py, for which `limits` has no type
    storage = storage_from_string(f"async+{_with_port(url)}", implementation="redispy", retry=retry)
    if not isinstance(storage, RedisStorage):
        raise TypeError(type(storage).__name__)
    return storage
