"""The kinds of limiters: each one alone, with exact times, and in the emulator."""

from __future__ import annotations

import asyncio
import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from playai_async.emulator import Emulator, Slow, Status
from playai_async.emulator._service.clock import CLOCK_TOLERANCE
from playai_async.emulator._service.limiters import (
    ConcurrencyLimiter,
    FixedWindowLimiter,
    Grant,
    Limiter,
    LimiterKind,
    SlidingLogLimiter,
    TokenBucketLimiter,
    make_limiter,
)
from tests.emulator.plain_client import CREDENTIALS, PlainClient

KINDS: tuple[LimiterKind, ...] = ("fixed", "sliding", "leaky", "bucket", "concurrency")
UNKNOWN = "11111111-2222-4333-8444-555555555555"

every_kind = pytest.mark.parametrize("kind", KINDS)


def admitted(limiter: Limiter, *times: float) -> list[float]:
    """Send a request at each of the times, and return the times at which one was admitted."""
    return [at for at in times if limiter.admit("key", at)]


def test_fixed_windows_do_not_depend_on_the_requests() -> None:
    """Two quotas in two seconds are possible, on both sides of an edge."""
    limiter = FixedWindowLimiter(2, 60.0)
    assert admitted(limiter, 59.0, 59.5, 59.9, 60.0, 60.5, 61.0, 119.9, 120.0) == [59.0, 59.5, 60.0, 60.5, 120.0]


def test_a_sliding_log_counts_the_window_before_each_request() -> None:
    """Each request leaves the span exactly `window` seconds after it was admitted."""
    limiter = SlidingLogLimiter(2, 60.0)
    assert admitted(limiter, 59.0, 59.5, 60.0, 118.99, 119.0, 119.49, 119.5, 119.6) == [59.0, 59.5, 119.0, 119.5]


def test_a_leaky_bucket_admits_one_request_per_interval() -> None:
    """A pause earns nothing: the next request is due one interval after the last admitted one."""
    limiter = make_limiter("leaky", quota=6, window=60.0)
    assert admitted(limiter, 0.0, 0.0, 9.99, 10.0, 19.99, 45.0, 45.0, 54.99, 55.0) == [0.0, 10.0, 45.0, 55.0]


def test_a_token_bucket_admits_a_burst_and_then_one_request_per_token() -> None:
    """A pause fills it again, up to the burst."""
    limiter = TokenBucketLimiter(6, 60.0, burst=3)
    assert admitted(limiter, *[0.0] * 4, 9.99, 10.0, 10.0, *[30.0] * 3) == [0.0, 0.0, 0.0, 10.0, 30.0, 30.0]
    assert admitted(limiter, *[1000.0] * 9) == [1000.0] * 3


def test_without_a_burst_a_token_bucket_holds_the_quota() -> None:
    """Also after the quota has changed."""
    limiter = TokenBucketLimiter(2, 60.0, burst=None)
    assert admitted(limiter, 0.0, 0.0, 0.0) == [0.0] * 2
    limiter.quota = 4
    assert admitted(limiter, *[600.0] * 9) == [600.0] * 4


def test_concurrency_counts_running_requests() -> None:
    """Time alone frees nothing."""
    limiter = ConcurrencyLimiter(2, 60.0)
    first, second = limiter.admit("key", 0.0), limiter.admit("key", 0.0)
    assert first
    assert second
    assert not limiter.admit("key", 1e9)
    first.answered(1e9)
    third = limiter.admit("key", 1e9)
    assert third
    assert not limiter.admit("key", 1e9)


def test_a_created_job_runs_until_it_finishes() -> None:
    """However soon the request that created it is answered."""
    limiter = ConcurrencyLimiter(1, 60.0)
    grant = limiter.admit("key", 0.0)
    assert grant
    grant.job_ends(30.0)
    grant.answered(0.1)
    assert admitted(limiter, 29.99, 30.0) == [30.0]


@every_kind
def test_keys_are_counted_separately(kind: LimiterKind) -> None:
    """One key cannot spend the quota of another."""
    limiter = make_limiter(kind, quota=1, window=60.0)
    assert [bool(limiter.admit(key, 0.0)) for key in ("a", "b", "a", "b")] == [True, True, False, False]


