"""A quota that processes on many hosts share over one Redis; needs the extra `redis`.

The connection is that of the `limits` package's asyncio Redis storage. Its counters are not used: a fixed window lets
two windows' worth through at an edge, its moving window goes by the callers' clocks, and none knows turns. What is
counted, and whose turn it is, is decided by one script, `_quota.lua`, by Redis's own clock.

This module must not decide how fast to send (the script does), nor what to do without Redis (`_permits` does).
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
"""Where a Redis listens that nobody told otherwise."""

_MISSED_ASKS = 3
"""A process that waits for its turn and missed so many times to ask again is dead, or has gone."""


class RedisQuota:
    """A quota that all who name the same Redis share, process by process and host by host.

    To be given to a session's pacing::

        pacing = Pacing(requests_per_window=60, shared=RedisQuota("redis://redis.internal:6379/0"))

    What Redis holds is a digest of the service's URL and the key, numbers and times; neither the key nor a job's id.
    May be shared by any number of sessions and event loops; each session opens a connection of its own when it first
    waits, and closes it when it is closed.

    Args:
        url: Where Redis is, as redis-py has it: `redis://`, `rediss://` (TLS) or `redis+unix://`; or as `limits` has
            it: `redis+cluster://`, `redis+sentinel://`.

    Raises:
        ConfigurationError: The URL names no Redis.
        TypeError: It is no text.
    """

    def __init__(self, url: str) -> None:
        if not isinstance(url, str):
            raise TypeError(f"url must be a str, not {type(url).__name__}")
        self._url = url
        try:
            _storage(url)
        except (LimitsError, ValueError, TypeError):
            raise ConfigurationError("the URL of a shared quota must name a Redis") from None  # it may have a password

    def open(self, terms: Terms) -> QuotaLink:
        """Return a session's way to the quota; sessions call it, in the loop that they are used in.

        Args:
            terms: What holds for the quota.

        Returns:
            The way, which connects when it is first asked.
        """
        return _Link(_storage(self._url), terms)

    def __repr__(self) -> str:
        return "RedisQuota(hidden)"


class _Link:
    """One session's way to the quota."""

    def __init__(self, storage: RedisStorage, terms: Terms) -> None:
        self._connection = cast("Any", storage.bridge).get_connection()
        self._script = self._connection.register_script(_SCRIPT)
        self._keys = keys_of(terms)
        self._terms = terms
        self._process = uuid.uuid4().hex

    async def exchange(self, ask: Ask) -> Answer:
        try:
            return read(await self._script(keys=self._keys, args=[written(ask, self._terms, self._process)]))
        except ReadOnlyError:
            await self._connection.aclose()  # the next is a new one, which finds the server that took over
            raise

    async def aclose(self) -> None:
        await self._connection.aclose()


def keys_of(terms: Terms) -> list[str]:
    """Name the script's keys; the braces keep them together in a cluster."""
    return [f"{_PREFIX}:{{{terms.name}}}:{part}" for part in ("places", "queue", "heard", "state")]


def written(ask: Ask, terms: Terms, process: str) -> str:
    """Write an ask as the script reads it."""
    return json.dumps(
        {
            "process": process,
            "requests": terms.requests,
            "window": terms.window,
            "burst": terms.burst,
            "lease": terms.lease,
            "ask_again": terms.ask_again,
            "grace": _MISSED_ASKS * terms.ask_again,
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


def read(reply: bytes | str) -> Answer:
    """Read what the script answered.

    Raises:
        ValueError, TypeError, LookupError: It is no answer of the script's.
    """
    fields = json.loads(reply)
    granted, wait, pause = fields["granted"], fields["wait"], fields.get("pause")
    answer = Answer(granted, wait, pause, era=fields["era"], closing=fields["closing"])
    seconds = (answer.wait, 0.0 if answer.pause is None else answer.pause)
    if not isinstance(answer.granted, int) or answer.granted < 0 or not all(0 <= each < math.inf for each in seconds):
        raise ValueError("no answer of the script's")  # with a wait of NaN, asking would never pause
    return answer


def _with_port(url: str) -> str:
    """Add the port that Redis has where a URL of one host has none; whether `limits` asks for it depends on its age."""
    parts = urlsplit(url)
    if parts.scheme not in {"redis", "rediss"} or not parts.hostname or parts.port is not None:
        return url
    return urlunsplit(parts._replace(netloc=f"{parts.netloc.removesuffix(':')}:{_PORT}"))


def _storage(url: str) -> RedisStorage:
    # Once again and at once: the first attempt may find that a connection was lost, and whoever asks has no time.
    retry = cast("Any", Retry(NoBackoff(), 1))  # redis-py's option, which `limits` has no type for
    storage = storage_from_string(f"async+{_with_port(url)}", implementation="redispy", retry=retry)
    if not isinstance(storage, RedisStorage):
        raise TypeError(type(storage).__name__)
    return storage
