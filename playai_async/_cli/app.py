"""The commands, their options and their help texts, declared for cyclopts.

The function of a command checks its arguments and returns the coroutine that does the work. So every mistake in the
arguments, the ids or the settings is found before anything runs.
"""

from __future__ import annotations

import itertools
import os
import re
import shlex
import sys
from collections.abc import Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, cast

import attrs
from cyclopts import App, Parameter, Token
from cyclopts.completion.detect import ShellDetectionError, detect_shell
from cyclopts.validators import Number

from playai_async._api.urls import checked_base_url
from playai_async._cli.commands.create import FollowUp, build_parameters, create, read_text
from playai_async._cli.commands.emulator import demo, emulate
from playai_async._cli.commands.wait import STANDARD_INPUT, get, prepare_directory, read_ids, wait
from playai_async._cli.errors import ExitCode, UsageError, unknown_option
from playai_async._cli.network import OpenSession, Proxies, session_opener
from playai_async._cli.output import Output, help_console
from playai_async._cli.results import Reporter
from playai_async._models import TtsParameters
from playai_async._session import PlayAISession
from playai_async._settings import Pacing, Polling, check_number
from playai_async._version import __version__
from playai_async.emulator import Emulator
from playai_async.emulator._service.limiters import LimiterKind

__all__ = ["parse"]

_Command: TypeAlias = Coroutine[Any, Any, ExitCode]
_Shell: TypeAlias = Literal["bash", "zsh", "fish"]
_POLLING = Polling()
_WINDOW = Pacing().window

_LOOKS_LIKE_OPTION = re.compile(r"--?[a-zA-Z]\S*")
"""A text that looks like an option. It is refused, because a typing error would be spoken and paid for."""

_VERBOSE = "--verbose"

# The examples stand under "Usage examples": cyclopts would leave out a section that is called "Examples".
app = App(
    name="playai-async",
    version=__version__,
    suppress_keyboard_interrupt=False,
    help_format="plaintext",
    help="""Create PlayAI text-to-speech jobs, wait for them and download the audio.

Usage examples:

    export PLAYAI_API_KEY=... PLAYAI_USER_ID=...
    playai-async create --voice VOICE --file story.txt --download audio/
    ID=$(playai-async create --voice VOICE --text "Hello.")
    playai-async wait $ID
    playai-async wait --json - < ids.txt | jq -r .output.url
    playai-async demo

Put --verbose anywhere to log each request to standard error.

Results go to standard output. Errors and progress go to standard error.
If standard output is a pipe, no progress is shown.

Environment variables:

    PLAYAI_API_KEY    the API key; there is no option for the key
    PLAYAI_USER_ID    the user id
    PLAYAI_BASE_URL   the URL of the service or of an emulator
                      (default: https://api.play.ai)

    HTTPS_PROXY       the proxy for https; not used for loopback addresses
    NO_PROXY          hosts for which the proxy is not used

Exit codes:

      0  success (get: answered; create: created; wait: all jobs completed)
      1  a job failed
      2  wrong command line, ids or settings; nothing was sent
      3  an error
      4  timed out; the job keeps running
    129  the terminal was closed (SIGHUP)
    130  interrupted (SIGINT, for example by Ctrl-C)
    143  terminated (SIGTERM)

If several apply, 3 comes before 4, and 4 before 1.
""",
)

app["--version"].help = "Show the version of this program."


def _check_seconds(_: object, value: object) -> None:
    check_number("the time", value)


def _parse_path(_: object, tokens: Sequence[Token]) -> Path:
    if not tokens[0].value:  # Path("") would be the current directory
        raise UsageError(f"{tokens[0].keyword} needs a path, but the value is empty")
    return Path(tokens[0].value)


# Values may start with a hyphen: otherwise cyclopts would read "-" or a text that starts with "- " as an option.
_Ids = Parameter(name="ID", required=True, allow_leading_hyphen=True)
_Json = Annotated[bool, Parameter(name="--json", negative="")]
_Seconds = Annotated[float, Parameter(validator=_check_seconds)]
_Count = Annotated[int, Parameter(validator=Number(gte=1))]
_Jobs = Annotated[int, Parameter(validator=Number(gte=1, lte=1_000))]
_Extra = Annotated[str, Parameter(show=False, allow_leading_hyphen=True)]
# These are paths, so that the shell completes file names.
_Directory = Annotated[Path | None, Parameter(name="--download", converter=_parse_path)]
_File = Annotated[Path | None, Parameter(converter=_parse_path, allow_leading_hyphen=True)]
_Flag = Annotated[bool, Parameter(negative="")]
_Verbose = _Flag
_Text = Annotated[str | None, Parameter(allow_leading_hyphen=True)]

