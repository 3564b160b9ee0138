"""A headless Chromium of the machine's own, driven by Playwright, which downloads none."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator

from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# No sandbox, since root has none; and audio plays though nobody has clicked.
ARGUMENTS = ("--no-sandbox", "--disable-dev-shm-usage", "--autoplay-policy=no-user-gesture-required")
PATIENCE = 30_000
"""Milliseconds: a machine may be slow, and what is waited for comes on nearly all of them in a few hundred."""


def chromium() -> str | None:
    """Find a Chromium."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextlib.contextmanager
def browsing(path: str) -> Iterator[Browser]:
    """Run a Chromium; no event loop may run in this thread meanwhile."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS, timeout=PATIENCE)
        try:
            yield browser
        finally:
            browser.close()
