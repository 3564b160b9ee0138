"""The progress display on a terminal."""

import asyncio
import io
import logging
import os
import re
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO

import pytest

from playai_async import SessionStats
from playai_async._cli.output import Output, Renderable, progress_view
from playai_async._cli.results import JobCounts, Stopwatch
from playai_async._telemetry.events import PauseReason
from playai_async.emulator import Emulator, Slow, Status
from tests.cli.conftest import KEY, LINK, USER, Broken, Shell, Terminal

pytestmark = pytest.mark.looptime


@asynccontextmanager
async def waiting(shell: Shell, *arguments: object) -> AsyncIterator[None]:
    """Run a wait during the block, and until it ends."""
    command = asyncio.create_task(shell.run("wait", *arguments))
    yield
    await command


async def test_progress_counts_states_and_requests(emulator: Emulator, shell: Shell) -> None:
    """A bar, the jobs by state and the requests, at most an eighth of a second old."""
    shell.err = err = Terminal()
    jobs = [emulator.add_job(1), emulator.add_job(1, fails=True), emulator.add_job(15), emulator.add_job(15)]
    emulator.inject(Status(404), job_id=jobs[3])
    async with waiting(shell, *jobs):
        await asyncio.sleep(8)
        shown = err.lines()
        sent = emulator.stats.requests
    assert shown[0].startswith("PlayAI answered 404 for job")
    assert re.fullmatch(r"3 of 4 +━+[╸╺]?━*", shown[-5])
    assert shown[-4] == "Jobs 1 waiting, 1 completed, 1 failed, 1 errors"
    # A poll may have been sent since the last refresh.
    assert shown[-2] in {f"Requests {drawn} sent, 0 rate limited (429)" for drawn in (sent - 1, sent)}
    assert shown[-1] == "Pacing no limit known; 0 due"


async def test_progress_shows_a_pause(emulator: Emulator, shell: Shell) -> None:
    """Its reason, the remaining seconds and the queued requests."""
    shell.err = err = Terminal()
    emulator.inject(Status(429, headers={"Retry-After": "40"}))
    async with waiting(shell, emulator.add_job()):
        await asyncio.sleep(10)
        first = err.lines()[-1]
        await asyncio.sleep(10)
        second = err.lines()[-1]
        await asyncio.sleep(30)
    pause = re.compile(r"Pacing rate limited, next request in (\d+) s; 1 due")
    left = [int(match[1]) for match in map(pause.fullmatch, (first, second)) if match]
    assert 29 < left[0] < 33
    assert left[0] - left[1] == pytest.approx(10, abs=1)


@pytest.mark.parametrize(
    ("paused_for", "reason", "quota", "words"),
    [
        (0.0, None, 60, "60 requests per window; 2 due"),
        (11.2, "throttled", 60, "rate limited, next request in 12 s; 2 due"),
        (0.0, "throttled", None, "rate limited, trying one request; 2 due"),
        (61.0, "outage", None, "service not available, next request in 1 min 1 s; 2 due"),
    ],
)
async def test_progress_says_what_the_session_waits_for(
    paused_for: float, reason: PauseReason | None, quota: int | None, words: str
) -> None:
    """In words: after a 429, while a first request tries whether it is over, and in an outage."""
    stats = SessionStats(9, 0, 0, 9, 9, 0, paused_for, quota, queued=2, pause_reason=reason)
    err = Terminal()
    async with Output(None, err).show_progress(lambda: JobCounts(9).view(stats)):
        assert err.lines()[-1] == f"Pacing {words}"


async def test_a_timeout_that_has_passed_is_shown_as_0_s(emulator: Emulator, shell: Shell, tmp_path: Path) -> None:
    """A download may run past it."""
    shell.err = err = Terminal()
    emulator.inject(Slow(60), endpoint="audio")
    async with waiting(shell, emulator.add_job(), "--timeout", 30, "--download", tmp_path):
        await asyncio.sleep(50)
        assert err.lines()[-3].endswith(" elapsed, 0 s until the timeout")


