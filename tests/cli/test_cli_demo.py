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

ROW = re.compile(r"([0-9a-f-]{36}) +(COMPLETED|FAILED|lost) +(\d+\.\d) +(\d+) +(\d+\.\d\d|-)")


def rows(result: CommandResult) -> list[tuple[str, ...]]:
    """Return the rows of the table: id, state, seconds, polls, lag."""
    return [match.groups() for match in map(ROW.fullmatch, result.lines) if match]


async def test_it_prints_a_row_for_each_wait(shell: Shell) -> None:
    """28 jobs of different durations, one of which fails, in the order in which the waits ended."""
    result = await shell.run("demo")
    table = rows(result)
    assert (result.status, result.err) == (0, "")
    assert len({UUID(row[0]) for row in table}) == 28
    assert [row[1] for row in table].count("FAILED") == 1
    assert len({row[2] for row in table}) == 28
    noticed = [float(row[2]) + float(row[4]) for row in table]
    assert noticed == pytest.approx(sorted(noticed), abs=0.2)
    assert re.search(r"^Job +State +Seconds +Polls +Lag \(s\)$", result.out, re.MULTILINE)


async def test_its_totals_agree_with_its_table(shell: Shell) -> None:
    """No 429, no lost wait and a small lag."""
    result = await shell.run("demo")
    table = rows(result)
    requests = sum(int(row[3]) for row in table)
    late = [float(row[4]) for row in table]
    assert result.lines[-3:-1] == [
        f"{requests} requests, {requests / 28:.1f} per job; 0 rate limited (429).",
        "0 waits lost.",
    ]
    match = re.fullmatch(r"Lag (.*) s on average, (.*) s at most; (.*) s in total\.", result.lines[-1])
    assert match
    assert float(match[1]) == pytest.approx(sum(late) / 28, abs=0.02)
    assert float(match[2]) == max(late)
    assert float(match[3]) == pytest.approx(asyncio.get_running_loop().time(), abs=0.1)


async def test_it_takes_about_fifteen_seconds(shell: Shell) -> None:
    """As its help says."""
    await shell.run("demo")
    assert 10 < asyncio.get_running_loop().time() < 16


async def test_it_fits_a_terminal_of_forty_lines(shell: Shell) -> None:
    """Including the command line, the line that make prints and the next prompt."""
    assert len((await shell.run("demo")).lines) + 3 <= 40


async def test_it_says_that_it_uses_the_emulator(shell: Shell) -> None:
    """In the first line, with the address."""
    result = await shell.run("demo", "--jobs", 2, "--longest", 1)
    first = r"2 jobs on the emulator at http://127\.0\.0\.1:\d+ \(not on the real service\)\."
    assert re.fullmatch(first, result.lines[0])


@pytest.mark.parametrize("columns", ["20", "80", "200"])
async def test_its_table_is_never_cut(shell: Shell, monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    """At any width of the terminal. The table fits 80 columns."""
    monkeypatch.setenv("COLUMNS", columns)
    result = await shell.run("demo", "--jobs", 3, "--longest", 1)
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
    assert [line.split()[0] for line in shown[-3:]] == ["Jobs", "Requests", "Pacing"]
    assert re.fullmatch(r"Pacing +quota 60 per window; \d+ queued", shown[-1])
    assert not any(line.startswith(("Jobs", "Requests", "Pacing")) for line in terminal.shows())


@pytest.mark.parametrize("jobs", [1, 100], ids=str)
async def test_options_set_the_jobs_and_their_duration(shell: Shell, jobs: int) -> None:
    """`--jobs` and `--longest`."""
    result = await shell.run("demo", "--jobs", jobs, "--longest", 2)
    assert len(rows(result)) == jobs
    assert result.status == 0


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
    assert [(row[1], row[4]) for row in rows(result)] == [("lost", "-"), ("lost", "-")]
    assert "2 waits lost." in result.lines
    assert result.err.count("PlayAI answered 404") == 2
