"""`playai-async --install-completion`: shell completion of commands and options."""

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
"""Where each shell looks for completion scripts."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory with only start-up files."""
    for name in (".bashrc", ".zshrc", ".profile"):
        (tmp_path / name).write_text("# mine\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("ZSH", "ZSH_CUSTOM", "ZSH_VERSION", "BASH_VERSION", "FISH_VERSION"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def files_below(home: Path) -> set[str]:
    """List all files below a directory, by relative path."""
    return {path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", SCRIPTS)
def test_it_writes_a_script_and_changes_no_other_file(shell: Shell, home: Path, no_settings: None, name: str) -> None:
    """It prints the path, needs no settings, and leaves start-up files alone."""
    before = files_below(home)
    result = shell.run_main("--install-completion", "--shell", name)
    (script,) = files_below(home) - before
    assert script in {
        SCRIPTS[name],
        SCRIPTS[name].replace("_cyclopts_", "_"),
    }  # the name depends on the version of cyclopts
    assert (result.status, result.out) == (0, f"{home / script}\n")
    assert all((home / path).read_text() == "# mine\n" for path in before)
    assert ("fpath=" in result.err) == (name == "zsh")
    assert all(word in (home / script).read_text() for word in ("create", "wait", "download", "output-format"))


@pytest.mark.skipif(BASH is None, reason="needs bash")
def test_bash_completes_commands_options_and_paths(shell: Shell, home: Path) -> None:
    """The script works in a real bash."""
    shell.run_main("--install-completion", "--shell", "bash")
    (home / "story.txt").write_text("")
    (home / "audio").mkdir()
    asked = """
. "$1"
for words in "playai-async cr" "playai-async create --vo" "playai-async wait --down" \\
    "playai-async create --file sto" "playai-async create --model Play3" "playai-async create --output-format mu" \\
    "playai-async create --download aud" "playai-async wait --download aud"; do
    COMP_WORDS=($words) COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMPREPLY=()
    _playai_async
    echo "${COMPREPLY[@]}"
done
"""
    answer = subprocess.run(  # noqa: S603 - fixed arguments
        [str(BASH), "-c", asked, "bash", str(home / SCRIPTS["bash"])],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
        cwd=home,
    )
    completed = ["create", "--voice", "--download", "story.txt", "Play3.0-mini", "mulaw", "audio", "audio"]
    assert (answer.stdout.split(), answer.stderr) == (completed, "")


@pytest.mark.skipif(BASH is None, reason="needs bash")
def test_the_line_for_bashrc_works(shell: Shell, home: Path, tmp_path: Path) -> None:
    """The printed line can be pasted, also with a space in the path."""
    output = tmp_path / "my own" / "playai-async.bash"
    result = shell.run_main("--install-completion", "--shell", "bash", "--output", output)
    assert "bash-completion" in result.err
    (line,) = [line for line in result.err.splitlines() if line.startswith("source ")]
    answer = subprocess.run(  # noqa: S603 - fixed arguments
        [str(BASH), "-c", f"{line}; complete -p playai-async"], capture_output=True, text=True, check=True, timeout=30
    )
    assert "_playai_async" in answer.stdout


def test_output_sets_the_path_of_the_script(shell: Shell, home: Path, tmp_path: Path) -> None:
    """For example to put the script into a package."""
    output = tmp_path / "new" / "playai-async.bash"
    result = shell.run_main("--install-completion", "--shell", "bash", "-o", output)
    assert (result.status, result.out) == (0, f"{output}\n")
    assert not (home / ".local").exists()


def test_the_current_shell_is_the_default(shell: Shell, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is detected from the environment."""
    monkeypatch.setenv("FISH_VERSION", "4.0")
    assert shell.run_main("--install-completion").out == f"{home / SCRIPTS['fish']}\n"


def test_an_unknown_shell_is_a_usage_error(shell: Shell, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, exit code 2. The command of cyclopts would exit with 1, which means a failed job."""
    monkeypatch.setattr(subprocess, "run", _no_ps)
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    before = files_below(home)
    result = shell.run_main("--install-completion")
    assert (result.status, result.out) == (2, "")
    assert result.err == "playai-async: the shell cannot be detected; name it with --shell\n"
    assert files_below(home) == before


def _no_ps(*_: object, **__: object) -> None:
    raise FileNotFoundError("ps")


def test_a_script_that_cannot_be_written_is_an_error(shell: Shell, home: Path) -> None:
    """One line that names the file."""
    result = shell.run_main("--install-completion", "--shell", "bash", "--output", home / ".bashrc" / "x")
    assert (result.status, result.out) == (3, "")
    (line,) = result.err.splitlines()
    assert ".bashrc" in line
