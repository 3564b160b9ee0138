"""`JobPoller`: waits for the jobs of any service, with any client."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
import pickle
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, NoReturn

import attrs
import pytest

from playai_async import ConfigurationError, Pacing, Polling
from playai_async.jobs import JobPoller, JobTimeoutError, PollerClosedError, Throttled, Transient
from tests.support.clock import now
from tests.support.dice import Dice
from tests.support.memory_quota import MemoryQuota


@attrs.frozen
class Task:
    """A job of some service."""

    name: str
    state: str = "running"


class BusyError(Exception):
    """The service's 429."""


class DownError(Exception):
    """The service's 503."""


class GoneError(Exception):
    """The service's 404, whose constructor takes a keyword."""

    def __init__(self, *, name: str) -> None:
        super().__init__(name)


RUNNING, DONE = Task("a"), Task("a", "done")


def classify(error: Exception) -> Throttled | Transient | None:
    """Say what an exception of the service means."""
    if isinstance(error, BusyError):
        return Throttled(7.0)
    return Transient() if isinstance(error, DownError) else None


def is_done(task: Task) -> bool:
    """Say whether a job is finished."""
    return task.state == "done"


class SomeService:
    """A service that answers each job from a list, and then with the last answer again."""

    def __init__(self) -> None:
        self.answers: dict[str, deque[Task | Exception]] = {}
        self.requests: list[tuple[float, str]] = []
        self.takes = 0.0

    async def fetch(self, name: str) -> Task:
        """Make one status request."""
        self.requests.append((now(), name))
        await asyncio.sleep(self.takes)
        answers = self.answers[name]
        answer = answers.popleft() if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def tasks() -> SomeService:
    """A service without jobs."""
    return SomeService()


@pytest.fixture
async def poller(tasks: SomeService) -> AsyncIterator[JobPoller[str, Task]]:
    """A poller of that service."""
    async with polling(tasks) as poller:
        yield poller


@contextlib.asynccontextmanager
async def polling(tasks: SomeService, request_timeout: float | None = 10.0) -> AsyncIterator[JobPoller[str, Task]]:
    """Make a poller without jitter."""
    async with JobPoller(
        tasks.fetch,
        is_done=is_done,
        classify=classify,
        polling=Polling(jitter=0, max_failures=3),
        request_timeout=request_timeout,
    ) as poller:
        yield poller


async def test_a_wait_polls_until_the_job_is_done(tasks: SomeService, poller: JobPoller[str, Task]) -> None:
    """With the pauses of the backoff."""
    tasks.answers["a"] = deque([RUNNING, RUNNING, DONE])
    assert await poller.wait_for_completion("a") == DONE
    assert [at for at, _ in tasks.requests] == pytest.approx([0.0, 1.0, 2.5], abs=0.01)


async def test_get_makes_one_request(tasks: SomeService, poller: JobPoller[str, Task]) -> None:
    """And raises what it met, transient or not."""
    tasks.answers["a"] = deque([RUNNING, DownError("down")])
    assert await poller.get("a") == RUNNING
    with pytest.raises(DownError):
        await poller.get("a")
    assert len(tasks.requests) == 2


async def test_watch_yields_each_change(tasks: SomeService, poller: JobPoller[str, Task]) -> None:
    """An equal job is no change."""
    queued = Task("a", "queued")
    tasks.answers["a"] = deque([queued, Task("a", "queued"), RUNNING, DONE])
    assert [task async for task in poller.watch("a")] == [queued, RUNNING, DONE]


async def test_several_jobs_come_as_they_finish_or_in_order(tasks: SomeService, poller: JobPoller[str, Task]) -> None:
    """The ids are the caller's own."""
    tasks.answers["slow"] = deque([Task("slow"), Task("slow"), Task("slow", "done")])
    tasks.answers["fast"] = deque([Task("fast"), Task("fast", "done")])
    assert [task.name async for task in poller.as_completed(["slow", "fast"])] == ["fast", "slow"]
    assert [task.name for task in await poller.wait_for_all(["slow", "fast", "slow"])] == ["slow", "fast", "slow"]
    with pytest.raises(TypeError, match="iterable"):
        poller.as_completed("slow")


async def test_a_rate_limit_never_ends_a_wait(tasks: SomeService, poller: JobPoller[str, Task]) -> None:
    """It pauses all polls for as long as `classify` says."""
    tasks.answers["a"] = deque([*[BusyError()] * 5, DONE])
    assert await poller.wait_for_completion("a") == DONE
    assert poller.stats.throttled == 5
    assert now() >= 35.0


