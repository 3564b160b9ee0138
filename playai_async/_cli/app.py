"""The commands and their options; what they do is in the modules beside.

The home of cyclopts. A command here reads what it was given and returns the coroutine that does the work, so that all
that is wrong with the command line, the ids or the settings is found before anything runs.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, cast

import attrs
from cyclopts import App, Parameter, Token
from cyclopts.completion.detect import ShellDetectionError, detect_shell
from cyclopts.validators import Number

from playai_async._cli.create import FollowUp, build_parameters, create, read_text
from playai_async._cli.emulator import demo, emulate
from playai_async._cli.errors import ExitCode, UsageError
from playai_async._cli.output import Output
from playai_async._cli.results import Reporter
from playai_async._cli.wait import STANDARD_INPUT, get, prepare_directory, read_ids, wait
from playai_async._models import TtsParameters
from playai_async._session import PlayAISession
from playai_async._settings import Pacing, Polling, check_number
from playai_async._version import __version__
from playai_async.emulator import Emulator

__all__ = ["parse"]

_Command: TypeAlias = Coroutine[Any, Any, ExitCode]
_Shell: TypeAlias = Literal["bash", "zsh", "fish"]
_POLLING = Polling()
_LOOKS_LIKE_OPTION = re.compile(r"--?[a-zA-Z]\S*")
"""What was hardly meant to be spoken, and would be paid for."""

app = App(
    name="playai-async",
    version=__version__,
    suppress_keyboard_interrupt=False,
    help_format="plaintext",
    help="""Create PlayAI text-to-speech jobs, wait for them, download their audio.

In use:

    export PLAYAI_API_KEY=... PLAYAI_USER_ID=...
    playai-async create --voice VOICE --file story.txt --download audio/
    playai-async wait 8a1f4c9e-3f1b-4b8e-9d57-0c2f6a7b1e42
    playai-async create --voice VOICE --text "Hello." >> ids.txt
    playai-async wait --json - < ids.txt | jq -r .output.url
    playai-async demo

Results go to standard output, errors and progress to standard error; there is
no progress where a pipe takes the results to another program.

Environment:

    PLAYAI_API_KEY    the key, which no option takes
    PLAYAI_USER_ID    the user id
    PLAYAI_BASE_URL   where the service is, if elsewhere, such as the emulator

Exit status:

      0  fine (get: answered; create: created; wait: all completed)
      1  a job failed
      2  the command line, the ids or the settings are wrong; nothing was sent
      3  an error
      4  timed out; a job that was created goes on
    129  its terminal was closed (SIGHUP)
    130  interrupted (SIGINT, as by Ctrl-C)
    143  told to end (SIGTERM)

