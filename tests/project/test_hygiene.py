"""What a commit must not contain, as `scripts/hygiene` finds it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "hygiene"


def hygiene(directory: Path, *arguments: str) -> tuple[int, str]:
    """Run the script in a directory; return its exit code and what it complains of."""
    run = [str(SCRIPT), *arguments]
    done = subprocess.run(run, cwd=directory, capture_output=True, text=True, check=False)  # noqa: S603 - our script
    assert done.stdout == ""
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("a.py", "<" * 7 + " HEAD\n", id="conflict marker"),
        pytest.param("a.md", "See https://py" + "pi.org/simple\n", id="registry host"),
        pytest.param("poetry.lock", "[metadata]\n", id="lock file"),
        pytest.param("package-lock.json", "{}\n", id="lock file of npm"),
    ],
)
def test_a_file_that_must_not_be_committed_is_named(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    status, complaints = hygiene(tmp_path)
    assert status == 1
    assert complaints.startswith(name)


def test_other_files_are_accepted(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("Title\n=====\n\nhttps://api.play.ai and lock = Lock()\n", encoding="utf-8")
    assert hygiene(tmp_path) == (0, "")


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        pytest.param("", "capital", id="empty"),
        pytest.param("fix it", "capital", id="small letter"),
        pytest.param("Fix it.", "full stop", id="full stop"),
        pytest.param("F" * 73, "72 characters", id="too long"),
        pytest.param("Fix it\nBecause.", "blank line", id="no blank line"),
    ],
)
def test_a_message_in_another_form_is_refused(tmp_path: Path, message: str, complaint: str) -> None:
    (tmp_path / "message").write_text(message, encoding="utf-8")
    status, complaints = hygiene(tmp_path, "--message", "message")
    assert status == 1
    assert complaint in complaints


@pytest.mark.parametrize(
    "message",
    [
        "Fix it\n\nIt was wrong.\n# Please enter the commit message\n",
        "Fix it\n# ------------------------ >8 ------------------------\ndiff\n",
        'Revert "fix it."\n',
    ],
    ids=["summary and body", "verbose", "revert"],
)
def test_a_message_in_the_usual_form_is_accepted(tmp_path: Path, message: str) -> None:
    (tmp_path / "message").write_text(message, encoding="utf-8")
    assert hygiene(tmp_path, "--message", "message") == (0, "")
