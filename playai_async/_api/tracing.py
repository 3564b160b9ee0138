"""Keeps the trace callbacks of a client session from disturbing a request.

A callback in a `TraceConfig` runs inside of aiohttp's request, and aiohttp lets its exception through: a request whose
`on_request_end` raises has no reply, although the service answered, and perhaps created a job. Callbacks come from the
caller's `http_session`, and from tools that instrument every client session of a process.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections.abc import Awaitable, Callable, Generator
from types import SimpleNamespace
from typing import Any, TypeAlias, cast

import aiohttp

from playai_async._telemetry.emitter import Emitter

__all__ = ["AudioTraceConfig", "TraceGuard"]

_Callback: TypeAlias = Callable[[aiohttp.ClientSession, Any, Any], Awaitable[None]]

_NAME = "A trace callback of aiohttp"


class AudioTraceConfig(aiohttp.TraceConfig):
    """Trace callbacks that may know the signed URLs of audio files. Downloads use no other trace callbacks."""


class TraceGuard:
    """Suppresses the exceptions of trace callbacks in the requests of one session.

    Args:
        emitter: Reports once that a callback raises.
    """

    def __init__(self, emitter: Emitter) -> None:
        self._emitter = emitter
        self._guarded: dict[aiohttp.TraceConfig, aiohttp.TraceConfig] = {}

    @contextlib.contextmanager
    def applied(self, http: aiohttp.ClientSession) -> Generator[aiohttp.ClientSession, None, None]:
        """Yield a client session that sends as `http` does, but whose trace callbacks cannot raise.

        It is a copy, because the trace callbacks of `http` also belong to requests of the caller. aiohttp has no public
        way to send a request with other trace callbacks, and a new client session would lack the proxy, middlewares and
        subclass of `http`. A copy for each request never lags behind `http`.
        """
        configs = http.trace_configs
        for config in configs:
            if config not in self._guarded:
                self._guarded[config] = self._guard(config, http)
        twin = copy.copy(http)
        twin._trace_configs = [self._guarded[config] for config in configs]  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        try:
            yield twin
        finally:
            twin.detach()  # else aiohttp would warn that the copy was not closed

    def _guard(self, config: aiohttp.TraceConfig, http: aiohttp.ClientSession) -> aiohttp.TraceConfig:
        """Return trace callbacks that call those of `config`, with the caller's client session, and never raise."""

        def context(trace_request_ctx: object = None) -> SimpleNamespace:
            try:
                return config.trace_config_ctx(trace_request_ctx=trace_request_ctx)
            except Exception as error:  # noqa: BLE001 - the caller's factory
                self._emitter.report(_NAME, error)
                return SimpleNamespace(trace_request_ctx=trace_request_ctx)

        def guard(callback: _Callback) -> _Callback:
            async def guarded(_: object, context: object, params: object) -> None:
                try:
                    await callback(http, context, params)
                except asyncio.CancelledError as error:
                    if cast("asyncio.Task[object]", asyncio.current_task()).cancelling():
                        raise
                    self._emitter.report(_NAME, error)  # of something that the callback awaited
                except Exception as error:  # noqa: BLE001 - the caller's callback
                    self._emitter.report(_NAME, error)

            return guarded

        guarded = aiohttp.TraceConfig(cast("type[SimpleNamespace]", context))
        for name in dir(aiohttp.TraceConfig):
            if name.startswith("on_"):
                getattr(guarded, name).extend(map(guard, getattr(config, name)))
        guarded.freeze()
        return guarded
