"""Where a command writes: results on standard output, all else on standard error, progress only on a terminal.

The home of rich. This module must not know what a result is, nor talk to a session.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from typing import IO, TypeAlias

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

__all__ = ["Output", "Renderable", "one_line", "progress_view"]

Renderable: TypeAlias = RenderableType
"""Something to show."""

_MIN_TABLE_WIDTH = 80
"""Columns. A table that does not fit is better wrapped by the terminal than cut here."""

_BAR_WIDTH = 24
"""Columns of the progress bar, so that it fits a terminal of 40 with room for what is typed, such as ^C."""

_REFRESHES_PER_SECOND = 8
"""A second. Fewer look stuck, and more only flicker."""


def one_line(text: object) -> str:
    """Make a text fit for a line of its own: the service's words may hold line breaks and terminal commands."""
    printable = "".join(character if character.isprintable() else " " for character in str(text))
    return " ".join(printable.split())


def progress_view(*, done: int, total: int, lines: Sequence[tuple[str, str]]) -> Renderable:
    """Draw a bar, and below it lines of a name and a text.

    Args:
        done: How much of it is done.
        total: How much there is.
        lines: Names and texts.

    Returns:
        What `Screen.showing` shows.
    """
    grid = Table.grid(padding=(0, 2))
    names = [f"{done} of {total}", *(name for name, _ in lines)]
    grid.add_column(style="cyan", no_wrap=True)
    grid.add_column(overflow="ellipsis")
    # Not by `min_width`, which older versions of rich take without the padding, and newer with it.
    width = max(map(len, names))
    grid.add_row(names[0].ljust(width), ProgressBar(total=max(total, 1), completed=done, width=_BAR_WIDTH))
    for name, text in lines:
        grid.add_row(name.ljust(width), Text(text, no_wrap=True))
    return grid


class Output:
    """The two streams of one command.

    Args:
        out: Where results go; None, as Python has it for a closed descriptor: nowhere.
        err: Where all else goes.
    """

    def __init__(self, out: IO[str] | None, err: IO[str] | None) -> None:
        self._out = out
        self._err = _console(err)
        self._progress: _LiveProgress | None = None

    def result(self, line: str) -> None:
        """Write a line of results, at once.

        Raises:
            OSError: It can't be written; a `BrokenPipeError` where the reader has gone.
        """
        if self._out is None:
            return
        with self._progress_hidden() if self._out.isatty() else contextlib.nullcontext():
            self._out.write(line + "\n")
            self._out.flush()

    def message(self, line: str) -> None:
        """Write a line to standard error, above any progress."""
        with self._progress_hidden():
            self._err.print(line, soft_wrap=True)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Write a table as a result, 80 columns wide or wider, its first two columns to the left."""
        table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for index, column in enumerate(columns):
            table.add_column(column, justify="left" if index < 2 else "right", no_wrap=True)  # noqa: PLR2004 - as said
        for row in rows:
            table.add_row(*row)
        if self._out is not None:
            console = _console(self._out)
            console.width = max(_MIN_TABLE_WIDTH, console.width)
            console.print(table)

    @contextlib.asynccontextmanager
    async def show_progress(self, render: Callable[[], Renderable]) -> AsyncGenerator[None, None]:
        """Show progress for as long as the block runs, if standard error is a terminal; then wipe it off.

        Nothing is shown where another program reads the results: what that one writes to the same terminal, as the
        last of a pipe does, would be wiped off with it.

        Args:
            render: Draws the progress as it is now.
        """
        if not self._err.is_terminal or _is_piped(self._out):
            yield
            return
        progress = self._progress = _LiveProgress(self._err, render)
        refreshing = asyncio.create_task(progress.refresh_forever())
        try:
            yield
        finally:
            self._progress = None
            refreshing.cancel()
            await asyncio.gather(refreshing, return_exceptions=True)
            progress.hide()

    @contextlib.contextmanager
    def _progress_hidden(self) -> Generator[None, None, None]:
        progress = self._progress
        if progress is None:
            yield
            return
        progress.hide()
        try:
            yield
        finally:
            progress.show_again()


class _LiveProgress:
    """Progress on a terminal, redrawn in place."""

    def __init__(self, console: Console, render: Callable[[], Renderable]) -> None:
        self._console = console
        self._render = render
        self._live: Live | None = None
        self._may_draw = True
        self._draw()

    def hide(self) -> None:
        """Take it off the terminal, if it is there."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def show_again(self) -> None:
        """Put it back: at once, if that was not done since the last refresh, and else at the next.

        A drawing takes a millisecond or two, which thousands of lines one after another must not each cost.
        """
        if self._may_draw:
            self._may_draw = False
            self._draw()

    async def refresh_forever(self) -> None:
        """Draw it as it is now, again and again."""
        while True:
            await asyncio.sleep(1 / _REFRESHES_PER_SECOND)
            self._may_draw = True
            if self._live is None:
                self._draw()
            else:
                self._live.refresh()

    def _draw(self) -> None:
        # A new one each time: one that was stopped remembers its height, and would go up over what came after it.
        # Standard output is left alone: rich would send what is written there to standard error.
        self._live = Live(
            console=self._console,
            get_renderable=self._render,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
        )
        self._live.start(refresh=True)


def _is_piped(stream: IO[str] | None) -> bool:
    if stream is None:
        return False
    try:
        mode = os.fstat(stream.fileno()).st_mode
    except (OSError, ValueError):  # it has no descriptor, or none that is open
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


class _Console(Console):
    """rich's, which on a broken pipe would leave the program by itself, with a status of its own."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def _console(stream: IO[str] | None) -> Console:
    # Asked of the stream itself: rich takes FORCE_COLOR for a terminal, and would draw progress into a log file.
    # And `stderr` says which one is missing where the stream is None: the default is to write to the other.
    is_terminal = stream is not None and stream.isatty()
    return _Console(file=stream, stderr=True, force_terminal=is_terminal, markup=False, emoji=False, highlight=False)