# The shell completes the known values. Others are accepted, because the service decides.
_Model: TypeAlias = Literal["PlayDialog", "Play3.0-mini"] | str  # noqa: PYI051 - for the shell
_Format: TypeAlias = Literal["mp3", "wav", "ogg", "flac", "mulaw", "raw"] | str  # noqa: PYI051 - for the shell
_MODEL = cast("str", attrs.fields(TtsParameters).model.default)


@app.command(name="create")
def _create(
    *,
    voice: str,
    text: _Text = None,
    file: _File = None,
    model: _Model = _MODEL,
    output_format: _Format | None = None,
    wait: _Flag = False,
    timeout: _Seconds | None = _POLLING.timeout,
    forecast: _Flag = False,
    download: _Directory = None,
    as_json: _Json = False,
    verbose: _Verbose = False,
) -> _Command:
    """Create a job from a text. Optionally wait and download the audio.

    Prints the id of the job, and nothing else. With --wait or --download, prints
    the id and the state when the job is done, as wait does. If create fails or is
    interrupted after the job was created, it prints the id on standard error.

    Usage examples:

        playai-async create --voice VOICE --file story.txt --download audio/
        ID=$(playai-async create --voice VOICE --text "Hello.")
        echo Hello. | playai-async create --voice VOICE --file - --wait --json

    Exit codes: 0 created (and completed, if waited for), 1 the job failed, 2 wrong
    usage or settings, 3 error, 4 timed out, 129, 130 or 143 ended by a signal.

    Args:
        voice: Id of the voice.
        text: Text to speak.
        file: File with the text in UTF-8, or - for standard input.
        model: Model to use.
        output_format: Audio format. If left out, the service chooses.
        wait: Wait until the job is done.
        timeout: Seconds to create the job and to wait for it. Downloads have no deadline.
        forecast: As for wait. It needs finished jobs to go by, so it does not change the wait for a single job.
        download: Wait, then save the audio in this directory as DIR/ID.EXT. Creates the directory if needed.
        as_json: Print the job as one line of JSON, with the field names of the service.
        verbose: Log each request to standard error.
    """
    if (text is None) == (file is None):
        raise UsageError("create needs either --text or --file")
    if text == STANDARD_INPUT:
        raise UsageError("--text takes the text itself; to read standard input, use --file -")
    if text is not None and _LOOKS_LIKE_OPTION.fullmatch(text):
        raise UsageError(f"the value of --text looks like an option: {text}; to send that text, use --file")
    content = text if text is not None else read_text(str(file), sys.stdin)
    parameters = build_parameters(content, voice, model=model, output_format=output_format)
    output = _standard_streams(verbose=verbose)
    open_session = _checked_session(Pacing(), output, forecast=forecast)
    directory = None if download is None else prepare_directory(download)
    follow_up = FollowUp(wait=wait or download is not None, timeout=timeout, directory=directory)
    return create(open_session, parameters, Reporter(output, as_json), follow_up)


@app.command(name="get")
def _get(
    job_id: Annotated[str, _Ids], /, *extra: _Extra, as_json: _Json = False, verbose: _Verbose = False
) -> _Command:
    """Print the current state of one job.

    Sends one request. Prints the id and the state of the job and, if the job is
    completed, the URL of the audio.

    Usage examples:

        playai-async get 8a1f4c9e-3f1b-4b8e-9d57-0c2f6a7b1e42

    Args:
        job_id: Job id, or - to read one from standard input: the first word of the line, or a line of JSON.
        extra: Accepted only to print a clear error for a second id.
        as_json: Print the job as one line of JSON, with the field names of the service.
        verbose: Log each request to standard error.
    """
    _refuse_options([job_id, *extra], "get")
    if extra:
        raise UsageError("get takes one id; for several ids, use wait")
    job_ids = read_ids([job_id], sys.stdin)
    if len(job_ids) != 1:
        raise UsageError(f"get takes one id, but standard input has {len(job_ids)}")
    output = _standard_streams(verbose=verbose)
    return get(_checked_session(Pacing(), output), job_ids[0], Reporter(output, as_json))


