"""`make demo` installs what it needs once, with a `.venv/bin/python` that only says what it is called with."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

NO_MAKE = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
"""Else `make test` would be the parent of this `make`, which then says which directory it enters."""

PYTHON = """#!/bin/sh
case "$1" in
    -P) exit {status} ;;  # is the package installed?
    -m) echo "$@" ;;
esac
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A directory in which `make demo` finds all of its files."""
    for name in ("Makefile", "pyproject.toml", "playai_async/_version.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    program(tmp_path / ".venv/bin/playai-async", "#!/bin/sh\necho demo runs\n")
    return tmp_path


def program(path: Path, text: str) -> None:
    """Write a program."""
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


def demo(clone: Path, *, installed: bool) -> list[str]:
    """What `make demo` prints."""
    program(clone / ".venv/bin/python", PYTHON.format(status=0 if installed else 1))
    ended = subprocess.run(  # noqa: S603 - our own command
        [str(shutil.which("make")), "demo"], cwd=clone, env=NO_MAKE, capture_output=True, text=True, check=True
    )
    return ended.stdout.splitlines()


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_demo_installs_once(clone: Path) -> None:
    notice, pip, *rest = demo(clone, installed=False)
    assert notice.startswith("Installing playai-async")
    assert pip.endswith("install --editable .[cli]")
    assert rest == ["demo runs"]
    assert demo(clone, installed=True) == ["demo runs"]


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_a_clone_that_was_installed_by_hand_is_not_installed_again(clone: Path) -> None:
    assert demo(clone, installed=True) == ["demo runs"]