async def test_transient_failures_are_retried_up_to_a_number(tasks: SomeService, poller: JobPoller[str, Task]) -> None:
    """The last one is raised, with a note that names the job."""
    tasks.answers["a"] = deque([DownError("1"), DownError("2"), DownError("3"), DONE])
    with pytest.raises(DownError, match="3") as caught:
        await poller.wait_for_completion("a")
    assert caught.value.__notes__ == ["While waiting for job a."]


async def test_a_final_error_ends_all_waits_each_with_its_own(tasks: SomeService, poller: JobPoller[str, Task]) -> None:
    """Whatever its constructor wants; and noted once."""
    tasks.answers["a"], tasks.answers["b"] = deque([ValueError("gone")]), deque([GoneError(name="b")])
    errors = await poller.wait_for_all(["a", "a", "b", "b"], return_exceptions=True)
    assert [type(error) for error in errors] == [ValueError, ValueError, GoneError, GoneError]
    assert errors[0] is not errors[1]
    assert errors[2] is not errors[3]
    assert all(len(error.__notes__) == 1 for error in errors if isinstance(error, Exception))


async def test_an_is_done_that_raises_ends_its_own_wait_alone(tasks: SomeService) -> None:
    """The request was answered all the same."""

    def known(task: Task) -> bool:
        return task.state == {"a": "done"}[task.name]

    tasks.answers["a"], tasks.answers["b"] = deque([RUNNING, DONE]), deque([Task("b")])
    async with JobPoller(tasks.fetch, is_done=known, classify=classify) as poller:
        done, error = await poller.wait_for_all(["a", "b"], return_exceptions=True)
    assert done == DONE
    assert isinstance(error, KeyError)


async def test_a_classify_that_raises_ends_the_wait(tasks: SomeService) -> None:
    """With its own error."""

    def broken(error: Exception) -> None:
        raise RuntimeError("a bug in classify") from error

    tasks.answers["a"] = deque([DownError()])
    async with JobPoller(tasks.fetch, is_done=bool, classify=broken) as poller:
        with pytest.raises(RuntimeError, match="a bug in classify"):
            await poller.wait_for_completion("a")


async def test_a_classify_that_returns_something_else_ends_the_wait(tasks: SomeService) -> None:
    """Such as the class in place of a value: a 429 must not silently become final."""
    tasks.answers["a"] = deque([BusyError()])
    wrong: Any = lambda _: Throttled  # noqa: E731 - the point
    async with JobPoller(tasks.fetch, is_done=bool, classify=wrong) as poller:
        with pytest.raises(TypeError, match="classify must return"):
            await poller.wait_for_completion("a")


@pytest.mark.parametrize(
    ("hint", "seconds"),
    [(None, None), (7, 7.0), (0, None), (-1.0, None), (float("nan"), None), (1e9, 86_400.0)],
    ids=str,
)
@pytest.mark.parametrize("kind", [Throttled, Transient])
def test_a_hint_is_more_than_nothing_and_at_most_a_day(
    kind: type[Throttled | Transient], hint: float | None, seconds: float | None
) -> None:
    """A 0 would make the poller spin, and a mistake of years would stall it."""
    assert kind(hint).retry_after == seconds


@pytest.mark.parametrize("hint", ["7", True], ids=repr)
def test_a_hint_of_another_type_is_refused(hint: Any) -> None:
    """A header is a text, and has to be read first."""
    with pytest.raises(TypeError, match="retry_after"):
        Throttled(hint)


async def test_no_hint_is_no_reason_to_spin(tasks: SomeService) -> None:
    """`Retry-After: 0` occurs in practice."""
    tasks.answers["a"] = deque([*[BusyError()] * 20, DONE])
    async with JobPoller(tasks.fetch, is_done=is_done, classify=lambda _: Throttled(0)) as poller:
        assert await poller.wait_for_completion("a") == DONE
    assert now() > 20


async def test_any_truth_value_tells_that_a_job_is_done(tasks: SomeService) -> None:
    """`job.get("url")` is a usual way to say it."""
    tasks.answers["a"] = deque([RUNNING])
    url: Any = lambda task: task.name  # noqa: E731 - the point
    async with JobPoller(tasks.fetch, is_done=url, classify=classify) as poller:
        assert await poller.wait_for_completion("a") == RUNNING
        assert await poller.wait_for_completion("a") == RUNNING


