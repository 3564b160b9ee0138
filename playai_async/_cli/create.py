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

from playai_async._cli.errors import Exit, UsageError
from playai_async._cli.output import Screen
from playai_async._cli.results import Ends, Results, Tally, status_of
from playai_async._cli.wait import STANDARD_INPUT, see_out
from playai_async._exceptions import PlayAIError
from playai_async._models import TtsParameters
from playai_async._session import PlayAISession

__all__ = ["Plan", "create", "parameters_from", "read_text"]


def parameters_from(text: str, voice: str, *, model: str, output_format: str | None) -> TtsParameters:
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
class Plan:
    """What is to be done with a job once there is one.

    Attributes:
        waiting: Whether to wait for it.
        timeout: Seconds for that, or None.
        directory: Where to put its audio, or None.
    """

    waiting: bool
    timeout: float | None
    directory: Path | None

    def command(self, job_id: UUID) -> str:
        """Return the command line that takes up where this one was cut off."""
        to_download = "" if self.directory is None else f" --download {shlex.quote(str(self.directory))}"
        return f"playai-async wait {job_id}{to_download}"


async def create(playai: PlayAISession, parameters: TtsParameters, results: Results, plan: Plan) -> Exit:
    """Create a job, tell of it, and do what else is wanted.

    Args:
        playai: A session, which is closed in the end.
        parameters: What the job is created from.
        results: Where to tell.
        plan: What is to be done once there is one.

    Returns:
        The exit status.
    """
    screen = results.screen
    tally = Tally(1, downloading=None if plan.directory is None else 0, job="being created")
    async with playai, screen.showing(lambda: tally.drawn(playai.stats)):
        try:
            job = await playai.create_job(parameters)
        except PlayAIError as error:
            results.tell(error)
            return status_of(error)
        except asyncio.CancelledError:
            _warn_of_a_request_under_way(playai, screen)
            raise
        tally.job = str(job.id)
        with _never_without_its_id(screen, job.id, plan):
            if plan.waiting:
                ends = Ends(results, tally)
                status = await see_out(playai, [job], ends, timeout=plan.timeout, directory=plan.directory)
                if status in {Exit.ERROR, Exit.TIMED_OUT}:
                    _tell_how_to_go_on(screen, job.id, plan)
                return status
            results.tell(job)
            return status_of(job)


def _warn_of_a_request_under_way(playai: PlayAISession, screen: Screen) -> None:
    stats = playai.stats
    if stats.requests > stats.throttled + stats.transient_failures:
        _note(screen, "playai-async: interrupted while the job was being created; it may exist all the same")


@contextlib.contextmanager
def _never_without_its_id(screen: Screen, job_id: UUID, plan: Plan) -> Generator[None, None, None]:
    """Tell the job's id on standard error where the block is cut off before it could."""
    try:
        yield
    except asyncio.CancelledError:
        _note(screen, f"playai-async: job {job_id} goes on; to wait for it: {plan.command(job_id)}")
        raise
    except Exception:  # such as a full disk, or a reader of the results that has gone
        _tell_how_to_go_on(screen, job_id, plan)
        raise


def _tell_how_to_go_on(screen: Screen, job_id: UUID, plan: Plan) -> None:
    _note(screen, f"playai-async: job {job_id} was created; to wait for it: {plan.command(job_id)}")


def _note(screen: Screen, line: str) -> None:
    with contextlib.suppress(OSError):  # or it would take the place of what is being raised
        screen.note(line)  # as it is: a path in it is to be pasted


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
