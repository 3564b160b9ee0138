"""Run the headless Chromium of this machine with Playwright, which downloads no browser."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator

from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# The sandbox does not work for root. Audio may play without a click.
ARGUMENTS = ("--no-sandbox", "--disable-dev-shm-usage", "--autoplay-policy=no-user-gesture-required")
TIMEOUT_MS = 30_000
"""Milliseconds. Most machines need a few hundred; slow machines need much longer."""


def find_chromium() -> str | None:
    """Return the path of a Chromium or Chrome, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextlib.contextmanager
def run_chromium(path: str) -> Iterator[Browser]:
    """Run a Chromium until the end of the block. No event loop may run in this thread during that time."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS, timeout=TIMEOUT_MS)
        try:
            yield browser
        finally:
            browser.close()
