"""OpenTelemetry as a test sees it: what a session told, kept in memory."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


class Told:
    """Providers of one test's own: those of a process can be set once only, and would listen to every other test."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracer_provider = TracerProvider()
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.meter_provider = MeterProvider([self._reader])

    def listen(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Be what sessions find, from now on."""
        monkeypatch.setattr(trace, "get_tracer", self.tracer_provider.get_tracer)
        monkeypatch.setattr(metrics, "get_meter", self.meter_provider.get_meter)

    def close(self) -> None:
        """Listen no more."""
        self.tracer_provider.shutdown()
        self.meter_provider.shutdown()

    @property
    def spans(self) -> list[ReadableSpan]:
        """The spans that have ended, in that order."""
        return list(self._exporter.get_finished_spans())

    @property
    def waits(self) -> list[dict[str, Any]]:
        """The attributes of the waits that have ended, but for the server's, in that order."""
        return [
            {name: value for name, value in (span.attributes or {}).items() if not name.startswith("server.")}
            for span in self.spans
            if span.name == "playai.wait"
        ]

    def metric(self, name: str) -> list[tuple[dict[str, Any], float]]:
        """The points of a metric: attributes but for the server's, and the value, or the sum of a histogram."""
        data = self._reader.get_metrics_data()
        points = [
            point
            for resource in ([] if data is None else data.resource_metrics)
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]
        return [(_own(point.attributes), _value(point)) for point in points]

    def everything(self) -> str:
        """All that was told, as text."""
        data = self._reader.get_metrics_data()
        return "".join(span.to_json() for span in self.spans) + ("" if data is None else data.to_json())


def _own(attributes: Any) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if not name.startswith("server.")}


def _value(point: Any) -> float:
    if isinstance(point, HistogramDataPoint):
        return point.sum
    assert isinstance(point, NumberDataPoint)
    return point.value