async def test_a_bug_in_is_done_is_not_taken_for_a_failure_of_the_service(tasks: SomeService) -> None:
    """However broad `classify` is."""
    tasks.answers["a"] = deque([RUNNING])
    broken: Any = lambda task: task.nothing  # noqa: E731 - the point
    async with JobPoller(tasks.fetch, is_done=broken, classify=lambda _: Transient()) as poller:
        with pytest.raises(AttributeError):
            await poller.wait_for_completion("a")
    assert len(tasks.requests) == 1


@attrs.frozen
class FrozenError(Exception):
    """An exception that takes no note."""

    name: str


class WordyError(Exception):
    """An exception whose constructor wants something else than its `args`."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")


class NotCopyableError(Exception):
    """An exception that cannot be copied."""

    def __reduce__(self) -> NoReturn:
        raise RuntimeError("not copyable")


class ShiftyError(Exception):
    """An exception whose copy says something else."""

    def __reduce__(self) -> tuple[type[Exception], tuple[str]]:
        return ShiftyError, ("something else",)


@pytest.mark.parametrize(
    "error",
    [FrozenError("x"), ShiftyError("x"), WordyError(500), NotCopyableError("x"), FileNotFoundError(2, "missing", "f")],
    ids=repr,
)
async def test_any_exception_reaches_each_of_its_waiters(tasks: SomeService, error: Exception) -> None:
    """With its own words; and neither the deadlines nor the other waits suffer."""
    tasks.answers["a"], tasks.answers["b"] = deque([error]), deque([RUNNING])
    async with JobPoller(tasks.fetch, is_done=lambda _: False, classify=classify) as poller:
        ends = await poller.wait_for_all(["a", "a"], return_exceptions=True)
        with pytest.raises(JobTimeoutError):
            await poller.wait_for_completion("b", timeout=5.0)
        assert poller.stats.open_waits == 0
    assert [(type(end), str(end)) for end in ends] == [(type(error), str(error))] * 2


@attrs.frozen
class JobName:
    """An id of the caller's own class."""

    text: str | None

    def __str__(self) -> str:
        if self.text is None:
            raise RuntimeError("no text")
        return self.text


@pytest.mark.parametrize(
    ("job_id", "name"),
    [
        (7, "7"),
        (JobName("a  b"), "a  b"),
        (JobName("a\nforged"), "a forged"),
        (JobName(None), "<JobName>"),
        (("queue", 7), "('queue', 7)"),
    ],
    ids=["integer", "spaces", "two lines", "no text", "tuple"],
)
async def test_any_hashable_is_an_id_and_errors_name_it_on_one_line(job_id: object, name: str) -> None:
    """An id whose text cannot be made disturbs no wait."""

    async def fetch(_: object) -> Task:
        if now() > 5.0:
            raise ValueError("gone")
        return RUNNING

    async with JobPoller(fetch, is_done=is_done, classify=classify) as poller:
        with pytest.raises(JobTimeoutError) as timeout:
            await poller.wait_for_completion(job_id, timeout=2.0)
        await asyncio.sleep(5.0)
        with pytest.raises(ValueError, match="gone") as gone:
            await poller.wait_for_completion(job_id)
    assert timeout.value.job_id == job_id
    assert str(timeout.value).startswith(f"Job {name} was not finished after 2.0 s")
    assert gone.value.__notes__ == [f"While waiting for job {name}."]


async def test_a_throttled_get_is_sent_again(tasks: SomeService, poller: JobPoller[str, Task], dice: Dice) -> None:
    """After the pause, like a poll."""
    tasks.answers["a"] = deque([BusyError(), BusyError(), RUNNING])
    assert await poller.get("a") == RUNNING
    assert [at for at, _ in tasks.requests] == pytest.approx([0.0, 7.0, 14.0], abs=0.1)


async def test_all_ids_are_checked_before_anything_is_sent(tasks: SomeService, poller: JobPoller[Any, Task]) -> None:
    """A mistake in the last one leaves no wait behind."""
    for several in (poller.as_completed, poller.wait_for_all):
        for wrong in (["a", ["b"]], "ab", b"ab"):
            with pytest.raises(TypeError):
                await several(wrong)  # type: ignore[misc]  # `as_completed` raises before it returns a generator
    await asyncio.sleep(1.0)
    assert tasks.requests == []


