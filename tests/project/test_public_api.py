"""What a user may import, and what importing it brings along."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import playai_async

PUBLIC = {
    # The session.
    "PlayAISession",
    "Polling",
    "Pacing",
    "SessionStats",
    # What the service answers, and what it is asked.
    "TtsJob",
    "Completed",
    "InProgress",
    "Failed",
    "Unknown",
    "TtsParameters",
    # What can go wrong.
    "PlayAIError",
    "ConfigurationError",
    "SessionClosedError",
    "TransportError",
    "InvalidResponseError",
    "APIStatusError",
    "InvalidParametersError",
    "UnauthorizedError",
    "ForbiddenError",
    "NotFoundError",
    "RateLimitedError",
    "UnexpectedServiceError",
    "WaitTimeoutError",
    "JobFailedError",
    "DownloadError",
    # Itself.
    "__version__",
}


def modules_after(statement: str) -> set[str]:
    """Run a statement in a fresh interpreter, and list the top-level modules that it left loaded."""
    code = f"import sys; {statement}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.split())


def test_the_public_names_are_the_documented_ones() -> None:
    """No name more, none less, none twice."""
    assert set(playai_async.__all__) == PUBLIC
    assert len(playai_async.__all__) == len(PUBLIC)


def test_the_public_names_are_sorted() -> None:
    """So that a new one has one place."""
    assert playai_async.__all__ == sorted(playai_async.__all__)


@pytest.mark.parametrize("name", sorted(PUBLIC), ids=str)
def test_every_public_name_is_there(name: str) -> None:
    """What is promised can be imported."""
    assert hasattr(playai_async, name)


def test_no_other_name_looks_public() -> None:
    """Whatever else is in the package's namespace says by its underscore that it is private."""
    strangers = {name for name in vars(playai_async) if not name.startswith("_")} - PUBLIC
    assert strangers <= {"contrib", "emulator", "jobs", "testing"}  # public too, and here once somebody imported them


def test_importing_the_package_loads_nothing_that_is_optional() -> None:
    """The command line's libraries and those of tests are extras, and their import time is nobody else's."""
    assert modules_after("import playai_async") & {"cyclopts", "procrastinate", "pytest", "rich"} == set()
    assert modules_after("import playai_async.emulator") & {"cyclopts", "pytest", "rich"} == set()


def test_the_package_is_marked_as_typed() -> None:
    """Without the marker, checkers ignore its annotations."""
    assert (Path(playai_async.__file__).parent / "py.typed").exists()


def test_the_methods_of_a_session_are_the_documented_ones() -> None:
    """No other name of the one mutable object looks public."""
    public = {name for name in dir(playai_async.PlayAISession) if not name.startswith("_")}
    assert public == {
        *("aclose", "as_completed", "create_job", "download", "get_job", "hint", "speak", "stats", "wait_for_all"),
        *("wait_for_completion", "watch"),
    }


def test_iterations_are_async_generators_and_waits_are_coroutines() -> None:
    """What is iterated over checks its arguments at the call, and what is awaited when it is awaited."""
    session = playai_async.PlayAISession
    waits = (session.get_job, session.wait_for_completion, session.wait_for_all, session.aclose)
    assert all(inspect.iscoroutinefunction(method) for method in waits)
    assert not any(inspect.isasyncgenfunction(method) for method in (session.watch, session.as_completed))
