"""PostgreSQL for tests: one cluster for all of them, and a database with procrastinate's schema for each."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from procrastinate.schema import SchemaManager

from bench.postgres import Cluster
from tests.contrib.servers import free_port, program

_numbers = itertools.count()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL of our own, with a template of a database."""
    initdb = program("initdb", "postgresql", Path("/usr/lib/postgresql").glob("*/bin"))
    with Cluster(initdb.resolve().parent, free_port()) as cluster:
        cluster.execute("CREATE DATABASE prepared")
        cluster.execute(SchemaManager.get_schema(), "prepared")
        yield cluster


@pytest.fixture
def database(cluster: Cluster) -> str:
    """The name of a database of the test's own."""
    name = f"test_{next(_numbers)}"
    cluster.execute(f"CREATE DATABASE {name} TEMPLATE prepared")
    return name
