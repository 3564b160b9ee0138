"""`emulate`: the emulator for as long as one likes, for trying things out from another terminal."""

from __future__ import annotations

import asyncio
from typing import NoReturn

from playai_async._cli._screen import Screen
from playai_async.emulator import Emulator

__all__ = ["emulate"]

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
