"""Runs the Python examples of docs/ against the emulator, in virtual time.

An example may `await` at its top level, as `python -m asyncio` has it. All examples of one page share a namespace, an
event loop, a directory to work in, and an emulator that the environment points to. A script that ends in
`asyncio.run(...)` runs in that loop as well. Code in an HTML comment runs like the other code, and no reader sees it:

    <!-- invisible-code-block: python
    assert "COMPLETED" in printed
    -->

It prepares the next example or checks the last one. `printed` is the output of the block before, and `root` the
directory of this file.

The examples of a page run in their order and in one process, also when the tests are shuffled or shared out.

For the whole suite, this file also sets the number of pytest-xdist workers for `-n auto`, and makes each file of tests
run in one worker.
"""

import ast
import asyncio
import contextlib
import inspect
import io
import os
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import looptime
import pytest
from sybil import Example, Sybil
from sybil.integration.pytest import SybilItem
from sybil.parsers.markdown import CodeBlockParser

from playai_async.emulator import Emulator


class Page:
    """What the examples of one page run on."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner(loop_factory=looptime.new_event_loop)
        self._emulator = Emulator(api_key="a-key-for-examples", user_id="a-user-for-examples")
        self._environment = pytest.MonkeyPatch()
        self._directory = tempfile.TemporaryDirectory()

    def open(self, namespace: dict[str, Any]) -> None:
        """Start the emulator, and give the page what its examples take for granted."""
        self._runner.run(self._emulator.start())
        self._environment.setenv("PLAYAI_API_KEY", "a-key-for-examples")
        self._environment.setenv("PLAYAI_USER_ID", "a-user-for-examples")
        self._environment.setenv("PLAYAI_BASE_URL", self._emulator.base_url)
        self._environment.chdir(self._directory.name)
        namespace["__name__"] = "__main__"
        namespace["root"] = Path(__file__).parent
        namespace["emulator"] = self._emulator
        namespace["job_id"], *namespace["job_ids"] = self._runner.run(_jobs_of_seconds(self._emulator))

    def run(self, example: Example) -> None:
        """Run one example; whatever it raises fails it."""
        # Blank lines above it make tracebacks name the lines of the page.
        source = "\n" * (example.line + example.parsed.line_offset) + example.parsed
        code = compile(source, example.path, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        with contextlib.redirect_stdout(io.StringIO()) as output:
            if "\nasyncio.run(" in source:
                self._run_script(code, example.namespace)
            else:
                self._runner.run(_executed(code, example.namespace))
        example.namespace["printed"] = output.getvalue()

    def _run_script(self, code: Any, namespace: dict[str, Any]) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(asyncio, "run", self._runner.run)
            eval(code, namespace)  # noqa: S307 - the repository's own pages

    def close(self) -> None:
        """Stop the emulator, and see that the examples left nothing running."""
        try:
            left = self._runner.run(_tasks_left_after(self._emulator))
        finally:
            self._environment.undo()
            self._directory.cleanup()
            self._close_loop()
        assert not left, f"the examples left tasks running: {left}"

    def _close_loop(self) -> None:
        # Not `Runner.close`: since Python 3.12 it joins the threads with a timeout, which virtual time reaches at once.
        loop = self._runner.get_loop()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


async def _jobs_of_seconds(emulator: Emulator) -> list[str]:
    completed = [str(emulator.add_job(duration=seconds)) for seconds in (2.0, 12.0, 1.0)]
    return [*completed, str(emulator.add_job(duration=5.0, fails=True))]


async def _executed(code: Any, namespace: dict[str, Any]) -> None:
    outcome = eval(code, namespace)  # noqa: S307 - the repository's own pages
    if inspect.iscoroutine(outcome):
        await outcome


async def _tasks_left_after(emulator: Emulator) -> set[asyncio.Task[Any]]:
    await emulator.stop()
    return asyncio.all_tasks() - {asyncio.current_task()}


def _open_page(namespace: dict[str, Any]) -> None:
    namespace["page"] = Page()
    namespace["page"].open(namespace)


def _run_example(example: Example) -> None:
    example.namespace["page"].run(example)


def _close_page(namespace: dict[str, Any]) -> None:
    namespace["page"].close()


EXTRA_WORKERS = 2
"""Workers beyond the number of cores: some tests wait for processes and servers, and leave a core idle meanwhile."""

MAX_WORKERS = 4
"""More would compete for cores, of which a container often has fewer than it shows."""

WAITING = ("tests/contrib/test_durable", "tests/contrib/test_redis", "tests/examples/")
"""Files with tests that mostly wait for servers and programs."""

CERTIFICATE = Path(__file__).parent / "tests/support/certificate.pem"
"""A certificate that nothing is signed with. Nobody has its key."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return the number of workers for `-n auto`."""
    return min((os.cpu_count() or 1) + EXTRA_WORKERS, MAX_WORKERS)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each file of tests, and so each page, to one worker; and each folder that mostly waits, before the rest."""
    from xdist.scheduler import LoadFileScheduling  # noqa: PLC0415 - only needed with `-n`

    class Scheduling(LoadFileScheduling):  # type: ignore[misc]  # it has no types
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return file.rpartition("/")[0] if file.startswith(WAITING) else file

    return Scheduling(config, log) if config.option.dist == "loadfile" else None


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Trust one certificate, and let pytest-xdist (`-n`) take the files of tests in the order of collection.

    aiohttp reads all trusted certificates when it is imported, which takes
    0.1 s in each process that the tests start. No test connects to a server on the internet.
    """
    os.environ.setdefault("SSL_CERT_FILE", str(CERTIFICATE))
    if getattr(config.option, "numprocesses", None) and config.option.dist == "no":
        config.option.dist = "loadfile"
        config.option.loadscopereorder = False  # the files with the fewest tests are not the quickest


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Generator[None]:
    """Put the examples of each page together and in order again, after plugins such as pytest-randomly."""
    yield
    items.sort(key=lambda item: not item.nodeid.startswith(WAITING))
    pages: dict[Path, list[SybilItem]] = {}
    for item in items:
        if isinstance(item, SybilItem):
            pages.setdefault(item.path, []).append(item)
    ordered: list[pytest.Item] = []
    for item in items:
        if isinstance(item, SybilItem):
            page = pages.pop(item.path, [])
            page.sort(key=lambda example: example.example.start)
            ordered.extend(page)
        else:
            ordered.append(item)
    items[:] = ordered


pytest_collect_file = Sybil(
    parsers=[CodeBlockParser("python", _run_example)],
    patterns=["docs/*.md"],
    setup=_open_page,
    teardown=_close_page,
).pytest()