Where several hold, 3 comes before 4, and 4 before 1.
""",
)

app["--version"].help = "Show the version of this program."


def _positive(_: object, value: object) -> None:
    check_number("the time", value)


def _parse_path(_: object, tokens: Sequence[Token]) -> Path:
    if not tokens[0].value:  # which as a path would be the current directory
        raise UsageError(f"{tokens[0].keyword} takes a path, and was given an empty name")
    return Path(tokens[0].value)


# A hyphen may lead, or cyclopts would take "-", or a text that is a list, for an option.
_Ids = Parameter(name="ID", required=True, allow_leading_hyphen=True)
_Json = Annotated[bool, Parameter(name="--json", negative="")]
_Seconds = Annotated[float, Parameter(validator=_positive)]
_Count = Annotated[int, Parameter(validator=Number(gte=1))]
_Jobs = Annotated[int, Parameter(validator=Number(gte=1, lte=1_000))]
_Extra = Annotated[str, Parameter(show=False, allow_leading_hyphen=True)]
# Paths, so that the shell completes them.
_Directory = Annotated[Path | None, Parameter(name="--download", converter=_parse_path)]
_File = Annotated[Path | None, Parameter(converter=_parse_path, allow_leading_hyphen=True)]
_Flag = Annotated[bool, Parameter(negative="")]
_Text = Annotated[str | None, Parameter(allow_leading_hyphen=True)]

_MODEL = cast("str", attrs.fields(TtsParameters).model.default)


@app.command(name="create")
def _create(
    *,
    voice: str,
    text: _Text = None,
    file: _File = None,
    model: str = _MODEL,
    output_format: str | None = None,
    wait: _Flag = False,
    download: _Directory = None,
    as_json: _Json = False,
) -> _Command:
    """Create a job from a text; wait for it, and download its audio, if told to.

    Prints the job's id and its state; with --wait or --download once, as wait
    does, when it is done. The id is also told if that is interrupted or fails.
    A file is named by the job's id: DIR/ID.ending; the JSON has no path.

    In use:

        playai-async create --voice VOICE --file story.txt --download audio/
        playai-async create --voice VOICE --text "Hello." --output-format wav
        echo Hello. | playai-async create --voice VOICE --file - --wait --json

    Exit status: 0 created, and completed if it was waited for, 1 the job failed, 2
    wrong usage or settings, 3 an error, 4 timed out, 129, 130 or 143 interrupted.

    Args:
        voice: The id of a voice.
        text: The text to speak.
        file: A file with the text, in UTF-8, or - for standard input.
        model: The model that speaks.
        output_format: The audio format, such as mp3 or wav; left out, the service chooses.
        wait: Wait until the job is done, for ten minutes at most.
        download: Wait, and put the audio into this directory, made if missing, as DIR/ID.ending.
        as_json: Print the job as a JSON object on one line, in the service's own field names.
    """
    if (text is None) == (file is None):
        raise UsageError("create takes either --text or --file")
    if text == STANDARD_INPUT:
        raise UsageError("--text takes the text itself; for standard input there is --file -")
    if text is not None and _LOOKS_LIKE_OPTION.fullmatch(text):
        raise UsageError(f"--text was given an option, {text}; to have that spoken, use --file")
    content = text if text is not None else read_text(str(file), sys.stdin)
    parameters = build_parameters(content, voice, model=model, output_format=output_format)
    playai = _open_session(Pacing())
    directory = None if download is None else prepare_directory(download)
    follow_up = FollowUp(wait=wait or download is not None, timeout=_POLLING.timeout, directory=directory)
    return create(playai, parameters, Reporter(_standard_streams(), as_json), follow_up)


@app.command(name="get")
def _get(job_id: Annotated[str, _Ids], /, *extra: _Extra, as_json: _Json = False) -> _Command:
    """Ask for the state of a job, once.

    Prints the job's id, its state and, once completed, the address of the audio.

    In use:

        playai-async get 8a1f4c9e-3f1b-4b8e-9d57-0c2f6a7b1e42

    Args:
        job_id: The job's id, or - for the first word of a line on standard input.
        extra: Refused; taken so that it is said in the words of this program.
        as_json: Print the job as a JSON object on one line, in the service's own field names.
    """
    _refuse_options([job_id, *extra])
    if extra:
        raise UsageError("get takes one id; wait takes many")
    job_ids = read_ids([job_id], sys.stdin)
    if len(job_ids) != 1:
        raise UsageError(f"get takes one id, and standard input has {len(job_ids)}")
    return get(_open_session(Pacing()), job_ids[0], Reporter(_standard_streams(), as_json))


@app.command(name="wait")
def _wait(
    *job_ids: Annotated[str, _Ids],
    timeout: _Seconds | None = _POLLING.timeout,
    as_json: _Json = False,
    download: _Directory = None,
    requests_per_minute: _Count | None = None,
) -> _Command:
    """Wait until jobs are done, all at once; print each as it ends.

    Prints a job's id, its state and, if completed, the address of the audio, or
    the path of the file once that was downloaded; with --json no path, but the file
    is named by the job's id: DIR/ID.ending. An error goes to standard error, as a
    line that names the job, and does not stop the others.

    In use:

        playai-async wait 8a1f4c9e-3f1b-4b8e-9d57-0c2f6a7b1e42 --timeout 60
        playai-async wait --json - < ids.txt | jq -r .output.url
        playai-async wait --download audio/ --requests-per-minute 60 - < ids.txt

    Exit status: 0 all completed, 1 a job failed, 2 wrong usage or settings, 3 an
    error, 4 a wait timed out, 129, 130 or 143 interrupted; where several hold, 3
    comes before 4, and 4 before 1.

    Args:
        job_ids: Ids of jobs, or - for the first word of each line on standard input, such as create prints.
        timeout: Seconds for each job.
        as_json: Print each job as a JSON object on one line, in the service's own field names; errors have none.
        download: Put the audio of completed jobs into this directory, made if missing, as DIR/ID.ending.
        requests_per_minute: What of the quota of the key may be spent here; never exceeded. Left out, it is learned.
    """
    _refuse_options(job_ids)
    found = read_ids(job_ids, sys.stdin)
    playai = _open_session(Pacing(requests_per_window=requests_per_minute))
    directory = None if download is None else prepare_directory(download)
    output = _standard_streams()
    if not found:
        output.message("playai-async: no ids on standard input")
    return wait(playai, found, Reporter(output, as_json), timeout=timeout, directory=directory)


@app.command(name="emulate")
def _emulate(
    *,
    port: int = 0,
    quota: int | None = None,
    create_quota: int | None = None,
    window: float = 60.0,
    retry_after: Annotated[bool, Parameter(negative="")] = False,
    jobs: Annotated[int, Parameter(validator=Number(gte=0))] = 5,
) -> _Command:
    """Run the emulator: the service on this machine, to try things out.

    Prints what to set in the environment to use it, and a few jobs to wait for;
    serves until Ctrl-C.

    In use:

        playai-async emulate --quota 60 --create-quota 20

    Args:
        port: The port to listen on; 0 for a free one.
        quota: Requests for jobs a window, past which comes 429; left out, there is no limit.
        create_quota: The same for requests that create jobs.
        window: Seconds that a window takes.
        retry_after: Say in each 429 when to come back, which the service does not promise.
        jobs: How many jobs to make, ending 5 s after one another.
    """
    try:
        emulator = Emulator(quota, window, create_quota=create_quota, port=port, retry_after=retry_after)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return emulate(emulator, _standard_streams(), jobs=jobs)


@app.command(name="demo")
def _demo(*, jobs: _Jobs = 28, longest: _Seconds = 12.0) -> _Command:
    """See a few dozen jobs waited for at once, on the emulator.

    It needs neither a key nor a network, and takes a quarter of a minute. Shows
    how many requests that took, and how soon each job's end was noticed.

    In use:

        playai-async demo
        playai-async demo --jobs 100 --longest 30

    Args:
        jobs: How many jobs, up to 1,000.
        longest: Seconds that the longest of them takes.
    """
    return demo(_standard_streams(), jobs=jobs, longest=longest)


@app.command(name="--install-completion")
def _install_completion(
    *, shell: _Shell | None = None, output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None
) -> _Command:
    """Write a script with which the shell completes commands and options.

    Prints the path of the script, and tells what is left to do; no start-up file
    of the shell is changed.

    In use:

        playai-async --install-completion --shell bash

    Args:
        shell: The shell; left out, the one that this runs in.
        output: Where to write instead of where the shell looks for it.
    """
    return _write_completion(_standard_streams(), shell=shell, path=output)


def parse(arguments: Sequence[str]) -> _Command | None:
    """Read a command line.

    Args:
        arguments: What follows the program's name.

    Returns:
        What to run, or None where help or the version was asked for, and shown.

    Raises:
        CycloptsError, UsageError, ConfigurationError: It makes no sense, or cannot work.
    """
    if not arguments:
        raise UsageError("a command is missing; see: playai-async --help")
    if "=" in arguments[0]:
        raise UsageError("the command comes first, and the key and the user id from the environment")
    command: _Command | None = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    return command


def _refuse_options(texts: Sequence[str]) -> None:
    for text in texts:
        if text.startswith("-") and text != STANDARD_INPUT:
            raise UsageError(f"unknown option: {text}")


def _open_session(pacing: Pacing) -> PlayAISession:
    missing = [name for name in ("PLAYAI_API_KEY", "PLAYAI_USER_ID") if not os.environ.get(name)]
    if missing:
        raise UsageError(f"{' and '.join(missing)} must be set in the environment")
    return PlayAISession(pacing=pacing)


def _standard_streams() -> Output:
    return Output(sys.stdout, sys.stderr)


async def _write_completion(output: Output, *, shell: _Shell | None, path: Path | None) -> ExitCode:
    """Write a completion script where the shell looks for one; print its path, and what is left to do.

    The shell's own start-up file is left alone, though cyclopts would add to it: fish finds the script without that,
    bash does with the help of a package, and for zsh and a bash without it a line is said. A file that somebody else
    keeps is theirs to edit, and would outlive this program.

    Args:
        output: Where to tell.
        shell: Which one, or None for the one that this runs in.
        path: Where to write instead, or None.

    Returns:
        The exit status.

    Raises:
        UsageError: It can't be told which shell this is.
        OSError: The script can't be written.
    """
    try:
        found = shell or detect_shell()
    except ShellDetectionError:
        raise UsageError("which shell this is cannot be told; say it with --shell") from None
    written = app.install_completion(shell=found, output=path, add_to_startup=False)
    output.result(str(written))
    if found == "bash":
        output.message("bash finds it there by the package bash-completion; otherwise ~/.bashrc needs this line:")
        output.message(f"source {shlex.quote(str(written))}")
    if found == "zsh":
        output.message("For zsh to find it, ~/.zshrc needs this line above compinit, if it is not there yet:")
        output.message(f"fpath=({written.parent} $fpath)")
    output.message("It works in shells that are started from now on.")
    return ExitCode.SUCCESS
