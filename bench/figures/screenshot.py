"""Takes the picture of the example's page that the documentation shows: `python -m bench.figures.screenshot`.

Starts the example on its emulator, has a text spoken in a headless Chromium, and writes `docs/example.png`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import expect

from tools.servers.browser import TIMEOUT_MS, find_chromium, run_chromium

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "example.png"
PROGRAM = [sys.executable, "-m", "examples.fastapi_backend", "--port", "0"]


def main() -> None:
    """Take the picture."""
    path = find_chromium()
    if path is None:
        raise SystemExit("There is no Chromium here: install the package chromium.")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PLAYAI_")}
    with subprocess.Popen(  # noqa: S603 - its arguments are ours
        PROGRAM, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr
            said = iter(process.stderr.readline, "")
            found = next(filter(None, (re.search(r"running on (http://\S+)", line) for line in said)))
            take(path, found[1])
        finally:
            process.terminate()
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size} bytes")


def take(path: str, url: str) -> None:
    """Have a text spoken on the page, and take a picture of what it shows then."""
    with run_chromium(path) as browser:
        page = browser.new_page(viewport={"width": 720, "height": 200}, color_scheme="light", device_scale_factor=1.5)
        page.goto(url)
        page.get_by_role("button", name="Speak").click()
        expect(page.locator("audio")).to_be_visible(timeout=TIMEOUT_MS)
        page.wait_for_function("document.querySelector('audio').readyState >= HTMLMediaElement.HAVE_METADATA")
        page.screenshot(path=PICTURE, full_page=True)


if __name__ == "__main__":
    main()
