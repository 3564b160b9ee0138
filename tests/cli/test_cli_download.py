"""`playai-async wait --download`: saves audio while other jobs are still running."""

import asyncio
import io
import os
import re
import weakref
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from playai_async import Completed, TtsJob
from playai_async._cli.commands import wait
from playai_async._cli.commands.wait import wait_and_download
from playai_async._cli.output import Output
from playai_async._cli.results import JobCounts, OutcomeRecorder, Reporter
from playai_async.emulator import Emulator, Reset, Slow, Status
from tests.cli.conftest import Broken, Shell, Terminal, files_in

pytestmark = pytest.mark.looptime

NO_JOB = UUID("00000000-0000-4000-8000-000000000000")
ID = "8a1f4c9e-3f1b-4b8e-9d57-0c2f6a7b1e42"


def named(jobs: Sequence[UUID]) -> list[str]:
    """Return the file names of jobs."""
    return sorted(f"{job}.wav" for job in jobs)


async def test_it_saves_the_audio_of_each_completed_job(emulator: Emulator, shell: Shell, tmp_path: Path) -> None:
    """The line has the path instead of the URL. A failed job has no file."""
    jobs = [emulator.add_job(seconds, input={"text": "la " * number}) for number, seconds in enumerate((1, 5, 20), 50)]
    failing = emulator.add_job(1, fails=True)
    result = await shell.run("wait", "--download", tmp_path, failing, *jobs)
    assert (result.status, result.err) == (1, "")
    assert sorted(result.lines) == sorted(
        [f"{failing} FAILED", *(f"{job} COMPLETED {tmp_path}/{job}.wav" for job in jobs)]
    )
    assert files_in(tmp_path) == named(jobs)
    for job in jobs:
        assert (tmp_path / f"{job}.wav").read_bytes() == emulator.audio_of(job)


async def test_json_has_the_url_and_not_the_path(emulator: Emulator, shell: Shell, tmp_path: Path) -> None:
    """It is the service's object. The file is named after the id."""
    job = emulator.add_job(1)
    result = await shell.run("wait", job, "--json", "--download", tmp_path)
    (document,) = result.documents
    assert set(document) == {"id", "createdAt", "input", "completedAt", "output"}
    assert set(document["output"]) == {"status", "url", "contentType", "fileSize", "duration"}
    assert document["output"]["url"].startswith(emulator.audio_url)
    assert files_in(tmp_path) == named([job])


async def test_downloads_and_waits_run_at_the_same_time(emulator: Emulator, shell: Shell, tmp_path: Path) -> None:
    """A slow download delays neither other downloads nor other waits."""
    first, second, third = (emulator.add_job(seconds) for seconds in (0, 5, 20))
    emulator.inject(Slow(60), job_id=first, endpoint="audio")
    command = asyncio.create_task(shell.run("wait", first, second, third, "--download", tmp_path))
    await asyncio.sleep(50)
    assert [line.split()[0] for line in shell.out.getvalue().splitlines()] == [str(second), str(third)]
    assert {f"{second}.wav", f"{third}.wav"} < set(files_in(tmp_path))
    assert f"{first}.wav" not in files_in(tmp_path)
    result = await command
    assert result.status == 0
    assert result.lines[2].startswith(str(first))
    assert (tmp_path / f"{first}.wav").read_bytes() == emulator.audio_of(first)


async def test_a_finished_job_needs_one_status_request(emulator: Emulator, shell: Shell, tmp_path: Path) -> None:
    """A known quota is not spent on a second request for the URL."""
    job = emulator.add_job()
    await shell.run("wait", job, "--download", tmp_path)
    assert emulator.requests_of(job) == 1
    assert len(emulator.audio_arrivals) == 1


async def test_a_failed_download_stops_no_other(emulator: Emulator, shell: Shell, tmp_path: Path) -> None:
    """One line on standard error with the job id, exit code 3, and no file."""
    expired, fine, later = emulator.add_job(), emulator.add_job(), emulator.add_job(20)
    emulator.inject(Status(404), job_id=expired, endpoint="audio", times=None)
    result = await shell.run("wait", expired, fine, later, NO_JOB, "--download", tmp_path)
    assert result.status == 3
    assert {line.split()[0] for line in result.lines} == {str(fine), str(later)}
    assert sorted(line.count(str(expired)) for line in result.err.splitlines()) == [0, 1]
    assert f"The audio of job {expired} could not be downloaded" in result.err
    assert files_in(tmp_path) == named([fine, later])


