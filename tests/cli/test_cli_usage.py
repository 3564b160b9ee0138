"""Usage errors, help and the version."""

import errno
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from playai_async import __version__
from playai_async._cli import app, main
from playai_async._cli.errors import ExitCode
from tests.cli.conftest import KEY, USER, Broken, Shell

ID = "8a1f4c9e-3f1b-4b8e-9d57-0c2f6a7b1e42"

pytestmark = pytest.mark.usefixtures("credentials")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("nonsense", "nonsense"),
        ("wait", "playai-async: wait needs a job id, or - to read ids from standard input"),
        ("get", "playai-async: get needs a job id, or - to read one from standard input"),
        ("create --voic v --text x", "--voice is missing. Did you mean --voice instead of --voic?"),
        ("create --voic=v --text x", "--voice is missing. Did you mean --voice instead of --voic?"),
        ("create --text x --voice", "--voice needs a value"),
        ("create hi --voice v --text x", "playai-async: unexpected argument: hi; put the text after --text"),
        ("demo one two", "playai-async: unexpected argument: one two"),
        (f"wait {ID} --bogus", "unknown option: --bogus"),
        (f"wait --bogus {ID}", "unknown option: --bogus"),
        (f"get {ID} {ID}", "get takes one id"),
        ("get nonsense -", "get takes one id"),
        (f"get {ID} --bogus", "unknown option: --bogus"),
        (f"wait {ID} --timout 5", "playai-async: unknown option: --timout; did you mean --timeout?"),
        (f"wait --request-per-minute=5 {ID}", "--request-per-minute; did you mean --requests-per-minute?"),
        (f"get {ID} --jsn", "unknown option: --jsn; did you mean --json?"),
        (f"create --voice v --text {ID} --timout 5", "Unknown option: --timout. Did you mean --timeout?"),
        (f"waitt {ID}", 'Unknown command "waitt". Did you mean "wait"?'),
        ("--verson", "unknown option: --verson; did you mean --version?"),
        (f"--verbos wait {ID}", "unknown option: --verbos; did you mean --verbose?"),
        (f"--json wait {ID}", "unknown option: --json; options follow the command"),
        (f"wait {ID} --timeout", "playai-async: --timeout needs a value"),
        (f"wait {ID} --timeout soon", "--timeout"),
        (f"wait {ID} --timeout 0", "--timeout"),
        (f"wait {ID} --timeout=-5", "--timeout"),
        (f"wait {ID} --timeout nan", "--timeout"),
        (f"wait {ID} --timeout none", "--timeout"),
        (f"wait {ID} --timeout inf", "--timeout"),
        (f"wait {ID} --window 0", "--window"),
        ("create --voice v --text x --timeout 0", "--timeout"),
        (f"wait {ID} --requests-per-minute 0", "--requests-per-minute"),
        (f"wait {ID} --requests-per-minute x", "--requests-per-minute"),
        ("demo --job 3", "playai-async: Unknown option: --job. Did you mean --jobs?"),
        ("demo --jobs 0", "--jobs"),
        ("demo --jobs 1001", "--jobs"),
        ("demo --longest 0", "--longest"),
        ("emulate --port 65536", "port"),
        ("emulate --quota -1", "quota"),
        ("emulate --create-quota -1", "create_quota"),
        ("create --text x", "playai-async: --voice is missing"),
        (f"wait {ID} --download", "--download"),
        ("--install-completion --shell tcsh", "tcsh"),
        ("emulate --window 0", "window"),
        ("emulate --limiter strict", "--limiter"),
        ("emulate --burst 3", "--burst needs --limiter bucket"),
        ("emulate --limiter bucket --burst 0", "burst"),
        ("emulate --jobs=-1", "--jobs"),
    ],
    ids=str,
)
def test_a_usage_error_is_one_line(shell: Shell, arguments: str, message: str) -> None:
    """With exit code 2 and without a traceback."""
    result = shell.run_main(*arguments.split())
    (line,) = result.err.splitlines()
    assert line.startswith("playai-async: ")
    assert message in line
    assert (result.status, result.out) == (2, "")


@pytest.mark.parametrize("command", ["get", "wait"])
@pytest.mark.parametrize("text", ["nonsense", f"{{{ID}}}", ID.replace("-", ""), f"urn:uuid:{ID}", ID + "\x1b[2J"])
def test_a_malformed_id_is_refused(shell: Shell, command: str, text: str) -> None:
    """As an argument and on standard input. Only the usual form of a UUID is accepted."""
    for arguments, stdin in (([text], ""), (["-"], text)):
        result = shell.run_main(command, *arguments, stdin=stdin)
        assert (result.status, result.out) == (2, "")
        assert "not a job id" in result.err
        assert "\x1b" not in result.err


