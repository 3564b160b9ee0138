"""Each example works when its folder, or its single file, is copied out of this repository.

The tests that start an example as a process start a copy of it.
"""

from __future__ import annotations

import subprocess
import sys

from tests.examples import test_examples_run, test_fastapi_process, test_scale_out
from tests.examples.copies import EXAMPLES, Site

PROGRAM = """
import importlib.util, sys
print(*(name for name in sys.argv[1:] if importlib.util.find_spec(name)))
"""


def test_only_the_package_can_be_imported_beside_a_copy(site: Site) -> None:
    """Otherwise an example that needs the rest of the repository would work."""
    command = [sys.executable, "-c", PROGRAM, "playai_async", "examples", "tests", "bench", "tools", "conftest"]
    found = subprocess.run(  # noqa: S603 - our own program
        command, cwd=site.directory, env=site.environment, capture_output=True, text=True, check=True
    )
    assert found.stdout == "playai_async\n"


ALONE = {"__pycache__", "other_services"}
"""Folders beside the backends. `test_other_services` runs each file of the second, which imports the package alone."""


def test_each_example_runs_as_a_copy() -> None:
    """A new example needs such a test."""
    copied = {*test_examples_run.ENDS, test_fastapi_process.COPIED, test_scale_out.COPIED}
    assert copied == {path.name for path in EXAMPLES.iterdir()} - ALONE
