"""The callers of the soak: each waits and leaves as planned, and checks the results that it receives."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypedDict
from uuid import UUID

from tenacity import wait_random_exponential

from playai_async import PlayAIError, PlayAISession, Polling, TtsJob, TtsParameters
from playai_async.emulator import Emulator
from tests.soak.account import Account, CallerWaits, LeftEarlyError
from tests.soak.oracle import TOLERANCE
from tests.soak.plan import HOT, Caller, Soak, Way, job_of

POLLINGS = (
    Polling(initial=0.5, maximum=4.0, timeout=20.0),
    Polling(initial=0.2, multiplier=2.0, maximum=5.0, timeout=15.0, max_failures=2),
    Polling(initial=1.0, multiplier=1.0, maximum=1.0, jitter=1.0, timeout=10.0, max_failures=1),
    Polling(wait=wait_random_exponential(multiplier=0.5, min=0.2, max=4.0), timeout=25.0, max_failures=4),
    Polling(initial=2.0, multiplier=1.2, maximum=5.0, jitter=0.0, timeout=5.0),
    Polling(timeout=12.0, maximum=5.0, max_failures=3),
)
"""No pause is longer than 6 s, so that all waits end soon after the faults stop."""

OWN = Polling(initial=0.5, multiplier=1.6, maximum=5.0, timeout=18.0)
"""The default of every session."""

SLOW = 5
"""How many results a slow caller is slow for. With hundreds of results it would not finish."""

OLD = b"what was there before"


class Settings(TypedDict, total=False):
    """The arguments of a wait; a missing key means that the argument is not passed."""

    polling: Polling | None
    timeout: float | None


class Callers:
    """Performs what callers were planned to do.

    Args:
        account: Records and checks the waits.
        session_at: Returns the session of a slot.
        directory: Where audio files are written.
    """

    def __init__(self, account: Account, session_at: Callable[[int], PlayAISession], directory: Path) -> None:
        self._account = account
        self._soak: Soak = account.soak
        self._session_at = session_at
        self._directory = directory
        self._ways: dict[Way, Callable[[Caller], Coroutine[Any, Any, None]]] = {
            "wait": self._wait,
            "watch": self._watch,
            "as_completed": self._as_completed,
            "wait_for_all": self._wait_for_all,
            "get_job": self._get_job,
            "create_job": self._create_job,
            "download": self._download,
            "speak": self._speak,
            "unknown": self._wait,
        }

    async def perform(self, caller: Caller) -> None:
        """Wait, and leave as planned."""
        leave_at = self._account.now + caller.after
        work = self._ways[caller.way](caller)
        if caller.leaving == "stays":
            await work
            return
        left = await _LEAVING[caller.leaving](work, caller.after)
        late = self._account.now - leave_at
        if left and late > TOLERANCE + self._account.slack():
            self._account.violation(f"caller {caller.number} was cancelled or timed out {late:.3f} s late; {caller}")

    async def _wait(self, caller: Caller) -> None:
        job_id = self._job_ids(caller)[0]
        session = self._session_at(caller.slot)
        with self._track(caller, session, [job_id]) as tracked:
            # Half of the callers pass the id as a string.
            job = str(job_id) if caller.number % 2 else job_id
            tracked.check_end(await session.wait_for_completion(job, **_settings(caller)))

    async def _watch(self, caller: Caller) -> None:
        job_id = self._job_ids(caller)[0]
        session = self._session_at(caller.slot)
        with self._track(caller, session, [job_id]) as tracked:
            async with _closing(session.watch(job_id, **_settings(caller)), caller) as changes:
                before: TtsJob | None = None
                taken = 0
                async for job in changes:
                    tracked.check_state(job, before)
                    before = job
                    taken += 1
                    if job.done:
                        tracked.check_end(job)
                    if await self._is_enough(caller, tracked, taken):
                        break

    async def _as_completed(self, caller: Caller) -> None:
        job_ids = self._job_ids(caller)
        session = self._session_at(caller.slot)
        several = session.as_completed(job_ids, return_exceptions=caller.return_exceptions, **_settings(caller))
        with self._track(caller, session, job_ids) as tracked:
            async with _closing(several, caller) as ends:
                taken = 0
                async for outcome in ends:
                    tracked.check_end(outcome)
                    taken += 1
                    if await self._is_enough(caller, tracked, taken):
                        break

    async def _wait_for_all(self, caller: Caller) -> None:
        job_ids = self._job_ids(caller)
        session = self._session_at(caller.slot)
        with self._track(caller, session, job_ids) as tracked:
            results = await session.wait_for_all(
                job_ids, return_exceptions=caller.return_exceptions, **_settings(caller)
            )
            tracked.asking()  # results are returned together, when the last wait ends
            for wait, result in zip(tracked.waits, results, strict=True):
                tracked.check_end(result, wait)

    async def _get_job(self, caller: Caller) -> None:
        job_id = self._job_ids(caller)[0]
        session = self._session_at(caller.slot)
        with self._track(caller, session, [job_id], timeout=None) as tracked:
            tracked.check_end(await session.get_job(job_id))

    async def _create_job(self, caller: Caller) -> None:
        session = self._session_at(caller.slot)
        parameters = _parameters(caller)
        with self._track(caller, session, [None], polling=OWN) as tracked:
            if caller.timeout == "left out":
                job = await session.create_job(parameters)
            else:
                job = await session.create_job(parameters, timeout=caller.timeout)
            self._check_created(caller, job, parameters)
            tracked.end(tracked.waits[0], "finished")

    async def _download(self, caller: Caller) -> None:
        """Download the audio of a finished job, into a directory or over an existing file."""
        number = self._job_number(caller, caller.ages[0])
        now = self._account.now
        while (job := job_of(self._soak, number)).finishes > now - 0.1 and number:
            number -= 1
        if job.finishes > now - 0.1:
            return  # at the beginning, before any job has finished
        session = self._session_at(caller.slot)
        place = self._directory / f"{caller.number}"
        into_directory = caller.number % 2 == 0
        path = place / f"{job.id}.wav" if into_directory else place
        if into_directory:
            place.mkdir()
        else:
            path.write_bytes(OLD)
        try:
            with self._track(caller, session, [job.id], timeout=None) as tracked:
                found = await session.download(job.id, place)
                if found != path:
                    self._account.violation(f"caller {caller.number}: its audio was written to {found}; {caller}")
                self._check_file(caller, path, job.input, whole=True)
                tracked.end(tracked.waits[0], "finished")
        finally:
            self._clear(caller, path, job.input)
            if into_directory:
                place.rmdir()

    async def _speak(self, caller: Caller) -> None:
        session = self._session_at(caller.slot)
        parameters = _parameters(caller)
        path = self._directory / f"{caller.number}.wav"
        job_input = {"text": parameters.text, "voice": "v", "model": "PlayDialog", "sampleRate": 8000}
        try:
            with self._track(caller, session, [None]) as tracked:
                job = await session.speak(parameters, path, **_settings(caller))
                self._check_created(caller, job, parameters)
                self._check_file(caller, path, job_input, whole=True)
                tracked.end(tracked.waits[0], "finished")
        finally:
            self._clear(caller, path, job_input)

    def _track(
        self,
        caller: Caller,
        session: PlayAISession,
        job_ids: list[UUID] | list[None],
        *,
        timeout: float | None = math.nan,
        polling: Polling | None = None,
    ) -> contextlib.AbstractContextManager[CallerWaits]:
        polling = polling or _polling(caller)
        if timeout is not None:
            timeout = polling.timeout if caller.timeout == "left out" else caller.timeout
        return self._account.track(caller, session, job_ids, timeout=timeout, max_failures=polling.max_failures)

    async def _is_enough(self, caller: Caller, tracked: CallerWaits, taken: int) -> bool:
        """Process a result, and return whether to leave the loop."""
        if taken == caller.takes:
            tracked.left = True
            if caller.raises:
                raise LeftEarlyError
            return True
        if caller.slowness and taken <= SLOW and not self._account.ending:
            tracked.busy()
            await asyncio.sleep(caller.slowness)
        tracked.asking()
        return False

    def _job_number(self, caller: Caller, age: int) -> int:
        number = max(0, int(self._account.now * self._soak.job_rate) - age)
        return number - number % HOT if caller.hot else number

    def _job_ids(self, caller: Caller) -> list[UUID]:
        if caller.way == "unknown":
            return [UUID(int=caller.number)]
        return [job_of(self._soak, self._job_number(caller, age)).id for age in caller.ages]

    def _check_created(self, caller: Caller, job: TtsJob, parameters: TtsParameters) -> None:
        if job.input.get("text") != parameters.text:
            self._account.violation(f"caller {caller.number}: job {job.id} belongs to another caller; {caller}")
        self._account.record({"created": [str(job.id), parameters.text]})

    def _check_file(self, caller: Caller, path: Path, job_input: dict[str, Any], *, whole: bool) -> None:
        """Check that the audio is complete, or, if it need not be complete, that the file is unchanged."""
        content = path.read_bytes() if path.exists() else None
        if content == audio_of(job_input):
            self._account.whole_files += whole
        elif whole or content not in {None, OLD}:
            size = "no" if content is None else len(content)
            self._account.violation(f"caller {caller.number}: wrong audio, {size} bytes; {caller}")

    def _clear(self, caller: Caller, path: Path, job_input: dict[str, Any]) -> None:
        self._check_file(caller, path, job_input, whole=False)
        path.unlink(missing_ok=True)


def audio_of(job_input: dict[str, Any]) -> bytes:
    """Return the audio that the service generates for an input."""
    emulator = Emulator()
    return emulator.audio_of(emulator.add_job(input=job_input))


def _parameters(caller: Caller) -> TtsParameters:
    return TtsParameters(f"caller {caller.number} " + "la " * (caller.number % 20), "v", sample_rate=8000)


def _polling(caller: Caller) -> Polling:
    return OWN if caller.polling_index is None else POLLINGS[caller.polling_index]


def _settings(caller: Caller) -> Settings:
    settings: Settings = {}
    if caller.polling_index is not None:
        settings["polling"] = POLLINGS[caller.polling_index]
    if caller.timeout != "left out":
        settings["timeout"] = caller.timeout
    return settings


@contextlib.asynccontextmanager
async def _closing(
    iteration: AsyncGenerator[TtsJob | PlayAIError, None] | AsyncGenerator[TtsJob, None], caller: Caller
) -> AsyncGenerator[Any, None]:
    """Close an iterator at the end if the caller does so; otherwise Python does it."""
    if not caller.closes:
        yield iteration
        return
    async with contextlib.aclosing(iteration):
        yield iteration


async def _cancelled(work: Coroutine[Any, Any, None], after: float) -> bool:
    task = asyncio.current_task()
    assert task is not None
    timer = asyncio.get_running_loop().call_later(after, task.cancel)
    try:
        await work
    except asyncio.CancelledError:
        return True
    finally:
        timer.cancel()
    return False


async def _timed_out(work: Coroutine[Any, Any, None], after: float) -> bool:
    limit = asyncio.timeout(after)
    with contextlib.suppress(TimeoutError):
        async with limit:
            await work
    return limit.expired()


async def _with_a_sibling_that_fails(work: Coroutine[Any, Any, None], after: float) -> bool:
    async def fail() -> None:
        await asyncio.sleep(after)
        raise LeftEarlyError

    left = False
    try:
        async with asyncio.TaskGroup() as group:
            sibling = group.create_task(fail())
            await work
            sibling.cancel()
    except* LeftEarlyError:
        left = True
    return left


_LEAVING: dict[str, Callable[[Coroutine[Any, Any, None], float], Awaitable[bool]]] = {
    "cancelled": _cancelled,
    "timeout": _timed_out,
    "group": _with_a_sibling_that_fails,
}
