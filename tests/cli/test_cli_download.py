"""`playai-async wait --download`: audio into files, while other jobs are still waited for."""

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
from playai_async._cli import wait
from playai_async._cli.output import Output
from playai_async._cli.results import JobCounts, OutcomeRecorder, Reporter
from playai_async._cli.wait import wait_and_download
from playai_async.emulator import Emulator, Reset, Slow, Status
from tests.cli.conftest import Broken, Shell, Terminal, files_in

pytestmark = pytest.mark.looptime

NO_JOB = UUID("00000000-0000-4000-8000-000000000000")
ID = "8a1f4c9e-3f1b-4b8e-9d57-0c2f6a7b1e42"


def named(jobs: Sequence[UUID]) -> list[str]:
    """The names of the files of jobs."""
    return sorted(f"{job}.wav" for job in jobs)


async def test_each_job_s_audio_is_in_a_file(emulator: Emulator, shell: Shell, tmp_path: Path) -> None:
    """Whole, alone in the directory, and named in the line instead of a link; nothing to download is no file."""
    jobs = [emulator.add_job(seconds, input={"text": "la " * number}) for number, seconds in enumerate((1, 5, 20), 50)]
    failing = emulator.add_job(1, fails=True)
    ending = await shell.run("wait", "--download", tmp_path, failing, *jobs)
    assert (ending.status, ending.err) == (1, "")
    assert sorted(ending.lines) == sorted(
        [f"{failing} FAILED", *(f"{job} COMPLETED {tmp_path}/{job}.wav" for job in jobs)]
    )
    assert files_in(tmp_path) == named(jobs)
    for job in jobs:
        assert (tmp_path / f"{job}.wav").read_bytes() == emulator.audio_of(job)


async def test_json_stays_the_document_of_the_service(emulator: Emulator, shell: Shell, tmp_path: Path) -> None:
    """With the link and no path; what is in the directory has the id for a name."""
    job = emulator.add_job(1)
    ending = await shell.run("wait", job, "--json", "--download", tmp_path)
    (document,) = ending.documents
    assert set(document) == {"id", "createdAt", "input", "completedAt", "output"}
    assert set(document["output"]) == {"status", "url", "contentType", "fileSize", "duration"}
    assert document["output"]["url"].startswith(emulator.audio_url)
    assert files_in(tmp_path) == named([job])


async def test_downloads_and_waits_go_on_side_by_side(emulator: Emulator, shell: Shell, tmp_path: Path) -> None:
    """A line comes when its file is complete; a slow one holds up neither other downloads nor other waits."""
    first, second, third = (emulator.add_job(seconds) for seconds in (0, 5, 20))
    emulator.inject(Slow(60), job_id=first, endpoint="audio")
    command = asyncio.create_task(shell.run("wait", first, second, third, "--download", tmp_path))
    await asyncio.sleep(50)
    assert [line.split()[0] for line in shell.out.getvalue().splitlines()] == [str(second), str(third)]
    assert {f"{second}.wav", f"{third}.wav"} < set(files_in(tmp_path))
    assert f"{first}.wav" not in files_in(tmp_path)
    ending = await command
    assert ending.status == 0
    assert ending.lines[2].startswith(str(first))
    assert (tmp_path / f"{first}.wav").read_bytes() == emulator.audio_of(first)


async def test_the_link_of_a_job_that_was_done_before_is_used_too(
    emulator: Emulator, shell: Shell, tmp_path: Path
) -> None:
    """A known quota is not spent on a second request for it."""
    job = emulator.add_job()
    await shell.run("wait", job, "--download", tmp_path)
    assert emulator.requests_of(job) == 1
    assert len(emulator.audio_arrivals) == 1


async def test_a_failed_download_stops_no_other(emulator: Emulator, shell: Shell, tmp_path: Path) -> None:
    """One line on standard error that names the job; status 3; no line and no file for it."""
    expired, fine, later = emulator.add_job(), emulator.add_job(), emulator.add_job(20)
    emulator.inject(Status(404), job_id=expired, endpoint="audio", times=None)
    ending = await shell.run("wait", expired, fine, later, NO_JOB, "--download", tmp_path)
    assert ending.status == 3
    assert {line.split()[0] for line in ending.lines} == {str(fine), str(later)}
    assert sorted(line.count(str(expired)) for line in ending.err.splitlines()) == [0, 1]
    assert f"The audio of job {expired} could not be downloaded" in ending.err
    assert files_in(tmp_path) == named([fine, later])


