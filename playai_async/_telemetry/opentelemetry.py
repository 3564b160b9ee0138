"""What OpenTelemetry is told: a span for each wait, and the metrics of a session.

The home of opentelemetry, to be imported only where its package is installed. Where nothing is set up to listen, the
API's own instruments take no notice.

Names follow the semantic conventions where those have one (`server.address`, `http.request.method`,
`http.response.status_code`, `error.type`), and begin with `playai.` elsewhere. No attribute holds a key, a user id, a
link, a text that is spoken, or anything else in the service's words.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Concatenate, ParamSpec

import attrs
from opentelemetry import metrics, trace
from yarl import URL

from playai_async._exceptions import APIStatusError, PlayAIError, WaitTimeoutError
from playai_async._models import Completed, TtsJob
from playai_async._telemetry.events import Telemetry
from playai_async._version import __version__
from playai_async.jobs._pacing.pacer import PauseReason
from playai_async.jobs._polling.watch import Outcome, Waiter

_untraced: Callable[[], AbstractContextManager[None]]
try:
    from opentelemetry.instrumentation.utils import suppress_instrumentation
except ImportError:  # then nothing traces requests
    _untraced = contextlib.nullcontext
else:
    _untraced = suppress_instrumentation  # of HTTP alone would do, but what traces aiohttp did not always heed that

__all__ = ["OpenTelemetry"]

logger = logging.getLogger("playai_async")

_P = ParamSpec("_P")

_LIBRARY = "playai_async"
_POLLS = "GET"

_PAUSES_KEPT = 10
"""Pauses that spans can still tell of when their waits end: of more, the last."""

_REFUSALS = 400
"""The status from which an answer is an error."""

_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0, 120.0, 300.0, 600.0)
"""Seconds: from less than the first pause between polls to ten of the service's windows."""

_PER_SECOND = 1_000_000_000


@attrs.define
class _Span:
    """One wait, as a trace has it, and where the counts of its watch stood when it began."""

    span: trace.Span
    began: int
    throttled: int
    queued: float


@attrs.define
class _Pause:
    """A time in which no polls went, or one at a time."""

    reason: PauseReason
    began: float
    ended: float = math.inf


