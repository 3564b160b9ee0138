"""Run two web processes, two workers, PostgreSQL and Redis on 127.0.0.1. Without a key, it uses an emulator of PlayAI.

By default, or with --demo, it creates speech for 40 texts and kills a worker meanwhile. The exit status is 0 if each
result was stored exactly once. With --serve, everything runs until Ctrl-C; with both, the demo comes first.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp

from playai_async.emulator import Emulator

from .demo import Demo, stopwatch
from .processes import Supervised, start, stop
from .servers import find_program, free_port

PACKAGE = __package__ or "scale_out"
ROOT = Path(__file__).resolve().parents[len(PACKAGE.split("."))]
"""The directory in which `python -m` finds this package."""

READY = 60.0
"""Seconds to wait for the web processes."""


class NotStartedError(Exception):
    """A process did not start; its error is on standard error."""


def main() -> int:
    """Run the example, and return the exit status."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {PACKAGE}", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--demo", action="store_true", help="post texts, kill a worker, and count the results (default)"
    )
    parser.add_argument("--serve", action="store_true", help="keep serving until Ctrl-C")
    parser.add_argument("--jobs", type=int, default=40, metavar="N", help="number of texts (default: 40)")
    parser.add_argument(
        "--quota", type=int, default=60, metavar="N", help="requests per window for all processes (default: 60)"
    )
    parser.add_argument(
        "--window", type=float, metavar="S", help="seconds per window (default: 10 with the emulator, else 60)"
    )
    options = parser.parse_args()
    options.emulated = not os.environ.get("PLAYAI_API_KEY")
    if options.window is None:
        options.window = 10.0 if options.emulated else 60.0
    if min(options.jobs, options.quota, options.window) <= 0:
        parser.error("--jobs, --quota and --window must be more than 0")
    if not options.emulated and not (options.demo or options.serve):
        print("PLAYAI_API_KEY is set, and speech costs money: pass --demo or --serve.", file=sys.stderr)
        return 2
    needed = {"redis-server": "redis-server", "postgresql": "initdb"}
    missing = [package for package, program in needed.items() if not find_program(program)]
    if missing:
        print(f"Not installed: {' and '.join(missing)}. Run: apt-get install {' '.join(missing)}", file=sys.stderr)
        return 2
    os.chdir(ROOT)
    try:
        return asyncio.run(until_signalled(options))
    except NotStartedError as error:
        print(error, file=sys.stderr)
        return 1


async def until_signalled(options: argparse.Namespace) -> int:
    """Run until the example ends or a signal arrives, then stop all processes; further signals are ignored."""
    running = asyncio.create_task(run(options))
    signals: list[int] = []

    def on_signal(number: int) -> None:
        signals.append(number)
        if len(signals) == 1:
            print("\nstopping", flush=True)
            running.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, on_signal, number)
    await asyncio.wait([running])
    if signals:
        return 128 + signals[0]
    return running.result()


async def run(options: argparse.Namespace) -> int:
    """Start everything, run the demo, serve, or both, and stop everything."""
    say = stopwatch()
    async with contextlib.AsyncExitStack() as stack:
        environment = os.environ | await stack.enter_async_context(databases())
        emulator = Emulator(options.quota, options.window) if options.emulated else None
        environment |= {"PLAYAI_QUOTA": str(options.quota), "PLAYAI_WINDOW": str(options.window)}
        if emulator is not None:
            await stack.enter_async_context(emulator)
            environment |= {
                "PLAYAI_API_KEY": "any-key",
                "PLAYAI_USER_ID": "any-user",
                "PLAYAI_BASE_URL": emulator.base_url,
            }
        ports = [free_port(), free_port()]
        webs = [Supervised(f"web {at}", web(port), environment, say) for at, port in enumerate(ports, 1)]
        workers = [Supervised(f"worker {at}", [f"{PACKAGE}.worker"], environment, say) for at in (1, 2)]
        await stack.enter_async_context(run_all([*webs, *workers]))
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        await wait_until_ready(urls)
        show(environment, emulator, dict(zip(webs, urls, strict=True)), workers)
        if options.demo or not options.serve:
            demo = Demo(options.jobs, urls, environment["DATABASE_URL"], say)
            with contextlib.suppress(TimeoutError):  # the report shows what is missing
                await demo.run(workers)
            if not await demo.report(workers, emulator):
                return 1
        if options.serve:
            print(
                f'\nTry: curl -i {urls[0]}/speech --json \'{{"text": "Hello."}}\'    Press Ctrl-C to stop.', flush=True
            )
            await asyncio.Event().wait()
        return 0


def web(port: int) -> list[str]:
    return ["uvicorn", f"{PACKAGE}.app:app", "--port", str(port), "--log-level", "warning"]


@contextlib.asynccontextmanager
async def databases() -> AsyncIterator[dict[str, str]]:
    """Run PostgreSQL and Redis, and yield their addresses as environment variables."""
    process = await start(
        sys.executable,
        "-m",
        f"{PACKAGE}.servers",
        environment=os.environ,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        line = await process.stdout.readline()
        if not line:
            raise NotStartedError("PostgreSQL and Redis did not start.")
        yield json.loads(line)
    finally:
        await stop(process)


@contextlib.asynccontextmanager
async def run_all(processes: list[Supervised]) -> AsyncIterator[None]:
    """Run all processes, and stop them at the same time."""
    async with contextlib.AsyncExitStack() as stack:
        for process in processes:
            await stack.enter_async_context(process.running())
        yield


async def wait_until_ready(urls: list[str]) -> None:
    """Wait until all web processes respond."""
    ends = time.monotonic() + READY
    async with aiohttp.ClientSession() as client:
        for url in urls:
            while True:
                try:
                    async with client.get(f"{url}/openapi.json"):
                        break
                except aiohttp.ClientConnectionError:
                    if time.monotonic() > ends:
                        raise NotStartedError(f"Nothing answers at {url}.") from None
                    await asyncio.sleep(0.1)


def show(
    environment: dict[str, str], emulator: Emulator | None, webs: dict[Supervised, str], workers: list[Supervised]
) -> None:
    """Print the addresses."""
    service = environment.get("PLAYAI_BASE_URL", "https://api.play.ai")
    places = {"PostgreSQL": environment["DATABASE_URL"], "Redis": environment["REDIS_URL"], "PlayAI": service}
    if emulator is not None:
        places["PlayAI"] += (
            f" (an emulator; {environment['PLAYAI_QUOTA']} requests in {float(environment['PLAYAI_WINDOW']):g} s)"
        )
    places |= {web.name: f"{url} (process {web.pid})" for web, url in webs.items()}
    places |= {worker.name: f"process {worker.pid}" for worker in workers}
    for name, place in places.items():
        print(f"{name:<12}{place}")
    print(flush=True)


if __name__ == "__main__":
    sys.exit(main())
