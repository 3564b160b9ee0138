"""The command `create`: create a job from a text, and optionally wait and download the audio.

A job costs money. If anything fails after the job was created, the job id is printed all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
from collections.abc import Generator
from pathlib import Path
from typing import TextIO
from uuid import UUID

import attrs

from playai_async._cli.commands.wait import STANDARD_INPUT, wait_and_download
from playai_async._cli.errors import ExitCode, UsageError
from playai_async._cli.network import OpenSession
from playai_async._cli.output import Output, program_name
from playai_async._cli.results import JobCounts, OutcomeRecorder, Reporter, Stopwatch, exit_code_of
from playai_async._exceptions import PlayAIError
from playai_async._models import TtsParameters
from playai_async._session import PlayAISession
from playai_async._settings import RESOLUTION

__all__ = ["FollowUp", "build_parameters", "create", "read_text"]


def read_text(name: str, stdin: TextIO | None) -> str:
    """Read the text to speak. A byte order mark is removed; everything else stays as it is.

    Args:
        name: A file, or `-` for standard input.
        stdin: Standard input. Python sets it to None if the descriptor is closed.

    Raises:
        UsageError: The text cannot be read, is not UTF-8 (in any locale), or is blank.
    """
    source = "standard input" if name == STANDARD_INPUT else name
    try:
        data = _read_all(stdin) if name == STANDARD_INPUT else Path(name).read_bytes()
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{source} is not UTF-8 text") from None
    except OSError as error:
        raise UsageError(f"{source} cannot be read: {error.strerror}") from None
    if not text.strip():
        raise UsageError(f"{source} contains no text")
    return text


def _read_all(stdin: TextIO | None) -> bytes:
    return b"" if stdin is None else stdin.buffer.read()


def build_parameters(text: str, voice: str, *, model: str, output_format: str | None) -> TtsParameters:
    """Build the parameters of a job. The service checks the model and the format.

    Raises:
        UsageError: The text or the voice is blank, or a value has bytes from the shell that are not UTF-8.
    """
    for option, value in (("text", text), ("voice", voice), ("model", model), ("output-format", output_format or "")):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise UsageError(f"--{option} is not UTF-8 text") from None
        if option in {"text", "voice"} and not value.strip():
            raise UsageError(f"--{option} is empty")
    return TtsParameters(text, voice, model=model, output_format=output_format)


@attrs.frozen
class FollowUp:
    """What to do after the job was created.

    Attributes:
        wait: Whether to wait for the job.
        timeout: Seconds to create the job and to wait for it, or None for no deadline.
        directory: Where to save the audio, or None for no download.
    """

    wait: bool
    timeout: float | None
    directory: Path | None

    def wait_command(self, job_id: UUID) -> str:
        """Return the command line that waits for the job and does the rest of the work."""
        download = "" if self.directory is None else f" --download {shlex.quote(str(self.directory))}"
        return f"{program_name()} wait {job_id}{download}"


async def create(
    open_session: OpenSession, parameters: TtsParameters, reporter: Reporter, follow_up: FollowUp
) -> ExitCode:
    """Create a job, do the follow-up, and print the job."""
    output, clock = reporter.output, asyncio.get_running_loop().time
    started, timeout = clock(), follow_up.timeout
    downloading = None if follow_up.directory is None else 0
    counts = JobCounts(1, downloading=downloading, job="being created", stopwatch=Stopwatch(clock, started, timeout))
    async with open_session() as playai, output.show_progress(lambda: counts.view(playai.stats)):
        try:
            job = await playai.create_job(parameters, timeout=timeout)
        except PlayAIError as error:
            reporter.report(error, error.job_id)
            if error.job_id is not None:
                _print_wait_command(output, error.job_id, follow_up)
            return exit_code_of(error)
        except asyncio.CancelledError:
            _warn_if_job_may_exist(playai, output)
            raise
        counts.job = str(job.id)
        with _printing_id_on_failure(output, job.id, follow_up):
            if not follow_up.wait:
                reporter.report_created(job)
                return exit_code_of(job)
            recorder = OutcomeRecorder(reporter, counts)
            left = None if timeout is None else max(RESOLUTION, started + timeout - clock())
            code = await wait_and_download(playai, [job], recorder, timeout=left, directory=follow_up.directory)
            if code in {ExitCode.ERROR, ExitCode.TIMED_OUT}:
                _print_wait_command(output, job.id, follow_up)
            return code


def _warn_if_job_may_exist(playai: PlayAISession, output: Output) -> None:
    stats = playai.stats
    if stats.requests > stats.throttled + stats.transient_failures:
        output.try_message("playai-async: interrupted while the job was being created; the job may exist")


@contextlib.contextmanager
def _printing_id_on_failure(output: Output, job_id: UUID, follow_up: FollowUp) -> Generator[None, None, None]:
    """Print the job id on standard error if the block fails or is cancelled before the job was printed."""
    try:
        yield
    except asyncio.CancelledError:
        _print_wait_command(output, job_id, follow_up, state="goes on")
        raise
    except Exception:  # for example a full disk, or a closed pipe
        _print_wait_command(output, job_id, follow_up)
        raise


def _print_wait_command(output: Output, job_id: UUID, follow_up: FollowUp, *, state: str = "was created") -> None:
    # The command is on a separate line, so that it can be copied. Not through `one_line`: a path with two spaces must
    # stay as it is.
    output.try_message(f"playai-async: job {job_id} {state}; to wait for it:\n  {follow_up.wait_command(job_id)}")
