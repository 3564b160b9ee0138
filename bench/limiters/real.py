"""Runs against real limiters on loopback and in real time: nginx, and the strategies of the `limits` library.

Time is scaled: with windows of 6 s instead of 60 s, the jobs and all pauses are ten times shorter. All clients of a
case run at the same time, each with its own key. Tables show seconds of a 60-second window.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import aiohttp

from bench.fleet.workloads import WINDOW, workload
from bench.limiters.backend import NO_LIMIT, SLOW, STRATEGIES
from bench.limiters.clients import Client
from bench.limiters.results import Case, Results, Summary, summarize
from bench.limiters.runs import CONCURRENT_QUOTA, LOADS, QUOTA, Result, wait_for_all
from tools.limited_service import Counts, RefusedError
from tools.limiters import CONCURRENT, SERVICE_FRACTION
from tools.processes import Child
from tools.servers.machine import find_nginx, free_port
from tools.servers.nginx import NginxServer

SCALED_WINDOW = 6

SCALE = SCALED_WINDOW / WINDOW

NGINX: Mapping[str, tuple[str, str]] = {
    "nginx limit_req": (NO_LIMIT, "limit_req zone=requests;"),
    "nginx burst=20 nodelay": (NO_LIMIT, "limit_req zone=requests burst=20 nodelay;"),
    "nginx burst=20": (NO_LIMIT, "limit_req zone=requests burst=20;"),
    "nginx limit_conn": (SLOW, f"limit_conn connections {CONCURRENT};"),
}
"""By name: the path of the service behind nginx, and the limit."""

REAL_KINDS = (*NGINX, *(f"limits {name}" for name in STRATEGIES))


class HttpService:
    """A service behind a real limiter.

    Args:
        http: The HTTP client.
        url: The address to poll.
        key: The key whose requests are limited.
        finishes: When each job finishes, in seconds of the machine's monotonic clock.
    """

    def __init__(self, http: aiohttp.ClientSession, url: str, key: str, finishes: Mapping[Hashable, float]) -> None:
        self.counts = Counts()
        self._http = http
        self._url = url
        self._headers = {"X-Key": key}
        self._finishes = finishes
        self._later = time.monotonic() + 2 * SCALED_WINDOW

    async def fetch(self, job_id: Hashable) -> bool:
        """Make one status request, and return whether the job is finished; or raise `RefusedError`."""
        later = time.monotonic() >= self._later
        async with self._http.get(self._url, headers=self._headers) as response:
            self.counts.count(admitted=response.status != 429, later=later)
            if response.status == 429:
                hint = response.headers.get("Retry-After")
                raise RefusedError(None if hint is None else float(hint))
            response.raise_for_status()
            return float((await response.json())["now"]) >= self._finishes[job_id]


def nginx_config(port: int, backend: int) -> str:
    """Return the `http` block with one location for each limit."""
    locations = "\n".join(
        f"location /{number}/ {{ {limit} proxy_pass http://backend/{path}/; }}"
        for number, (path, limit) in enumerate(NGINX.values())
    )
    return f"""
limit_req_zone $http_x_key zone=requests:1m rate={QUOTA * 60 // SCALED_WINDOW}r/m;
limit_conn_zone $http_x_key zone=connections:1m;
limit_req_status 429;
limit_conn_status 429;
upstream backend {{ server 127.0.0.1:{backend}; keepalive 64; }}
server {{
    listen 127.0.0.1:{port} backlog=1024;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    keepalive_requests 1000000;
    {locations}
}}"""


@contextmanager
def addresses() -> Iterator[dict[str, str]]:
    """Start the servers; yield the address of each kind of limiter that can be had on this machine."""
    with Child("bench.limiters.backend", [QUOTA, SCALED_WINDOW, SERVICE_FRACTION * SCALED_WINDOW]) as backend:
        backend_port = backend.ask("port")
        found = {f"limits {name}": f"http://127.0.0.1:{backend_port}/{name}/" for name in STRATEGIES}
        program = find_nginx()
        if program is None:
            print("nginx was not found: its limiters are skipped\n")
            yield found
            return
        port = free_port()
        with (
            tempfile.TemporaryDirectory() as directory,
            NginxServer(program, Path(directory), port=port, http=nginx_config(port, backend_port)),
        ):
            yield {name: f"http://127.0.0.1:{port}/{number}/" for number, name in enumerate(NGINX)} | found


class RealResults(Results):
    """Runs all clients of a case at the same time when the first result of the case is asked for.

    Args:
        seeds: The seeds of each case.
        arms: The clients.
        urls: The address of each kind of limiter.
    """

    def __init__(self, seeds: Sequence[int], arms: Sequence[str], urls: Mapping[str, str]) -> None:
        self._seeds = seeds
        self._arms = arms
        self._urls = urls
        self._found: dict[Case, dict[str, Summary]] = {}

    def of(self, case: Case, arm: str) -> Summary:
        """Return the summary of a client in a case."""
        if case not in self._found:
            runs = [asyncio.run(self._run(case, seed)) for seed in self._seeds]
            self._found[case] = {arm: summarize([run[arm] for run in runs]) for arm in self._arms}
        return self._found[case][arm]

    def has(self, arm: str) -> bool:
        """Return whether a client takes part."""
        return arm in self._arms

    async def _run(self, case: Case, seed: int) -> dict[str, Result]:
        kind, _, load = case
        jobs = workload(LOADS[load], seed)
        quota = CONCURRENT_QUOTA if NGINX.get(kind, ("",))[0] == SLOW else QUOTA

        async def one(arm: str) -> tuple[str, Result]:
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
                begins = time.monotonic()
                finishes: dict[Hashable, float] = {job.id: begins + job.finishes * SCALE for job in jobs.jobs}
                service = HttpService(http, self._urls[kind], f"{case} {arm} {seed}", finishes)
                outcomes = await wait_for_all(jobs, arm, Client(service, SCALE, quota))
                return arm, Result(outcomes.lags, outcomes.lost, service.counts)

        return dict(await asyncio.gather(*(one(arm) for arm in self._arms)))
