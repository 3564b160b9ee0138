"""`playai-async demo`."""

import asyncio
import re
from typing import Any
from uuid import UUID

import pytest

from playai_async._cli.commands import emulator
from playai_async.emulator import Emulator, Status
from tests.cli.conftest import CommandResult, Shell, Terminal

pytestmark = [pytest.mark.looptime, pytest.mark.usefixtures("no_settings")]

ROW = re.compile(r"(minutes? \d+(?: to \d+)?) +(\d+) +(\d+\.\d) +(\d+\.\d s|-) +(\d+\.\d s|-)")


def rows(result: CommandResult) -> list[tuple[str, ...]]:
    """Return the rows of the table: minutes, jobs, polls per job, mean lag, longest lag."""
    return [match.groups() for match in map(ROW.fullmatch, result.lines) if match]


async def test_it_prints_a_row_for_each_minute_of_the_service(shell: Shell) -> None:
    """28 jobs, which take up to four minutes at the service."""
    result = await shell.run("demo")
    assert (result.status, result.err) == (0, "")
    assert [row[:2] for row in rows(result)] == [(f"minute {number}", "7") for number in (1, 2, 3, 4)]
    assert re.search(r"^Job ends in +Jobs +Polls per job +Mean lag +Longest lag$", result.out, re.MULTILINE)


async def test_its_totals_agree_with_its_table(shell: Shell) -> None:
    """No 429 and no lost wait. The lag is in seconds of the service: a poll is 2 to 20 s after the one before."""
    result = await shell.run("demo")
    table = rows(result)
    polls = sum(7 * float(row[2]) for row in table) / 28
    mean = sum(7 * float(row[3].split()[0]) for row in table) / 28
    longest = max(float(row[4].split()[0]) for row in table)
    elapsed = asyncio.get_running_loop().time()
    *_, outcomes, requests, lag, took, blank, _ = result.lines
    assert outcomes == "27 completed, 1 failed, 0 waits lost."
    found = re.fullmatch(r"\d+ requests, (.*) per job; 0 rate limited \(429\)\.", requests)
    assert found
    assert float(found[1]) == pytest.approx(polls, abs=0.1)
    found = re.fullmatch(r"Lag: (.*) s on average, (.*) s at most\.", lag)
    assert found
    assert float(found[1]) == pytest.approx(mean, abs=0.1)
    assert float(found[2]) == longest
    assert 2 < mean < longest < 60
    found = re.fullmatch(r"The demo took (.*) s of real time for 4 min (.*) s of the service\.", took)
    assert found
    assert float(found[1]) == pytest.approx(elapsed, abs=0.1)
    assert 240 + float(found[2]) == pytest.approx(20 * elapsed, abs=3)
    assert blank == ""


async def test_it_takes_about_fifteen_seconds(shell: Shell) -> None:
    """As its help says."""
    await shell.run("demo")
    assert 10 < asyncio.get_running_loop().time() < 16


@pytest.mark.parametrize("longest", [12, 60], ids=str)
async def test_it_fits_a_terminal_of_24_lines_and_80_columns(shell: Shell, longest: float) -> None:
    """Including the command line and the next prompt, however long its jobs are."""
    lines = (await shell.run("demo", "--longest", longest)).lines
    assert len(lines) + 2 <= 24
    assert max(map(len, lines)) <= 80


async def test_it_ends_by_naming_the_next_command(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a form that can be copied: with its path, if it is not on the search path."""
    name = "playai-async emulate --speak"
    demo = ("demo", "--jobs", 1, "--longest", 1)
    assert (await shell.run(*demo)).lines[-1] == f"Next, hear a text of yours: {name}"
    monkeypatch.setattr("sys.argv", [".venv/bin/playai-async"])
    monkeypatch.setenv("PATH", "/nowhere")
    assert (await shell.run(*demo)).lines[-1] == f"Next, hear a text of yours: .venv/bin/{name}"


async def test_it_says_that_it_uses_the_emulator(shell: Shell) -> None:
    """In the first line, and what the figures mean in those below."""
    result = await shell.run("demo", "--jobs", 2, "--longest", 1)
    assert result.lines[:4] == [
        "Waiting for 2 jobs at once, on an emulator (not the real service).",
        "The longest job takes 20 s. The emulator allows 60 requests per minute.",
        "The demo runs 20 times faster. All times below are those of the service.",
        "Lag is the time from the end of a job to the end of its wait.",
    ]


@pytest.mark.parametrize("columns", ["20", "80", "200"])
async def test_its_table_is_never_cut(shell: Shell, monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    """At any width of the terminal. The table fits 80 columns."""
    monkeypatch.setenv("COLUMNS", columns)
    result = await shell.run("demo", "--jobs", 3, "--longest", 9)
    assert len(rows(result)) == 3
    assert "…" not in result.out
    assert max(map(len, result.lines)) <= 80


async def test_it_shows_progress_on_a_terminal(shell: Shell) -> None:
    """The display is removed at the end."""
    shell.out = shell.err = terminal = Terminal()
    running = asyncio.create_task(shell.run("demo"))
    await asyncio.sleep(8)
    shown = [line.rstrip() for line in terminal.shows() if line]
    await running
    assert [line.split()[0] for line in shown[-4:]] == ["Jobs", "Time", "Requests", "Pacing"]
    assert re.fullmatch(r"Time +2 min (39|40) s elapsed", shown[-3])
    assert re.fullmatch(r"Pacing +60 requests per window; \d+ due", shown[-1])
    assert not any(line.startswith(("Jobs ", "Time", "Requests", "Pacing")) for line in terminal.shows())


@pytest.mark.parametrize("jobs", [1, 100], ids=str)
async def test_options_set_the_jobs_and_their_duration(shell: Shell, jobs: int) -> None:
    """`--jobs` and `--longest`."""
    result = await shell.run("demo", "--jobs", jobs, "--longest", 2)
    assert [row[:2] for row in rows(result)] == [("minute 1", str(jobs))]
    assert result.status == 0


async def test_a_minute_in_which_no_job_ends_has_no_row(shell: Shell) -> None:
    """Jobs of 80, 160 and 240 s."""
    result = await shell.run("demo", "--jobs", 3)
    assert [row[:2] for row in rows(result)] == [("minute 2", "1"), ("minute 3", "1"), ("minute 4", "1")]


async def test_a_lost_wait_is_an_error(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Printed when it happens, in the table and in the summary."""

    class Refusing(Emulator):
        def add_job(self, *arguments: Any, **options: Any) -> UUID:
            job_id = super().add_job(*arguments, **options)
            self.inject(Status(404), job_id=job_id)
            return job_id

    monkeypatch.setattr(emulator, "Emulator", Refusing)
    result = await shell.run("demo", "--jobs", 2, "--longest", 1)
    assert result.status == 3
    assert [row[3:] for row in rows(result)] == [("-", "-")]
    assert "0 completed, 0 failed, 2 waits lost." in result.lines
    assert result.err.count("PlayAI answered 404") == 2
