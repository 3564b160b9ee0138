"""`demo`: many jobs at once under one quota, on the emulator, ending with a table of what each one took."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import NoReturn
from uuid import UUID

import attrs

from playai_async._cli.errors import Exit
from playai_async._cli.output import Screen
from playai_async._cli.results import Results, Tally, id_of
from playai_async._exceptions import PlayAIError
from playai_async._session import PlayAISession
from playai_async._settings import Pacing, Polling
from playai_async.emulator import Emulator, EmulatorStats

__all__ = ["demo", "emulate"]

SPEED = 20
"""How much faster than life it goes: 28 jobs of up to four minutes in 12 s, with windows and pauses to match."""

QUOTA = 60
"""Requests a window: what the service publishes for comparable requests."""

WINDOW = Pacing().window / SPEED
POLLING = Polling(initial=Polling().initial / SPEED, maximum=Polling().maximum / SPEED, timeout=None)


@attrs.frozen
class _End:
    """How one wait ended, and what it took; without state and lateness, where it was lost: the job went on."""

    job_id: UUID
    state: str | None
    seconds: float
    polls: int
    late: float | None

    @property
    def row(self) -> tuple[str, ...]:
        """What the table shows of it."""
        late = "-" if self.late is None else f"{self.late:.2f}"
        return str(self.job_id), self.state or "lost", f"{self.seconds:.1f}", str(self.polls), late


async def demo(screen: Screen, *, jobs: int, longest: float) -> Exit:
    """Wait for jobs on the emulator, all at once, and show what it took.

    Args:
        screen: Where to show it.
        jobs: How many, at least one; their lengths are spread evenly, and one of them fails.
        longest: Seconds that the longest takes.

    Returns:
        The exit status: an error if any wait was lost.
    """
    began = asyncio.get_running_loop().time()
    async with Emulator(QUOTA, WINDOW) as emulator:
        screen.result(f"{jobs} jobs on the emulator at {emulator.base_url}, not on the service.")
        screen.result(
            f"Known quota: {QUOTA} requests every {WINDOW:g} s. All of it goes {SPEED} times as fast as usual."
        )
        screen.result("")
        playai = PlayAISession(
            "demo-key",
            "demo-user",
            base_url=emulator.base_url,
            polling=POLLING,
            pacing=Pacing(requests_per_window=QUOTA, window=WINDOW),
        )
        ends = await _ends(emulator, playai, screen, jobs=jobs, longest=longest)
        took = asyncio.get_running_loop().time() - began
        screen.table(("Job", "State", "Seconds", "Polls", "Late (s)"), [end.row for end in ends])
        screen.result("")
        for line in _totals(emulator.stats, ends, took=took):
            screen.result(line)
    return Exit.FINE if all(end.state for end in ends) else Exit.ERROR


async def _ends(emulator: Emulator, playai: PlayAISession, screen: Screen, *, jobs: int, longest: float) -> list[_End]:
    clock = asyncio.get_running_loop().time
    lengths: dict[UUID, float] = {}
    for number in range(jobs):
        seconds = longest * (number + 1) / jobs
        lengths[emulator.add_job(duration=seconds, fails=number == jobs // 2)] = seconds
    tally = Tally(jobs)
    ends: list[_End] = []
    async with (
        playai,
        screen.showing(lambda: tally.drawn(playai.stats)),
        contextlib.aclosing(playai.as_completed(lengths, timeout=None, return_exceptions=True)) as ended,
    ):
        async for outcome in ended:
            job_id = id_of(outcome)
            late: float | None = None
            state: str | None = None
            tally.add(outcome)
            if isinstance(outcome, PlayAIError):
                Results(screen).tell(outcome, job_id)
            else:
                # The emulator counts what is due within a microsecond as due.
                late = max(0.0, clock() - emulator.finishes_at(job_id))
                state = outcome.output.status
            ends.append(_End(job_id, state, lengths[job_id], emulator.requests_of(job_id), late))
    return ends


def _totals(stats: EmulatorStats, ends: Sequence[_End], *, took: float) -> list[str]:
    late = [end.late for end in ends if end.late is not None] or [0.0]
    each = stats.requests / len(ends)
    return [
        f"{stats.requests} requests to the emulator, {each:.1f} a job; {stats.throttled} answered with 429.",
        f"{sum(end.state is None for end in ends)} waits lost.",
        f"Noticed {sum(late) / len(late):.2f} s late on average, {max(late):.2f} s at most; {took:.1f} s in all.",
    ]


_STEP = 5.0
"""Seconds between the ends of the jobs to try: time to copy an id and see one end."""


async def emulate(emulator: Emulator, screen: Screen, *, jobs: int) -> NoReturn:
    """Serve until cancelled.

    Args:
        emulator: The emulator, not started.
        screen: Where to say how to reach it.
        jobs: How many jobs to make; they end one after another, the last of several by failing.
    """
    async with emulator:
        screen.note(f"The emulator, not the service, is at {emulator.base_url}")
        screen.note("Ctrl-C ends it.")
        screen.note("To use it from another terminal:")
        screen.result(f"export PLAYAI_BASE_URL={emulator.base_url}")
        screen.result("export PLAYAI_API_KEY=anything")
        screen.result("export PLAYAI_USER_ID=anything")
        screen.note('To make audio: playai-async create --voice v --text "Hello." --download out/')
        if jobs:
            screen.note("Jobs to wait for: playai-async wait ID")
        for number in range(1, jobs + 1):
            fails = number == jobs > 1
            job_id = emulator.add_job(duration=number * _STEP, fails=fails)
            screen.result(f"{job_id} {'fails' if fails else 'completes'} after {number * _STEP:.0f} s")
        while True:
            await asyncio.Event().wait()
