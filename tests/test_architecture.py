"""The shape of the package: modules point one way, and each third-party library has its home."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import playai_async

ROOT = Path(playai_async.__file__).parent
PACKAGE = "playai_async"
CLIENT = (
    *(
        "_version",
        "_exceptions",
        "_models",
        "_shared",
        "_settings",
        "_converter",
        "_credentials",
        "_protocol",
        "_backoff",
    ),
    *("_windows", "_quota", "_permits", "_pacing", "_timetable", "_watch", "_turns", "_loop", "_slots"),
    *("_telemetry", "_opentelemetry", "_pauses", "_exchange", "_dispatch"),
    *("_poller", "_iterate", "_create", "_files", "_urls", "_failures", "_transport", "_download", "_service"),
    *("_visitors", "_speech", "_client", "_waits", "_session", "__init__"),
)
"""A module may import from those before it."""

LAST = ("emulator", "contrib", "testing", "_cli", "__main__")
"""The emulator stands by itself; the others stand on everything above them."""

HOMES: dict[str, set[str]] = {
    "attrs": {
        *("_models", "_shared", "_settings", "_converter", "_credentials", "_protocol", "_watch", "_poller"),
        *("_create", "_files", "_download", "_opentelemetry", "_client", "_cli", "contrib", "emulator"),
    },
    "cattrs": {"_converter"},
    "tenacity": {"_settings", "_backoff", "_poller", "_download"},
    "aiohttp": {"_failures", "_transport", "_download", "_client", "_session", "emulator"},
    "multidict": {"_failures", "_transport"},
    "yarl": {"_urls", "_transport", "_download", "_service", "_opentelemetry", "_client", "_session"},
    "opentelemetry": {"_opentelemetry"},
    "cyclopts": {"_cli"},
    "limits": {"contrib"},
    "procrastinate": {"contrib"},
    "pytest": {"testing"},
    "pytest_asyncio": {"testing"},
    "redis": {"contrib"},
    "rich": {"_cli"},
}
"""Which modules may import which third-party library."""

LATE = {("__main__", "_cli"), ("_client", "_opentelemetry")}
"""Imports inside a function: of what needs an extra, which may not be installed."""

TYPES_ONLY = {("_exceptions", "_models"), ("_models", "typing_extensions")}
"""Imports for annotations alone, of what no module above may need at run time."""

FILES = sorted(ROOT.rglob("*.py"))
LONGEST = 350
"""Lines: what can be read in a sitting."""


def place_of(path: Path) -> str:
    """Name the module, or the subpackage, that a file belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def for_types(tree: ast.Module) -> set[ast.AST]:
    """Find what stands below `if TYPE_CHECKING:`."""
    guards = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    return {inner for guard in guards for statement in guard.body for inner in ast.walk(statement)}


def names_in(node: ast.Import | ast.ImportFrom) -> list[str]:
    """List the full names of the modules that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    assert node.level == 0, "imports are absolute"
    if node.module != PACKAGE:
        return [str(node.module)]
    # `from playai_async import X` may name a module, or something that `__init__` offers.
    return [f"{PACKAGE}.{alias.name}" if alias.name in {*CLIENT, *LAST} else PACKAGE for alias in node.names]


def imports(path: Path) -> list[tuple[str, bool]]:
    """List the modules that a file imports, by full name, and whether for types alone."""
    tree = ast.parse(path.read_text("utf-8"))
    types = for_types(tree)
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    return [(name, node in types) for node in nodes for name in names_in(node)]


def own(name: str) -> str | None:
    """Name the module, or the subpackage, that an import of our own leads to."""
    head, _, rest = name.partition(".")
    return None if head != PACKAGE else rest.partition(".")[0] or "__init__"


def file_name(path: Path) -> str:
    """Name a case by its file."""
    return path.relative_to(ROOT).as_posix()


each_file = pytest.mark.parametrize("path", FILES, ids=file_name)


def test_every_module_has_a_place() -> None:
    """A module that is added takes a stand on what it may import."""
    assert {place_of(path) for path in FILES} == {*CLIENT, *LAST}


@each_file
def test_imports_point_one_way(path: Path) -> None:
    """Up the table alone, so that there are no cycles; the emulator stands by itself, the last ones on all."""
    place = place_of(path)
    above = set() if place == "emulator" else {*(CLIENT + LAST)[: (CLIENT + LAST).index(place)]}
    if place in LAST:
        above.add(place)  # a package, within which names are its own affair
    found = {own(name) for name, types in imports(path) if not types} - {None}
    assert found <= above


@each_file
def test_imports_for_types_alone_are_the_known_few(path: Path) -> None:
    """Elsewhere a checker's import would hide a cycle."""
    only = {name for name, types in imports(path) if types}
    found = {(place_of(path), own(name) or name.partition(".")[0]) for name in only if "collections" not in name}
    assert found <= TYPES_ONLY


@each_file
def test_third_party_libraries_stay_at_home(path: Path) -> None:
    """Each can be replaced in one place, and what is optional stays optional."""
    third_party = {name.partition(".")[0] for name, types in imports(path) if not types and own(name) is None}
    strangers = third_party - sys.stdlib_module_names
    assert {name for name in strangers if place_of(path) not in HOMES.get(name, set())} == set()


@each_file
def test_imports_stand_at_the_top(path: Path) -> None:
    """One inside a function is a cycle that was dodged."""
    tree = ast.parse(path.read_text("utf-8"))
    top = {*tree.body, *for_types(tree)}
    top |= {inner for node in tree.body if isinstance(node, ast.If) for inner in node.orelse}  # not for types
    top |= {inner for node in tree.body if isinstance(node, ast.Try) for inner in node.body}  # what may not be there
    late = {
        (place_of(path), own(name))
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom) and node not in top
        for name in names_in(node)
    }
    assert late <= LATE


@each_file
def test_a_module_can_be_read_in_a_sitting(path: Path) -> None:
    """Longer ones are two."""
    assert len(path.read_text("utf-8").splitlines()) <= LONGEST
