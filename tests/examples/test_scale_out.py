"""The example of two web processes and two workers, as the script that starts them all, in real time."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from examples.scale_out import __main__ as script
from examples.scale_out.demo import Demo
from tests.contrib.servers import program
from tests.examples.copies import ROOT, Site
from tools.servers.machine import find_initdb, find_redis_server

PROGRAM = [sys.executable, "-W", "error", "-m"]
COPIED = "scale_out"

PATIENCE = 120.0
"""Seconds for a run, before it is taken to hang."""

RECOVERY = 60.0
"""Seconds for a text that is posted to be stored."""


@pytest.fixture
def programs() -> None:
    """Redis's and PostgreSQL's, or the test is skipped."""
    program(find_redis_server(), "redis-server", "redis-server")
    program(find_initdb(), "initdb", "postgresql")


class Running:
    """The script as a process, and all processes below it that were seen.

    Attributes:
        said: What it printed.
        errors: The lines on standard error.
    """

    def __init__(self, *arguments: str, directory: Path, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - its arguments are ours
            [*PROGRAM, *arguments],
            cwd=directory,
            env=environment | {"PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._giving_up = threading.Timer(PATIENCE, self._process.terminate)
        self._giving_up.start()
        self.errors: list[str] = []
        self._reading = threading.Thread(target=self._read_errors)  # a pipe that nobody reads fills up
        self._reading.start()
        self._below: set[int] = set()
        self.said: list[str] = []

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        self.errors.extend(self._process.stderr)

    def until(self, pattern: str) -> re.Match[str]:
        """Read what it prints up to a line."""
        for line in self._lines():
            if found := re.search(pattern, line):
                return found
        raise AssertionError(f"it never said {pattern!r}, but {self.said} and {self.errors}")

    def _lines(self) -> Iterator[str]:
        assert self._process.stdout is not None
        for line in iter(self._process.stdout.readline, ""):
            self._below |= descendants(self._process.pid)
            self.said.append(line.rstrip())
            yield line

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def ended(self) -> tuple[int, str]:
        """Read the rest, see that no process is left, and return its status and what it complained of."""
        list(self._lines())
        status = self._process.wait()
        self._reading.join()
        assert self._below
        assert [pid for pid in self._below if Path(f"/proc/{pid}").exists()] == []
        return status, "".join(self.errors)

    def close(self) -> None:
        """End it, whatever became of the test, in order if that is possible."""
        self._process.terminate()
        self._process.wait()
        self._giving_up.cancel()
        self._reading.join()
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()


def descendants(root: int) -> set[int]:
    """Return the processes below one."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], check=True, capture_output=True, text=True).stdout  # noqa: S607
    parents = {int(pid): int(parent) for pid, parent in map(str.split, listed.splitlines())}
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {root}


@contextlib.contextmanager
def running(*arguments: str, site: Site) -> Iterator[Running]:
    """A copy of the script on a site, for the length of the block."""
    site.copy(COPIED)
    it = Running(COPIED, *arguments, directory=site.directory, environment=site.environment)
    try:
        yield it
    finally:
        it.close()


def ask(url: str, method: str, path: str, body: object = None) -> tuple[int, Any, str | None]:
    """Send a request, and return status, body and location of the answer."""
    with contextlib.closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=RECOVERY)) as connection:
        connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.load(answer), answer.getheader("Location")


def test_a_copy_stores_each_text_once_though_a_worker_is_killed_and_ctrl_c_ends_it(programs: None, site: Site) -> None:
    """A copy outside of the repository stores the texts of both web processes within one quota.

    Then each web process reports the speech that the other one created. Ctrl-C ends all processes without a complaint.
    """
    with running("--demo", "--serve", "--jobs", "18", site=site) as script:
        urls = [script.until(rf"^{name} +(http://\S+)")[1] for name in ("web 1", "web 2")]
        script.until(r"one third is stored; killing worker 1 \(process \d+\)")
        script.until("all results are stored")
        script.until("Ctrl-C")
        assert_each_text_was_stored_once(script.said[-9:-2])
        assert_each_web_process_reports(*urls)
        before = "".join(script.errors)
        script.signal(signal.SIGINT)
        assert script.ended() == (130, before)
    assert "Traceback" not in before


