"""Fixtures: an emulator, an environment for it, and a shell that runs commands in the event loop of the test."""

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import IO, Any

import attrs
import pytest

from playai_async._cli.app import parse
from playai_async._cli.main import command_line
from playai_async.emulator import Emulator

KEY = "sk-4711-open-sesame"
USER = "user-0815-behind-the-curtain"
_SETTING = re.compile(r"PLAYAI_|.*_PROXY$", re.IGNORECASE)
LINK = re.compile(r"\x1b\]8;;([^\x1b]*)\x1b\\")
"""What begins a link, or ends one, on a terminal."""
PROGRAM = [sys.executable, "-W", "error", "-m", "playai_async"]


class Terminal(io.StringIO):
    """A stream that claims to be a terminal and can tell what a terminal would show."""

    def isatty(self) -> bool:
        return True

    def shows(self) -> list[str]:
        """Return the lines on the screen. Understands line feeds, moves up and erased lines."""
        lines, row, column = [""], 0, 0
        for token in re.findall(r"\x1b\[[?\d;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", LINK.sub("", self.getvalue())):
            if token == "\n":
                row, column = row + 1, 0
                lines += [""] * (row + 1 - len(lines))
            elif token == "\r":
                column = 0
            elif token.startswith("\x1b"):
                if token.endswith("A"):
                    row -= int(token[2:-1])
                elif token.endswith("K"):
                    lines[row] = ""
            else:
                lines[row] = lines[row][:column].ljust(column) + token + lines[row][column + len(token) :]
                column += len(token)
        return lines

    def lines(self) -> list[str]:
        """Return the same without blank lines and with single spaces, since rich decides the width of columns."""
        return [" ".join(line.split()) for line in self.shows() if line.strip()]


class Broken(io.StringIO):
    """A stream that fails. With a descriptor, so that the program can redirect it."""

    def __init__(self, error: OSError, descriptor: IO[bytes] | None = None) -> None:
        super().__init__()
        self._error = error
        self._descriptor = descriptor

    def flush(self) -> None:
        raise self._error

    def fileno(self) -> int:
        assert self._descriptor is not None
        return self._descriptor.fileno()


@attrs.frozen
class CommandResult:
    """The exit code and the output of a command."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def documents(self) -> list[Any]:
        return [json.loads(line) for line in self.lines]


@attrs.define
class Shell:
    """Runs command lines with its own streams."""

    monkeypatch: pytest.MonkeyPatch
    out: io.StringIO = attrs.field(factory=io.StringIO)
    err: io.StringIO = attrs.field(factory=io.StringIO)
    closed_stdin: bool = False

    async def run(self, *arguments: object, stdin: str = "") -> CommandResult:
        """Run a command in this loop. Raises if the command line is refused."""
        self._connect(stdin)
        command = parse([str(argument) for argument in arguments])
        assert command is not None
        status = await command
        return CommandResult(status, self.out.getvalue(), self.err.getvalue())

    def run_main(self, *arguments: object, stdin: str = "") -> CommandResult:
        """Run a command line as the console script does, in its own event loop."""
        self._connect(stdin)
        status = command_line([str(argument) for argument in arguments])
        return CommandResult(status, self.out.getvalue(), self.err.getvalue())

    def _connect(self, stdin: str) -> None:
        text = None if self.closed_stdin else io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8")
        for name, stream in (("stdin", text), ("stdout", self.out), ("stderr", self.err)):
            self.monkeypatch.setattr(sys, name, stream)


def environment(**settings: str) -> dict[str, str]:
    """Return the environment with these settings, and no others of this program and no proxies."""
    return {name: value for name, value in os.environ.items() if not _SETTING.match(name)} | settings


def files_in(directory: Path) -> list[str]:
    """List the names of all files in a directory, including partial files."""
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Shell:
    """A shell whose streams are not terminals."""
    return Shell(monkeypatch)


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """An API key and a user id in the environment, and no other settings."""
    monkeypatch.setenv("PLAYAI_API_KEY", KEY)
    monkeypatch.setenv("PLAYAI_USER_ID", USER)
    monkeypatch.delenv("PLAYAI_BASE_URL", raising=False)
    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without any setting of this program."""
    for name in ("PLAYAI_API_KEY", "PLAYAI_USER_ID", "PLAYAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def emulator(credentials: None, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Emulator]:
    """A running emulator that checks the credentials and that PLAYAI_BASE_URL points to."""
    async with Emulator(api_key=KEY, user_id=USER) as emulator:
        monkeypatch.setenv("PLAYAI_BASE_URL", emulator.base_url)
        yield emulator


@attrs.frozen
class EmulateProcess:
    """A process that runs `emulate`, the settings it prints, and its test jobs."""

    process: subprocess.Popen[str]
    settings: dict[str, str]
    jobs: list[str]


@contextlib.contextmanager
def emulating() -> Iterator[EmulateProcess]:
    """Run `emulate` for the length of the block."""
    with subprocess.Popen(  # noqa: S603 - fixed arguments
        [*PROGRAM, "emulate"], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        lines = [process.stdout.readline().strip() for _ in range(8)]
        settings = dict(line.removeprefix("export ").split("=", 1) for line in lines[:3])
        yield EmulateProcess(process, settings, [line.split()[0] for line in lines[3:]])
        if process.poll() is None:
            process.kill()