@every_kind
def test_a_quota_of_zero_admits_nothing_and_none_admits_everything(kind: LimiterKind) -> None:
    """Also if it is set at run time, and then set to a number."""
    limiter = make_limiter(kind, quota=0, window=60.0)
    assert admitted(limiter, 0.0, 60.0, 6000.0) == []
    limiter.quota = None
    assert admitted(limiter, *[6000.0] * 99) == [6000.0] * 99
    limiter.quota = 1
    assert len(admitted(limiter, *[9000.0] * 9)) == (kind != "concurrency")


@every_kind
def test_a_higher_quota_lets_the_difference_through(kind: LimiterKind) -> None:
    """A refused request has spent nothing. Buckets fill at the new rate, from now on."""
    limiter = make_limiter(kind, quota=1, window=60.0)
    assert admitted(limiter, *[0.0] * 5) == [0.0]
    limiter.quota = 3
    expected = {"fixed": [0.0, 0.0], "sliding": [0.0, 0.0], "leaky": [20.0], "bucket": [20.0], "concurrency": [0.0] * 2}
    assert admitted(limiter, *[0.0] * 5, *[20.0] * 5) == expected[kind]


@pytest.mark.parametrize(
    ("kind", "times", "quota", "seconds"),
    [
        ("fixed", [10.0, 20.0], 2, 35),
        ("sliding", [10.0, 20.0], 2, 45),
        ("sliding", [10.0, 20.0, 24.0], 2, 55),
        ("sliding", [], 2, 1),
        ("sliding", [], 0, 60),
        ("leaky", [20.0], 2, 25),
        ("bucket", [10.0, 20.0], 2, 15),
        ("bucket", [], 0, 60),
        ("concurrency", [10.0, 20.0], 2, 1),
        ("concurrency", [], 0, 1),
    ],
    ids=str,
)
def test_retry_after_is_the_time_of_the_next_admission(
    kind: LimiterKind, times: list[float], quota: int, seconds: int
) -> None:
    """As seen at 25 s, in whole seconds, rounded up; one second if nobody knows."""
    limiter = make_limiter(kind, quota=None if kind == "sliding" else quota, window=60.0)
    admitted(limiter, *times)
    limiter.quota = quota
    assert limiter.retry_after("key", 25.0) == seconds
    if times and kind != "concurrency":
        assert admitted(limiter, 25.0 + seconds - 0.1, 25.0 + seconds) == [25.0 + seconds]


def test_retry_after_of_concurrency_is_the_end_of_the_first_job() -> None:
    """Rounded up."""
    limiter = ConcurrencyLimiter(3, 60.0)
    for end in (math.inf, 40.2, 50.0):
        grant = limiter.admit("key", 0.0)
        assert grant
        grant.job_ends(end)
    assert limiter.retry_after("key", 30.0) == 11


@every_kind
def test_everything_is_admitted_again_when_the_clock_goes_back(kind: LimiterKind) -> None:
    """Fixtures run by the wall clock, and virtual time begins at zero."""
    limiter = make_limiter(kind, quota=1, window=60.0)
    limiter.start(5000.0)
    assert admitted(limiter, 5000.0, 5000.0) == [5000.0]
    assert admitted(limiter, 0.0, 0.0) == [0.0]


@every_kind
def test_idle_keys_are_forgotten(kind: LimiterKind) -> None:
    """Memory does not grow with the number of keys ever seen."""
    limiter: Any = make_limiter(kind, quota=1, window=60.0)
    for number in range(1000):
        limiter.admit(f"key {number}", 0.0).answered(0.0)
    assert limiter.admit("key", 60.0)
    assert not limiter.admit("key", 60.0)
    assert len(limiter._spent if kind == "fixed" else limiter._states) == 1


def test_a_refused_key_is_forgotten_too() -> None:
    """A log that has become empty in the meantime does no harm."""
    limiter = SlidingLogLimiter(1, 60.0)
    limiter.admit("key", 0.0)
    limiter.quota = 0
    assert admitted(limiter, 60.0, 120.0, 180.0) == []
    assert limiter._states == {}


