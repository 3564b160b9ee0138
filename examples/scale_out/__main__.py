"""Two web processes, two workers, one PostgreSQL and one Redis on loopback; without a key, on an emulator of PlayAI.

By default, or with --demo, 40 texts are made into speech while a worker is killed, and the exit status is 0 if each was
stored exactly once. With --serve all keeps running until Ctrl-C.
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

from .demo import Demo, clock
from .processes import Kept, started, stopped
from .servers import find_program, free_port

PACKAGE = __package__ or "scale_out"
ROOT = Path(__file__).resolve().parents[len(PACKAGE.split("."))]
"""The directory in which `python -m` finds this package."""

READY = 60.0
"""Seconds for the web processes to answer."""


class NotStartedError(Exception):
    """Something did not start; what it had to say is on standard error."""


def main() -> int:
    """Run, and return the exit status."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {PACKAGE}", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--demo", action="store_true", help="post texts, kill a worker, and count (the default)")
    mode.add_argument("--serve", action="store_true", help="keep serving until Ctrl-C")
    parser.add_argument("--jobs", type=int, default=40, metavar="N", help="how many texts (40)")
    parser.add_argument("--quota", type=int, default=60, metavar="N", help="requests a window for all (60)")
    parser.add_argument("--window", type=float, metavar="S", help="seconds (10 on the emulator; the service's are 60)")
    options = parser.parse_args()
    options.emulated = not os.environ.get("PLAYAI_API_KEY")
    if options.window is None:
        options.window = 10.0 if options.emulated else 60.0
    if min(options.jobs, options.quota, options.window) <= 0:
        parser.error("--jobs, --quota and --window must be more than 0")
    if not options.emulated and not (options.demo or options.serve):
        print("PLAYAI_API_KEY is set, and speech costs money: say --demo or --serve.", file=sys.stderr)
        return 2
    needed = {"redis-server": "redis-server", "postgresql": "initdb"}
    missing = [package for package, program in needed.items() if not find_program(program)]
    if missing:
        print(f"Missing here: {' and '.join(missing)}. apt-get install {' '.join(missing)}", file=sys.stderr)
        return 2
    os.chdir(ROOT)
    try:
        return asyncio.run(until_signalled(options))
    except NotStartedError as error:
        print(error, file=sys.stderr)
        return 1


async def until_signalled(options: argparse.Namespace) -> int:
    """Run until it is over or a signal comes, and stop all that was started, which no second signal disturbs."""
    running = asyncio.create_task(run(options))
    signals: list[int] = []

    def heard(number: int) -> None:
        signals.append(number)
        if len(signals) == 1:
            print("\nstopping", flush=True)
            running.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, heard, number)
    await asyncio.wait([running])
    if signals:
        return 128 + signals[0]
    return running.result()


async def run(options: argparse.Namespace) -> int:
    """Start all, demonstrate or serve, and stop all."""
    say = clock()
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
        webs = [Kept(f"web {at}", web(port), environment, say) for at, port in enumerate(ports, 1)]
        workers = [Kept(f"worker {at}", [f"{PACKAGE}.worker"], environment, say) for at in (1, 2)]
        await stack.enter_async_context(all_kept_up([*webs, *workers]))
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        await answering(urls)
        show(environment, emulator, dict(zip(webs, urls, strict=True)), workers)
        if options.serve:
            print(f'\nTry: curl -i {urls[0]}/speech --json \'{{"text": "Hello."}}\'    Ctrl-C ends it all.', flush=True)
            await asyncio.Event().wait()
        demo = Demo(options.jobs, urls, environment["DATABASE_URL"], say)
        with contextlib.suppress(TimeoutError):  # the account says what is lost
            await demo.run(workers)
        return 0 if await demo.account(workers, emulator) else 1


def web(port: int) -> list[str]:
    return ["uvicorn", f"{PACKAGE}.app:app", "--port", str(port), "--log-level", "warning"]


@contextlib.asynccontextmanager
async def databases() -> AsyncIterator[dict[str, str]]:
    """Have PostgreSQL and Redis, and yield where they are."""
    process = await started(
        sys.executable,
        "-m",
        f"{PACKAGE}.servers",
        environment=os.environ,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        said = await process.stdout.readline()
        if not said:
            raise NotStartedError("PostgreSQL and Redis did not start.")
        yield json.loads(said)
    finally:
        await stopped(process)


@contextlib.asynccontextmanager
async def all_kept_up(processes: list[Kept]) -> AsyncIterator[None]:
    """Keep all up, and stop them at the same time."""
    async with contextlib.AsyncExitStack() as stack:
        for process in processes:
            await stack.enter_async_context(process.kept_up())
        yield


async def answering(urls: list[str]) -> None:
    """Wait until all web processes answer."""
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


def show(environment: dict[str, str], emulator: Emulator | None, webs: dict[Kept, str], workers: list[Kept]) -> None:
    """Print where everything is."""
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