async def test_a_directory_that_is_gone_is_an_error_of_each_job(
    emulator: Emulator, shell: Shell, tmp_path: Path
) -> None:
    """And is not taken for the name of a file; the rest of the waits go on."""
    directory = tmp_path / "out"
    first, second = emulator.add_job(10), emulator.add_job(15)
    command = asyncio.create_task(shell.run("wait", first, second, "--download", directory))
    await asyncio.sleep(5)
    directory.rmdir()
    ending = await command
    assert (ending.status, ending.out) == (3, "")
    for job, line in zip((first, second), ending.err.splitlines(), strict=True):
        assert line.startswith(f"{job}: the audio cannot be saved: ")
        assert "No such file or directory" in line
    assert not directory.exists()


async def test_files_that_are_there_are_replaced(emulator: Emulator, shell: Shell, tmp_path: Path) -> None:
    """And a directory that is there is used, with what else is in it."""
    job = emulator.add_job()
    (tmp_path / f"{job}.wav").write_text("an older one")
    (tmp_path / "other").write_text("")
    ending = await shell.run("wait", job, "--download", tmp_path)
    assert ending.status == 0
    assert (tmp_path / f"{job}.wav").read_bytes() == emulator.audio_of(job)
    assert files_in(tmp_path) == sorted([*named([job]), "other"])


