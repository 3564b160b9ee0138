"""The shape of the package: wings import downwards, and each third-party library has one home."""

from __future__ import annotations

import ast
import functools
import itertools
import sys
import tokenize
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import playai_async

ROOT = Path(playai_async.__file__).parent
PACKAGE = "playai_async"

GROUND = (
    *("_version", "_exceptions", "_outputs", "_parameters", "_converter", "_models"),
    *("_settings", "_shared_quota", "_retry_after"),
)
LEVELS: tuple[tuple[str, ...], ...] = (
    GROUND,
    ("_telemetry",),
    ("_api", "jobs._pacing"),
    ("jobs._scheduling",),
    ("jobs._polling",),
    ("jobs",),
    ("_audio",),
    ("_runtime",),
    ("_session",),
    ("__init__",),
    ("contrib", "testing", "_cli", "__main__"),
)
"""A wing may import from the levels below its own. The emulator imports nothing of the client."""

ALSO = {("_cli", "emulator"), ("testing", "emulator"), ("__main__", "_cli")}
"""Imports beside those of the levels."""

NOT_FOR_JOBS = {"_api", "_audio", "_converter", "_models", "_outputs", "_parameters"}
"""What the engine must not know, since it waits for the jobs of any service."""

HOMES: dict[str, set[str]] = {
    "aiohttp": {"_api", "_audio", "_cli", "_session", "_runtime", "emulator"},
    "cattrs": {"_converter"},
    "cyclopts": {"_cli"},
    "multidict": {"_api", "_cli"},
    "opentelemetry": {"_telemetry"},
    "procrastinate": {"contrib"},
    "pytest": {"testing"},
    "pytest_asyncio": {"testing"},
    "redis": {"contrib"},
    "rich": {"_cli"},
    "tenacity": {"_settings", "jobs._polling", "_audio"},
    "yarl": {"_api", "_audio", "_cli", "_runtime", "_session", "_telemetry"},
}
"""The wings that may import a third-party library; attrs may be imported everywhere."""

LATE = {"_cli", "_telemetry", "opentelemetry"}
"""What may be imported inside a function: modules that need an extra, which may not be installed."""

MAX_LINES, MAX_FUNCTION, MAX_MODULES = 350, 50, 8
"""Lines of code and comments in a module and in a function, and modules in a wing."""

FILES = sorted(ROOT.rglob("*.py"))
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())


def dotted(path: Path) -> str:
    """Name a module below the package."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def wing_of(module: str) -> str:
    """Name the wing that a module belongs to."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "jobs" and parts[1:] and f"jobs.{parts[1]}" in below else parts[0]


below = {wing: set(itertools.chain(*LEVELS[:level])) for level, wings in enumerate(LEVELS) for wing in wings}
below["emulator"] = set()


@functools.cache
def parsed(path: Path) -> ast.Module:
    """Parse a file."""
    return ast.parse(path.read_text("utf-8"))


@functools.cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """List the nodes of a file."""
    return tuple(ast.walk(parsed(path)))


@functools.cache
def imports(path: Path) -> frozenset[str]:
    """List the modules that a file imports when it runs, by full name."""
    tree = parsed(path)
    guards = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    skipped = {inner for guard in guards for statement in guard.body for inner in ast.walk(statement)}
    found: set[str] = set()
    for node in nodes(path):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if is_module(name) else str(node.module) for name in names}
    return frozenset(found)


@functools.cache
def is_module(name: str) -> bool:
    """Tell a module of the package from a name in one."""
    place = ROOT.parent.joinpath(*name.split("."))
    return name.startswith(PACKAGE) and (place.is_dir() or place.with_suffix(".py").is_file())


def own_imports(path: Path) -> set[str]:
    """List the package's own modules that a file imports, below the package."""
    found = {name for name in imports(path) if name.partition(".")[0] == PACKAGE}
    return {name.removeprefix(PACKAGE).removeprefix(".") or "__init__" for name in found}


@each_file
def test_wings_import_downwards(path: Path) -> None:
    """A wing imports the wings below it, and nothing else."""
    wing = wing_of(dotted(path))
    assert wing in below, "every module belongs to a wing"
    imported = {wing_of(name) for name in own_imports(path)} - {wing}
    if wing not in GROUND:
        imported -= {also for user, also in ALSO if user == wing}
    assert imported <= below[wing] | set(GROUND if wing in GROUND else ())
    if wing.startswith("jobs"):
        assert imported & NOT_FOR_JOBS == set()


def test_no_import_runs_in_a_circle() -> None:
    """Within a wing, too, modules have an order."""
    graph = {dotted(path): own_imports(path) - {dotted(path)} for path in FILES}
    assert list(TopologicalSorter(graph).static_order())


@each_file
def test_third_party_libraries_stay_at_home(path: Path) -> None:
    """Each can be replaced in one place, and an optional one stays optional."""
    found = {name.partition(".")[0] for name in imports(path)} - sys.stdlib_module_names - {PACKAGE, "attrs"}
    assert {name for name in found if wing_of(dotted(path)) not in HOMES.get(name, set())} == set()


@each_file
def test_imports_stand_at_the_top(path: Path) -> None:
    """An import inside a function hides a cycle."""
    late = [
        node
        for function in nodes(path)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    named = {part for node in late for part in ast.unparse(node).replace(".", " ").split()}
    assert not late or named & LATE


@each_file
def test_modules_and_functions_are_short(path: Path) -> None:
    """A module can be read in a sitting, and a function on a screen."""
    assert len(lines_of_code(path, parsed(path))) <= MAX_LINES
    for node in nodes(path):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert len(lines_of_code(path, node)) <= MAX_FUNCTION, node.name


def lines_of_code(path: Path, node: ast.Module | ast.FunctionDef | ast.AsyncFunctionDef) -> set[int]:
    """Number the lines with code or a comment; docstrings and blank lines do not count."""
    first, last = (1, sys.maxsize) if isinstance(node, ast.Module) else (node.lineno, node.end_lineno or 0)
    return {line for line in lines_that_count(path) if first <= line <= last}


@functools.cache
def lines_that_count(path: Path) -> frozenset[int]:
    """Number the lines of a file that are neither blank nor part of a docstring."""
    strings = {
        line
        for inner in nodes(path)
        if isinstance(inner, ast.Expr) and isinstance(inner.value, ast.Constant) and isinstance(inner.value.value, str)
        for line in range(inner.lineno, (inner.end_lineno or 0) + 1)
    }
    blank = {tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER, tokenize.ENCODING}
    with path.open("rb") as file:
        tokens = [token for token in tokenize.tokenize(file.readline) if token.type not in blank]
    return frozenset(line for token in tokens for line in range(token.start[0], token.end[0] + 1)) - strings


def test_wings_are_small() -> None:
    """A stranger reads the list of a folder at a glance."""
    sizes = {
        folder.relative_to(ROOT).as_posix(): len([path for path in folder.glob("*.py") if path.name != "__init__.py"])
        for folder in ROOT.rglob("*")
        if (folder / "__init__.py").is_file()
    }
    assert {folder: size for folder, size in sizes.items() if size > MAX_MODULES} == {}
