"""PostgreSQL for tests: one cluster for each module, and one database with procrastinate's schema for each test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from procrastinate.schema import SchemaManager

from tests.contrib.servers import program
from tools.servers.machine import find_initdb, free_port
from tools.servers.postgres import Cluster

_numbers = itertools.count()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL cluster for tests, with a template database."""
    found = program(find_initdb(), "initdb", "postgresql")
    with Cluster(found.resolve().parent, free_port()) as cluster:
        cluster.execute("CREATE DATABASE prepared")
        cluster.execute(SchemaManager.get_schema(), "prepared")
        yield cluster


@pytest.fixture
def database(cluster: Cluster) -> str:
    """The name of a new database."""
    name = f"test_{next(_numbers)}"
    cluster.execute(f"CREATE DATABASE {name} TEMPLATE prepared")
    return name
