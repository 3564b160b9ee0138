"""The key and the user id come from the environment alone, and what is given in an argument instead is not repeated."""

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
def test_no_command_that_waits_takes_a_key(shell: Shell, command: str, attempt: str) -> None:
    """It is refused before anything is sent, by the option's name and without its value."""
    ending = shell.run_to_the_end(*command.format(id=ID, option=attempt).split())
    assert (ending.status, ending.out) == (2, "")
    assert f"unknown option: {attempt[:2]}" in ending.err
    assert GIVEN not in ending.err


@pytest.mark.parametrize("attempt", ATTEMPTS)
@pytest.mark.parametrize("command", ["create --voice v --text x", "--install-completion", "demo", "emulate"])
def test_no_other_command_takes_a_key(shell: Shell, command: str, attempt: str) -> None:
    """Though some would need none."""
    ending = shell.run_to_the_end(*command.split(), *attempt.split())
    assert (ending.status, ending.out) == (2, "")
    assert GIVEN not in ending.err


@pytest.mark.parametrize("attempt", [*ATTEMPTS, f"PLAYAI_API_KEY={GIVEN}", f"PLAYAI_USER_ID={GIVEN}"])
def test_none_is_taken_before_the_command(shell: Shell, attempt: str) -> None:
    """Nor are the environment's variables, in the place where `env` would take them."""
    ending = shell.run_to_the_end(*attempt.split(), "wait", ID)
    assert (ending.status, ending.out) == (2, "")
    assert GIVEN not in ending.err


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
def test_an_option_in_place_of_a_value_is_named_and_no_more(
    shell: Shell, command: str, named: str, attempt: str
) -> None:
    """Nothing that it was given is repeated, whichever way the two were joined."""
    ending = shell.run_to_the_end(*command.format(id=ID, option=attempt).split())
    assert (ending.status, ending.out) == (2, "")
    assert named.format(name="-k" if attempt.startswith("-k") else "--api-key") in ending.err
    assert GIVEN not in ending.err


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
def test_the_environment_s_own_are_not_repeated(shell: Shell, tmp_path: Path, command: str, secret: str) -> None:
    """Wherever they were given, and whatever is said of them."""
    (tmp_path / "file").touch()
    ending = shell.run_to_the_end(*command.format(secret=secret, file=tmp_path / "file").split())
    assert ending.status in {2, 3}
    assert "playai-async: " in ending.err
    assert KEY not in ending.err
    assert USER not in ending.err


def test_no_option_is_for_a_key() -> None:
    """No command takes anything by such a name, and none hides it from its help."""
    commands = [command.default_command for command in app.app.subapps]
    taken = {name for command in commands if command in OURS for name in inspect.signature(command).parameters}
    assert {"job_id", "job_ids", "jobs", "quota"} <= taken
    assert [name for name in taken if any(word in name for word in ("key", "user", "token", "auth"))] == []


@pytest.mark.parametrize("variable", ["PLAYAI_API_KEY", "PLAYAI_USER_ID"])
def test_one_that_cannot_be_sent_is_not_repeated(shell: Shell, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """A key with a line break in it, say, out of a file."""
    monkeypatch.setenv(variable, f"{GIVEN}\r\nX-Other: header")
    ending = shell.run_to_the_end("wait", ID)
    assert (ending.status, ending.out) == (2, "")
    assert variable in ending.err
    assert GIVEN not in ending.err


def test_a_bug_is_reported_without_the_key(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """A traceback has lines of code, and no values."""

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(app, "PlayAISession", fail)
    ending = shell.run_to_the_end("wait", ID)
    assert ending.status == 3
    assert "a bug" in ending.err
    assert KEY not in ending.err
    assert USER not in ending.err