# The pauses between requests, in seconds; many are zero, and many hit the edges of a window of one second.
pauses = st.lists(st.one_of(st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]), st.floats(0.0, 3.0)), max_size=60)
quotas = st.integers(0, 6)


def times_of(pauses: list[float]) -> list[float]:
    """Turn pauses into times."""
    return [sum(pauses[: at + 1]) for at in range(len(pauses))]


@given(quotas, pauses)
def test_no_fixed_window_admits_more_than_the_quota(quota: int, pauses: list[float]) -> None:
    """In none of the windows [0, 1), [1, 2), ..."""
    times = admitted(FixedWindowLimiter(quota, 1.0), *times_of(pauses))
    windows = [math.floor(at + CLOCK_TOLERANCE) for at in times]
    assert all(windows.count(window) <= quota for window in windows)


@given(quotas, pauses)
def test_no_span_of_a_window_admits_more_than_the_quota(quota: int, pauses: list[float]) -> None:
    """In the span that ends with any request; it also admits whatever it may."""
    asked = times_of(pauses)
    times = admitted(SlidingLogLimiter(quota, 1.0), *asked)
    span = 1.0 - 2 * CLOCK_TOLERANCE
    assert all(sum(end - span < at <= end for at in times) <= quota for end in times)
    refused = set(asked) - set(times)
    assert all(sum(end - 1.0 <= at <= end for at in times) >= quota for end in refused)


@given(quotas, st.integers(1, 6), pauses)
def test_no_span_admits_more_than_the_burst_and_the_tokens_of_that_span(
    quota: int, burst: int, pauses: list[float]
) -> None:
    """In the span between any two requests."""
    times = admitted(TokenBucketLimiter(quota, 1.0, burst), *times_of(pauses))
    for start in range(len(times)):
        for end in range(start, len(times)):
            assert end - start + 1 <= burst + (times[end] - times[start] + 2 * CLOCK_TOLERANCE) * quota


@given(st.integers(1, 6), pauses)
def test_admissions_of_a_leaky_bucket_are_one_interval_apart(quota: int, pauses: list[float]) -> None:
    """Any two of them."""
    times = admitted(make_limiter("leaky", quota=quota, window=1.0), *times_of(pauses))
    assert all(end - start >= 1.0 / quota - 2 * CLOCK_TOLERANCE for start, end in itertools.pairwise(times))


@given(quotas, st.lists(st.tuples(st.floats(0.0, 3.0), st.sampled_from([0.0, 0.5, 2.0, math.inf]))))
def test_never_more_requests_run_than_the_quota(quota: int, requests: list[tuple[float, float]]) -> None:
    """Some are answered at once, some have a job, and some never end."""
    limiter, running, now = ConcurrencyLimiter(quota, 1.0), list[Grant](), 0.0
    for pause, seconds in requests:
        now += pause
        running = [grant for grant in running if now < grant.until - CLOCK_TOLERANCE]
        grant = limiter.admit("key", now)
        assert bool(grant) == (len(running) < quota)
        if grant:
            grant.job_ends(now + seconds)
            running.append(grant)


async def statuses(client: PlainClient, count: int) -> list[int]:
    """Ask for an unknown job `count` times: 404 is within the quota, 429 is beyond."""
    return [(await client.ask(UNKNOWN)).status for _ in range(count)]


@pytest.mark.parametrize(
    ("limiter", "expected"),
    [
        ("fixed", [[404, 404, 429], [404, 404, 429], [429, 429, 429]]),
        ("sliding", [[404, 404, 429], [404, 404, 429], [429, 429, 429]]),
        ("leaky", [[404, 429, 429], [404, 429, 429], [404, 429, 429]]),
        ("bucket", [[404, 404, 429], [404, 404, 429], [404, 429, 429]]),
        ("concurrency", [[404, 404, 404], [404, 404, 404], [404, 404, 404]]),
    ],
    ids=KINDS,
)
async def test_the_emulator_limits_as_it_is_told(limiter: LimiterKind, expected: list[list[int]]) -> None:
    """Three requests at 0, 60 and 90 seconds."""
    async with Emulator(quota=2, limiter=limiter) as emulator, PlainClient(emulator) as client:
        found = []
        for pause in (60.0, 30.0, 0.0):
            found.append(await statuses(client, 3))
            await asyncio.sleep(pause)
        assert found == expected


