"""The pages hold together: links lead somewhere, `make` targets exist, and a wrong example is found out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return FENCED.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MyST make them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    """A link within the repository names a file that is there, and a heading of it."""
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", prose(page)):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_make_targets_that_are_named_exist(page: Path) -> None:
    """Who types what a page says is not told that there is no rule for it."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"(?:`|\$ )make ([a-z]+)", page.read_text(encoding="utf-8")))
    assert named <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_tests_that_are_named_exist(page: Path) -> None:
    """A promise that is said to be held by a test is."""
    named = set(re.findall(r"`(tests/[\w/]+\.py)`", page.read_text(encoding="utf-8")))
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


def test_contributing_names_every_target() -> None:
    """The table of targets is whole."""
    targets = re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert [target for target in targets if f"`make {target}`" not in page] == []


def test_contributing_names_every_module() -> None:
    """Who adds a module says where it stands."""
    modules = [path.name for path in (ROOT / "playai_async").glob("*.py")]
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert [name for name in modules if f"`{name}`" not in page] == []


def test_the_readme_stays_short() -> None:
    """It is read in one go."""
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 150


@pytest.mark.parametrize(
    "example",
    [
        pytest.param("assert False", id="a false claim"),
        pytest.param("import asyncio\nawait asyncio.sleep(0)\nassert False", id="a false claim after an await"),
        pytest.param("from playai_async import Nothing", id="a name that is not there"),
        pytest.param("await (", id="a slip of the pen"),
        pytest.param("import asyncio\nasyncio.create_task(asyncio.sleep(1e6), name='left')", id="a task left running"),
    ],
)
def test_a_wrong_example_fails(pytester: pytest.Pytester, example: str) -> None:
    """The examples are really run: one that is wrong, or leaves a task behind, is no success."""
    outcomes = outcomes_of(pytester, example)
    assert outcomes.get("failed", 0) + outcomes.get("errors", 0) >= 1


def test_a_right_example_passes(pytester: pytest.Pytester) -> None:
    """So that the test above is about what is wrong with its examples."""
    assert outcomes_of(pytester, "import asyncio\nawait asyncio.sleep(1000)") == {"passed": 1}


def outcomes_of(pytester: pytest.Pytester, example: str) -> dict[str, int]:
    """Run a page with one example as the test suite does."""
    for name in ("conftest.py", "pyproject.toml"):
        pytester.path.joinpath(name).write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    pytester.makefile(".md", README=f"```python\n{example}\n```\n")
    return pytester.runpytest_inprocess("README.md").parseoutcomes()
