"""The key and the user id come from the environment only, and are never printed."""

import inspect
from pathlib import Path

import pytest

from playai_async._cli import app
from tests.cli.conftest import KEY, USER, Shell

ID = "8a1f4c9e-3f1b-4b8e-9d57-0c2f6a7b1e42"
GIVEN = "sk-given-by-an-argument"

OURS = [value for value in vars(app).values() if inspect.isfunction(value) and value.__module__ == app.__name__]
ATTEMPTS = [
    f"--api-key={GIVEN}",
    f"--api-key {GIVEN}",
    f"--user-id={GIVEN}",
    f"--user-id {GIVEN}",
    f"-k={GIVEN}",
    f"-k {GIVEN}",
    f"-k{GIVEN}",
    f"--api-key:{GIVEN}",
    f"--4{GIVEN}",
]

pytestmark = pytest.mark.usefixtures("credentials")


@pytest.mark.parametrize("attempt", ATTEMPTS)
@pytest.mark.parametrize(
    "command", ["get {id} {option}", "get {option} {id}", "wait {id} {option}", "wait {option} {id}"]
)
def test_get_and_wait_take_no_key(shell: Shell, command: str, attempt: str) -> None:
    """The error names the option without its value, and nothing is sent."""
    result = shell.run_main(*command.format(id=ID, option=attempt).split())
    assert (result.status, result.out) == (2, "")
    assert f"unknown option: {attempt[:2]}" in result.err
    assert GIVEN not in result.err


@pytest.mark.parametrize("attempt", ATTEMPTS)
@pytest.mark.parametrize("command", ["create --voice v --text x", "--install-completion", "demo", "emulate"])
def test_no_other_command_takes_a_key(shell: Shell, command: str, attempt: str) -> None:
    """Not even commands that need no key."""
    result = shell.run_main(*command.split(), *attempt.split())
    assert (result.status, result.out) == (2, "")
    assert GIVEN not in result.err


@pytest.mark.parametrize("attempt", [*ATTEMPTS, f"PLAYAI_API_KEY={GIVEN}", f"PLAYAI_USER_ID={GIVEN}"])
def test_no_key_is_taken_before_the_command(shell: Shell, attempt: str) -> None:
    """Neither as an option nor as `PLAYAI_API_KEY=...`."""
    result = shell.run_main(*attempt.split(), "wait", ID)
    assert (result.status, result.out) == (2, "")
    assert GIVEN not in result.err


@pytest.mark.parametrize("attempt", [f"--api-key={GIVEN}", f"--api-key:{GIVEN}", f"-k{GIVEN}"])
@pytest.mark.parametrize(
    ("command", "named"),
    [
        ("create --voice v --text {option}", "{name};"),
        ("create --voice v --text={option}", "{name};"),
        ("create --voice v --file {option}", "{name} cannot be read"),
        ("create --voice v --file={option}", "{name} cannot be read"),
        ("create --voice {option} --text x", "--voice needs a value"),
        ("create --voice=v --text x {option}", "{name}"),
        ("create --voic {option} --text x", "--voice is missing"),
        ("wait {id} --timeout {option}", "--timeout needs a value"),
        ("wait {id} --timeout={option}", "unable to convert {name} into"),
        ("--install-completion --shell {option}", "--shell needs a value"),
    ],
)
def test_an_option_in_place_of_a_value_is_printed_without_its_value(
    shell: Shell, command: str, named: str, attempt: str
) -> None:
    """However the option and its value are joined."""
    result = shell.run_main(*command.format(id=ID, option=attempt).split())
    assert (result.status, result.out) == (2, "")
    assert named.format(name="-k" if attempt.startswith("-k") else "--api-key") in result.err
    assert GIVEN not in result.err


@pytest.mark.parametrize("secret", [KEY, USER, f"--api-key{KEY}", f"before-{USER}-after", repr(f"{KEY}\n")])
@pytest.mark.parametrize(
    "command",
    [
        "get {secret}",
        "wait {secret}",
        "{secret}",
        "create --voice v --text x {secret}",
        "create --voice v --file {secret}",
        "demo {secret}",
        "demo --jobs={secret}",
        "wait - --timeout={secret}",
        "--install-completion --shell={secret}",
        "--install-completion --shell bash --output {file}/{secret}",
    ],
)
def test_the_key_and_user_id_from_the_environment_are_never_printed(
    shell: Shell, tmp_path: Path, command: str, secret: str
) -> None:
    """Wherever they occur in the command line."""
    (tmp_path / "file").touch()
    result = shell.run_main(*command.format(secret=secret, file=tmp_path / "file").split())
    assert result.status in {2, 3}
    assert "playai-async: " in result.err
    assert KEY not in result.err
    assert USER not in result.err


def test_no_option_is_for_a_key() -> None:
    """No parameter of any command has such a name."""
    commands = [command.default_command for command in app.app.subapps]
    taken = {name for command in commands if command in OURS for name in inspect.signature(command).parameters}
    assert {"job_id", "job_ids", "jobs", "quota"} <= taken
    assert [name for name in taken if any(word in name for word in ("key", "user", "token", "auth"))] == []


@pytest.mark.parametrize("variable", ["PLAYAI_API_KEY", "PLAYAI_USER_ID"])
def test_an_invalid_key_is_not_printed(shell: Shell, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """For example a key with a line break."""
    monkeypatch.setenv(variable, f"{GIVEN}\r\nX-Other: header")
    result = shell.run_main("wait", ID)
    assert (result.status, result.out) == (2, "")
    assert variable in result.err
    assert GIVEN not in result.err


def test_a_bug_is_reported_without_the_key(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """A traceback shows lines of code, but no values."""

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(app, "PlayAISession", fail)
    result = shell.run_main("wait", ID)
    assert result.status == 3
    assert "a bug" in result.err
    assert KEY not in result.err
    assert USER not in result.err
