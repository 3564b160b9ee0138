"""What runs on GitHub may do little, uses official actions, and runs what a developer runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = {path.name: path for path in sorted(ROOT.glob(".github/workflows/*"))}
MAJOR = re.compile(r"actions/[a-z-]+@v\d+")
PUBLISHING = "pypa/gh-action-pypi-publish@release/v1"

every_workflow = pytest.mark.parametrize("name", WORKFLOWS)


def load(name: str) -> dict[str, Any]:
    """A workflow; its `on`, a boolean to YAML 1.1, by its name."""
    workflow: dict[Any, Any] = yaml.safe_load(WORKFLOWS[name].read_text(encoding="utf-8"))
    return {"on" if key is True else key: value for key, value in workflow.items()}


def jobs_of(name: str) -> dict[str, dict[str, Any]]:
    """The jobs of a workflow by their ids."""
    jobs: dict[str, dict[str, Any]] = load(name)["jobs"]
    return jobs


def steps_of(name: str) -> Iterator[dict[str, Any]]:
    """The steps of all jobs of a workflow."""
    for job in jobs_of(name).values():
        yield from job.get("steps", [])


def supported() -> list[str]:
    """The Python versions that the package says it supports."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return re.findall(r'"Programming Language :: Python :: (3\.\d+)"', text)


def test_the_workflows_are_those() -> None:
    """So that none of the tests below runs over nothing."""
    assert list(WORKFLOWS) == ["audit.yml", "ci.yml", "release.yml"]


@every_workflow
def test_a_workflow_may_do_nothing_by_itself(name: str) -> None:
    """Each job is given what it needs, by name."""
    assert load(name)["permissions"] == {}


@every_workflow
def test_a_job_may_read_the_code_and_no_more(name: str) -> None:
    """But for the one that publishes, which may prove who it is, and does not even read the code."""
    publishing = {(name, job) for job in jobs_of(name) if (name, job) == ("release.yml", "publish")}
    for job_id, job in jobs_of(name).items():
        expected = {"id-token": "write"} if (name, job_id) in publishing else {"contents": "read"}
        assert job["permissions"] == expected, job_id


@every_workflow
def test_actions_are_official_and_by_their_major_version(name: str) -> None:
    """Nobody else's code runs; fixes come by themselves."""
    used = [step["uses"] for step in steps_of(name) if "uses" in step]
    assert [action for action in used if not MAJOR.fullmatch(action) and action != PUBLISHING] == []
    called = [job["uses"] for job in jobs_of(name).values() if "uses" in job]
    assert called in ([], ["./.github/workflows/ci.yml"])


@every_workflow
def test_a_checkout_leaves_no_token_behind(name: str) -> None:
    """What runs after it, the dependencies' code too, finds none in the clone."""
    checkouts = [step for step in steps_of(name) if step.get("uses", "").startswith("actions/checkout@")]
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


@every_workflow
def test_nothing_runs_for_ever_or_twice_at_once(name: str) -> None:
    """Each job has a time limit, and each workflow a group in which a run waits for or replaces another."""
    assert load(name)["concurrency"]["group"]
    assert all(0 < job["timeout-minutes"] <= 30 for job in jobs_of(name).values() if "steps" in job)


@every_workflow
def test_what_others_write_is_no_code(name: str) -> None:
    """No expression stands in a script: a branch or a title could be one that the shell runs."""
    assert [step["run"] for step in steps_of(name) if "${{" in step.get("run", "")] == []
    assert "pull_request_target" not in load(name)["on"]


@every_workflow
def test_make_targets_that_are_run_exist(name: str) -> None:
    """A workflow runs what a developer can run."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {target for step in steps_of(name) for target in re.findall(r"\bmake ([a-z]+)", step.get("run", ""))}
    assert named <= targets
    assert named


def test_each_change_is_checked_in_every_way_that_a_release_needs() -> None:
    """A release's own build is no place to find that it cannot be built."""
    commands = [step["run"] for step in steps_of("ci.yml") if step.get("run", "").startswith("make")]
    wanted = ["make check", "make test PYTHON=python", "make floors", "make package", "make docs"]
    assert commands == wanted
    built = {step["run"] for step in jobs_of("release.yml")["build"]["steps"] if step.get("run", "").startswith("make")}
    assert built <= set(commands)


def test_the_matrix_is_what_is_supported() -> None:
    """Every Python that the package promises, and the lowest of them for the floors."""
    jobs = jobs_of("ci.yml")
    assert jobs["test"]["strategy"]["matrix"]["python-version"] == supported()
    setup = next(step for step in jobs["floors"]["steps"] if "setup-python" in step.get("uses", ""))
    assert setup["with"]["python-version"] == supported()[0]
    assert f"for version in {' '.join(supported())};" in (ROOT / "scripts" / "matrix").read_text(encoding="utf-8")


def test_a_release_is_published_by_a_job_of_its_own() -> None:
    """Only for a tag, only after the checks, out of its environment, and without a script that could go astray."""
    release = load("release.yml")
    publish = release["jobs"]["publish"]
    assert release["on"] == {"push": {"tags": ["v*"]}}
    assert set(publish["needs"]) == {"ci", "build"}
    assert publish["environment"] == "pypi"
    assert [step["uses"] for step in publish["steps"]] == ["actions/download-artifact@v4", PUBLISHING]


def test_no_secret_is_kept_for_the_workflows() -> None:
    """Publishing is trusted for what it is, and nothing else needs one."""
    assert [name for name, path in WORKFLOWS.items() if "secrets" in path.read_text(encoding="utf-8")] == []