@pytest.mark.parametrize("limiter", ["fixed", "sliding", "leaky", "bucket"])
async def test_creations_are_limited_in_the_same_way(limiter: LimiterKind) -> None:
    """By a quota of their own, with the hint of that kind of limiter."""
    async with (
        Emulator(quota=0, create_quota=1, limiter=limiter, phase=20.0, retry_after=True) as emulator,
        PlainClient(emulator) as client,
    ):
        replies = [await client.create() for _ in range(2)]
        assert [reply.status for reply in replies] == [201, 429]
        seconds = int(replies[1].headers["Retry-After"])
        assert seconds == (40 if limiter == "fixed" else 60)
        await asyncio.sleep(seconds)
        assert (await client.create()).status == 201


async def test_the_burst_is_the_size_of_the_bucket() -> None:
    """For both quotas."""
    async with (
        Emulator(quota=60, create_quota=60, limiter="bucket", burst=3) as emulator,
        PlainClient(emulator) as client,
    ):
        assert await statuses(client, 5) == [404, 404, 404, 429, 429]
        assert [(await client.create()).status for _ in range(4)] == [201, 201, 201, 429]
        await asyncio.sleep(1.0)
        assert await statuses(client, 2) == [404, 429]


async def test_concurrency_limits_the_requests_that_are_being_answered() -> None:
    """A slow response and one whose client has gone free their place when they end."""
    async with (
        Emulator(quota=3, limiter="concurrency", retry_after=True) as emulator,
        PlainClient(emulator) as client,
    ):
        emulator.inject(Slow(10.0), times=3)
        asking = [asyncio.create_task(client.ask(UNKNOWN)) for _ in range(3)]
        await asyncio.sleep(5.0)
        reply = await client.ask(UNKNOWN)
        assert (reply.status, reply.headers["Retry-After"]) == (429, "1")
        assert (await client.ask(UNKNOWN, {**CREDENTIALS, "Authorization": "Bearer other"})).status == 404
        asking.pop().cancel()
        await asyncio.sleep(0.1)
        assert await statuses(client, 2) == [404, 404]
        assert [(await each).status for each in asking] == [404, 404]
        assert await statuses(client, 5) == [404] * 5


async def test_concurrency_limits_the_created_jobs_in_progress() -> None:
    """A request that creates no job takes no place; a finished job frees its place."""
    async with (
        Emulator(create_quota=2, limiter="concurrency", job_duration=30.0, retry_after=True) as emulator,
        PlainClient(emulator) as client,
    ):
        emulator.inject(Status(500), endpoint="create")
        assert [(await client.create()).status, (await client.create({})).status] == [500, 400]
        replies = [await client.create() for _ in range(3)]
        assert [reply.status for reply in replies] == [201, 201, 429]
        assert replies[2].headers["Retry-After"] == "30"
        emulator.add_job(1000.0)  # not a created one
        await asyncio.sleep(30.0)
        assert [(await client.create()).status for _ in range(3)] == [201, 201, 429]


@pytest.mark.parametrize(
    ("arguments", "error", "name"),
    [
        ({"limiter": "token"}, ValueError, "limiter"),
        ({"limiter": ""}, ValueError, "limiter"),
        ({"limiter": None}, TypeError, "limiter"),
        ({"limiter": ["fixed"]}, TypeError, "limiter"),
        ({"limiter": "bucket", "burst": 0}, ValueError, "burst"),
        ({"limiter": "bucket", "burst": 1.5}, TypeError, "burst"),
        ({"limiter": "bucket", "burst": True}, TypeError, "burst"),
        ({"limiter": "leaky", "burst": 5}, ValueError, "burst"),
        ({"burst": 5}, ValueError, "burst"),
    ],
    ids=str,
)
def test_an_invalid_limiter_is_refused(arguments: dict[str, Any], error: type[Exception], name: str) -> None:
    """At construction; the error names the argument."""
    with pytest.raises(error, match=f"^{name} "):
        Emulator(**arguments)
