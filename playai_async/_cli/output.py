"""Output of a command: results on standard output, messages and progress on standard error.

Only this module imports rich. It does not know what a result is, and does not use a session.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import re
import shlex
import shutil
import stat
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from typing import IO, TypeAlias, cast

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

__all__ = [
    "Output",
    "Renderable",
    "format_seconds",
    "help_console",
    "one_line",
    "program_name",
    "progress_view",
    "writing_results",
]

Renderable: TypeAlias = RenderableType
"""Something that rich can draw."""

_MIN_TABLE_WIDTH = 80
"""Columns. In a narrower terminal a table wraps; rich would cut its cells instead."""

_MIN_HELP_WIDTH, _MAX_HELP_WIDTH = 60, 200
"""Columns. A narrower help would cut the names of options, and with two columns or fewer cyclopts would never return. A
wider help would be harder to read."""

_SIZE = re.compile(r"[1-9][0-9]{0,3}")
"""A size of a terminal that rich can use, in `COLUMNS` or `LINES`."""

_BAR_WIDTH = 24
"""Columns of the progress bar. It fits a terminal of 40 columns, with room for typed characters such as ^C."""

_NAME = "playai-async"

_WITHOUT_LINKS = {"", "dumb", "linux"}
"""Values of TERM, for terminals that would print the escape sequence of a link."""

_REFRESHES_PER_SECOND = 8
"""A slower display looks stuck, and a faster one flickers."""


def one_line(text: object) -> str:
    """Replace line breaks and terminal escape sequences, which a message of the service may contain, by spaces."""
    printable = "".join(character if character.isprintable() else " " for character in str(text))
    return " ".join(printable.split())


def program_name() -> str:
    """Return the name of this program for a command line that can be copied.

    If the program was started by its path and is not on the search path, as in a checkout, this is the path.
    """
    path = sys.argv[0]
    is_hidden = os.path.basename(path) == _NAME and shutil.which(_NAME) is None  # noqa: PTH119 - only the name is needed
    return shlex.quote(path) if is_hidden else _NAME


def format_seconds(seconds: float) -> str:
    """Return a time in words, such as "1 min 12 s", without seconds from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "min"), (0 if hours else rest, "s"))
    return " ".join(f"{count} {unit}" for count, unit in parts if count) or "0 s"


class _ClosedStream(io.TextIOBase):
    """A closed standard output. Python sets it to None, and `print` would drop the text without an error."""

    def write(self, _: str) -> int:
        raise OSError("it is closed")


