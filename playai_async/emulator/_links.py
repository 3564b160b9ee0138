"""Links to audio that are good for a while, signed as an object store signs them.

The one look at the wall's clock is here: `Expires` is a time of day, and moves with the loop's time from then on.
"""

import hashlib
import hmac
import math
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Final
from uuid import UUID

from playai_async.emulator._clock import GRACE

FORGED: Final = "The signature does not match."
EXPIRED: Final = "The link has expired."


class Links:
    """Makes links, and tells good ones from others.

    Args:
        lifetime: Seconds for which a link is good.
        origin: Says where the audio is, such as `http://127.0.0.1:8124`.
    """

    def __init__(self, lifetime: float, origin: Callable[[], str]) -> None:
        self._lifetime = lifetime
        self._origin = origin
        self._key = secrets.token_bytes(32)
        self._seen_at = math.inf
        self._offset = 0

    def sign(self, job_id: UUID, now: float) -> str:
        """Return a link to a job's audio that is good from now on."""
        # Without a fraction where there is none, as real ones are; with one, lest the link's life be rounded.
        expires = f"{self._time_of_day(now) + self._lifetime:.6f}".rstrip("0").rstrip(".")
        return f"{self._origin()}/{job_id}.wav?Expires={expires}&Signature={self._signature(job_id, expires)}"

    def refusal(self, job_id: UUID, query: Mapping[str, str], now: float) -> str | None:
        """Return why a link to a job's audio leads nowhere; None: it is good."""
        expires = query.get("Expires", "")
        given = query.get("Signature", "")
        # As bytes, since compare_digest() takes no text beyond ASCII.
        if not hmac.compare_digest(given.encode("utf-8", "replace"), self._signature(job_id, expires).encode()):
            return FORGED
        return EXPIRED if self._time_of_day(now) >= float(expires) - GRACE else None

    def _signature(self, job_id: UUID, expires: str) -> str:
        signed = f"{job_id}\n{expires}".encode("utf-8", "replace")
        return hmac.new(self._key, signed, hashlib.sha256).hexdigest()

    def _time_of_day(self, now: float) -> float:
        """Return the loop's time in seconds since 1970."""
        if now < self._seen_at:
            # The first look, or the clock was set back: virtual time often begins between a test's fixtures and
            # the test. In whole seconds, so that round times of the loop make round times of day.
            self._seen_at = now
            self._offset = math.floor(time.time() - now)
        return self._offset + now