async def test_a_caller_that_comes_while_others_are_told_sends_a_poll(tasks: SomeService) -> None:
    """Neither the old error nor the old job is theirs."""
    tasks.answers["a"] = deque([ValueError("gone"), DONE])
    tasks.takes = 1.0
    async with polling(tasks) as poller:
        waits = [asyncio.create_task(poller.wait_for_completion("a")) for _ in range(1_000)]
        _, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        assert pending
        assert await poller.wait_for_completion("a") == DONE
        await asyncio.wait(waits)
    assert len(tasks.requests) == 2
    assert all(isinstance(wait.exception(), ValueError) for wait in waits)


async def test_a_fetch_that_swallows_its_cancellation_does_not_revive_a_wait(tasks: SomeService) -> None:
    """While a close is still telling a thousand waiters."""

    async def stubborn(_: str) -> Task:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(100)
        return RUNNING

    async with JobPoller(stubborn, is_done=is_done, classify=classify) as poller:
        waits = [asyncio.create_task(poller.wait_for_completion("a")) for _ in range(1_000)]
        await asyncio.sleep(1)
    assert {type(end) for end in await asyncio.gather(*waits, return_exceptions=True)} == {PollerClosedError}


async def test_a_429_while_closing_starts_no_pause(tasks: SomeService, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing would end it."""
    caplog.set_level(logging.INFO, "playai_async")

    async def stubborn(_: str) -> Task:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(100)
        raise BusyError

    async with JobPoller(stubborn, is_done=is_done, classify=classify) as poller:
        wait = asyncio.create_task(poller.wait_for_completion("a"))
        await asyncio.sleep(1)
    with pytest.raises(PollerClosedError):
        await wait
    assert caplog.messages == []


async def test_a_slow_fetch_is_cancelled_and_transient(tasks: SomeService) -> None:
    """Whatever `classify` says of timeouts; one of the client's own is left to `classify`."""
    tasks.takes = 100.0
    tasks.answers["a"] = deque([DONE])
    async with polling(tasks, request_timeout=2.0) as poller:
        with pytest.raises(TimeoutError, match="2 s") as caught:
            await poller.wait_for_completion("a")
        assert poller.stats.transient_failures == 3
        tasks.takes, tasks.answers["b"] = 0.0, deque([TimeoutError("the client's own")])
        with pytest.raises(TimeoutError, match="own"):
            await poller.wait_for_completion("b")
    assert not isinstance(caught.value, JobTimeoutError)


async def test_a_fetch_may_take_its_time(tasks: SomeService) -> None:
    """Without a request timeout."""
    tasks.takes = 100.0
    tasks.answers["a"] = deque([DONE])
    async with polling(tasks, request_timeout=None) as poller:
        assert await poller.wait_for_completion("a") == DONE


@pytest.mark.parametrize(("answer", "seen"), [(RUNNING, RUNNING), (DownError(), None)], ids=["a job", "no answer"])
async def test_the_deadline_raises_what_is_known(
    tasks: SomeService, answer: Task | Exception, seen: Task | None
) -> None:
    """The error survives a copy and a pickle."""
    tasks.answers["a"] = deque([answer])
    async with JobPoller(tasks.fetch, is_done=bool if seen is None else lambda _: False, classify=classify) as poller:
        with pytest.raises(JobTimeoutError, match=r"Job a was not finished after 5\.0 s") as caught:
            await poller.wait_for_completion("a", timeout=5.0)
    error = caught.value
    assert (error.job_id, error.job) == ("a", seen)
    assert error.elapsed == pytest.approx(5.0, abs=0.01)
    assert (type(error.last_error) is DownError) is (seen is None)
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):  # noqa: S301 - our own
        assert (twin.args, twin.polls, twin.job) == (error.args, error.polls, error.job)


async def test_closing_ends_all_waits(tasks: SomeService) -> None:
    """The error survives a pickle; a closed poller sends nothing."""
    tasks.answers["a"] = deque([RUNNING])
    async with polling(tasks) as poller:
        wait = asyncio.create_task(poller.wait_for_completion("a"))
        await asyncio.sleep(1.5)
    with pytest.raises(PollerClosedError) as caught:
        await wait
    twin = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own
    assert twin.job_id == caught.value.job_id == "a"
    with pytest.raises(PollerClosedError):
        await poller.get("a")
    await poller.aclose()