@contextlib.contextmanager
def writing_results() -> Generator[None, None, None]:
    """Make an error in the block name standard output. A broken pipe is raised as it is."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(f"standard output cannot be written: {error.strerror or error}") from error


def help_console(stream: IO[str] | None) -> Console:
    """Return a console for help texts. It is wide enough for them, whatever the width of the terminal."""
    console = _console(stream or _ClosedStream())
    console.width = min(max(console.width, _MIN_HELP_WIDTH), _MAX_HELP_WIDTH)
    return console


def progress_view(*, done: int, total: int, lines: Sequence[tuple[str, str]]) -> Renderable:
    """Draw a progress bar with lines of text below.

    Args:
        done: Number of finished items.
        total: Number of all items.
        lines: A label and a text for each line.
    """
    grid = Table.grid(padding=(0, 2))
    names = [f"{done} of {total}", *(name for name, _ in lines)]
    grid.add_column(style="cyan", no_wrap=True)
    grid.add_column(overflow="ellipsis")
    # `min_width` of a column does not serve: it includes the padding in newer versions of rich, but not in older ones.
    width = max(map(len, names))
    grid.add_row(names[0].ljust(width), ProgressBar(total=max(total, 1), completed=done, width=_BAR_WIDTH))
    for name, text in lines:
        grid.add_row(name.ljust(width), Text(text, no_wrap=True))
    return grid


class Output:
    """The two output streams of a command.

    Args:
        out: Standard output, for results. Python sets it to None if the descriptor is closed; then results are errors.
        err: Standard error, for messages and progress. If it is None, they are dropped.
        verbose: Whether to log requests.
    """

    def __init__(self, out: IO[str] | None, err: IO[str] | None, *, verbose: bool = False) -> None:
        self.verbose = verbose
        self._out = out or _ClosedStream()
        self._err = _console(err)
        self._progress: _LiveProgress | None = None
        self._has_shortened = False

    def result(self, line: str) -> None:
        """Write a line to standard output and flush it.

        Raises:
            OSError: The line cannot be written; `BrokenPipeError` if the reader has closed the pipe.
        """
        with self._progress_hidden() if self._out.isatty() else contextlib.nullcontext(), writing_results():
            self._out.write(line + "\n")
            self._out.flush()

    def result_with_place(self, text: str, place: str, *, is_url: bool) -> None:
        """Write a result and where its audio is, on a terminal in lines that do not wrap.

        If they do not fit on one line of the terminal, the place gets a second line. There a URL is shortened, and is a
        link to the full URL. A path is never shortened.

        Raises:
            OSError: The lines cannot be written, as in `result`.
        """
        line = f"{text} {place}"
        columns = _console(self._out).width if self._out.isatty() else len(line)
        if len(line) <= columns:
            self.result(line)
            return
        shown = f"  {place}"
        shortens = is_url and len(shown) > columns
        if shortens:
            shown = f"{shown[: columns - 3]}..."
            if os.environ.get("TERM", "") not in _WITHOUT_LINKS:
                shown = f"\x1b]8;;{place}\x1b\\{shown}\x1b]8;;\x1b\\"
        self.result(f"{text}\n{shown}")
        if shortens and not self._has_shortened:
            self._has_shortened = True
            self.try_message("Long URLs are shortened on a terminal. Full URLs: --json, or a pipe (| cat).")

    def message(self, line: str) -> None:
        """Write a line to standard error, above the progress display."""
        with self._progress_hidden():
            self._err.print(line, soft_wrap=True)

    def try_message(self, line: str) -> None:
        """Write a line to standard error, if that is possible."""
        with contextlib.suppress(OSError):
            self.message(line)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Write a table to standard output, at least 80 columns wide. The first two columns are left-aligned.

        Raises:
            OSError: The table cannot be written, as in `result`.
        """
        table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for index, column in enumerate(columns):
            table.add_column(column, justify="left" if index < 2 else "right", no_wrap=True)  # noqa: PLR2004 - see the docstring
        for row in rows:
            table.add_row(*row)
        with writing_results():
            console = _console(self._out)
            console.width = max(_MIN_TABLE_WIDTH, console.width)
            console.print(table)

    @contextlib.asynccontextmanager
    async def show_progress(self, render: Callable[[], Renderable]) -> AsyncGenerator[None, None]:
        """Show progress while the block runs, if standard error is a terminal, and remove it at the end.

        If standard output is a pipe, nothing is shown: the program that reads the pipe may write to the same terminal,
        and removing the progress display would erase its lines.

        Args:
            render: Draws the current progress.
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
    """A progress display on a terminal, redrawn in place."""

    def __init__(self, console: Console, render: Callable[[], Renderable]) -> None:
        self._console = console
        self._render = render
        self._live: Live | None = None
        self._may_draw = True
        self._draw()

    def hide(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def show_again(self) -> None:
        """Draw the display again, now or at the next refresh.

        A drawing takes 1 or 2 ms. So between two refreshes only the first of many lines draws at once.
        """
        if self._may_draw:
            self._may_draw = False
            self._draw()

    async def refresh_forever(self) -> None:
        while True:
            await asyncio.sleep(1 / _REFRESHES_PER_SECOND)
            self._may_draw = True
            if self._live is None:
                self._draw()
            else:
                self._live.refresh()

    def _draw(self) -> None:
        # A new Live each time: a stopped one remembers its height and would overwrite the lines written since.
        # Do not redirect standard output: rich would send it to standard error.
        self._live = Live(
            console=self._console,
            get_renderable=self._render,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
        )
        self._live.start(refresh=True)


def _is_piped(stream: IO[str] | io.TextIOBase) -> bool:
    try:
        mode = os.fstat(stream.fileno()).st_mode
    except (OSError, ValueError):  # the stream has no descriptor, or the descriptor is closed
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


class _Console(Console):
    """A console that raises `BrokenPipeError`. The console of rich would exit the program with its own exit code."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def _console(stream: IO[str] | io.TextIOBase | None) -> Console:
    # Ask the stream whether it is a terminal: with FORCE_COLOR set, rich would draw progress into a log file.
    # `stderr=True` matters if the stream is None: by default rich would then write to standard output.
    is_terminal = stream is not None and stream.isatty()
    return _Console(
        file=cast("IO[str] | None", stream),
        stderr=True,
        force_terminal=is_terminal,
        markup=False,
        emoji=False,
        highlight=False,
        _environ=_environment(),
    )


def _environment() -> dict[str, str]:
    """Return the environment without unusable sizes: rich prints nothing if COLUMNS is 0, and fails if it is ²."""
    names = {name for name in ("COLUMNS", "LINES") if not _SIZE.fullmatch(os.environ.get(name, ""))}
    return {name: value for name, value in os.environ.items() if name not in names}