async def test_a_deleted_directory_is_an_error_of_each_job(emulator: Emulator, shell: Shell, tmp_path: Path) -> None:
    """No file is created in its place, and the other waits continue."""
    directory = tmp_path / "out"
    first, second = emulator.add_job(10), emulator.add_job(15)
    command = asyncio.create_task(shell.run("wait", first, second, "--download", directory))
    await asyncio.sleep(5)
    directory.rmdir()
    result = await command
    assert (result.status, result.out) == (3, "")
    for job, line in zip((first, second), result.err.splitlines(), strict=True):
        assert line.startswith(f"{job}: the audio cannot be saved: ")
        assert "No such file or directory" in line
    assert not directory.exists()


async def test_existing_files_are_replaced(emulator: Emulator, shell: Shell, tmp_path: Path) -> None:
    """Other files in the directory stay."""
    job = emulator.add_job()
    (tmp_path / f"{job}.wav").write_text("an older one")
    (tmp_path / "other").write_text("")
    result = await shell.run("wait", job, "--download", tmp_path)
    assert result.status == 0
    assert (tmp_path / f"{job}.wav").read_bytes() == emulator.audio_of(job)
    assert files_in(tmp_path) == sorted([*named([job]), "other"])


async def test_a_relative_directory_gives_relative_paths(
    emulator: Emulator, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Missing parent directories are created."""
    monkeypatch.chdir(tmp_path)
    job = emulator.add_job()
    result = await shell.run("wait", job, "--download", "here/and/there/")
    assert result.out == f"{job} COMPLETED here/and/there/{job}.wav\n"


async def test_the_number_of_started_downloads_is_limited(
    emulator: Emulator, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each keeps a file open, and thousands would exhaust the descriptors. All files arrive in the end."""
    monkeypatch.setattr(wait, "_MAX_STARTED", 2)
    jobs = [emulator.add_job(input={"text": "x"}) for _ in range(5)]
    emulator.inject(Slow(5), times=None, endpoint="audio")
    command = asyncio.create_task(shell.run("wait", *jobs, "--download", tmp_path))
    most = 0
    while not command.done():
        most = max(most, sum(name.endswith(".part") for name in files_in(tmp_path)))
        await asyncio.sleep(0.5)
    assert (await command).status == 0
    assert most == 2
    assert files_in(tmp_path) == named(jobs)


@pytest.mark.parametrize("options", [[], ["--download"]], ids=["waiting", "downloading"])
async def test_hundreds_of_jobs_finish(emulator: Emulator, shell: Shell, tmp_path: Path, options: list[str]) -> None:
    """Ids from standard input, under a quota, with and without downloads."""
    emulator.quota = 120
    jobs = [emulator.add_job(number / 10, input={"text": "x"}) for number in range(200)]
    arguments = ["wait", "--json", "--requests-per-minute", "120", "-", *options, *([tmp_path] if options else [])]
    result = await shell.run(*arguments, stdin="\n".join(map(str, jobs)))
    assert (result.status, result.err) == (0, "")
    assert sorted(document["id"] for document in result.documents) == sorted(map(str, jobs))
    assert emulator.stats.throttled == 0
    assert files_in(tmp_path) == (named(jobs) if options else [])


class Endless:
    """A minimal session whose jobs are done and are created when they are asked for."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._alive = weakref.WeakSet[TtsJob]()
        self.most_alive = 0

    async def as_completed(self, _: object, **__: object) -> AsyncGenerator[TtsJob, None]:
        when = datetime.now(UTC)
        for _ in range(self._jobs):
            job = TtsJob(uuid4(), when, {}, when, Completed("https://x/y.mp3", "audio/mpeg", 1, 1))
            self._alive.add(job)
            self.most_alive = max(self.most_alive, len(self._alive))
            yield job
            await asyncio.sleep(0)

    async def download(self, job: TtsJob, directory: str, **_: object) -> Path:
        await asyncio.sleep(1)
        return Path(directory, str(job.id))


@pytest.mark.parametrize("directory", [None, Path("out")], ids=["waiting", "downloading"])
async def test_finished_jobs_are_not_kept_in_memory(shell: Shell, directory: Path | None) -> None:
    """Except jobs whose audio is being downloaded."""
    playai: Any = Endless(500)
    counts = JobCounts(500)
    await wait_and_download(
        playai, [], OutcomeRecorder(Reporter(Output(shell.out, None)), counts), timeout=None, directory=directory
    )
    assert counts.completed == shell.out.getvalue().count("\n") == 500
    assert playai.most_alive <= (3 if directory is None else wait._MAX_STARTED + 2)


class Flushed(io.StringIO):
    """A stream that records what was flushed."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def flush(self) -> None:
        self.seen = self.getvalue().splitlines()


async def test_each_line_is_flushed_at_once(emulator: Emulator, shell: Shell, tmp_path: Path) -> None:
    """The reader of a pipe sees a line when the job is done, and not when a buffer is full."""
    shell.out = out = Flushed()
    jobs = [emulator.add_job(seconds) for seconds in (0, 20, 60)]
    command = asyncio.create_task(shell.run("wait", *jobs, "--download", tmp_path))
    counts = []
    for seconds in (15, 30):
        await asyncio.sleep(seconds)
        counts.append(len(out.seen))
    await command
    assert (counts, len(out.seen)) == ([1, 2], 3)


async def test_an_interruption_keeps_complete_files(emulator: Emulator, shell: Shell, tmp_path: Path) -> None:
    """It leaves no partial file and no task, and says what it stopped."""
    quick, slow, endless = emulator.add_job(), emulator.add_job(), emulator.add_job(float("inf"))
    emulator.inject(Slow(60), job_id=slow, endpoint="audio")
    command = asyncio.create_task(shell.run("wait", quick, slow, endless, "--download", tmp_path))
    await asyncio.sleep(10)
    assert len(files_in(tmp_path)) == 2
    command.cancel()
    with pytest.raises(asyncio.CancelledError):
        await command
    assert files_in(tmp_path) == named([quick])
    assert shell.err.getvalue() == (
        "playai-async: interrupted; 1 job goes on, 1 download was stopped; to wait again, repeat the command\n"
    )


async def test_a_broken_pipe_cancels_the_other_downloads(emulator: Emulator, shell: Shell, tmp_path: Path) -> None:
    """At the first line. No partial file is left."""
    jobs = [emulator.add_job(seconds) for seconds in (0, 0, 500)]
    emulator.inject(Slow(60), job_id=jobs[1], endpoint="audio")
    shell.out = Broken(BrokenPipeError())
    with pytest.raises(BrokenPipeError):
        await shell.run("wait", *jobs, "--download", tmp_path)
    assert asyncio.get_running_loop().time() < 20
    assert files_in(tmp_path) == named(jobs[:1])


async def test_progress_counts_downloads_and_bytes(emulator: Emulator, shell: Shell, tmp_path: Path) -> None:
    """On a separate line. A job counts as completed when its audio is saved."""
    shell.err = err = Terminal()
    jobs = [emulator.add_job(seconds, input={"text": "x" * 3000}) for seconds in (0, 0, 0, 30)]
    emulator.inject(Slow(20), job_id=jobs[0], endpoint="audio")
    emulator.inject(Status(404), job_id=jobs[1], endpoint="audio", times=None)
    command = asyncio.create_task(shell.run("wait", *jobs, "--download", tmp_path))
    await asyncio.sleep(10)
    shown = err.lines()
    await command
    size = len(emulator.audio_of(jobs[0]))
    assert shown[-5] == "Jobs 1 waiting, 1 completed, 0 failed, 1 errors"
    audio, downloading, under_way, received, *_ = shown[-4].replace(",", "").split()
    assert (audio, downloading, under_way) == ("Audio", "1", "downloading")
    assert float(received) == pytest.approx(1.5 * size / 1e6, rel=0.1)
    assert len(err.lines()) == 1


async def test_bytes_that_come_again_are_counted_once(emulator: Emulator, shell: Shell, tmp_path: Path) -> None:
    """A restarted download restarts its count."""
    shell.err = err = Terminal()
    job = emulator.add_job(input={"text": "x" * 3000})
    emulator.inject(Reset(midway=True), endpoint="audio", times=2)
    emulator.inject(Slow(10), endpoint="audio")
    await shell.run("wait", job, "--download", tmp_path)
    received = [float(match) for match in re.findall(r"downloading, ([\d.]+) MB", err.getvalue())]
    assert max(received) <= len(emulator.audio_of(job)) / 1e6 + 0.05


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "--download needs a path"),
        ("file", "file is not a directory"),
        ("file/below", "file/below is not a directory"),
        ("x" * 300, "cannot be created: File name too long"),
    ],
    ids=["empty", "a file", "below a file", "too long"],
)
def test_an_impossible_directory_is_a_usage_error(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    """Before anything is sent."""
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    result = shell.run_main("wait", ID, "--download", name)
    assert (result.status, result.out) == (2, "")
    (line,) = result.err.splitlines()
    assert message in line
    assert files_in(tmp_path) == ["file"]


@pytest.mark.usefixtures("credentials")
def test_a_read_only_directory_is_a_usage_error(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not an error for each job, ten minutes later."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    result = shell.run_main("wait", ID, "--download", tmp_path)
    assert result.status == 2
    assert "is not writable" in result.err


@pytest.mark.parametrize("arguments", [["nonsense"], ["-"]], ids=["malformed id", "no key"])
def test_no_directory_is_created_after_another_usage_error(
    shell: Shell, tmp_path: Path, no_settings: None, arguments: list[str]
) -> None:
    """The directory is checked last."""
    assert shell.run_main("wait", *arguments, "--download", tmp_path / "out").status == 2
    assert files_in(tmp_path) == []
