"""A pacer behind every kind of limiter: nothing starves, the permitted rate is used, and few requests are refused."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playai_async import Pacing
from playai_async.jobs._engine import build_pacer
from tests.support.simulation import Answer, Modelled, Sent, Session, run
from tools.limiters import KINDS, Setting

WINDOW = 60.0
QUOTA = 60
WINDOWS = 12
SETTLED = 2
"""Windows after which a quota should be learned."""

CASES = [(kind, hints) for kind in KINDS if kind != "none" for hints in (False, True) if not hints or KINDS[kind].hints]
EVERY_KIND = pytest.mark.parametrize(("kind", "hints"), CASES)
KNOWN = pytest.mark.parametrize("known", [True, False], ids=["known", "learned"])


def permitted(kind: str, quota: int = QUOTA) -> int:
    """Return the requests that are ours in a window: strangers take half of a shared quota."""
    return max(1, quota // 2) if kind == "shared" else quota


def session_behind(
    kind: str, *, hints: bool, known: bool, every: float = 0.0, group: int = 1, quota: int = QUOTA, seed: int = 1
) -> tuple[Modelled, Session]:
    """Return a service with such a limiter, and a session that retries what it refuses."""
    limited = KINDS[kind]
    rng = random.Random(seed)  # noqa: S311 - repeatable, not secret
    random.seed(seed)  # the pacer's own
    return (
        Modelled(limited.make(Setting(quota, WINDOW, rng.uniform(0, WINDOW), rng)), limited.takes * WINDOW, hints),
        Session(
            every=every,
            group=group,
            latency=lambda: rng.uniform(0.03, 0.07),
            retries=True,
            pacer=build_pacer(Pacing(permitted(kind, quota) if known else None, WINDOW)),
        ),
    )


@attrs.frozen
class Expected:
    """What must be reached at once, known and learned.

    Attributes:
        used: Of what is permitted, the share that is used after two windows.
        refused: Of the requests after two windows, those that may be refused.
    """

    used: tuple[float, float] = (0.9, 0.9)
    refused: tuple[float, float] = (0.05, 0.05)


EXPECTED = {
    # It takes turns in looking like windows, a sliding log and neither.
    "counter": Expected(used=(0.85, 0.7)),
    "counter-refused": Expected(used=(0.8, 0.75), refused=(0.05, 0.06)),
    # Two limits, of which a rate finds one at a time.
    "tiers": Expected(used=(0.9, 0.6), refused=(0.01, 0.05)),
    # Each try at more costs a window.
    "renewing": Expected(used=(0.98, 0.3), refused=(0.0, 0.1)),
    "sliding-refused": Expected(used=(0.98, 0.8), refused=(0.0, 0.05)),
    "concurrency": Expected(used=(0.85, 1.2)),  # twice the quota fits through
    "sliding": Expected(used=(0.98, 0.85), refused=(0.0, 0.05)),
    "shared": Expected(used=(0.8, 0.9)),
    "fixed": Expected(used=(0.98, 0.95), refused=(0.0, 0.03)),
    "first": Expected(used=(0.98, 0.95), refused=(0.0, 0.05)),
}


@EVERY_KIND
@KNOWN
def test_what_is_permitted_is_used(kind: str, hints: bool, known: bool) -> None:
    """With more to send than is permitted, over ten windows after the first two."""
    expected = EXPECTED.get(kind, Expected())
    place = 0 if known else 1
    used = []
    for seed in range(3):
        service, session = session_behind(kind, hints=hints, known=known, seed=seed)
        run(service, [session], WINDOWS * WINDOW)
        used.append(session.since(SETTLED * WINDOW)[0] / permitted(kind) / (WINDOWS - SETTLED))
        assert session.refused_share(SETTLED * WINDOW) <= expected.refused[place]
    assert statistics.fmean(used) >= expected.used[place]


@EVERY_KIND
@KNOWN
def test_no_request_of_a_steady_load_starves(kind: str, hints: bool, known: bool) -> None:
    """Four fifths of what is permitted, twelve requests at a time: each is accepted within two windows."""
    every = 12 * WINDOW / (0.8 * permitted(kind))
    for seed in range(3):
        service, session = session_behind(kind, hints=hints, known=known, every=every, group=12, seed=seed)
        run(service, [session], WINDOWS * WINDOW)
        lags = [sent.ended - sent.due for sent in session.sent if sent.accepted]
        assert max([*lags, WINDOWS * WINDOW - session.due()]) <= 2 * WINDOW
        assert session.refused_share(SETTLED * WINDOW) <= 0.05


@attrs.frozen
class RefusingForAWhile:
    """A service that refuses everything for some minutes.

    Attributes:
        service: What limits requests before and after.
        begins: When that begins.
        ends: When it ends.
    """

    service: Modelled
    begins: float
    ends: float

    def answer(self, now: float) -> Answer:
        """Count a request, or refuse it."""
        return Answer(accepted=False) if self.begins <= now < self.ends else self.service.answer(now)


@pytest.mark.parametrize("kind", ["leaky-20", "concurrency"])
def test_an_outage_of_429s_does_not_slow_down_what_comes_long_after_it(kind: str) -> None:
    """It ends while nothing is sent for a whole window; but after a later 429, a probe is soon accepted."""
    lags = []
    for seed in range(5):
        service, session = session_behind(kind, hints=False, known=False, every=1.5 * WINDOW, group=45, seed=seed)
        run(RefusingForAWhile(service, 2 * WINDOW, 5.6 * WINDOW), [session], 30 * WINDOW)
        lags += [sent.ended - sent.due for sent in session.sent if sent.accepted and sent.due > 15 * WINDOW]
        lags.append(30 * WINDOW - session.due())
    assert statistics.fmean(lags) <= WINDOW / 2


def most_in_a_window(sent: Sequence[Sent]) -> int:
    """Count the requests that the service may count in one window, whenever it counts each."""
    return max(
        (sum(begin.ended <= at.ended and at.at < begin.ended + WINDOW for at in sent) for begin in sent), default=0
    )


@settings(derandomize=True, database=None, deadline=None, max_examples=100)
@given(
    case=st.sampled_from(CASES),
    seed=st.integers(0, 2**32),
    quota=st.sampled_from([1, 2, 5, 12, 60]),
    every=st.sampled_from([0.0, 0.0, 3.0, 40.0]),
    group=st.sampled_from([1, 12]),
    found=st.sampled_from([None, True]),
)
def test_a_known_quota_is_never_exceeded_behind_any_limiter(
    case: tuple[str, bool], seed: int, quota: int, every: float, group: int, found: bool | None
) -> None:
    """Over any span of one window, whatever was learned, and refused requests included."""
    kind, hints = case
    service, session = session_behind(kind, hints=hints, known=True, every=every, group=group, quota=quota, seed=seed)
    session.found, session.waited = found, 30.0 if found else 0.0
    run(service, [session], 6 * WINDOW)
    assert most_in_a_window(session.sent) <= permitted(kind, quota)