async def test_the_path_is_the_directory_s_as_it_was_given(
    emulator: Emulator, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative, it stays relative; directories above it are made."""
    monkeypatch.chdir(tmp_path)
    job = emulator.add_job()
    ending = await shell.run("wait", job, "--download", "here/and/there/")
    assert ending.out == f"{job} COMPLETED here/and/there/{job}.wav\n"


async def test_no_more_downloads_are_begun_than_can_be_of_use(
    emulator: Emulator, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each holds a file open: with thousands of jobs that are done, those would run out; all are had in the end."""
    monkeypatch.setattr(wait, "_MAX_STARTED", 3)
    jobs = [emulator.add_job(input={"text": "x"}) for _ in range(12)]
    emulator.inject(Slow(5), times=None, endpoint="audio")
    command = asyncio.create_task(shell.run("wait", *jobs, "--download", tmp_path))
    most = 0
    while not command.done():
        most = max(most, sum(name.endswith(".part") for name in files_in(tmp_path)))
        await asyncio.sleep(0.5)
    assert (await command).status == 0
    assert most == 3
    assert files_in(tmp_path) == named(jobs)


@pytest.mark.parametrize("options", [[], ["--download"]], ids=["waiting", "downloading"])
async def test_a_thousand_jobs_come_through(
    emulator: Emulator, shell: Shell, tmp_path: Path, options: list[str]
) -> None:
    """From standard input, under a quota: a document and, if wanted, a file for each."""
    emulator.quota = 600
    jobs = [emulator.add_job(number / 10, input={"text": "x"}) for number in range(1000)]
    arguments = ["wait", "--json", "--requests-per-minute", "600", "-", *options, *([tmp_path] if options else [])]
    ending = await shell.run(*arguments, stdin="\n".join(map(str, jobs)))
    assert (ending.status, ending.err) == (0, "")
    assert sorted(document["id"] for document in ending.documents) == sorted(map(str, jobs))
    assert emulator.stats.throttled == 0
    assert files_in(tmp_path) == (named(jobs) if options else [])


class Endless:
    """As much of a session as waiting needs, with jobs that are done, each made when it is asked for."""

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
async def test_ended_jobs_are_not_kept(shell: Shell, directory: Path | None) -> None:
    """However many come: but for those whose audio is on its way, each is forgotten once it is told."""
    playai: Any = Endless(500)
    counts = JobCounts(500)
    await wait_and_download(
        playai, [], OutcomeRecorder(Reporter(Output(shell.out, None)), counts), timeout=None, directory=directory
    )
    assert counts.completed == shell.out.getvalue().count("\n") == 500
    assert playai.most_alive <= (3 if directory is None else wait._MAX_STARTED + 2)


class Flushed(io.StringIO):
    """A stream that knows what was flushed."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def flush(self) -> None:
        self.seen = self.getvalue().splitlines()


async def test_each_line_is_written_at_once(emulator: Emulator, shell: Shell, tmp_path: Path) -> None:
    """Whoever reads a pipe has it when it comes, and not when a buffer is full."""
    shell.out = out = Flushed()
    jobs = [emulator.add_job(seconds) for seconds in (0, 20, 60)]
    command = asyncio.create_task(shell.run("wait", *jobs, "--download", tmp_path))
    counts = []
    for seconds in (15, 30):
        await asyncio.sleep(seconds)
        counts.append(len(out.seen))
    await command
    assert (counts, len(out.seen)) == ([1, 2], 3)


async def test_an_interruption_leaves_whole_files_alone(emulator: Emulator, shell: Shell, tmp_path: Path) -> None:
    """No part file, no task; what was complete stays."""
    quick, slow, endless = emulator.add_job(), emulator.add_job(), emulator.add_job(float("inf"))
    emulator.inject(Slow(60), job_id=slow, endpoint="audio")
    command = asyncio.create_task(shell.run("wait", quick, slow, endless, "--download", tmp_path))
    await asyncio.sleep(10)
    assert len(files_in(tmp_path)) == 2
    command.cancel()
    with pytest.raises(asyncio.CancelledError):
        await command
    assert files_in(tmp_path) == named([quick])
    assert shell.err.getvalue() == ""


async def test_results_that_nobody_reads_end_the_other_downloads(
    emulator: Emulator, shell: Shell, tmp_path: Path
) -> None:
    """At the first one, as the error that it is; nothing half-done is left."""
    jobs = [emulator.add_job(seconds) for seconds in (0, 0, 500)]
    emulator.inject(Slow(60), job_id=jobs[1], endpoint="audio")
    shell.out = Broken(BrokenPipeError())
    with pytest.raises(BrokenPipeError):
        await shell.run("wait", *jobs, "--download", tmp_path)
    assert asyncio.get_running_loop().time() < 20
    assert files_in(tmp_path) == named(jobs[:1])


async def test_progress_counts_downloads_and_bytes(emulator: Emulator, shell: Shell, tmp_path: Path) -> None:
    """On a line of their own; a job is waited for until its audio is on its way, and completed once that is here."""
    shell.err = err = Terminal()
    jobs = [emulator.add_job(seconds, input={"text": "x" * 3000}) for seconds in (0, 0, 0, 100)]
    emulator.inject(Slow(50), job_id=jobs[0], endpoint="audio")
    emulator.inject(Status(404), job_id=jobs[1], endpoint="audio")
    command = asyncio.create_task(shell.run("wait", *jobs, "--download", tmp_path))
    await asyncio.sleep(25)
    shown = err.lines()
    await command
    size = len(emulator.audio_of(jobs[0]))
    assert shown[-4] == "Jobs 1 waiting, 1 completed, 0 failed, 1 errors"
    audio, downloading, under_way, received, *_ = shown[-3].replace(",", "").split()
    assert (audio, downloading, under_way) == ("Audio", "1", "downloading")
    assert float(received) == pytest.approx(1.5 * size / 1e6, rel=0.1)
    assert len(err.lines()) == 1


async def test_bytes_that_come_again_are_counted_once(emulator: Emulator, shell: Shell, tmp_path: Path) -> None:
    """A download that starts over starts its count over."""
    shell.err = err = Terminal()
    job = emulator.add_job(input={"text": "x" * 3000})
    emulator.inject(Reset(midway=True), endpoint="audio", times=2)
    emulator.inject(Slow(10), endpoint="audio")
    await shell.run("wait", job, "--download", tmp_path)
    received = [float(match) for match in re.findall(r"downloading, ([\d.]+) MB", err.getvalue())]
    assert max(received) <= len(emulator.audio_of(job)) / 1e6 + 0.05


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("", "--download needs a path"),
        ("file", "file is not a directory"),
        ("file/below", "file/below is not a directory"),
        ("x" * 300, "cannot be created: File name too long"),
    ],
    ids=["empty", "a file", "below a file", "too long"],
)
def test_a_directory_that_cannot_be_is_wrong_usage(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, complaint: str
) -> None:
    """Said before anything is sent."""
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    ending = shell.run_to_the_end("wait", ID, "--download", name)
    assert (ending.status, ending.out) == (2, "")
    (line,) = ending.err.splitlines()
    assert complaint in line
    assert files_in(tmp_path) == ["file"]


@pytest.mark.usefixtures("credentials")
def test_a_directory_that_cannot_be_written_to_is_wrong_usage(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Better than an error for each job, ten minutes later."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    ending = shell.run_to_the_end("wait", ID, "--download", tmp_path)
    assert ending.status == 2
    assert "is not writable" in ending.err


@pytest.mark.parametrize("arguments", [["nonsense"], ["-"]], ids=["malformed id", "no key"])
def test_nothing_is_made_where_something_else_is_wrong(
    shell: Shell, tmp_path: Path, nothing_set: None, arguments: list[str]
) -> None:
    """The directory comes last."""
    assert shell.run_to_the_end("wait", *arguments, "--download", tmp_path / "out").status == 2
    assert files_in(tmp_path) == []
