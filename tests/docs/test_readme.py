"""The examples of README.md run, in their order. They stand there without the code that checks them."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from playai_async.emulator import Emulator
from tests.docs import asgi
from tests.docs.other_services import OtherServices

pytest_plugins = ["playai_async.testing"]

README = Path(__file__).parents[2] / "README.md"
BENCHMARKS = README.parent / "docs/how-it-works.md"
PROGRAM, MANY_JOBS, WEB_BACKEND, ANY_SERVICE = re.findall(
    r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
)


async def run(example: str, namespace: dict[str, Any]) -> None:
    """Run an example that may `await` at its top level."""
    code = compile(example, str(README), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if (waiting := eval(code, namespace)) is not None:  # noqa: S307 - the repository's own page
        await waiting


def test_the_first_program_runs_as_pasted_and_writes_audio(tmp_path: Path) -> None:
    (tmp_path / "hello.py").write_text(PROGRAM, encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, "hello.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.stdout, ended.stderr) == ("hello.wav has 0.9 s of audio.\n", "")
    assert (tmp_path / "hello.wav").read_bytes().startswith(b"RIFF")


@pytest.mark.looptime
async def test_the_other_examples_run(playai_emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    """In one namespace, as somebody types them."""
    completed, failed = playai_emulator.add_job(2.0), playai_emulator.add_job(1.0, fails=True)
    unknown = "00000000-0000-4000-8000-000000000000"
    namespace: dict[str, Any] = {"__name__": "readme", "job_ids": [completed, failed, unknown]}

    await run(MANY_JOBS, namespace)
    lines = sorted(capsys.readouterr().out.splitlines(), key=lambda line: ("Completed" in line, "Failed" in line))
    assert lines[0].startswith(f"{unknown} PlayAI answered 404")
    assert lines[1] == f"{failed} Failed()"
    assert lines[2].startswith(f"{completed} Completed(url='http://127.0.0.1:")

    await run(WEB_BACKEND, namespace)
    async with asgi.client_of(namespace["app"]) as client:
        answer = await client.get(f"/speech/{completed}")
    assert answer.json()["output"]["status"] == "COMPLETED"

    pytest.importorskip("openai", reason="openai is not installed; the dependency group `clients` has it")
    server = await OtherServices.started()
    try:
        await run(ANY_SERVICE, namespace)
    finally:
        await server.stop()
    assert namespace["batch"].status == "completed"


def rows(text: str) -> list[list[str]]:
    """The cells of the first table in a text, without its head."""
    table = text.partition("\n| ")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in table.splitlines()[2:]]


def test_the_figures_are_those_of_the_benchmarks() -> None:
    """The row of the SDKs has the least and the most of them; requests per job are rounded."""
    measured = {
        name: [lag, f"{float(requests):.1f}", *others]
        for name, lag, requests, *others in rows(BENCHMARKS.read_text(encoding="utf-8").split("\n## Benchmarks\n")[1])
    }
    sdks = [measured[name] for name in ("runwayml", "openai", "azure-core", "replicate", "fal-client")]
    columns = [
        sorted(column, key=lambda cell: float(cell.strip(" %").replace(",", ""))) for column in zip(*sdks, strict=True)
    ]
    ranges = [f"{column[0]} to {column[-1]}".replace(" % to", " to") for column in columns]
    shown = rows(README.read_text(encoding="utf-8").split("\n## Guarantees\n")[1])
    assert [[cell.removesuffix(" s") for cell in cells] for _, *cells in shown] == [
        measured["loop with aiohttp, every 2 s"],
        ranges,
        measured["playai_async, quota unknown"],
        measured["playai_async, quota known"],
    ]
