"""`playai-async --install-completion`: the shell completes commands and options."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Shell

BASH = shutil.which("bash")

SCRIPTS = {
    "bash": ".local/share/bash-completion/completions/playai-async",
    "zsh": ".zsh/completions/_cyclopts_playai-async",
    "fish": ".config/fish/completions/playai-async.fish",
}
"""Where each shell looks."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory with nothing but start-up files."""
    for name in (".bashrc", ".zshrc", ".profile"):
        (tmp_path / name).write_text("# mine\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("ZSH", "ZSH_CUSTOM", "ZSH_VERSION", "BASH_VERSION", "FISH_VERSION"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def files_below(home: Path) -> set[str]:
    """All files there, by their paths."""
    return {path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_written_where_the_shell_looks_and_nothing_else_is(
    shell: Shell, home: Path, nothing_set: None, name: str
) -> None:
    """Its path is the result; nobody's start-up file is touched, and for none is a setting or a key needed."""
    before = files_below(home)
    ending = shell.run_to_the_end("--install-completion", "--shell", name)
    (script,) = files_below(home) - before
    assert script in {SCRIPTS[name], SCRIPTS[name].replace("_cyclopts_", "_")}  # by the version of cyclopts
    assert (ending.status, ending.out) == (0, f"{home / script}\n")
    assert all((home / path).read_text() == "# mine\n" for path in before)
    assert ("fpath=" in ending.err) == (name == "zsh")
    assert all(word in (home / script).read_text() for word in ("create", "wait", "download", "output-format"))


@pytest.mark.skipif(BASH is None, reason="there is no bash here")
def test_bash_completes_with_it(shell: Shell, home: Path) -> None:
    """A command from its beginning, an option of that command, and a path where one is wanted."""
    shell.run_to_the_end("--install-completion", "--shell", "bash")
    (home / "story.txt").write_text("")
    (home / "audio").mkdir()
    asked = """
. "$1"
for words in "playai-async cr" "playai-async create --vo" "playai-async wait --down" \\
    "playai-async create --file sto" "playai-async create --download aud" "playai-async wait --download aud"; do
    COMP_WORDS=($words) COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMPREPLY=()
    _playai_async
    echo "${COMPREPLY[@]}"
done
"""
    answer = subprocess.run(  # noqa: S603 - its arguments are ours
        [str(BASH), "-c", asked, "bash", str(home / SCRIPTS["bash"])],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
        cwd=home,
    )
    completed = ["create", "--voice", "--download", "story.txt", "audio", "audio"]
    assert (answer.stdout.split(), answer.stderr) == (completed, "")


@pytest.mark.skipif(BASH is None, reason="there is no bash here")
def test_bash_without_its_package_is_told_a_line_that_works(shell: Shell, home: Path, tmp_path: Path) -> None:
    """Which can be pasted, whatever the path."""
    output = tmp_path / "my own" / "playai-async.bash"
    ending = shell.run_to_the_end("--install-completion", "--shell", "bash", "--output", output)
    assert "bash-completion" in ending.err
    (line,) = [line for line in ending.err.splitlines() if line.startswith("source ")]
    answer = subprocess.run(  # noqa: S603 - its arguments are ours
        [str(BASH), "-c", f"{line}; complete -p playai-async"], capture_output=True, text=True, check=True, timeout=30
    )
    assert "_playai_async" in answer.stdout


def test_it_may_go_elsewhere(shell: Shell, home: Path, tmp_path: Path) -> None:
    """Such as into a package."""
    output = tmp_path / "new" / "playai-async.bash"
    ending = shell.run_to_the_end("--install-completion", "--shell", "bash", "-o", output)
    assert (ending.status, ending.out) == (0, f"{output}\n")
    assert not (home / ".local").exists()


def test_the_shell_is_found_out(shell: Shell, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the environment, where no option says it."""
    monkeypatch.setenv("FISH_VERSION", "4.0")
    assert shell.run_to_the_end("--install-completion").out == f"{home / SCRIPTS['fish']}\n"


def test_a_shell_that_cannot_be_told_is_wrong_usage(shell: Shell, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said in a line; cyclopts' own command would end with the status that here means a failed job."""
    monkeypatch.setattr(subprocess, "run", _no_ps)
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    before = files_below(home)
    ending = shell.run_to_the_end("--install-completion")
    assert (ending.status, ending.out) == (2, "")
    assert ending.err == "playai-async: the shell cannot be detected; name it with --shell\n"
    assert files_below(home) == before


def _no_ps(*_: object, **__: object) -> None:
    raise FileNotFoundError("ps")


def test_a_script_that_cannot_be_written_is_an_error(shell: Shell, home: Path) -> None:
    """In a line that names the file."""
    ending = shell.run_to_the_end("--install-completion", "--shell", "bash", "--output", home / ".bashrc" / "x")
    assert (ending.status, ending.out) == (3, "")
    (line,) = ending.err.splitlines()
    assert ".bashrc" in line
