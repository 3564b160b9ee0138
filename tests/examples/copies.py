"""Examples that are copied out of this repository: a folder, or a single file, beside an installed package."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Self

import attrs

import playai_async

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"

SITE_CUSTOMIZE = f"""\
import sys
sys.path[:] = [entry for entry in sys.path if entry != {str(ROOT)!r}]
"""
"""An editable installation puts the whole repository on the path of each process; this takes it off again."""


@attrs.frozen
class Site:
    """A directory outside the repository, and an environment in which only the package is installed."""

    directory: Path
    environment: dict[str, str]

    @classmethod
    def below(cls, path: Path) -> Self:
        """Make one in an empty directory."""
        packages, directory = path / "site", path / "copy"
        packages.mkdir()
        directory.mkdir()
        (packages / "playai_async").symlink_to(Path(playai_async.__file__).parent)
        (packages / "sitecustomize.py").write_text(SITE_CUSTOMIZE, "utf-8")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PLAYAI_", "PYTHON"))}
        return cls(directory, {**kept, "PYTHONPATH": str(packages), "PYTHONUNBUFFERED": "1"})

    def copy(self, name: str) -> None:
        """Copy an example into the directory."""
        source = EXAMPLES / name
        if source.is_dir():
            shutil.copytree(source, self.directory / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, self.directory)
