"""`create`: a job from a text, and on request the wait for it and its audio.

A job costs money: whatever happens once there is one, its id is told.
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

from playai_async._cli.errors import ExitCode, UsageError
from playai_async._cli.output import Output
from playai_async._cli.results import JobCounts, OutcomeRecorder, Reporter, exit_code_of
from playai_async._cli.wait import STANDARD_INPUT, wait_and_download
from playai_async._exceptions import PlayAIError
from playai_async._models import TtsParameters
from playai_async._session import PlayAISession

__all__ = ["FollowUp", "build_parameters", "create", "read_text"]


def build_parameters(text: str, voice: str, *, model: str, output_format: str | None) -> TtsParameters:
    """Put the parameters of a job together.

    Args:
        text: What to speak.
        voice: The id of a voice.
        model: The model; the service knows which there are.
        output_format: The audio format, likewise; None for the service's choice.

    Raises:
        UsageError: The text or the voice is empty, or one of them is no text: the shell had bytes that are none.
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
    """What is to be done with a job once there is one.

    Attributes:
        wait: Whether to wait for it.
        timeout: Seconds for that, or None.
        directory: Where to put its audio, or None.
    """

    wait: bool
    timeout: float | None
    directory: Path | None

    def wait_command(self, job_id: UUID) -> str:
        """Return the command line that takes up where this one was cut off."""
        to_download = "" if self.directory is None else f" --download {shlex.quote(str(self.directory))}"
        return f"playai-async wait {job_id}{to_download}"


async def create(playai: PlayAISession, parameters: TtsParameters, reporter: Reporter, follow_up: FollowUp) -> ExitCode:
    """Create a job, tell of it, and do what else is wanted.

    Args:
        playai: A session, which is closed in the end.
        parameters: What the job is created from.
        reporter: Where to tell.
        follow_up: What is to be done once there is one.

    Returns:
        The exit status.
    """
    output = reporter.output
    counts = JobCounts(1, downloading=None if follow_up.directory is None else 0, job="being created")
    async with playai, output.show_progress(lambda: counts.view(playai.stats)):
        try:
            job = await playai.create_job(parameters)
        except PlayAIError as error:
            reporter.report(error)
            return exit_code_of(error)
        except asyncio.CancelledError:
            _warn_if_job_may_exist(playai, output)
            raise
        counts.job = str(job.id)
        with _printing_id_on_failure(output, job.id, follow_up):
            if follow_up.wait:
                recorder = OutcomeRecorder(reporter, counts)
                status = await wait_and_download(
                    playai, [job], recorder, timeout=follow_up.timeout, directory=follow_up.directory
                )
                if status in {ExitCode.ERROR, ExitCode.TIMED_OUT}:
                    _print_wait_command(output, job.id, follow_up)
                return status
            reporter.report(job)
            return exit_code_of(job)


def _warn_if_job_may_exist(playai: PlayAISession, output: Output) -> None:
    stats = playai.stats
    if stats.requests > stats.throttled + stats.transient_failures:
        _message(output, "playai-async: interrupted while the job was being created; it may exist all the same")


@contextlib.contextmanager
def _printing_id_on_failure(output: Output, job_id: UUID, follow_up: FollowUp) -> Generator[None, None, None]:
    """Tell the job's id on standard error where the block is cut off before it could."""
    try:
        yield
    except asyncio.CancelledError:
        _message(output, f"playai-async: job {job_id} goes on; to wait for it: {follow_up.wait_command(job_id)}")
        raise
    except Exception:  # such as a full disk, or a reader of the results that has gone
        _print_wait_command(output, job_id, follow_up)
        raise


def _print_wait_command(output: Output, job_id: UUID, follow_up: FollowUp) -> None:
    _message(output, f"playai-async: job {job_id} was created; to wait for it: {follow_up.wait_command(job_id)}")


def _message(output: Output, line: str) -> None:
    with contextlib.suppress(OSError):  # or it would take the place of what is being raised
        output.message(line)  # as it is: a path in it is to be pasted


def read_text(name: str, stdin: TextIO | None) -> str:
    """Read a text to speak, as it is but for a byte order mark.

    Args:
        name: A file, or `-` for standard input.
        stdin: Standard input, or None.

    Returns:
        The text, which is not blank.

    Raises:
        UsageError: It can't be read, or is not UTF-8, whatever the locale; or there is nothing in it.
    """
    source = "standard input" if name == STANDARD_INPUT else name
    try:
        data = _all_of(stdin) if name == STANDARD_INPUT else Path(name).read_bytes()
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{source} is not UTF-8 text") from None
    except OSError as error:
        raise UsageError(f"{source} cannot be read: {error.strerror}") from None
    if not text.strip():
        raise UsageError(f"{source} has no text in it")
    return text


def _all_of(stdin: TextIO | None) -> bytes:
    return b"" if stdin is None else stdin.buffer.read()