async def test_progress_is_removed_at_the_end(emulator: Emulator, shell: Shell) -> None:
    """Only errors stay on standard error. The cursor is shown again."""
    shell.err = err = Terminal()
    async with waiting(shell, emulator.add_job(5), emulator.add_job(20)):
        await asyncio.sleep(3)
        assert err.lines()
    assert err.lines() == []
    assert err.getvalue().rfind("\x1b[?25h") > err.getvalue().rfind("\x1b[?25l")


async def test_results_and_progress_share_a_terminal(emulator: Emulator, shell: Shell) -> None:
    """Results stand above the progress display, although they use another stream."""
    shell.out = shell.err = terminal = Terminal()
    jobs = [emulator.add_job(seconds) for seconds in (0, 5, 40)]
    async with waiting(shell, *jobs):
        await asyncio.sleep(20)
        shown = terminal.lines()
        results, progress = shown[:-5], shown[-5:]
        assert [line.split()[0] for line in progress] == ["2", "Jobs", "Time", "Requests", "Pacing"]
    finished = [line.split() for line in terminal.lines() if "COMPLETED" in line]
    assert finished == [[str(job), "COMPLETED"] for job in jobs]
    assert [line.split() for line in results if "COMPLETED" in line] == finished[:2]


async def test_results_go_to_standard_output_only(emulator: Emulator, shell: Shell) -> None:
    """With and without progress."""
    shell.err = err = Terminal()
    job = emulator.add_job(5)
    async with waiting(shell, job):
        pass
    assert shell.out.getvalue().startswith(f"{job} COMPLETED")
    assert "COMPLETED" not in err.getvalue()
    assert "\x1b" not in shell.out.getvalue()