@app.command(name="wait")
def _wait(
    *job_ids: Annotated[str, _Ids],
    timeout: _Seconds | None = _POLLING.timeout,
    as_json: _Json = False,
    download: _Directory = None,
    requests_per_minute: _Count | None = None,
    window: _Seconds = _WINDOW,
    forecast: _Flag = False,
    verbose: _Verbose = False,
) -> _Command:
    """Wait for any number of jobs at once. Print each job when it is done.

    Prints the id and the state of each job. For a completed job, also prints the
    URL of the audio or, with --download, the path of the audio file. JSON always
    has the URL. Errors go to standard error, one line with the job id. An error
    does not stop other waits.

    Usage examples:

        playai-async wait 8a1f4c9e-3f1b-4b8e-9d57-0c2f6a7b1e42 --timeout 60
        playai-async wait --json - < ids.txt | jq -r .output.url
        playai-async wait --download audio/ --requests-per-minute 60 - < ids.txt

    Exit codes: 0 all jobs completed, 1 a job failed, 2 wrong usage or settings,
    3 error, 4 timed out, 129, 130 or 143 ended by a signal. If several apply, 3
    comes before 4, and 4 before 1.

    Args:
        job_ids: Job ids, or - to read ids from standard input: the first word of each line, or a line of JSON.
        timeout: Seconds to wait for each job.
        as_json: Print each job as one line of JSON, with the field names of the service.
        download: Save the audio of completed jobs in this directory as DIR/ID.EXT. Creates the directory if needed.
        requests_per_minute: Known quota: never send more requests per minute or --window. If left out, it is learned.
        window: Seconds after which the service counts requests anew. The quota is for this time, if it is not a minute.
        forecast: Learn from finished jobs how long a job takes, and poll each job when it is likely to be done.
        verbose: Log each request to standard error.
    """
    _refuse_options(job_ids, "wait")
    found = read_ids(job_ids, sys.stdin)
    output = _standard_streams(verbose=verbose)
    pacing = Pacing(requests_per_window=requests_per_minute, window=window)
    open_session = _checked_session(pacing, output, forecast=forecast)
    directory = None if download is None else prepare_directory(download)
    if not found:
        output.message("playai-async: no ids on standard input")
    return wait(open_session, found, Reporter(output, as_json), timeout=timeout, directory=directory)