def _harmless(
    method: Callable[Concatenate[OpenTelemetry, _P], None],
) -> Callable[Concatenate[OpenTelemetry, _P], None]:
    """Let what is told go wrong without harm: a sampler or a span processor of the caller's may raise."""

    @functools.wraps(method)
    def told(self: OpenTelemetry, /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 - no wait may end, or go on for ever, because of who listens
            self.broke(error)

    return told


class OpenTelemetry(Telemetry):
    """Tells OpenTelemetry; to be made once for a session.

    Args:
        base_url: Where the service is.
    """

    def __init__(self, base_url: URL) -> None:
        self._server: dict[str, str | int] = {"server.address": base_url.host or "", "server.port": base_url.port or 0}
        self._tracer = trace.get_tracer(_LIBRARY, __version__)
        meter = metrics.get_meter(_LIBRARY, __version__)
        self._open_waits = meter.create_up_down_counter(
            "playai.client.open_waits", "{wait}", "Callers that are waiting for a job."
        )
        self._requests = meter.create_counter(
            "playai.client.requests", "{request}", "Requests sent, by what came back."
        )
        self._lag = _histogram(meter, "playai.client.lag", "Time from a job's completion until its wait was told.")
        self._pause_time = _histogram(
            meter, "playai.client.pause.duration", "Time for which requests were held by a 429 or an outage."
        )
        self._broken = False
        self._spans: dict[Waiter, _Span] = {}
        self._pauses: deque[_Pause] = deque(maxlen=_PAUSES_KEPT)
        self._held: dict[str, _Pause] = {}
        self._attributes_of = functools.cache(self._request_attributes)

    def broke(self, error: Exception) -> None:
        """Take note, once, that what listens raises; by its class alone, since nobody knows what it quotes."""
        if not self._broken:
            self._broken = True
            logger.warning("OpenTelemetry raised %s; waits go on.", type(error).__qualname__)

    @_harmless
    def wait_began(self, waiter: Waiter) -> None:
        self._open_waits.add(1, self._server)
        watch = waiter.watch
        attributes = {"playai.job.id": str(watch.job_id), **self._server}
        began = time.time_ns()
        span = self._tracer.start_span("playai.wait", attributes=attributes, start_time=began)
        if span.is_recording():
            self._spans[waiter] = _Span(span, began, watch.throttled, watch.queued_for(waiter.since))

    @_harmless
    def wait_ended(self, waiter: Waiter, outcome: Outcome | None, now: float) -> None:
        begun = self._spans.pop(waiter, None)
        self._open_waits.add(-1, self._server)
        if isinstance(outcome, TtsJob) and outcome.completed_at is not None:
            # By two clocks, and so as exact as they agree. What was done before the wait began is no lag of ours.
            lag = time.time() - outcome.completed_at.timestamp()
            self._lag.record(min(max(0.0, lag), now - waiter.since), self._server)
        if begun is None:
            return
        watch, span = waiter.watch, begun.span
        span.set_attributes(
            {
                "playai.wait.outcome": _outcome_name(outcome),
                "playai.wait.polls": watch.polls - waiter.polls_before,
                "playai.wait.throttled": watch.throttled - begun.throttled,
                "playai.wait.queued": watch.queued_for(now) - begun.queued,
            }
        )
        if isinstance(outcome, PlayAIError):
            span.set_attribute("error.type", type(outcome).__qualname__)
            if isinstance(outcome, APIStatusError):
                span.set_attribute("http.response.status_code", outcome.status)
            span.set_status(trace.StatusCode.ERROR)  # without the message, which may quote the service
        for pause in self._pauses:
            began, ended = max(pause.began, waiter.since), min(pause.ended, now)
            if began < ended:
                attributes = {"playai.pause.reason": pause.reason, "playai.pause.duration": ended - began}
                when = begun.began + round((began - waiter.since) * _PER_SECOND)
                span.add_event("playai.pause", attributes, when)
        # By the clock of the waits, which is never set: no event is outside of its span.
        span.end(begun.began + round((now - waiter.since) * _PER_SECOND))

    @_harmless
    def answered(self, method: str, status: int) -> None:
        self._requests.add(1, self._attributes_of(method, status, None))

    @_harmless
    def unanswered(self, method: str, error: PlayAIError) -> None:
        self._requests.add(1, self._attributes_of(method, None, type(error).__qualname__))

    @_harmless
    def pause_began(self, method: str, reason: PauseReason, now: float) -> None:
        pause = self._held[method] = _Pause(reason, now)
        if method == _POLLS:
            self._pauses.append(pause)

    @_harmless
    def pause_ended(self, method: str, now: float) -> None:
        pause = self._held.pop(method)
        pause.ended = now
        attributes = {"http.request.method": method, "playai.pause.reason": pause.reason, **self._server}
        self._pause_time.record(now - pause.began, attributes)

    def untraced(self) -> AbstractContextManager[None]:
        return _untraced()

    def _request_attributes(self, method: str, status: int | None, error: str | None) -> dict[str, str | int]:
        attributes: dict[str, str | int] = {"http.request.method": method, **self._server}
        if status is not None:
            attributes["http.response.status_code"] = status
            error = str(status) if status >= _REFUSALS else None
        if error is not None:
            attributes["error.type"] = error
        return attributes


def _histogram(meter: metrics.Meter, name: str, description: str) -> metrics.Histogram:
    try:
        return meter.create_histogram(name, "s", description, explicit_bucket_boundaries_advisory=_BUCKETS)
    except TypeError:  # opentelemetry-api before 1.30, which is there for others, and whose buckets are its own
        return meter.create_histogram(name, "s", description)


def _outcome_name(outcome: Outcome | None) -> str:
    if outcome is None:
        return "cancelled"
    if isinstance(outcome, TtsJob):
        return "completed" if isinstance(outcome.output, Completed) else "failed"
    return "timed_out" if isinstance(outcome, WaitTimeoutError) else "error"
