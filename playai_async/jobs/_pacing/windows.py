"""How the service may count requests over time: in fixed windows, or over the last window at each moment.

Both are hypotheses. `WindowClock` and `SlidingLog` weigh the evidence for one each.
"""

from __future__ import annotations

import bisect
import math

from playai_async._settings import LATE_FRACTION, RESOLUTION

__all__ = ["SlidingLog", "SlidingWindow", "WindowClock"]

_PRIOR = 1
"""The evidence for fixed windows before anything was seen: the service is documented to count that way."""

_TRUST = 2
"""The evidence from which edges are tested only now and then."""

_MOST_EVIDENCE = 3
"""So that the opinion changes within a few windows when the service does."""

_CONTRADICTION = 2
"""How much an observation counts that the hypothesis excludes; one that supports it counts 1."""

_FULL_FRACTION = 0.9
"""A window that took at least this fraction of the most that any window took counts as equally full."""


class WindowClock:
    """Where the service's fixed windows begin, as far as 429s and the answers after them have shown.

    Edges where an earlier edge predicted them are evidence for windows, if the service refused requests before them.
    Answers in the middle of a window that was spent are evidence against windows.

    An edge is known as an interval: it passed at some moment between two times.

    Args:
        window: Seconds from one edge to the next.
        certain: Whether the caller knows that the service counts in windows.
    """

    def __init__(self, window: float, *, certain: bool = False) -> None:
        self.window = window
        self._early: float = math.nan
        self._late: float = math.nan
        self._evidence = _MOST_EVIDENCE if certain else _PRIOR

    @property
    def known(self) -> bool:
        """Whether an edge was seen, and the evidence does not speak against windows."""
        return self._evidence >= 0 and not math.isnan(self._late)

    @property
    def trusted(self) -> bool:
        """Whether the edges were tested, so that the gate mostly waits for the next one after a 429."""
        return self.known and self._evidence >= _TRUST

    @property
    def doubtful(self) -> bool:
        """Whether there is as much evidence against windows as for them, or more."""
        return self._evidence <= 0

    @property
    def refuted(self) -> bool:
        """Whether the evidence speaks against windows."""
        return self._evidence < 0

    def on_reopened(self, after: float, before: float, *, refused: bool, predicted: bool, spent: bool) -> None:
        """Learn from an accepted probe: if the service counts in windows, an edge passed between two moments.

        Args:
            after: When the latest refused request was sent.
            before: When the probe was accepted.
            refused: Whether the service refused an earlier probe.
            predicted: Whether the probe waited for a predicted edge or for the service's `Retry-After`.
            spent: Whether the window may have been spent, as far as its requests show.
        """
        if before - after > self.window / 2:  # too far apart to show where an edge is
            self._weigh(1 if self.known and refused and predicted else 0)
            return
        if math.isnan(self._late):
            # A window rarely ends between a 429 and the first probe: an accepted first probe speaks against windows.
            self._weigh(0 if refused or predicted else -1 if spent else -_CONTRADICTION)
        else:
            whole = round((before - self._late) / self.window) * self.window
            early, late = max(after, self._early + whole), min(before, self._late + whole)
            if early < late:
                after, before = early, late
                self._weigh(1 if refused or not predicted else 0)
            else:
                self._weigh(-_CONTRADICTION)
        self._early, self._late = after, before

    def confirm(self) -> None:
        """Record that the service took more, soon after a 429, than it could without a new window."""
        self._weigh(1)

    def refute(self) -> None:
        """Record that the service refused a request which a new window would have let through."""
        self._weigh(-_CONTRADICTION)

    def distrust(self) -> None:
        """Test the edges once more, since something else explains a 429 better."""
        self._evidence = min(self._evidence, _TRUST - 1)

    def forget(self) -> None:
        """Forget the edges, since the service refused a request where one had surely passed."""
        self.refute()
        self._early = self._late = math.nan

    def last_edge(self, now: float) -> float:
        """Return the earliest moment of the last edge that has surely passed; minus infinity if none is known."""
        return self._early + self._count(now) * self.window if self.known else -math.inf

    def next_edge(self, now: float) -> float:
        """Return the time by which the next edge has surely passed; infinity if none is known."""
        return self._late + (self._count(now) + 1) * self.window if self.known else math.inf

    def uncertainty(self) -> float:
        """Return the length of the interval in which each edge lies, in seconds."""
        return self._late - self._early

    def _weigh(self, evidence: int) -> None:
        self._evidence = max(-_CONTRADICTION, min(_MOST_EVIDENCE, self._evidence + evidence))

    def _count(self, now: float) -> int:
        return math.floor((now - self._late + RESOLUTION) / self.window)


