"""Builds the parts of the engine and connects them, for one event loop."""

from __future__ import annotations

import contextvars

import attrs

from playai_async._settings import PROBES_PER_WINDOW, Pacing
from playai_async._shared_quota import QuotaLink
from playai_async._telemetry.emitter import Emitter
from playai_async._telemetry.pauses import PauseReporter
from playai_async.jobs._pacing.gate import Gate
from playai_async.jobs._pacing.known_quota import KnownQuota
from playai_async.jobs._pacing.learned_quota import LearnedQuota
from playai_async.jobs._pacing.leased_quota import LeasedQuota
from playai_async.jobs._pacing.pacer import Pacer, Quota
from playai_async.jobs._pacing.windows import WindowClock
from playai_async.jobs._polling.planner import Planner, Traits
from playai_async.jobs._polling.poller import Poller
from playai_async.jobs._polling.watch import Fetch, IsDone
from playai_async.jobs._scheduling.dispatcher import Dispatcher
from playai_async.jobs._scheduling.in_flight import InFlightLimiter
from playai_async.jobs._scheduling.lifecycle import Lifecycle
from playai_async.jobs._scheduling.quota_sync import QuotaSync
from playai_async.jobs._scheduling.request import Classify, Errors
from playai_async.jobs._scheduling.request_queue import RequestQueue

__all__ = [
    "Client",
    "build_dispatcher",
    "build_pacer",
    "build_poller",
]


@attrs.frozen
class Client:
    """What all operations of one client share.

    Attributes:
        lifecycle: Whether it is open, and its event loop.
        errors: The exceptions that it raises.
        classify: What an exception of a request means.
        emitter: Where it reports.
        in_flight: How many requests may be in flight.
    """

    lifecycle: Lifecycle
    errors: Errors
    classify: Classify
    emitter: Emitter
    in_flight: InFlightLimiter


def build_pacer(
    pacing: Pacing,
    *,
    probes: float = PROBES_PER_WINDOW,
    first_probe: float | None = None,
    leased: LeasedQuota | None = None,
) -> Pacer:
    """Build the pacer of one operation.

    Args:
        pacing: What is known of the quota.
        probes: Probes per window after a 429 without a `Retry-After`.
        first_probe: Seconds from such a 429 to the first probe, if the service may limit something else than requests
            per window; None if it counts requests.
        leased: The quota that other processes share, or None.
    """
    fixed = pacing.counting == "fixed"
    windows = WindowClock(pacing.window, certain=fixed) if leased is None else leased.windows
    quota: Quota
    if leased is not None:
        quota = leased
    elif pacing.requests_per_window is None:
        quota = LearnedQuota(pacing.window, windows)
    else:
        quota = KnownQuota(pacing.requests_per_window, pacing.window, windows, fixed=fixed)
    return Pacer(quota, Gate(pacing.window / probes, windows, first_pause=first_probe))


def build_dispatcher(
    client: Client,
    pacing: Pacing,
    *,
    operation: str,
    method: str,
    probes: float = PROBES_PER_WINDOW,
    first_probe: float | None = None,
    shared: tuple[QuotaLink, LeasedQuota] | None = None,
    context: contextvars.Context | None = None,
) -> Dispatcher:
    """Build what sends the requests of one operation; called in a running loop.

    Args:
        client: What all operations share.
        pacing: What is known of the quota.
        operation: The requests, in the plural, for the log.
        method: Their HTTP method, for metrics.
        probes: Probes per window after a 429 without a `Retry-After`.
        first_probe: Seconds to the first probe, as for `build_pacer`.
        shared: The quota that other processes share: the link to it, and what it granted; or None.
        context: The context that requests are made in.
    """
    pacer = build_pacer(pacing, probes=probes, first_probe=first_probe, leased=None if shared is None else shared[1])
    dispatcher = Dispatcher(
        RequestQueue(pacing.window),
        pacer,
        client.in_flight,
        lifecycle=client.lifecycle,
        classify=client.classify,
        errors=client.errors,
        pauses=PauseReporter(operation, method, client.emitter),
        emitter=client.emitter,
        context=contextvars.Context() if context is None else context,
    )
    if shared is not None:
        dispatcher.sync = QuotaSync(*shared, pacer, dispatcher, client.emitter)
    return dispatcher


def build_poller(
    client: Client,
    fetch: Fetch,
    is_done: IsDone,
    pacing: Pacing,
    *,
    traits: Traits,
    shared: tuple[QuotaLink, LeasedQuota] | None = None,
) -> Poller:
    """Build what waits for jobs; called in a running loop.

    Args:
        client: What all operations share.
        fetch: Makes one status request.
        is_done: Says whether a job is finished.
        pacing: What is known of the quota.
        traits: How to read what forecasts go by.
        shared: The quota that other processes share: the link to it, and what it granted; or None.
    """
    context = contextvars.Context()
    dispatcher = build_dispatcher(
        client, pacing, operation="status requests", method="GET", shared=shared, context=context
    )
    return Poller(
        fetch,
        is_done,
        dispatcher,
        Planner(traits, pacing.window),
        lifecycle=client.lifecycle,
        errors=client.errors,
        emitter=client.emitter,
        context=context,
    )
