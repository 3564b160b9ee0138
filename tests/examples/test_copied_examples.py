"""Each example works when its folder, or its single file, is copied out of this repository. In real time."""

from __future__ import annotations

import asyncio
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import attrs
import pytest

import playai_async
from playai_async.emulator import Emulator
from tests.contrib.servers import program
from tools.servers.machine import find_initdb, find_redis_server, free_port

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"

TIMEOUT = 60.0

SITE_CUSTOMIZE = f"""\
import sys
sys.path[:] = [entry for entry in sys.path if entry != {str(ROOT)!r}]
"""
"""An editable installation puts the whole repository on the path of each process; this takes it off again."""


@attrs.frozen
class Copy:
    """An example outside the repository, and an environment in which only the package is installed."""

    directory: Path
    environment: dict[str, str]


@pytest.fixture
def site(tmp_path: Path) -> Copy:
    """An empty directory, and an environment without this repository on the path."""
    packages, directory = tmp_path / "site", tmp_path / "copy"
    packages.mkdir()
    directory.mkdir()
    (packages / "playai_async").symlink_to(Path(playai_async.__file__).parent)
    (packages / "sitecustomize.py").write_text(SITE_CUSTOMIZE, "utf-8")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PLAYAI_", "PYTHON"))}
    return Copy(directory, {**kept, "PYTHONPATH": str(packages), "PYTHONUNBUFFERED": "1"})


def imports(site: Copy, module: str) -> bool:
    """Tell whether a module can be imported there."""
    command = [sys.executable, "-c", f"import {module}"]
    done = subprocess.run(command, cwd=site.directory, env=site.environment, capture_output=True, check=False)  # noqa: S603
    return done.returncode == 0


def test_only_the_package_can_be_imported(site: Copy) -> None:
    """Otherwise the test below would pass for an example that needs the rest of the repository."""
    folders = ["playai_async", "examples", "tests", "bench", "tools", "conftest"]
    assert [name for name in folders if imports(site, name)] == ["playai_async"]


COMMANDS = {
    "aiohttp_backend.py": ["aiohttp_backend.py"],
    "starlette_backend.py": ["starlette_backend.py"],
    "fastapi_backend": ["-m", "fastapi_backend", "--port", "{port}"],
    "scale_out": ["-m", "scale_out", "--serve"],
}
"""How to start each example, after `python`."""

ADDRESS = re.compile(r"(?:[Rr]unning on|^web 1) +(http://[\w.:]+)")


NO_BACKENDS = {"__pycache__", "other_services"}
"""Folders beside the web backends. `test_other_services` runs the files of the second, which import nothing here."""


@pytest.mark.parametrize("name", sorted({path.name for path in EXAMPLES.iterdir()} - NO_BACKENDS))
def test_an_example_runs_alone(name: str, site: Copy) -> None:
    """It makes a text into speech, and ends on SIGTERM."""
    if name == "scale_out":
        program(find_redis_server(), "redis-server", "redis-server")
        program(find_initdb(), "initdb", "postgresql")
    source = EXAMPLES / name
    if source.is_dir():
        shutil.copytree(source, site.directory / name, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, site.directory)
    asyncio.run(speak_with(name, site))


async def speak_with(name: str, site: Copy) -> None:
    """Start an example, post a text, and wait until its speech is completed."""
    async with (
        asyncio.timeout(TIMEOUT),
        Emulator() as emulator,
        started(name, site, emulator) as (process, url),
        aiohttp.ClientSession(url) as client,
    ):
        async with client.post("/speech", json={"text": "Hello.", "voice": "a-voice"}) as created:
            assert created.status in {201, 202}
            path = created.headers["Location"]
        while True:
            async with client.get(path) as answer:
                speech = await answer.json()
            if "COMPLETED" in {speech.get("status"), speech.get("state")}:
                break
            await asyncio.sleep(0.1)
        process.terminate()
        await process.wait()
    assert emulator.stats.requests > 1
    assert math.isclose(speech.get("seconds") or speech.get("duration"), 0.4)


@asynccontextmanager
async def started(name: str, site: Copy, emulator: Emulator) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """Start an example, and find its address in what it prints."""
    port = str(free_port())
    credentials = {"PLAYAI_API_KEY": "key", "PLAYAI_USER_ID": "user", "PLAYAI_BASE_URL": emulator.base_url}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *(argument.format(port=port) for argument in COMMANDS[name])),
        cwd=site.directory,
        env={**site.environment, **credentials, "PORT": port},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    printed: list[str] = []
    try:
        async for line in process.stdout:
            printed.append(line.decode())
            if found := ADDRESS.search(printed[-1]):
                yield process, found[1]
                break
        else:
            pytest.fail(f"{name} did not start:\n{''.join(printed)}")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