class SlidingWindow:
    """The requests that may count towards the current window, and those in flight.

    The service counts a request at some moment between its start and its end. So a request counts from its start until
    one window after its end: then it is out of every window in which a new request can be counted. A request that was
    cut off or cancelled may still reach the service a little later, and counts for longer.

    Args:
        window: Seconds.

    Attributes:
        in_flight: The requests that were sent and have not ended.
        expired: How many requests have stopped counting.
    """

    def __init__(self, window: float) -> None:
        self._window = window
        self._late_margin = window * LATE_FRACTION
        self._expiries: list[float] = []  # sorted
        self.in_flight = self.expired = 0

    @property
    def ended(self) -> int:
        """The requests that ended and still count."""
        return len(self._expiries)

    def count(self, now: float, last_edge: float = -math.inf) -> int:
        """Count the requests that count now.

        Args:
            now: The time.
            last_edge: A moment before the last edge of the service's windows, if one is known.
        """
        if self._expiries and self._expiries[0] < now + RESOLUTION:
            expired = bisect.bisect_left(self._expiries, now + RESOLUTION)
            del self._expiries[:expired]
            self.expired += expired
        counted = self.in_flight + len(self._expiries)
        return counted if last_edge == -math.inf else counted - self._before(last_edge)

    def ended_since(self, moment: float) -> int:
        """Count the requests that ended after a moment, and still count."""
        return len(self._expiries) - bisect.bisect_left(self._expiries, moment + self._window)

    def next_expiry(self, last_edge: float = -math.inf) -> float:
        """Return when the next request that ended after the last edge stops counting; infinity if there is none."""
        place = self._before(last_edge)
        return self._expiries[place] if place < len(self._expiries) else math.inf

    def on_sent(self) -> None:
        """Count a request that starts now."""
        self.in_flight += 1

    def on_ended(self, now: float, *, counted: bool = True, late: bool = False) -> None:
        """Record the end of a request.

        Args:
            now: The time.
            counted: Whether the service may have counted the request.
            late: Whether the service may count the request a little later.
        """
        self.in_flight -= 1
        if counted:
            margin = self._late_margin if late else 2 * RESOLUTION
            bisect.insort(self._expiries, now + self._window + margin)

    def _before(self, last_edge: float) -> int:
        return bisect.bisect_left(self._expiries, last_edge + self._window + RESOLUTION)


class SlidingLog:
    """Whether the service counts, at each moment, the requests of the last window.

    If so, a request that was refused is accepted as soon as an earlier one has stopped counting, and not before.

    Args:
        sliding: The requests that may count.

    Attributes:
        requests: The most that the service took in a window before it refused one more.
    """

    def __init__(self, sliding: SlidingWindow) -> None:
        self.requests = 0
        self._sliding = sliding
        self._evidence = 0
        self._expired = 0

    @property
    def believed(self) -> bool:
        """Whether the evidence speaks for it."""
        return self._evidence > 0

    def fits(self) -> bool:
        """Return whether about as many requests count now as when one was refused before."""
        return self._sliding.ended >= _FULL_FRACTION * self.requests > 0

    def support(self) -> None:
        """Record that the service refused a request where a sliding log does."""
        self._evidence = min(_MOST_EVIDENCE, self._evidence + 1)

    def contradict(self) -> None:
        """Record that the service did what a sliding log does not."""
        self._evidence = -_CONTRADICTION

    def on_throttled(self, now: float) -> None:
        """Record a 429 that closes the gate."""
        self._sliding.count(now)
        self._expired = self._sliding.expired

    def on_reopened(self, now: float, *, refused: bool) -> None:
        """Learn from an accepted probe.

        Args:
            now: The time.
            refused: Whether the service refused an earlier probe, so that this one shows what has changed.
        """
        self._sliding.count(now)
        expired = self._sliding.expired - self._expired
        if not expired:
            self.contradict()
        elif refused:
            self.support()
            self.requests = max(self.requests, self._sliding.ended + expired)