@pytest.mark.parametrize(
    "line", ['{"id": ', "{" * 100_000, '{"id": 5}', "{}", '{"id": "secret"', '{"text": "secret"}', '{"id": "x"}']
)
def test_malformed_json_is_refused(shell: Shell, line: str) -> None:
    """In one line that does not quote the object, which may have the text to speak."""
    result = shell.run_main("wait", "-", stdin=f"{ID}\n{line}\n")
    (message,) = result.err.splitlines()
    assert (result.status, result.out) == (2, "")
    assert "job id" in message
    assert "secret" not in message


def test_every_malformed_id_is_named(shell: Shell) -> None:
    """One line for each, so that a list can be fixed in one go."""
    result = shell.run_main("wait", "one", ID, "-", stdin=f"{ID} COMPLETED\ntwo {ID}\n")
    lines = result.err.splitlines()
    assert len(lines) == 2
    assert "'one'" in lines[0]
    assert "'two'" in lines[1]


def test_standard_input_must_be_text(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """For example, an audio file contains no ids."""
    shell._connect("")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfb\x90"), encoding="utf-8"))
    assert main.command_line(["wait", "-"]) == 2
    assert "standard input is not text" in shell.err.getvalue()


def test_standard_input_must_be_readable(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """For example, a directory is not."""

    def failing() -> Iterator[str]:
        yield f"{ID}\n"
        raise IsADirectoryError(errno.EISDIR, "Is a directory")

    shell._connect("")
    monkeypatch.setattr(sys, "stdin", failing())
    assert main.command_line(["wait", "-"]) == 2
    assert shell.err.getvalue() == "playai-async: standard input cannot be read: Is a directory\n"


def test_a_closed_standard_input_has_no_ids(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python sets it to None."""
    shell._connect("")
    monkeypatch.setattr(sys, "stdin", None)
    assert main.command_line(["get", "-"]) == 2


@pytest.mark.parametrize("command", ["get", "wait"])
@pytest.mark.parametrize(
    "missing",
    [{"PLAYAI_API_KEY"}, {"PLAYAI_USER_ID"}, {"PLAYAI_API_KEY", "PLAYAI_USER_ID"}],
    ids=["key", "user id", "both"],
)
def test_missing_settings_are_named(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, command: str, missing: set[str]
) -> None:
    """All that are missing or empty, and no others."""
    for name in missing:
        monkeypatch.setenv(name, "")
    result = shell.run_main(command, ID)
    assert result.status == 2
    assert {name for name in ("PLAYAI_API_KEY", "PLAYAI_USER_ID") if name in result.err} == missing
    assert len(result.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PLAYAI_BASE_URL", "http://example.com"),
        ("PLAYAI_BASE_URL", "nonsense"),
        ("PLAYAI_API_KEY", "two words"),
        ("PLAYAI_USER_ID", "naïve"),
    ],
)
def test_invalid_settings_are_refused(shell: Shell, monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    """With the message of the library, which contains neither key nor user id."""
    monkeypatch.setenv(variable, value)
    result = shell.run_main("wait", ID)
    assert result.status == 2
    assert len(result.err.splitlines()) == 1
    for secret in (KEY, USER, "two words", "naïve"):
        assert secret not in result.err


def test_the_version_is_the_package_s(shell: Shell) -> None:
    """Alone on one line of standard output."""
    result = shell.run_main("--version")
    assert (result.status, result.out, result.err) == (0, f"{__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "needed"),
    [
        ("--help", ["get", "wait", "emulate", "demo", "PLAYAI_API_KEY", "PLAYAI_USER_ID", "PLAYAI_BASE_URL", "130"]),
        ("--help", ["--version", "Show the version of this program.", "--install-completion"]),
        ("--help", ["create --voice VOICE --file story.txt --download audio/"]),
        ("create --help", ["--voice", "--text", "--file", "--model", "[default: PlayDialog]", "--output-format"]),
        ("create --help", ["--wait", "--download", "--json", "playai-async create --voice VOICE --file story.txt"]),
        ("get --help", ["--json", "playai-async get 8a1f"]),
        ("wait --help", ["--timeout", "600", "--json", "--requests-per-minute", "playai-async wait --json - <"]),
        ("wait --help", ["--forecast"]),
        ("create --help", ["--forecast"]),
        ("wait --help", ["--download", "playai-async wait --download audio/", "DIR/ID.EXT"]),
        ("create --help", ["DIR/ID.EXT"]),
        (
            "emulate --help",
            ["--create-quota", "--port", "--quota", "--window", "--retry-after", "--jobs", "playai-async emulate --"],
        ),
        ("--install-completion --help", ["--shell", "--output", "playai-async --install-completion --shell bash"]),
        ("demo --help", ["--jobs", "28", "1,000", "--longest", "playai-async demo --jobs"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_help_has_every_option_and_an_example(shell: Shell, arguments: str, needed: list[str]) -> None:
    """On standard output, within 80 columns."""
    result = shell.run_main(*arguments.split())
    assert (result.status, result.err) == (0, "")
    assert [word for word in needed if word not in result.out] == []
    assert max(map(len, result.lines)) <= 80
    assert not any(option in result.out for option in ("--no-", "--api-key", "--ID", "--as-json"))


@pytest.mark.parametrize("columns", ["0", "1", "2", "3", "59", "-1", "", "x", "²", "1000000000", "9" * 5000])
@pytest.mark.parametrize("arguments", ["--help", "wait --help", "--version", ""])
def test_help_prints_in_any_number_of_columns(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, arguments: str, columns: str
) -> None:
    """Cyclopts never returns with 0 to 2 columns. A width that rich cannot use is ignored."""
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("LINES", columns)
    result = shell.run_main(*arguments.split())
    assert (result.status, result.err) == (0, "")
    assert max(map(len, result.lines)) <= 80
    assert "--requests-per-minute" in result.out or arguments != "wait --help"


def test_help_is_not_wider_than_a_page(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long lines are hard to read."""
    monkeypatch.setenv("COLUMNS", "9999")
    assert max(map(len, shell.run_main("wait", "--help").lines)) == 200


def test_no_arguments_print_the_help(shell: Shell) -> None:
    """Exit code 0."""
    without = shell.run_main().out
    shell.out = io.StringIO()
    assert without == shell.run_main("--help").out
    assert "Usage: playai-async" in without


@pytest.mark.parametrize("arguments", ["", "--help", "create --help", "--version"])
def test_help_on_a_broken_pipe_is_a_success(shell: Shell, tmp_path: Path, arguments: str) -> None:
    """The reader has seen enough, as with `--help | head -1`."""
    with (tmp_path / "out").open("wb") as descriptor:
        shell.out = Broken(BrokenPipeError(), descriptor)
        result = shell.run_main(*arguments.split())
    assert (result.status, result.err) == (0, "")


def test_an_interruption_prints_nothing(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while ids are read from standard input."""

    def interrupted() -> Iterator[str]:
        yield f"{ID}\n"
        raise KeyboardInterrupt

    shell._connect("")
    monkeypatch.setattr(sys, "stdin", interrupted())
    assert main.command_line(["wait", "-"]) == 130
    assert shell.out.getvalue() + shell.err.getvalue() == ""


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), ""),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
    ],
    ids=["broken pipe", "full disk"],
)
def test_results_that_cannot_be_written_are_an_error(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: OSError, words: str
) -> None:
    """Without a message if the pipe was closed. Unwritten output does not cause a second error at exit."""
    with (tmp_path / "out").open("wb") as descriptor:
        shell.out = Broken(error, descriptor)
        result = shell.run_main("demo", "--jobs", "1", "--longest", "0.1")
        assert os.fstat(descriptor.fileno()).st_rdev == Path(os.devnull).stat().st_rdev
    assert result.status == 3
    assert words in result.err
    assert bool(words) == bool(result.err)


def test_the_exit_code_does_not_need_standard_error(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard error may be closed."""
    shell._connect("")
    monkeypatch.setattr(sys, "stderr", None)
    assert main.command_line(["wait", "nonsense"]) == 2


def test_a_character_that_the_locale_cannot_encode_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not end the command."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")
    monkeypatch.setattr(sys, "stdout", out)
    assert main.command_line(["--version"]) == 0
    out.write("naïve")


def test_a_bug_is_an_error_with_a_traceback(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 3. Python's own exit code, 1, means a failed job here."""

    async def demo(*_: object, **__: object) -> ExitCode:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(app, "demo", demo)
    result = shell.run_main("demo")
    assert result.status == 3
    assert "Traceback" in result.err
    assert "a bug" in result.err
