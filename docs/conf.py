"""How Sphinx builds these pages; nothing here fetches anything."""
# ruff: noqa: INP001 - Sphinx reads this file by its path

import html
import linecache
import re
import shutil
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ConfigError

import playai_async
from playai_async import _settings, emulator
from playai_async.contrib import procrastinate

project = "playai-async"
author = "The playai-async authors"
project_copyright = author
version = release = playai_async.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.graphviz", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build"]
html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = f"playai-async {release}"
html_show_sourcelink = False
html_copy_source = False
myst_heading_anchors = 3
copybutton_prompt_text = "$ "  # of a console, the commands are copied, without the prompt and the output

# Diagrams stand in the pages as text; their pictures have no background and a grey that a dark page shows as well.
graphviz_output_format = "svg"
html_static_path = ["_static"]
html_css_files = ["pages.css"]

# Docstrings are read in an editor first: one backtick is enough for code.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

# No inventory is fetched, so the names of others have nothing to point to.
nitpick_ignore_regex = [
    (
        "py:.*",
        r"(aiohttp|asyncio|collections|datetime|os|pathlib|procrastinate|psycopg_pool|tenacity|types|typing|uuid|yarl)\..*",
    ),
    ("py:class", r"UUID|datetime|(.*\.)?((Job)?HandlerT|OutputT_co)|WaitStrategy|(.*\.)?(SharedQuota|QuotaLink|Terms)"),
    ("py:class", r"(.*\.)?(_IdT|_JobT)"),
]

# What a user imports is documented under the name it is imported by, not that of the private module it lives in.
for package in (playai_async, emulator, procrastinate):
    for name in package.__all__:
        if isinstance(vars(package)[name], type):
            vars(package)[name].__module__ = package.__name__

# Without the source of the constructors that attrs wrote, defaults are shown by their values, as is right for these.
for filename in [filename for filename in linecache.cache if filename.startswith("<attrs generated")]:
    del linecache.cache[filename]


def without_types(_app: Sphinx, kind: str, _name: str, _value: Any, _options: Any, lines: list[str]) -> None:
    """Keep napoleon from taking what stands before a colon for a type: the annotations have those.

    A colon in front says that there is none.
    """
    places = [0] if kind in {"property", "attribute"} else []
    places += [place + 1 for place, line in enumerate(lines[:-1]) if line.strip() in {"Returns:", "Yields:"}]
    for place in places:
        text = lines[place].lstrip()
        lines[place] = lines[place].removesuffix(text) + ": " + text


def with_values(
    _app: Sphinx, _kind: str, _name: str, _value: Any, _options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Show a default that has a private name by its value, and of overloads what they return together."""
    if signature is not None:
        signature = re.sub(r"(?<== )[A-Z_]+\b", lambda name: repr(getattr(_settings, name[0], name[0])), signature)
    if returns is not None:
        returns = re.sub(r"\bAny\b", "TtsJob | PlayAIError", returns)
    return signature, returns


def without_checks(_app: Sphinx, _page: str, source: list[str]) -> None:
    """Leave out the comments with the code that checks a page; the lines keep their numbers."""
    source[0] = re.sub(
        r"^<!-- invisible-code-block.*?^-->$", lambda check: "\n" * check[0].count("\n"), source[0], flags=re.M | re.S
    )


def with_description(
    _app: Sphinx, _page: str, _template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Describe a page to search engines by its first paragraph."""
    if doctree is not None and (paragraph := next(doctree.findall(nodes.paragraph), None)) is not None:
        text = html.escape(" ".join(paragraph.astext().split()))
        context["metatags"] = f'{context.get("metatags", "")}<meta name="description" content="{text}">'


def with_index_entries(_app: Sphinx, _page: str, source: list[str]) -> None:
    """Turn comments such as `<!-- search: proxy, dotenv -->` into index entries, which the search shows first."""
    source[0] = re.sub(
        r"^<!-- search: (.*) -->$",
        lambda words: "```{index} " + ", ".join(f"! {word}" for word in words[1].split(", ")) + "\n```",
        source[0],
        flags=re.M,
    )


def setup(app: Sphinx) -> None:
    """Hook in; before napoleon, whose priority is 500, where it is about its input."""
    if shutil.which("dot") is None:
        raise ConfigError("Graphviz is missing, which draws the diagrams; on Debian: apt-get install graphviz")
    app.connect("html-page-context", with_description)
    app.connect("source-read", with_index_entries)
    app.connect("source-read", without_checks)
    app.connect("autodoc-process-docstring", without_types, priority=400)
    app.connect("autodoc-process-signature", with_values)
