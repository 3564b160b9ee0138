"""The pages hold together: links lead somewhere, `make` targets exist, and a wrong example is found out."""

from __future__ import annotations

import ast
import builtins
import functools
import re
from collections import Counter
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("tests/*.md")])
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
CHECK = re.compile(r"^ *<!-- invisible-code-block: python\n.*?^ *-->$", re.MULTILINE | re.DOTALL)


@functools.cache
def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return FENCED.sub("", CHECK.sub("", page.read_text(encoding="utf-8")))


@functools.cache
def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MyST make them, and its labels."""
    found: Counter[str] = Counter()
    names: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        names.add(f"{name}-{found[name]}" if found[name] else name)  # the second of a name is numbered
        found[name] += 1
    return names | set(re.findall(r"^\(([\w-]+)\)=$", prose(page), re.MULTILINE))


def links(page: Path) -> list[str]:
    """What a page leads to within the repository: links, pictures, definitions, and what it includes."""
    text = prose(page)
    # Code in a line shows how a link is written, and is none; a link's own words may be code.
    shown = re.sub(r"(?<!\[)`[^`\n]+`", "", text)
    inline = re.findall(r"\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)", shown)
    defined = re.findall(r"^\[[^\]]+\]: +<?(\S+?)>?(?: |$)", shown, re.MULTILINE)
    raw = re.findall(r"(?:href|src)=\"([^\"]+)\"", shown)
    included = re.findall(r"^`{3,}\{(?:literal)?include\} (\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return [link for link in [*inline, *defined, *raw, *included] if not re.match(r"[a-z]+:", link)]


def broken(page: Path) -> list[str]:
    """The links of a page that lead nowhere."""
    found = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.is_file() or (anchor and anchor not in anchors(target)):
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    """A link within the repository names a file that is there, and a heading of it."""
    assert broken(page) == []


@pytest.mark.parametrize(
    "link",
    [
        pytest.param("[a](gone.md)", id="a file that is not there"),
        pytest.param("[`a`](other.md#gone)", id="a heading that is not there"),
        pytest.param("[a](#gone)", id="a heading of the page itself"),
        pytest.param("[](other.md#twice-2)", id="a third of two headings"),
        pytest.param("![a](gone.png)", id="a picture"),
        pytest.param("[a][b]\n\n[b]: gone.md", id="a definition"),
        pytest.param('<a href="gone.md">a</a>', id="a link in HTML"),
        pytest.param("```{include} ../gone.md\n```", id="what is included"),
        pytest.param("`a` and `b` [c](gone.md) `d`", id="a link among code"),
    ],
)
def test_a_link_that_leads_nowhere_is_found(tmp_path: Path, link: str) -> None:
    """However it is written; so that the test above says something."""
    (tmp_path / "other.md").write_text("# Other\n\n## Twice\n\n## Twice\n", encoding="utf-8")
    (tmp_path / "page.md").write_text(f"# Page\n\n{link}\n", encoding="utf-8")
    assert len(broken(tmp_path / "page.md")) == 1


def test_links_that_lead_somewhere_are_fine(tmp_path: Path) -> None:
    """And those of the web are left to who reads them: tests ask no network."""
    text = "# A `page` of [mine](other.md)\n\n## Twice\n\n## Twice\n\n(label)=\n## Said\n"
    (tmp_path / "other.md").write_text(text, encoding="utf-8")
    good = [
        "other.md",
        "other.md#a-page-of-mine",
        "other.md#twice-1",
        "other.md#label",
        "#page",
        "https://example.org/x",
    ]
    lines = [f"[`a`]({link})" for link in good] + ["`[a](gone.md)`", "```text\n[a](gone.md)\n```"]
    (tmp_path / "page.md").write_text("\n\n".join(["# Page", *lines]), encoding="utf-8")
    assert broken(tmp_path / "page.md") == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_includes_are_whole(page: Path) -> None:
    """What is included has links that lead somewhere from where it stands; the tests above look at the files."""
    included = re.findall(r"^```\{include\} (\S+)\n((?::.*\n)*)", page.read_text(encoding="utf-8"), re.MULTILINE)
    for name, options in included:
        relative = [link for link in links(page.parent / name) if not link.startswith("#")]
        assert not relative or ":relative-docs: docs/" in options, relative


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_readers_on_github_see_no_checks(page: Path) -> None:
    """GitHub hides HTML comments, but shows MyST's own comments, which begin with %."""
    assert re.findall(r"^ *%.*|.*invisible-code.*", re.sub(r"`[^`\n]+`", "", prose(page)), re.MULTILINE) == []


EXPLAINED = {"job_id", "job_ids", "emulator", "pool", "client", "Task"}
"""Names that the pages explain in words."""


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/*.md")), ids=lambda page: page.name)
def test_a_reader_can_paste_the_examples_of_a_page(page: Path) -> None:
    """Each name that an example uses is imported or defined on the page, outside of the hidden checks."""
    text = CHECK.sub("", page.read_text(encoding="utf-8"))
    examples = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    nodes = [node for example in examples for node in ast.walk(ast.parse(example))]
    defined = set(dir(builtins)) | EXPLAINED
    for node in nodes:
        match node:
            case ast.alias(name=name, asname=other):
                defined.add(other or name.partition(".")[0])
            case ast.FunctionDef(name=str(name)) | ast.AsyncFunctionDef(name=str(name)) | ast.ClassDef(name=str(name)):
                defined.add(name)
            case ast.ExceptHandler(name=str(name)) | ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()):
                defined.add(name)
            case _:
                pass
    assert {node.id for node in nodes if isinstance(node, ast.Name)} - defined == set()


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


def test_contributing_names_every_wing() -> None:
    """A developer finds the place for a change in one table."""
    wings = {path.name for path in (ROOT / "playai_async").iterdir() if not path.name.startswith("__")}
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    missing = {
        name for name in wings - {"_version.py", "py.typed"} if f"`{name}`" not in page and f"`{name}/`" not in page
    }
    assert missing == set()


@pytest.mark.parametrize(("page", "lines"), [("README.md", 120), ("CONTRIBUTING.md", 150)])
def test_what_is_read_first_stays_short(page: str, lines: int) -> None:
    """It is read in one go."""
    assert len((ROOT / page).read_text(encoding="utf-8").splitlines()) <= lines


def test_the_documentation_stays_short() -> None:
    """Fifteen pages and the first one, 16,000 words without code."""
    pages = sorted(ROOT.glob("docs/*.md"))
    assert len(pages) <= 16
    assert sum(len(prose(page).replace("|", " ").split()) for page in pages) <= 16_000


@pytest.mark.parametrize(
    "example",
    [
        pytest.param("assert False", id="a false claim"),
        pytest.param("pass\n```\n<!-- invisible-code-block: python\nassert False\n-->\n```python", id="a false check"),
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
    pytester.mkdir("docs").joinpath("page.md").write_text(f"```python\n{example}\n```\n", encoding="utf-8")
    return pytester.runpytest_inprocess("-p", "no:randomly", "docs/page.md").parseoutcomes()