async def test_a_task_that_something_else_cancels_ends_its_wait(
    tasks: SomeService, poller: JobPoller[str, Task]
) -> None:
    """A framework may cancel every task that it finds."""
    tasks.takes = 5.0
    tasks.answers["a"] = deque([DONE])
    wait = asyncio.create_task(poller.wait_for_completion("a"))
    await asyncio.sleep(1)
    for task in asyncio.all_tasks() - {wait, asyncio.current_task()}:
        if task.get_name() == "playai_async":
            task.cancel()
    with pytest.raises(RuntimeError, match="cancelled from outside"):
        await wait


def test_a_poller_belongs_to_one_loop(tasks: SomeService) -> None:
    """It may be created, asked for its stats and closed before any."""
    poller = JobPoller(tasks.fetch, is_done=bool, classify=classify, pacing=Pacing(requests_per_window=5))
    assert (poller.stats.requests, poller.stats.quota) == (0, 5)
    tasks.answers["a"] = deque([DONE])
    assert asyncio.run(poller.wait_for_completion("a")) == DONE
    with pytest.raises(ConfigurationError, match="event loop"):
        asyncio.run(poller.get("a"))
    unused = JobPoller(tasks.fetch, is_done=bool, classify=classify)
    asyncio.run(unused.aclose())


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"fetch": None}, TypeError),
        ({"is_done": None}, TypeError),
        ({"classify": 5}, TypeError),
        ({"polling": 5}, TypeError),
        ({"pacing": 5}, TypeError),
        ({"pacing": Pacing(requests_per_window=5, shared=MemoryQuota())}, ConfigurationError),
        ({"request_timeout": 0}, ConfigurationError),
    ],
    ids=str,
)
def test_settings_are_checked_at_once(tasks: SomeService, arguments: dict[str, object], error: type[Exception]) -> None:
    """Not at the first use."""
    with pytest.raises(error):
        JobPoller(**{"fetch": tasks.fetch, "is_done": bool, **arguments})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["is_done", "classify", "size", "run_time"])
def test_a_coroutine_function_is_refused_where_nothing_awaits_it(tasks: SomeService, name: str) -> None:
    """Its coroutine is true, so every job would be done; and it is no number."""
    with pytest.raises(TypeError, match=f"{name} must be a plain function"):
        JobPoller(tasks.fetch, **{"is_done": bool, name: asyncio.sleep})  # type: ignore[arg-type]


async def test_a_wait_checks_its_arguments(tasks: SomeService, poller: JobPoller[str, Task]) -> None:
    """Before anything is sent."""
    with pytest.raises(ValueError, match=r"^timeout must be a positive, finite number$") as caught:
        await poller.wait_for_completion("a", timeout=0)
    assert type(caught.value) is ValueError
    with pytest.raises(TypeError):
        await poller.wait_for_completion(["a"])  # type: ignore[arg-type]  # not hashable
    assert tasks.requests == []


async def test_the_log_names_the_job(
    tasks: SomeService, poller: JobPoller[str, Task], caplog: pytest.LogCaptureFixture
) -> None:
    """A job of another service has no status that the log knows."""
    caplog.set_level(logging.DEBUG, "playai_async")
    tasks.answers["a"] = deque([RUNNING, DONE])
    await poller.wait_for_completion("a")
    assert caplog.messages == ["Job a changed.", "Job a changed."]


class UnreadableId:
    """An id that raises when it is shown."""

    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__


@pytest.mark.parametrize(
    ("answer", "ending"),
    [(GoneError(name="a"), GoneError), (RUNNING, JobTimeoutError), (asyncio.CancelledError(), RuntimeError)],
    ids=["error", "timeout", "cancelled"],
)
async def test_an_id_that_cannot_be_shown_ends_its_wait_all_the_same(
    answer: Task | BaseException, ending: type[Exception]
) -> None:
    """The message names its class."""

    async def fetch(_: UnreadableId) -> Task:
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async with JobPoller(fetch, is_done=is_done, classify=classify) as poller:
        wait = asyncio.ensure_future(poller.wait_for_completion(UnreadableId(), timeout=5))
        await asyncio.wait([wait], timeout=60)
        with pytest.raises(ending) as caught:
            wait.result()
    assert "<UnreadableId>" in "".join([str(caught.value), *getattr(caught.value, "__notes__", ())])
