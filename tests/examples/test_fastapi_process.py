"""The FastAPI example as a process, as `make example` starts it and as a copy, in real time."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.examples.copies import ROOT, Site
from tools.servers.machine import free_port

PROGRAM = [sys.executable, "-W", "error", "-m"]
COPIED = "fastapi_backend"
SECONDS = 30


@pytest.fixture(autouse=True)
def _sigint_is_heard() -> Iterator[None]:
    """Undo what a shell does to the processes it starts in the background, which ignore SIGINT from birth."""
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, inherited)


@contextlib.contextmanager
def running(
    module: str, directory: Path, environment: dict[str, str], *, port: int = 0
) -> Iterator[tuple[subprocess.Popen[str], http.client.HTTPConnection]]:
    """The program on a free port, and a connection to it."""
    command = [*PROGRAM, module, "--port", str(port)]
    with subprocess.Popen(  # noqa: S603 - its arguments are ours
        command, cwd=directory, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr
            said = iter(process.stderr.readline, "")
            found = next(filter(None, (re.search(r"running on (http://127\.0\.0\.1:\d+)", line) for line in said)))
            with contextlib.closing(
                http.client.HTTPConnection(urlsplit(found[1]).netloc, timeout=SECONDS)
            ) as connection:
                yield process, connection
        finally:
            process.kill()


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: object = None
) -> http.client.HTTPResponse:
    """Send a request."""
    connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
    return connection.getresponse()


def test_without_a_key_a_copy_speaks_on_an_emulator_and_ctrl_c_ends_it(site: Site) -> None:
    """With an open stream, too: the stream has a last event, and the program status 130 and no traceback.

    The emulator calls the webhook, so the page shows that it works.
    """
    site.copy(COPIED)
    with running(COPIED, site.directory, site.environment, port=free_port()) as (process, connection):
        speech = json.load(ask(connection, "POST", "/speech", {"text": "Hello."}))
        ends = time.monotonic() + SECONDS
        while speech.get("status") != "COMPLETED":
            assert time.monotonic() < ends
            time.sleep(0.05)
            speech = json.load(ask(connection, "GET", f"/speech/{speech['id']}"))
        job = json.load(ask(connection, "POST", "/speech", {"text": "Hello. " * 30}))
        assert b'"noticed_by":"webhook"' in ask(connection, "GET", f"/speech/{job['id']}/events").read()
        job = json.load(ask(connection, "POST", "/speech", {"text": "Hello. " * 700}))  # it takes half a minute
        stream = ask(connection, "GET", f"/speech/{job['id']}/events")
        assert b"IN_PROGRESS" in stream.readline()
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        assert b"event: problem" in stream.read()
        out, errors = process.communicate(timeout=SECONDS)
        assert process.returncode == 130
        assert time.monotonic() - began < 5  # less than it grants to what does not end
    assert "PLAYAI_API_KEY is not set" in out
    assert "Traceback" not in errors


def test_with_a_key_it_asks_the_service() -> None:
    """At the address in the environment, where nothing listens: the example answers 502."""
    settings = {"PLAYAI_API_KEY": "k", "PLAYAI_USER_ID": "u", "PLAYAI_BASE_URL": "http://127.0.0.1:9"}
    with running("examples.fastapi_backend", ROOT, {**os.environ, **settings}) as (process, connection):
        assert ask(connection, "GET", "/speech/00000000-1111-4222-8333-444444444444").status == 502
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=SECONDS)
    assert out.splitlines()[0] == "PLAYAI_API_KEY is set: using http://127.0.0.1:9. Unset it to use an emulator."


def test_a_port_in_use_is_named_with_another_one(site: Site) -> None:
    site.copy(COPIED)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [*PROGRAM, COPIED, "--port", str(port)]
        ended = subprocess.run(  # noqa: S603 - its arguments are ours
            command, cwd=site.directory, env=site.environment, capture_output=True, text=True, check=False
        )
    assert ended.returncode != 0
    last = f"The server cannot use port {port}. Choose another: --port {port + 1}, or make example PORT={port + 1}"
    assert ended.stderr.splitlines()[-1] == last


def test_a_missing_setting_is_not_blamed_on_the_port() -> None:
    settings = {name: value for name, value in os.environ.items() if name != "PLAYAI_USER_ID"}
    ended = subprocess.run(  # noqa: S603 - its arguments are ours
        [*PROGRAM, "examples.fastapi_backend", "--port", "0"],
        cwd=ROOT,
        env={**settings, "PLAYAI_API_KEY": "k"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode != 0
    assert "PLAYAI_USER_ID" in ended.stderr
    assert "cannot use port" not in ended.stderr
