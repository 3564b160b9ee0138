"""Reports to OpenTelemetry: a span for each wait, and the metrics of a session.

The home of opentelemetry; imported only where its package is installed. Where nothing is set up to listen, the API's
own instruments do nothing.

Names follow the semantic conventions where these have one (`server.address`, `http.request.method`,
`http.response.status_code`, `error.type`), and begin with `playai.` elsewhere. No attribute holds a key, a user id, a
link, spoken text, or any other words of the service.
"""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import cast

import attrs
from opentelemetry import metrics, trace
from yarl import URL

from playai_async._exceptions import APIStatusError, WaitTimeoutError
from playai_async._models import Completed, as_job
from playai_async._telemetry.events import (
    Event,
    PauseEnded,
    PauseReason,
    PauseStarted,
    RequestEnded,
    WaitEnded,
    WaitStarted,
)
from playai_async._version import __version__

untraced: Callable[[], AbstractContextManager[None]]
try:
    from opentelemetry.instrumentation.utils import suppress_instrumentation
except ImportError:  # then nothing traces requests
    untraced = contextlib.nullcontext
else:
    untraced = suppress_instrumentation  # suppressing HTTP alone would do, but aiohttp's tracer did not always heed it

__all__ = ["OpenTelemetry", "untraced"]

_LIBRARY = "playai_async"
_POLLS = "GET"

_MAX_PAUSES = 10
"""Pauses that spans can report when their waits end: the latest."""

_ERROR_STATUS = 400
"""The status from which an answer is an error."""

_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0, 120.0, 300.0, 600.0)
"""Seconds: from less than the first pause between polls to ten of the service's windows."""

_NANOSECONDS = 1_000_000_000


@attrs.define
class _Span:
    """The span of one wait, and when it began in nanoseconds since the epoch."""

    span: trace.Span
    began: int


@attrs.define
class _Pause:
    """A time in which polls were paused, or went one at a time."""

    reason: PauseReason
    began: float
    ended: float = math.inf


class OpenTelemetry:
    """The listener that reports to OpenTelemetry; one for each session.

    Args:
        base_url: Where the service is.
    """

    kinds = frozenset[type]({PauseEnded, PauseStarted, RequestEnded, WaitEnded, WaitStarted})

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
        self._lag = _histogram(meter, "playai.client.lag", "Time from a job's completion until its wait returned.")
        self._pause_time = _histogram(
            meter, "playai.client.pause.duration", "Time for which a 429 or an outage paused requests."
        )
        self._spans: dict[object, _Span] = {}
        self._pauses: deque[_Pause] = deque(maxlen=_MAX_PAUSES)
        self._attributes_of = functools.cache(self._request_attributes)

    def __call__(self, event: Event) -> None:
        """Report an event."""
        match event:
            case RequestEnded():
                self._requests.add(1, self._attributes_of(event.method, event.status, event.error))
            case WaitStarted():
                self._start_span(event)
            case WaitEnded():
                self._end_span(event)
            case PauseStarted():
                if event.method == _POLLS:
                    self._pauses.append(_Pause(event.reason, event.started))
            case _:
                self._end_pause(cast("PauseEnded", event))

    def __str__(self) -> str:
        return "OpenTelemetry"

    def _start_span(self, event: WaitStarted) -> None:
        self._open_waits.add(1, self._server)
        attributes = {"playai.job.id": str(event.job_id), **self._server}
        began = time.time_ns()
        span = self._tracer.start_span("playai.wait", attributes=attributes, start_time=began)
        if span.is_recording():
            self._spans[event.wait] = _Span(span, began)

    def _end_span(self, event: WaitEnded) -> None:
        begun = self._spans.pop(event.wait, None)
        self._open_waits.add(-1, self._server)
        job = as_job(event.job)
        if job is not None and job.completed_at is not None:
            # By two clocks, so as exact as they agree. A job that ended before the wait began has no lag.
            lag = time.time() - job.completed_at.timestamp()
            self._lag.record(min(max(0.0, lag), event.ended - event.started), self._server)
        if begun is None:
            return
        span = begun.span
        span.set_attributes(
            {
                "playai.wait.outcome": _outcome_name(event),
                "playai.wait.polls": event.polls,
                "playai.wait.throttled": event.throttled,
                "playai.wait.queued": event.queued,
            }
        )
        if event.error is not None:
            span.set_attribute("error.type", type(event.error).__qualname__)
            if isinstance(event.error, APIStatusError):
                span.set_attribute("http.response.status_code", event.error.status)
            span.set_status(trace.StatusCode.ERROR)  # without the message, which may quote the service
        for pause in self._pauses:
            began, ended = max(pause.began, event.started), min(pause.ended, event.ended)
            if began < ended:
                attributes = {"playai.pause.reason": pause.reason, "playai.pause.duration": ended - began}
                when = begun.began + round((began - event.started) * _NANOSECONDS)
                span.add_event("playai.pause", attributes, when)
        # By the clock of the waits, which nobody sets: no event is outside of its span.
        span.end(begun.began + round((event.ended - event.started) * _NANOSECONDS))

    def _end_pause(self, event: PauseEnded) -> None:
        if event.method == _POLLS and self._pauses:
            self._pauses[-1].ended = event.ended
        attributes = {"http.request.method": event.method, "playai.pause.reason": event.reason, **self._server}
        self._pause_time.record(event.ended - event.started, attributes)

    def _request_attributes(self, method: str, status: int | None, error: str | None) -> dict[str, str | int]:
        attributes: dict[str, str | int] = {"http.request.method": method, **self._server}
        if status is not None:
            attributes["http.response.status_code"] = status
            error = str(status) if status >= _ERROR_STATUS else None
        if error is not None:
            attributes["error.type"] = error
        return attributes


def _histogram(meter: metrics.Meter, name: str, description: str) -> metrics.Histogram:
    try:
        return meter.create_histogram(name, "s", description, explicit_bucket_boundaries_advisory=_BUCKETS)
    except TypeError:  # opentelemetry-api before 1.30, which is there for others, and whose buckets are its own
        return meter.create_histogram(name, "s", description)


def _outcome_name(event: WaitEnded) -> str:
    if event.error is not None:
        return "timed_out" if isinstance(event.error, WaitTimeoutError) else "error"
    if event.job is None:
        return "cancelled"
    job = as_job(event.job)
    return "completed" if job is None or isinstance(job.output, Completed) else "failed"