async def test_a_log_message_stands_above_progress(
    emulator: Emulator, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On separate lines."""
    # As in a real program: the handlers of pytest would take the warning.
    monkeypatch.setattr(logging.getLogger("playai_async"), "propagate", False)
    shell.err = err = Terminal()
    job = emulator.add_job(20)
    emulator.set_output(job, {"status": "QUEUED"})
    async with waiting(shell, job):
        await asyncio.sleep(5)
        shown = err.lines()
        emulator.set_output(job, None)
    assert " ".join(shown[:-5]).startswith(f"Job {job} has a status that the contract does not list: 'QUEUED'")
    assert [line.split()[0] for line in shown[-5:]] == ["0", "Jobs", "Time", "Requests", "Pacing"]


@pytest.mark.parametrize("variable", ["FORCE_COLOR", "TTY_COMPATIBLE"])
async def test_there_is_no_progress_without_a_terminal(
    emulator: Emulator, shell: Shell, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """A log file gets errors only, also with FORCE_COLOR."""
    monkeypatch.setenv(variable, "1")
    async with waiting(shell, emulator.add_job(5)):
        pass
    assert shell.err.getvalue() == ""


@contextmanager
def out_to(kind: str) -> Iterator[IO[str]]:
    """Open a standard output on a descriptor of this kind."""
    with ExitStack() as opened:
        if kind == "socket":
            ours, _ = (opened.enter_context(end) for end in socket.socketpair())
            yield opened.enter_context(ours.makefile("w", encoding="utf-8"))
            return
        if kind == "pipe":
            reader, descriptor = os.pipe()
            opened.callback(os.close, reader)
        elif kind == "terminal":
            other_end, descriptor = os.openpty()
            opened.callback(os.close, other_end)
        else:
            descriptor = os.open(kind, os.O_WRONLY | os.O_CREAT)
        yield opened.enter_context(os.fdopen(descriptor, "w", encoding="utf-8"))


@pytest.mark.parametrize(
    ("kind", "drawn"),
    [("pipe", False), ("socket", False), ("terminal", True), ("file", True), (os.devnull, True)],
    ids=["pipe", "socket", "terminal", "file", "null device"],
)
async def test_there_is_no_progress_if_output_is_piped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, *, drawn: bool
) -> None:
    """The display would erase lines of the reading program. A file or a terminal does no harm."""
    monkeypatch.chdir(tmp_path)
    err = Terminal()
    with out_to(kind) as out:
        async with Output(out, err).show_progress(lambda: progress_view(done=0, total=0, lines=[("Jobs", "none")])):
            assert ("none" in err.getvalue()) == drawn


async def test_progress_shows_no_secret(emulator: Emulator, shell: Shell) -> None:
    """Neither the key nor the user id."""
    shell.err = err = Terminal()
    async with waiting(shell, emulator.add_job(5)):
        pass
    assert "Requests" in err.getvalue()
    assert KEY not in err.getvalue()
    assert USER not in err.getvalue()


async def test_progress_is_removed_if_the_block_fails() -> None:
    """The terminal is left clean."""
    err = Terminal()

    async def fail() -> None:
        async with Output(None, err).show_progress(lambda: progress_view(done=0, total=0, lines=[("Jobs", "none")])):
            await asyncio.sleep(1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert "none" in err.getvalue()
    assert err.lines() == []


def test_a_result_for_a_closed_standard_output_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python sets the closed stream to None. Nothing is written to standard error instead."""
    err = Terminal()
    monkeypatch.setattr(sys, "stderr", err)
    output = Output(None, err)
    with pytest.raises(OSError, match="standard output cannot be written: it is closed"):
        output.result("one")
    with pytest.raises(OSError, match="standard output cannot be written: it is closed"):
        output.table(["a"], [["b"]])
    assert err.getvalue() == ""


def test_a_message_for_a_closed_standard_error_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not written to standard output instead."""
    out = Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", None)
    Output(out, None).message("one")
    assert out.getvalue() == ""


async def test_progress_fits_a_narrow_terminal(
    emulator: Emulator, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrapped line could not be removed. Long lines end with an ellipsis."""
    monkeypatch.setenv("COLUMNS", "40")
    shell.err = err = Terminal()
    async with waiting(shell, emulator.add_job(5)):
        await asyncio.sleep(3)
        shown = [line.rstrip() for line in err.shows() if line.strip()]
    assert len(shown) == 5
    assert all(len(line) <= 40 for line in shown)
    assert re.fullmatch(r"Jobs      1 waiting, .*…", shown[1])


@pytest.mark.parametrize("columns", ["0", "1", "2", "3", "²", "1000000000"])
async def test_no_number_of_columns_hides_an_error(monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    """Rich prints nothing with `COLUMNS=0`, and fails with `COLUMNS=²`."""
    monkeypatch.setenv("COLUMNS", columns)
    out, err = io.StringIO(), Terminal()
    output = Output(out, err)
    async with output.show_progress(lambda: progress_view(done=0, total=9, lines=[("Jobs", "none")])):
        output.message("an error")
    output.table(["a table"], [["of 1 row"]])
    assert err.lines() == ["an error"]
    assert out.getvalue().splitlines()[-1].strip() == "of 1 row"


async def test_a_table_on_a_broken_pipe_raises() -> None:
    """As any other result does. rich would exit the program."""
    with pytest.raises(BrokenPipeError):
        Output(Broken(BrokenPipeError()), None).table(["a"], [["b"]])


async def test_a_burst_of_lines_costs_few_drawings() -> None:
    """Thousands of jobs may finish at once. All lines are printed."""
    terminal = Terminal()
    drawings = 0

    def drawn() -> Renderable:
        nonlocal drawings
        drawings += 1
        return progress_view(done=0, total=0, lines=[("Jobs", "many")])

    output = Output(terminal, terminal)
    async with output.show_progress(drawn):
        before = drawings
        for number in range(500):
            output.result(f"result {number}")
            output.message(f"error {number}")
        burst = drawings - before
        await asyncio.sleep(1)
        assert terminal.lines()[-1].split() == ["Jobs", "many"]
    assert burst < 10  # one drawing calls `render` more than once
    assert drawings - before < 40
    assert terminal.lines() == [f"{kind} {number}" for number in range(500) for kind in ("result", "error")]


async def test_ninety_thousand_jobs_fit_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrapped line could not be removed, and no line is cut."""
    monkeypatch.setenv("COLUMNS", "80")
    err = Terminal()
    counts = JobCounts(
        99_999,
        completed=30_000,
        failed=20_000,
        errors=10_000,
        downloading=32,
        received=10**13,
        job=str(USER),
        stopwatch=Stopwatch(lambda: 86_399.0, 0.0, 172_800.0),
    )
    stats = SessionStats(
        requests=999_999,
        throttled=99_999,
        transient_failures=99_999,
        open_waits=99_999,
        distinct_jobs=99_999,
        in_flight=32,
        paused_for=86_400.0,
        quota=99_999,
        queued=99_999,
        pause_reason="throttled",
    )
    async with Output(None, err).show_progress(lambda: counts.view(stats)):
        shown = [line.rstrip() for line in err.shows() if line.strip()]
    assert [line.split()[0] for line in shown] == ["60000", "Job", "Jobs", "Audio", "Time", "Requests", "Pacing"]
    assert shown[2].endswith(" 39967 waiting, 30000 completed, 20000 failed, 10000 errors")
    assert shown[3].endswith(" 32 downloading, 10000000.0 MB received")
    assert shown[4].endswith(" 23 h 59 min elapsed, 24 h until the timeout")
    assert shown[6].endswith(" rate limited, next request in 24 h; 99999 due")
    assert max(map(len, shown)) <= 80
    assert not any("…" in line for line in shown)


PLACE = f"https://files.example/{'x' * 20}.wav?Signature={'y' * 60}"


def shown_result(monkeypatch: pytest.MonkeyPatch, place: str, *, is_url: bool, term: str = "xterm") -> Terminal:
    """Return a terminal of 80 columns with a result of 46 columns and its place."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", term)
    terminal = Terminal()
    output = Output(terminal, terminal)
    for _ in range(2):
        output.result_with_place(f"{USER:36} COMPLETED", place, is_url=is_url)
    return terminal


@pytest.mark.parametrize("term", ["xterm", "dumb", "linux"])
def test_a_long_url_is_shortened_on_a_terminal(monkeypatch: pytest.MonkeyPatch, term: str) -> None:
    """On a second line, which links to the full URL where the terminal knows links. A message says so, once."""
    terminal = shown_result(monkeypatch, PLACE, is_url=True, term=term)
    lines = [line.rstrip() for line in terminal.shows()]
    assert lines[:2] == [f"{USER:36} COMPLETED", f"  {PLACE[:75]}..."]
    assert lines[2] == "Long URLs are shortened on a terminal. Full URLs: --json, or a pipe (| cat)."
    assert lines[3:5] == lines[:2]
    assert max(map(len, lines)) <= 80
    assert LINK.findall(terminal.getvalue()) == ([PLACE, "", PLACE, ""] if term == "xterm" else [])


def test_a_long_path_is_not_shortened(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has a line alone, so that it can be copied; it wraps only if it is longer than a line."""
    for length in (40, 100):
        path = "a/" + "x" * length
        assert shown_result(monkeypatch, path, is_url=False).shows()[:2] == [f"{USER:36} COMPLETED", f"  {path}"]


def test_a_result_that_fits_stays_on_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on anything but a terminal, whatever its length is."""
    place = "x" * (80 - 47)
    assert shown_result(monkeypatch, place, is_url=True).shows()[0] == f"{USER:36} COMPLETED {place}"
    out = io.StringIO()
    Output(out, None).result_with_place("done", PLACE, is_url=True)
    assert out.getvalue() == f"done {PLACE}\n"
