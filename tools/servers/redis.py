"""Run temporary Redis servers: one on a socket, Sentinel with two servers, or a cluster. They store nothing on disk."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import redis

from tools.servers.machine import free_port

_TIMEOUT = 20.0  # seconds

_SENTINEL = """\
port {port}
sentinel monitor {service} 127.0.0.1 {primary} 1
sentinel down-after-milliseconds {service} 1500
sentinel failover-timeout {service} 2000
"""

_SLOTS = 16384


class RedisServer:
    """A Redis server that runs until the end of the block.

    Args:
        program: The path of `redis-server`.
        directory: An existing directory for the socket. Its path must be short.
        options: More options of the program.
        port: A free port of 127.0.0.1 on which it listens, too; 0: none.
    """

    def __init__(self, program: str | Path, directory: Path, *options: str, port: int = 0) -> None:
        self.port = port
        self._program = program
        self._directory = directory
        self._options = options
        self._socket = directory / f"redis{port or ''}.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.kill()

    @property
    def url(self) -> str:
        """The URL for `RedisQuota`."""
        return f"redis+unix://{self._socket}"

    def client(self) -> redis.Redis:
        """Return a blocking client. The caller closes it."""
        return redis.Redis(unix_socket_path=str(self._socket))

    def start(self) -> None:
        """Start an empty Redis and wait until it accepts connections."""
        options = ["--port", str(self.port), "--unixsocket", str(self._socket), "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(  # noqa: S603 - a program of this machine
            [self._program, *options, *self._options],
            cwd=self._directory,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # so that Ctrl-C does not reach it
        )
        with self.client() as client:
            _wait_until(client.ping, "redis-server did not start")

    def kill(self) -> None:
        """Send SIGKILL, like a crash."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_TIMEOUT)
            self._process = None

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop the process for the block, so that it answers nothing and closes nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)


class SentinelServers:
    """A primary, a replica, and one Sentinel that replaces a dead primary within a second or two.

    Args:
        program: The path of `redis-server`, which is Sentinel, too.
        directory: An existing directory. Its path must be short.
    """

    def __init__(self, program: str | Path, directory: Path) -> None:
        self._stack = contextlib.ExitStack()
        self._program = program
        self._directory = directory
        self._port = free_port()
        at_once = ("--repl-diskless-sync-delay", "0")
        self.primary = RedisServer(program, directory, *at_once, port=free_port())
        replica_of = ("--replicaof", f"127.0.0.1 {self.primary.port}")
        self.replica = RedisServer(program, directory, *at_once, *replica_of, port=free_port())

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.primary)
            stack.enter_context(self.replica)
            with self.replica.client() as other:  # before Sentinel asks for the replicas, which it does each 10 s
                _wait_until(lambda: other.info("replication")["master_link_status"] == "up", "nothing is replicated")
            config = self._directory / "sentinel.conf"
            config.write_text(
                _SENTINEL.format(port=self._port, service="quota", primary=self.primary.port), encoding="utf-8"
            )
            sentinel = subprocess.Popen(  # noqa: S603 - a program of this machine
                [self._program, config, "--sentinel"], stdout=subprocess.DEVNULL, start_new_session=True
            )
            stack.callback(sentinel.wait, _TIMEOUT)
            stack.callback(sentinel.kill)
            client: Any = stack.enter_context(redis.Redis(port=self._port))
            _wait_until(lambda: client.sentinel_slaves("quota"), "Sentinel found no replica")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        """The URL for `RedisQuota`."""
        return f"redis+sentinel://127.0.0.1:{self._port}/quota"

    def wait_for_failover(self) -> None:
        """Wait until the replica is the primary."""
        with self.replica.client() as client:
            _wait_until(lambda: client.info("replication")["role"] == "master", "there was no fail-over")
        with redis.Redis(port=self._port) as sentinel:
            named: Any = cast("Any", sentinel).sentinel_masters
            _wait_until(lambda: named()["quota"]["port"] == self.replica.port, "Sentinel names the old primary")
            _wait_until(lambda: named()["quota"]["flags"] == "master", "Sentinel takes the new primary for dead")


class ClusterServers:
    """A cluster of three nodes.

    Args:
        program: The path of `redis-server`.
        directory: An existing directory. Its path must be short.
    """

    def __init__(self, program: str | Path, directory: Path) -> None:
        self._stack = contextlib.ExitStack()
        self._buses = [free_port() for _ in range(3)]
        self.nodes = [self._node(program, directory, bus) for bus in self._buses]

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(stack.enter_context(node).client()) for node in self.nodes]
            edges = [_SLOTS * number // len(clients) for number in range(len(clients) + 1)]
            for number, client in enumerate(clients):
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", edges[number], edges[number + 1] - 1)
                for node, bus in zip(self.nodes, self._buses, strict=True):
                    client.execute_command("CLUSTER", "MEET", "127.0.0.1", node.port, bus)
            for client in clients:
                _wait_until(partial(_is_whole, client), "the nodes formed no cluster")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        """The URL for `RedisQuota`."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    @staticmethod
    def _node(program: str | Path, directory: Path, bus: int) -> RedisServer:
        port = free_port()
        options = ("--cluster-enabled", "yes", "--cluster-config-file", f"{port}.conf", "--cluster-port", str(bus))
        return RedisServer(program, directory, *options, port=port)


def _is_whole(client: Any) -> bool:
    info: dict[str, str] = client.execute_command("CLUSTER INFO")
    return info["cluster_state"] == "ok" and info["cluster_known_nodes"] == "3"


def _wait_until(holds: Callable[[], object], complaint: str) -> None:
    """Wait until something holds, and is not refused."""
    until = time.monotonic() + _TIMEOUT
    while True:
        with contextlib.suppress(redis.ConnectionError, redis.BusyLoadingError):
            if holds():
                return
        assert time.monotonic() < until, complaint
        time.sleep(0.01)
