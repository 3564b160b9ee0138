"""The examples that wait for the jobs of other services: each with its real client, on a service like the real one."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any

import attrs
import pytest
from aiohttp import web

from tests.support.clock import now

JOBS = ["a", "b", "c"]

FAULTS = {1: (429, "7"), len(JOBS) + 1: (503, "3")}
"""By the number of a request, its status and `Retry-After`: one of the first polls, and the probe after the pause."""


@attrs.define
class Services:
    """Five services with the same jobs.

    Each answers for each job that it runs, and then that it is finished.

    Attributes:
        url: Where they are.
        requests: When each request came.
        answered: How often each job was answered for.
    """

    url: str = ""
    requests: list[float] = attrs.field(factory=list[float])
    answered: Counter[str] = attrs.field(factory=Counter[str])

    def answer(self, job_id: str, shape: Callable[[str, bool], Mapping[str, Any]]) -> web.Response:
        """Answer a status request."""
        self.requests.append(now())
        if (fault := FAULTS.get(len(self.requests))) is not None:
            status, after = fault
            return web.json_response({"detail": "refused"}, status=status, headers={"Retry-After": after})
        self.answered[job_id] += 1
        return web.json_response(shape(job_id, self.answered[job_id] > 1))

    def route(
        self, shape: Callable[[str, bool], Mapping[str, Any]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        """Return a handler for one service."""

        async def handler(request: web.Request) -> web.Response:
            job_id = request.match_info.get("id") or (await request.json())["jobs"][0]
            response = self.answer(job_id, shape)
            response.force_close()  # some clients cannot be closed
            return response

        return handler


def openai(job_id: str, done: bool) -> Mapping[str, Any]:
    """A batch of OpenAI."""
    state = {"status": "completed", "output_file_id": f"file-{job_id}"} if done else {"status": "in_progress"}
    return {"id": job_id, "object": "batch", "created_at": 1, "endpoint": "/v1/responses", **state}


def runway(job_id: str, done: bool) -> Mapping[str, Any]:
    """A task of Runway."""
    task = {"id": job_id, "createdAt": "2026-01-01T00:00:00Z"}
    if done:
        return {**task, "status": "SUCCEEDED", "output": [f"https://cdn.example/{job_id}.mp4"], "cost": {"credits": 1}}
    return {**task, "status": "RUNNING", "progress": 0.5, "estimatedCost": {"credits": 1}}


def replicate(job_id: str, done: bool) -> Mapping[str, Any]:
    """A prediction of Replicate."""
    names = ("model", "version", "created_at", "started_at", "completed_at")
    state = {"status": "succeeded", "output": f"https://cdn.example/{job_id}"} if done else {"status": "processing"}
    return {"id": job_id, "input": {}, "urls": {}, "logs": "", **dict.fromkeys(names, "x"), "output": None, **state}


def fal(_: str, done: bool) -> Mapping[str, Any]:
    """The status of a request in fal's queue."""
    return {"status": "COMPLETED", "logs": None, "metrics": {}} if done else {"status": "IN_PROGRESS", "logs": None}


def aws(job_id: str, done: bool) -> Mapping[str, Any]:
    """A job of AWS Batch."""
    return {"jobs": [{"jobId": job_id, "jobName": job_id, "status": "SUCCEEDED" if done else "RUNNING"}]}


@asynccontextmanager
async def serving() -> AsyncIterator[Services]:
    """Serve all five."""
    services = Services()
    app = web.Application()
    app.add_routes(
        [
            web.get("/batches/{id}", services.route(openai)),
            web.get("/v1/tasks/{id}", services.route(runway)),
            web.get("/v1/predictions/{id}", services.route(replicate)),
            web.get("/owner/app/requests/{id}/status", services.route(fal)),
            web.post("/v1/describejobs", services.route(aws)),
        ]
    )
    runner = web.AppRunner(app, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    services.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield services
    finally:
        await runner.cleanup()


@pytest.fixture
async def services(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Services]:
    """The services, which the environment leads to."""
    async with serving() as services:
        for variable, value in (
            ("OPENAI_BASE_URL", services.url),
            ("OPENAI_API_KEY", "key"),
            ("RUNWAYML_BASE_URL", services.url),
            ("RUNWAYML_API_SECRET", "key"),
            ("REPLICATE_BASE_URL", services.url),
            ("REPLICATE_API_TOKEN", "key"),
            ("FAL_KEY", "key"),
            ("AWS_ENDPOINT_URL", services.url),
            ("AWS_DEFAULT_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", "key"),
        ):
            monkeypatch.setenv(variable, value)
        yield services


def example(name: str, client: str) -> ModuleType:
    """Import an example; skip the test if its client is not installed."""
    pytest.importorskip(client, reason=f"{client} is not installed; the dependency group `clients` has it")
    return importlib.import_module(f"examples.other_services.{name}")


@pytest.mark.parametrize(
    ("name", "client", "line"),
    [
        ("openai_batches", "openai", "{0} completed file-{0}"),
        ("runway_tasks", "runwayml", "{0} SUCCEEDED https://cdn.example/{0}.mp4"),
        ("replicate_predictions", "replicate", "{0} succeeded https://cdn.example/{0}"),
        ("fal_requests", "fal_client", "{0} Completed(logs=None, metrics={{}}, error=None, error_type=None)"),
        ("aws_batch_jobs", "aiobotocore", "{0} SUCCEEDED"),
    ],
    ids=["OpenAI", "Runway", "Replicate", "fal", "AWS Batch"],
)
async def test_an_example_waits_through_refusals(
    services: Services,
    name: str,
    client: str,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It prints each job, sends no request of the client's own, and honours `Retry-After`."""
    main = example(name, client).main
    if client == "fal_client":
        fal_client = importlib.import_module("fal_client.client")
        monkeypatch.setattr(fal_client, "QUEUE_URL_FORMAT", f"{services.url}/")  # it is always https
        await main("owner/app", JOBS)
    else:
        await main(JOBS)
    assert sorted(capsys.readouterr().out.splitlines()) == [line.format(job_id) for job_id in JOBS]
    assert len(services.requests) == 2 + 2 * len(JOBS)
    probe, after_probe = services.requests[len(JOBS) : len(JOBS) + 2]
    assert probe >= 7.0
    assert after_probe - probe >= 3.0
