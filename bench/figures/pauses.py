"""Draw when a wait polls: the pauses of waits whose job never finishes, for the docs.

Each wait is a separate session on the emulator, in virtual time, with default settings and a deadline of one minute.
Two runs draw the same.

    python -m bench.figures.pauses
"""

from __future__ import annotations

import asyncio
import math
import random
from itertools import pairwise
from pathlib import Path

import looptime

from bench.figures.figure import FAINT, INK, LOOP, OURS, figure
from playai_async import PlayAISession, Polling, WaitTimeoutError
from playai_async.emulator import Emulator

PICTURE = Path(__file__).parents[2] / "docs" / "pauses.svg"

TIMEOUT = 60.0
"""Seconds: enough for the pauses to reach their maximum and to be cut by the deadline."""

WAITS = 40


async def polls(polling: Polling, seed: int) -> list[float]:
    """Return the times of all polls of a wait, in seconds from its start."""
    random.seed(seed)  # the library's own random numbers
    async with Emulator() as service, PlayAISession("key", "user", base_url=service.base_url) as playai:
        job_id = service.add_job(duration=math.inf)
        began = asyncio.get_running_loop().time()
        try:
            await playai.wait_for_completion(job_id, polling=polling, timeout=TIMEOUT)
        except WaitTimeoutError:
            return [arrival.at - began for arrival in service.arrivals]
    raise AssertionError("the job never ends")


def polls_of(polling: Polling, seed: int) -> list[float]:
    """Wait in a new event loop with a virtual clock."""
    with asyncio.Runner(loop_factory=looptime.new_event_loop) as runner:
        return runner.run(polls(polling, seed))


def main() -> None:
    """Wait, print and draw."""
    even = polls_of(Polling(jitter=0), 0)
    with_jitter = [polls_of(Polling(), seed) for seed in range(1, WAITS + 1)]
    share = Polling().jitter
    print(f"without jitter: {' '.join(f'{at:.2f}' for at in even)}")
    counts = [len(wait) for wait in with_jitter]
    print(
        f"with jitter: {min(counts)} to {max(counts)} polls, the last at {min(wait[-1] for wait in with_jitter):.2f} s"
    )

    with figure(PICTURE, panels=1, height=3.6) as (axes,):
        pauses = [later - sooner for sooner, later in pairwise(even)]
        grown = pauses[:-1]  # the deadline cuts the last pause
        low, high = [pause * (1 - share) for pause in grown], [pause * (1 + share) for pause in grown]
        axes.fill_between(
            [*even[1:-1], TIMEOUT],
            [*low, low[-1]],
            [*high, high[-1]],
            color=OURS.color,
            alpha=0.15,
            linewidth=0,
            label="jitter: ±20 %",
        )
        axes.plot(even[1:-1], grown, color=OURS.color, marker="o", markersize=5, label="without jitter")
        for place, wait in enumerate(with_jitter):
            axes.scatter(
                wait[1:-1],
                [later - sooner for sooner, later in pairwise(wait[:-1])],
                s=5,
                color=INK,
                alpha=0.5,
                linewidths=0,
                label=None if place else f"{WAITS} waits",
            )
        axes.axvline(TIMEOUT, color=LOOP.color, linewidth=1.2)
        axes.text(TIMEOUT + 0.4, 0.2, "deadline", color=LOOP.color, rotation=90, va="bottom")
        axes.axvline(even[-1], color=LOOP.color, linewidth=1.2, linestyle=(0, (4, 2)))
        axes.text(
            even[-1] - 0.4, 0.2, "last poll, 1 s before it", color=LOOP.color, rotation=90, va="bottom", ha="right"
        )
        axes.set_xlim(-0.5, TIMEOUT + 2)
        axes.set_ylim(0, 13)
        axes.set_xlabel("seconds from the first poll")
        axes.set_ylabel("pause before a poll, s")
        axes.grid(axis="x", color=FAINT, linewidth=0.8)
        axes.legend(frameon=False, labelcolor=INK, loc="upper left")
    print(f"{PICTURE.name}: {PICTURE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
