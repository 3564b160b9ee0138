"""What is released, as far as it can be seen without building it; `make package` builds and installs it."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from datetime import date
from pathlib import Path
from typing import Any

from packaging.version import Version

import playai_async

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "playai_async"
DATA = {"py.typed", "contrib/_quota.lua", "emulator/openapi.json"}


def project_file() -> dict[str, Any]:
    """The project file, read."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def headings() -> list[str]:
    """The headings of the changelog that are for versions, newest first."""
    return re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)


def test_the_version_is_said_once() -> None:
    """The project file takes it from the module, and so does what is installed."""
    assert "version" not in project_file()["project"]
    assert project_file()["tool"]["hatch"]["version"]["path"] == "playai_async/_version.py"
    assert importlib.metadata.version("playai-async") == playai_async.__version__


def test_the_sdist_has_the_pages_of_the_root() -> None:
    """README.md too: a readme that is put together at the build is not included by itself."""
    included = project_file()["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    assert [page.name for page in ROOT.glob("*.md") if f"/{page.name}" not in included] == []


def test_the_documentation_says_the_version_of_the_package() -> None:
    """Sphinx is told no other."""
    configuration = (ROOT / "docs" / "conf.py").read_text(encoding="utf-8")
    assert re.findall(r"^(?:version|release)\b.*$", configuration, re.MULTILINE) == [
        "version = release = playai_async.__version__"
    ]


def test_the_version_is_in_the_form_that_names_of_files_have() -> None:
    """A tag is compared with the name of the sdist, which is built in that form."""
    assert str(Version(playai_async.__version__)) == playai_async.__version__


def test_the_changelog_begins_with_what_is_not_released_yet() -> None:
    """Then comes the version that the package has, and older ones after it."""
    assert headings()[0] == "[Unreleased]"
    versions = [re.fullmatch(r"\[(.+)\] - (\d{4}-\d\d-\d\d)", heading) for heading in headings()[1:]]
    released = [(Version(found[1]), date.fromisoformat(found[2])) for found in versions if found]
    assert len(released) == len(versions) > 0
    assert released[0][0] == Version(playai_async.__version__)
    assert released == sorted(released, reverse=True)


def test_what_is_no_module_is_known() -> None:
    """`make package` looks for these in the wheel; one more is for it to know, too."""
    found = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*") if path.is_file()}
    assert {name for name in found if not name.endswith((".py", ".pyc"))} == DATA
    names = re.search(
        r"^DATA = .* for name in \((.*)\)\}$", (ROOT / "scripts/package").read_text("utf-8"), re.MULTILINE
    )
    assert names is not None
    assert set(re.findall(r'"(.+?)"', names[1])) == DATA


def test_what_the_sdist_is_told_to_have_is_there() -> None:
    """A name that leads nowhere leaves out, silently, what it once named."""
    included = project_file()["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    assert [name for name in included if not (ROOT / name.lstrip("/")).exists()] == []


def long_description() -> str:
    """Return the text that an index shows, put together as the build does it."""
    settings = project_file()["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    parts = [part.get("text") or (ROOT / part["path"]).read_text(encoding="utf-8") for part in settings["fragments"]]
    text = "".join(parts)
    for rule in settings["substitutions"]:
        text = re.sub(rule["pattern"], rule["replacement"], text)
    return text


def test_the_long_description_has_no_relative_links() -> None:
    """An index would show them as dead links. Code stays as it is."""
    prose = re.sub(r"(?ms)^```.*?^```$", "", long_description())
    assert re.findall(r"\]\((?!https?:).*?\)", prose) == []
    assert "<!--" not in prose
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(block in long_description() for block in re.findall(r"(?ms)^```.*?^```$", readme))


def test_the_long_description_explains_each_extra() -> None:
    extras = project_file()["project"]["optional-dependencies"]
    _, _, table = long_description().partition("| Extra | What it adds |")
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == sorted(extras)


def test_a_release_candidate_is_no_stable_version() -> None:
    """What indexes show is as sure of itself as the version is."""
    (status,) = re.findall(r"Development Status :: (\d)", str(project_file()["project"]["classifiers"]))
    assert (status == "5") == (not Version(playai_async.__version__).is_prerelease)
