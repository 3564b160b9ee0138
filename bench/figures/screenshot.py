"""Take the screenshot of the example's page for the documentation: `python -m bench.figures.screenshot`.

Starts the example with its emulator, creates speech in a headless Chromium, and writes `docs/example.png`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import expect

from tools.servers.browser import TIMEOUT_MS, find_chromium, run_chromium
from tools.servers.machine import free_port

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "example.png"
PROGRAM = [sys.executable, "-m", "examples.fastapi_backend", "--port"]


def main() -> None:
    """Take the screenshot."""
    path = find_chromium()
    if path is None:
        raise SystemExit("No Chromium was found: install the package chromium.")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PLAYAI_")}
    with subprocess.Popen(  # noqa: S603 - our own command
        [*PROGRAM, str(free_port())],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr
            lines = iter(process.stderr.readline, "")
            found = next(filter(None, (re.search(r"running on (http://\S+)", line) for line in lines)))
            take(path, found[1])
        finally:
            process.terminate()
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size} bytes")


def take(path: str, url: str) -> None:
    """Create speech on the page, and take a screenshot of the result."""
    with run_chromium(path) as browser:
        page = browser.new_page(viewport={"width": 720, "height": 200}, color_scheme="light", device_scale_factor=1.5)
        page.goto(url)
        page.get_by_role("button", name="Speak").click()
        expect(page.locator("audio")).to_be_visible(timeout=TIMEOUT_MS)
        page.wait_for_function("document.querySelector('audio').readyState >= HTMLMediaElement.HAVE_METADATA")
        page.screenshot(path=PICTURE, full_page=True)


if __name__ == "__main__":
    main()