@app.command(name="emulate")
def _emulate(
    *,
    port: int = 0,
    quota: int | None = None,
    create_quota: int | None = None,
    window: float = 60.0,
    limiter: LimiterKind = "fixed",
    burst: int | None = None,
    retry_after: Annotated[bool, Parameter(negative="")] = False,
    jobs: Annotated[int, Parameter(validator=Number(gte=0))] = 5,
    speak: _Flag = False,
    verbose: _Verbose = False,
) -> _Command:
    """Run an emulator of the service on this machine, for tests and trials.

    Prints the environment variables to set and the ids of some test jobs. Runs
    until Ctrl-C.

    Usage examples:

        playai-async emulate --speak
        playai-async emulate --quota 60 --create-quota 20
        playai-async emulate --quota 60 --limiter bucket --burst 20 --verbose

    Args:
        port: Port to listen on. 0 chooses a free port.
        quota: Status requests per window; more are answered with 429. If left out, there is no limit.
        create_quota: Create requests per window; more are answered with 429. If left out, there is no limit.
        window: Seconds in a window.
        limiter: What is limited: requests in fixed windows, as at the service; in any span of a window (sliding); one
            at a time and evenly (leaky); by a token bucket (bucket); or requests and jobs at once (concurrency).
        burst: Size of the token bucket, with --limiter bucket. If left out, it is the quota.
        retry_after: Send Retry-After with each 429. The real service does not promise this header.
        jobs: Number of test jobs. They finish 5 s apart.
        speak: Speak the text of jobs that are created, with the program espeak-ng. Without it, the audio is a tune.
        verbose: Log each request to standard error.
    """
    if burst is not None and limiter != "bucket":
        raise UsageError("--burst needs --limiter bucket")
    try:
        emulator = Emulator(
            quota,
            window,
            limiter=limiter,
            burst=burst,
            create_quota=create_quota,
            port=port,
            retry_after=retry_after,
            speak=speak,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    return emulate(emulator, _standard_streams(verbose=verbose), port=port, jobs=jobs, speak=speak)


@app.command(name="demo")
def _demo(*, jobs: _Jobs = 28, longest: _Seconds = 12.0, verbose: _Verbose = False) -> _Command:
    """Run a demo: wait for 28 jobs at once on the emulator.

    Needs no API key and no network. Takes about 15 seconds, in which 5 minutes of
    the service pass. Shows the number of requests and the lag, in seconds of the
    service: the time from the end of a job to the end of its wait.

    Usage examples:

        playai-async demo
        playai-async demo --jobs 100 --longest 30

    Args:
        jobs: Number of jobs, up to 1,000.
        longest: Seconds that the longest job takes in the demo; 20 times as many at the service.
        verbose: Log each request to standard error.
    """
    return demo(_standard_streams(verbose=verbose), jobs=jobs, longest=longest)


@app.command(name="--install-completion")
def _install_completion(
    *, shell: _Shell | None = None, output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None
) -> _Command:
    """Install shell completion of commands and options.

    Prints the path of the completion script and what is left to do. Does not
    change any start-up file of the shell.

    Usage examples:

        playai-async --install-completion --shell bash

    Args:
        shell: Shell to complete in. If left out, the current shell.
        output: Path of the script. If left out, the directory where the shell looks for completion scripts.
    """
    return _write_completion(_standard_streams(), shell=shell, path=output)


def parse(arguments: Sequence[str]) -> _Command | None:
    """Parse a command line.

    Args:
        arguments: The arguments after the name of the program.

    Returns:
        The coroutine of the command, or None if help or the version was printed.

    Raises:
        CycloptsError, UsageError, ConfigurationError: The command line, its input or the settings are wrong.
        OSError: The help cannot be written; `BrokenPipeError` if the reader has closed the pipe.
    """
    if arguments and "=" in arguments[0]:
        raise UsageError("the command must come first; set the key and the user id in the environment")
    console = help_console(sys.stdout)
    tokens = _verbose_after_command(arguments) or ["--help"]
    command: _Command | None = app(
        tokens, console=console, exit_on_error=False, print_error=False, result_action="return_value"
    )
    return command


def _verbose_after_command(arguments: Sequence[str]) -> list[str]:
    """Move `--verbose` behind the name of the command, where cyclopts accepts it."""
    rest = list(itertools.dropwhile(_VERBOSE.__eq__, arguments))
    if rest and len(rest) < len(arguments) and _VERBOSE not in rest:
        rest.insert(1, _VERBOSE)
    return rest


def _refuse_options(texts: Sequence[str], command: str) -> None:
    for text in texts:
        if text.startswith("-") and text != STANDARD_INPUT:
            options = [name for argument in app[command].assemble_argument_collection() for name in argument.names]
            raise unknown_option(text, options)


def _checked_session(pacing: Pacing, output: Output, *, forecast: bool = False) -> OpenSession:
    """Check the settings of the session, and return a function that opens it."""
    missing = [name for name in ("PLAYAI_API_KEY", "PLAYAI_USER_ID") if not os.environ.get(name)]
    if missing:
        one = len(missing) == 1
        raise UsageError(f"environment variable{'' if one else 's'} not set: {' and '.join(missing)}")
    make = partial(PlayAISession, pacing=pacing, polling=Polling(forecast=forecast))
    make()
    proxies = Proxies.from_environment()
    proxies.proxy_for(checked_base_url(None))
    return session_opener(make, proxies, output)


def _standard_streams(*, verbose: bool = False) -> Output:
    return Output(sys.stdout, sys.stderr, verbose=verbose)


async def _write_completion(output: Output, *, shell: _Shell | None, path: Path | None) -> ExitCode:
    """Write a completion script, and print its path and the remaining steps.

    The start-up file of the shell is not changed, although cyclopts could do that: the line would stay there after this
    program is uninstalled. fish needs no such line, and bash needs none if the package bash-completion is installed.
    """
    try:
        found = shell or detect_shell()
    except ShellDetectionError:
        raise UsageError("the shell cannot be detected; name it with --shell") from None
    written = app.install_completion(shell=found, output=path, add_to_startup=False)
    output.result(str(written))
    if found == "bash":
        output.message("If the package bash-completion is not installed, add this line to ~/.bashrc:")
        output.message(f"source {shlex.quote(str(written))}")
    if found == "zsh":
        output.message("Add this line to ~/.zshrc, above compinit, if it is not there yet:")
        output.message(f"fpath=({written.parent} $fpath)")
    output.message("Completion works in each shell that you start from now on.")
    return ExitCode.SUCCESS