def assert_each_text_was_stored_once(report: list[str]) -> None:
    """Check the table at the end of a demo with 18 texts."""
    table = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in report)
    requests = re.fullmatch(r"(\d+), 0 of them rate limited", table.pop("status requests"))
    assert requests is not None
    assert int(requests[1]) >= 18
    assert float(table.pop("seconds")) > 0
    assert int(table.pop("worker processes").removesuffix(", 2 at a time")) >= 2
    assert table == {
        "jobs": "18",
        "stored": "18, in 18 rows",
        "web 1": "9 posted; reports 9 of the other's 9 as completed",
        "web 2": "9 posted; reports 9 of the other's 9 as completed",
    }


def assert_each_web_process_reports(first: str, second: str) -> None:
    """Check the responses of both web processes, also to wrong requests."""
    assert ask(first, "POST", "/speech", {"text": " "})[0] == 422
    assert ask(first, "GET", "/speech/11111111-2222-4333-8444-555555555555")[0] == 404
    status, speech, location = ask(first, "POST", "/speech", {"text": "Hello."})
    assert (status, speech["state"], location) == (202, "IN_PROGRESS", f"/speech/{speech['id']}")
    assert location is not None
    ends = time.monotonic() + RECOVERY
    while (answer := ask(second, "GET", location))[0] == 202:
        assert time.monotonic() < ends
        time.sleep(0.1)
    assert (answer[0], answer[1]["state"], answer[1]["seconds"]) == (200, "COMPLETED", 0.4)
    assert answer[1]["url"].startswith("http://127.0.0.1:")


@contextlib.asynccontextmanager
async def nothing_started(_: object = None) -> AsyncIterator[dict[str, str]]:
    """Stand in for the databases and the processes."""
    yield {"DATABASE_URL": "", "REDIS_URL": ""}


@pytest.mark.parametrize("stored", [True, False], ids=["all", "not all"])
def test_without_serve_the_exit_status_is_that_of_the_demo(monkeypatch: pytest.MonkeyPatch, *, stored: bool) -> None:
    """0 if each text was stored once, and 1 if not."""

    async def done(*_: object) -> bool:
        return stored

    monkeypatch.setattr(script, "databases", nothing_started)
    monkeypatch.setattr(script, "run_all", nothing_started)
    monkeypatch.setattr(script, "wait_until_ready", done)
    monkeypatch.setattr(Demo, "run", done)
    monkeypatch.setattr(Demo, "report", done)
    options = argparse.Namespace(emulated=True, jobs=1, quota=60, window=10.0, demo=False, serve=False)
    assert asyncio.run(script.until_signalled(options)) == (0 if stored else 1)


def test_the_script_runs_in_the_repository_as_well() -> None:
    """`python -m examples.scale_out` starts its parts by their names there."""
    assert (script.PACKAGE, script.ROOT) == ("examples.scale_out", ROOT)


def test_sigterm_ends_it_as_ctrl_c_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """As from a process manager. The exit status names the signal."""

    async def run(_: object) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(script, "run", run)
    assert asyncio.run(script.until_signalled(argparse.Namespace())) == 128 + signal.SIGTERM


@pytest.mark.parametrize(
    ("absent", "words"),
    [
        (["redis-server"], "Not installed: redis-server. Run: apt-get install redis-server"),
        (["initdb"], "Not installed: postgresql. Run: apt-get install postgresql"),
        (
            ["redis-server", "initdb"],
            "Not installed: redis-server and postgresql. Run: apt-get install redis-server postgresql",
        ),
    ],
    ids=["redis", "postgresql", "both"],
)
def test_a_missing_program_is_named(
    absent: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line, with what installs it, before anything is started."""
    monkeypatch.setattr(script, "find_program", lambda name: None if name in absent else Path(name))
    monkeypatch.setattr(sys, "argv", ["scale_out"])
    monkeypatch.delenv("PLAYAI_API_KEY", raising=False)
    assert script.main() == 2
    assert capsys.readouterr() == ("", f"{words}\n")


def test_nothing_is_bought_unasked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With a key, the texts of the demonstration are the user's to pay."""
    monkeypatch.setattr(sys, "argv", ["scale_out"])
    monkeypatch.setenv("PLAYAI_API_KEY", "a-key")
    assert script.main() == 2
    assert capsys.readouterr() == ("", "PLAYAI_API_KEY is set, and speech costs money: pass --demo or --serve.\n")
