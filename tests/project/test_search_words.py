"""The words that readers search for lead to one page each."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"

PAGES = {
    "guarantee": "how-it-works",
    "retry": "errors",
    "timeout": "errors",
    "cancel": "errors",
    "shutdown": "web-backends",
    "exit code": "command-line",
    "proxy": "reference",
    "webhook": "web-backends",
    "dotenv": "reference",
    "logging": "observability",
    "FastAPI": "web-backends",
    "Redis": "scaling-out",
    "Celery": "scaling-out",
    "Jupyter": "troubleshooting",
    "thread": "many-jobs",
    "sync": "troubleshooting",
    "rate limit": "rate-limits",
    "429": "rate-limits",
    "quota": "rate-limits",
    "batch": "many-jobs",
    "progress": "many-jobs",
    "mp3": "audio",
    "pickle": "reference",
    "JSON": "reference",
    "OpenTelemetry": "observability",
}


def pages_of(word: str) -> list[str]:
    """The pages that a comment such as `<!-- search: proxy, dotenv -->` puts first in the search for a word."""
    return [
        page.stem
        for page in sorted(DOCS.glob("*.md"))
        for words in re.findall(r"^<!-- search: (.*) -->$", page.read_text(encoding="utf-8"), re.MULTILINE)
        if word in words.split(", ")
    ]


@pytest.mark.parametrize(("word", "page"), PAGES.items(), ids=str)
def test_a_common_word_leads_to_its_page(word: str, page: str) -> None:
    assert pages_of(word) == [page]
