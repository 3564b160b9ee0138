"""The folders beside the package: which of them may import which."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

MAY_IMPORT = {
    "tests": {"tests", "tools", "examples"},
    "bench": {"bench", "tools"},
    "tools": {"tools"},
    "examples": set[str](),
}
"""All of them may import the package. Parts of an example import each other by relative imports."""


def imported(path: Path) -> set[str]:
    """List the top-level names that a file imports, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(str(node.module).partition(".")[0])
    return found


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_a_folder_imports_only_what_it_may(folder: str) -> None:
    """Tests and benchmarks do not import each other, and an example imports nothing else of this repository."""
    forbidden = MAY_IMPORT.keys() - MAY_IMPORT[folder]
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    assert {str(path.relative_to(ROOT)): names for path in files if (names := imported(path) & forbidden)} == {}


def test_a_part_of_an_example_stays_within_its_folder() -> None:
    """A relative import leads to a neighbour, not to another example."""
    for path in (ROOT / "examples").rglob("*.py"):
        levels = [
            node.level for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.ImportFrom)
        ]
        assert max(levels, default=0) <= (1 if path.parent.name != "examples" else 0), path
