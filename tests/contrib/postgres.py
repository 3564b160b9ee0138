"""PostgreSQL for tests: a cluster for each process, and a database with procrastinate's tables, empty for each test.

`initdb` and the schema take longer than most tests. Pytest's cache keeps the result for all processes and later runs.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from procrastinate.schema import SchemaManager

from tests.contrib.servers import program
from tools.servers.machine import find_initdb, free_port
from tools.servers.postgres import Cluster

DATABASE = "waits"

# A worker that was killed may hold a lock for a moment. `CREATE DATABASE` takes ten times as long as this.
RESET = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid();
DROP TABLE IF EXISTS ended, calls;
TRUNCATE procrastinate_workers, procrastinate_jobs, procrastinate_periodic_defers, procrastinate_events
RESTART IDENTITY;
"""


@pytest.fixture(scope="session")
def cluster(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A PostgreSQL cluster for tests."""
    initdb = program(find_initdb(), "initdb", "postgresql")
    cache: pytest.Cache | None = getattr(pytestconfig, "cache", None)  # missing with `-p no:cacheprovider`
    name = "postgresql"
    template = template_in(cache.mkdir(name) if cache else tmp_path_factory.mktemp(name), initdb)
    with Cluster(initdb.resolve().parent, free_port(), template) as cluster:
        yield cluster


@pytest.fixture
def database(cluster: Cluster) -> str:
    """The name of a database with empty tables."""
    cluster.execute(RESET, DATABASE)
    return DATABASE


def template_in(cache: Path, initdb: Path) -> Path:
    """Return the data of a cluster with the database. The first process creates them, and others wait."""
    version = subprocess.run([initdb, "--version"], check=True, capture_output=True).stdout  # noqa: S603 - of this machine
    created_by = version + DATABASE.encode() + SchemaManager.get_schema().encode()
    template = cache / hashlib.sha256(created_by).hexdigest()[:16]
    with one_process(template.with_suffix(".lock")):
        if not template.exists():
            unfinished = template.with_suffix(".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            with Cluster(initdb.resolve().parent, free_port()) as cluster:
                cluster.execute(f"CREATE DATABASE {DATABASE}")
                cluster.execute(SchemaManager.get_schema(), DATABASE)
                cluster.stop()
                cluster.save(unfinished)
            unfinished.rename(template)
    return template


@contextlib.contextmanager
def one_process(lock: Path) -> Iterator[None]:
    """Wait until no other process is in such a block."""
    import fcntl  # noqa: PLC0415 - missing on Windows

    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
