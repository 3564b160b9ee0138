"""Run a temporary nginx on loopback, with a configuration in a given directory."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

_TIMEOUT = 20.0  # seconds

_MAIN = """\
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log crit;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
{http}
}}
"""


class NginxServer:
    """An nginx that runs until the end of the block.

    Args:
        program: The path of `nginx`.
        directory: An existing directory for its files.
        port: The port of 127.0.0.1 on which the configuration listens.
        http: The contents of the `http` block.
    """

    def __init__(self, program: Path, directory: Path, *, port: int, http: str) -> None:
        self._port = port
        config = directory / "nginx.conf"
        config.write_text(_MAIN.format(directory=directory, http=http), encoding="utf-8")
        self._command: list[str | Path] = [program, "-p", directory, "-c", config, "-e", directory / "error.log"]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(  # noqa: S603 - a program of this machine
            self._command,
            start_new_session=True,  # so that Ctrl-C does not reach it
        )
        try:
            self._wait_until_it_listens()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stop()

    def _wait_until_it_listens(self) -> None:
        assert self._process is not None
        until = time.monotonic() + _TIMEOUT
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._port)).close()
            except ConnectionRefusedError:
                assert self._process.poll() is None, "nginx exited"
                assert time.monotonic() < until, "nginx did not start"
                time.sleep(0.01)
            else:
                return

    def _stop(self) -> None:
        if self._process is not None:
            self._process.terminate()  # its workers end with it
            self._process.wait(_TIMEOUT)
            self._process = None
