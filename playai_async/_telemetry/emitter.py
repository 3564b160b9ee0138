"""Passes events to listeners, and lets no exception of a listener through."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from playai_async._telemetry.events import Event

__all__ = ["Emitter", "Listener"]

logger = logging.getLogger("playai_async")


class Listener(Protocol):
    """What events are passed to."""

    kinds: frozenset[type]
    """The events that it wants."""

    def __call__(self, event: Event) -> None:
        """Take an event of one of these kinds."""
        ...


class Emitter:
    """Passes events to listeners.

    Args:
        listeners: What wants to know of events.
        untraced: Returns a context in which no HTTP request is traced, for requests whose URL must stay secret.
    """

    def __init__(
        self,
        *listeners: Listener,
        untraced: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        self._broken: set[str] = set()
        self.kinds = frozenset[type]().union(*(listener.kinds for listener in listeners))
        self._listeners = {kind: [listener for listener in listeners if kind in listener.kinds] for kind in self.kinds}
        self.untraced = untraced

    @property
    def verbose(self) -> bool:
        """Whether events that only explain are logged; otherwise they need not be made."""
        return logger.isEnabledFor(logging.DEBUG)

    def emit(self, event: Event) -> None:
        """Pass an event to each listener that wants it; never raise while an event loop runs."""
        for listener in self._listeners.get(type(event), ()):
            try:
                listener(event)
            except (SystemExit, KeyboardInterrupt) as error:
                _raise_later(error)
            except BaseException as error:  # noqa: BLE001 - a listener must not disturb what it listens to
                self.report(str(listener), error)

    def report(self, listener: str, error: BaseException) -> None:
        """Log once that a listener raises; by the exception's class alone, since its message may quote anything."""
        if listener in self._broken:
            return
        self._broken.add(listener)
        try:
            logger.warning("%s raised %s; waits go on.", listener, type(error).__qualname__)
        except (SystemExit, KeyboardInterrupt) as reason:
            _raise_later(reason)
        except BaseException:  # noqa: BLE001, S110 - the log itself may be what raises
            pass


def _raise_later(error: BaseException) -> None:
    """Let an error end the program, but between two steps of the event loop: here it would leave a request half done.

    Raises:
        BaseException: The error, if no event loop runs.
    """

    def raise_it() -> None:
        raise error

    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        raise error from None
    loop.call_soon(raise_it)
