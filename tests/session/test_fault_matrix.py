"""The fault matrix, cell by cell: the fault met once, met for ever, and met for ever with the deadline before the end.

The tables are in `fault_matrix`, the faults in `faults`. All of it is on real sockets and in virtual time, and no test
may leave a task or a socket behind.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import formatdate
from math import inf
from pathlib import Path
from typing import Any

import attrs
import pytest

from playai_async import (
    APIStatusError,
    Completed,
    DownloadError,
    Failed,
    Pacing,
    PlayAIError,
    PlayAISession,
    Polling,
    RateLimitedError,
    TransportError,
    TtsJob,
    TtsParameters,
    WaitTimeoutError,
)
from tests.support.clock import now
from tests.support.fault_matrix import (
    BEGUN_AGAIN,
    CREATING,
    DOWNLOADING,
    FOLLOWED,
    HELD,
    PHASES,
    REASONS,
    REQUEST_TIMEOUT,
    WAITING,
    Case,
    creations_in_words,
    downloads_in_words,
    waits_in_words,
)
from tests.support.faults import (
    AUDIO,
    IDLE_FOR,
    Certificates,
    FaultyService,
    asked,
    deaf,
    faulty_service,
    http,
    idle,
    on_accept,
    says,
    silent,
)
from tests.support.scripted import API_KEY, COMPLETED, JOB_ID, OTHER_ID, USER_ID, job_json

PAGE = Path(__file__).parents[1] / "README.md"

MAX_FAILURES = 3
DONE_AFTER = 5.0
DEADLINE = 120.0
SOON = 6.5
"""Seconds: a deadline that comes while a fault lasts."""

WINDOW = 4.0
"""Seconds, of a quota of one request, behind which a wait is queued."""

POLLING = Polling(initial=1.0, multiplier=1.0, jitter=0.0, timeout=DEADLINE, max_failures=MAX_FAILURES)
PATIENT = attrs.evolve(POLLING, max_failures=1_000)
WORDS = TtsParameters("spoken words", "v")
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def certificates() -> Certificates:
    """One set for all tests: they take a quarter of a second to make."""
    return Certificates.made()


@attrs.frozen
class Stage:
    """A service that does wrong, and a session with it."""

    service: FaultyService
    playai: PlayAISession

    async def wait(self, case: Case, **options: Any) -> TtsJob[Completed | Failed]:
        """Wait for the job, in the phase that the case is about."""
        if case.phase != "queued":
            return await self.playai.wait_for_completion(JOB_ID, **options)
        await self.playai.get_job(JOB_ID)  # which spends the quota; the fault happens before there is more of it
        wait = asyncio.ensure_future(self.playai.wait_for_completion(JOB_ID, **options))
        await asyncio.sleep(WINDOW - 0.1)
        assert (self.playai.stats.queued, self.playai.stats.in_flight) == (1, 0)
        return await wait

    async def heal(self) -> None:
        """Let the service do no wrong any more, once the last connection has met what it was to meet."""
        await asyncio.sleep(2 * IDLE_FOR)
        await self.service.heal()

    async def assert_idle(self) -> None:
        """Fail unless a fault was met, or if anything is still open, or under way for more than a few steps."""
        for _ in range(5):  # in which a request that a deadline has cut comes to its end
            await asyncio.sleep(0)
        stats = self.playai.stats
        assert self.service.met
        assert (stats.open_waits, stats.distinct_jobs, stats.in_flight, stats.queued) == (0, 0, 0, 0)


@asynccontextmanager
async def staged(
    certificates: Certificates | None, monkeypatch: pytest.MonkeyPatch, **options: Any
) -> AsyncIterator[Stage]:
    """Set a stage, and see that nothing is left of it."""
    settings = {"polling": POLLING, "request_timeout": REQUEST_TIMEOUT, **options}
    async with (
        faulty_service(monkeypatch, certificates, done_after=DONE_AFTER) as service,
        PlayAISession(API_KEY, USER_ID, base_url=service.base_url, **settings) as playai,
    ):
        yield Stage(service, playai)


@pytest.fixture
async def stage(case: Case, certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    """Set the stage for a case."""
    pacing = Pacing(requests_per_window=1, window=WINDOW) if case.phase == "queued" else Pacing()
    async with staged(certificates if case.over_tls else None, monkeypatch, pacing=pacing) as stage:
        yield stage


# Waits.


@pytest.mark.parametrize("case", WAITING, ids=str)
async def test_a_wait_that_meets_a_fault_once(case: Case, stage: Stage) -> None:
    """It returns the right job; or it raises the status that has ended it, and asks no more."""
    await case.plan(stage.service, lasting=False)
    begun = now()
    if case.outcome.at_once:
        with pytest.raises(APIStatusError) as caught:
            await stage.wait(case)
        assert type(caught.value) is case.error
        assert caught.value.job_id == JOB_ID
        assert stage.playai.stats.requests == 1
    else:
        job = await stage.wait(case)
        assert (job.id, type(job.output)) == (JOB_ID, Completed)
        assert DONE_AFTER <= now() - begun < DEADLINE / 2
    assert stage.service.met == 1
    assert stage.playai.stats.transient_failures == case.outcome.failures
    assert stage.playai.stats.throttled == (case.outcome is HELD)
    await stage.assert_idle()


LASTING = [case for case in WAITING if case.outcome is not HELD and (case.is_first or not case.way[:1].isdigit())]
"""One status of each kind is enough."""


@pytest.mark.parametrize("case", LASTING, ids=str)
async def test_a_wait_that_meets_a_fault_that_lasts(case: Case, stage: Stage) -> None:
    """It raises the documented error after `max_failures` in a row, or returns the job all the same.

    The session is none the worse: once the fault is gone, the next wait returns the job.
    """
    await case.plan(stage.service, lasting=True)
    begun = now()
    if case.error is None:
        assert isinstance((await stage.wait(case)).output, Completed)
    else:
        with pytest.raises(PlayAIError) as caught:
            await stage.wait(case)
        assert type(caught.value) is case.error
        assert caught.value.job_id == JOB_ID
        assert stage.playai.stats.transient_failures == (0 if case.outcome.at_once else MAX_FAILURES)
    assert now() - begun < DEADLINE
    await stage.assert_idle()
    await stage.heal()
    assert isinstance((await stage.playai.wait_for_completion(JOB_ID)).output, Completed)


@pytest.mark.parametrize("case", [case for case in WAITING if case.is_first and not case.outcome.at_once], ids=str)
async def test_the_deadline_of_a_wait_that_meets_a_fault_that_lasts(case: Case, stage: Stage) -> None:
    """It is kept to the moment, whatever is going on then, and its error tells what was met last."""
    stage.service.done_after = inf
    await case.plan(stage.service, lasting=True)
    begun = now()
    with pytest.raises(WaitTimeoutError) as caught:
        await stage.wait(case, timeout=SOON, polling=PATIENT)
    assert now() - begun == pytest.approx(SOON, abs=0.001)
    assert caught.value.elapsed == pytest.approx(SOON, abs=0.001)
    assert caught.value.job_id == JOB_ID
    if case.outcome is HELD:
        assert type(caught.value.last_error) is RateLimitedError
    elif case.error is not None:
        assert type(caught.value.last_error) is case.error
    await stage.assert_idle()


@pytest.mark.parametrize("ahead", [3.0, 30.0], ids=str)
async def test_a_clock_step_does_not_move_a_pause_that_was_asked_for(
    ahead: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A date in `Retry-After` is measured once, when it comes; from then on the seconds count."""
    async with staged(None, monkeypatch) as stage:
        loop = asyncio.get_running_loop()
        stage.service.done_after = 0.0
        # Dates are whole seconds, and the clock goes on by itself between here and there.
        hint = "Retry-After: " + formatdate(stage.service.wall_clock() + ahead + 1, usegmt=True)
        await asked(says(http("429 Busy", b'"later"', hint)))(stage.service, lasting=False)
        loop.call_later(1.0, stage.service.wall_clock.step)
        loop.call_later(2.0, stage.service.wall_clock.step)
        assert (await stage.playai.wait_for_completion(JOB_ID)).done
        first, second = stage.service.arrivals
        assert ahead - 1 <= second - first <= (ahead + 1) * 1.05


async def test_an_answer_that_nobody_asked_for_is_not_taken_for_another_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is kept may hold one, and what comes next on it is read as the answer to the next request."""
    other = http("200 OK", json.dumps(job_json(COMPLETED, OTHER_ID)).encode())
    async with staged(None, monkeypatch) as stage:
        await idle(says(other, then=silent))(stage.service, lasting=False)
        job = await stage.playai.wait_for_completion(JOB_ID)
        assert (job.id, type(job.output)) == (JOB_ID, Completed)


# Creations.


@pytest.mark.parametrize("case", CREATING, ids=str)
async def test_a_creation_that_meets_a_fault_once(case: Case, stage: Stage) -> None:
    """It returns the job, sent again only where none can have come of it; or raises, and says where one may exist."""
    await case.plan(stage.service, lasting=False)
    if case.outcome.at_once:
        with pytest.raises(PlayAIError) as caught:
            await stage.playai.create_job(WORDS)
        assert type(caught.value) is case.error
        assert ("may exist" in str(caught.value)) is case.outcome.may_exist
        assert stage.playai.stats.requests == 1
    else:
        assert (await stage.playai.create_job(WORDS)).id == JOB_ID
        assert stage.playai.stats.requests == (1 if case.error is None else 2)
    await stage.assert_idle()


@pytest.mark.parametrize("case", [case for case in CREATING if not case.outcome.at_once], ids=str)
async def test_a_creation_that_meets_a_fault_that_lasts(case: Case, stage: Stage) -> None:
    """It is sent again `max_failures` times at most, and no error then says that a job may exist."""
    await case.plan(stage.service, lasting=True)
    if case.error is None:
        assert (await stage.playai.create_job(WORDS)).id == JOB_ID
    else:
        with pytest.raises(PlayAIError) as caught:
            await stage.playai.create_job(WORDS)
        assert type(caught.value) is case.error
        assert "may exist" not in str(caught.value)
        assert stage.playai.stats.requests == 1 + MAX_FAILURES
    await stage.assert_idle()
    await stage.heal()
    assert (await stage.playai.create_job(WORDS)).id == JOB_ID


@pytest.mark.parametrize("case", [case for case in CREATING if case.error and not case.outcome.at_once], ids=str)
async def test_the_deadline_of_a_creation_that_meets_a_fault_that_lasts(
    case: Case, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is kept to the moment."""
    async with staged(certificates if case.over_tls else None, monkeypatch, polling=PATIENT) as stage:
        await case.plan(stage.service, lasting=True)
        begun = now()
        with pytest.raises(WaitTimeoutError) as caught:
            await stage.playai.create_job(WORDS, timeout=SOON)
        assert now() - begun == pytest.approx(SOON, abs=0.001)
        assert type(caught.value.last_error) is case.error
        await stage.assert_idle()


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # aiohttp's, of anything past a mebibyte
async def test_a_creation_whose_text_is_not_read_is_cut_at_the_request_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than the buffers between the two take: the request is still being sent when its time is over."""
    async with staged(None, monkeypatch) as stage:
        await on_accept(deaf)(stage.service, lasting=True)
        begun = now()
        with pytest.raises(TransportError, match="may exist"):
            await stage.playai.create_job(TtsParameters("words " * 2_000_000, "v"))
        assert now() - begun == pytest.approx(REQUEST_TIMEOUT, abs=0.001)
        assert stage.playai.stats.requests == 1


# Downloads.


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    """A file that is there before."""
    path = tmp_path / "a.mp3"
    path.write_bytes(b"what was there before")
    return path


def audio_of(stage: Stage) -> TtsJob:
    """The job, done, whose audio the service has."""
    output = Completed(f"{stage.service.base_url}/audio", "audio/mpeg", len(AUDIO), 1.0)
    return TtsJob(JOB_ID, NOON, {}, NOON, output)


def assert_untouched(destination: Path) -> None:
    """Fail unless the file is as it was, with no other beside it."""
    assert destination.read_bytes() == b"what was there before"
    assert list(destination.parent.iterdir()) == [destination]


@pytest.mark.parametrize("case", DOWNLOADING, ids=str)
async def test_a_download_that_meets_a_fault_once(case: Case, stage: Stage, destination: Path) -> None:
    """The file is whole; or it raises, and what was there before still is."""
    await case.plan(stage.service, lasting=False)
    if case.outcome.at_once:
        with pytest.raises(DownloadError) as caught:
            await stage.playai.download(audio_of(stage), destination)
        assert caught.value.job_id == JOB_ID
        assert_untouched(destination)
    else:
        await stage.playai.download(audio_of(stage), destination)
        assert destination.read_bytes() == AUDIO
        assert list(destination.parent.iterdir()) == [destination]
    assert stage.service.met == 1
    await stage.assert_idle()


@pytest.mark.parametrize("case", [case for case in DOWNLOADING if not case.outcome.at_once], ids=str)
async def test_a_download_that_meets_a_fault_that_lasts(case: Case, stage: Stage, destination: Path) -> None:
    """It raises after five attempts, whose pauses add up to 7.5 seconds and more, or the file is whole all the same."""
    await case.plan(stage.service, lasting=True)
    begun = now()
    if case.error is None:
        await stage.playai.download(audio_of(stage), destination)
        assert destination.read_bytes() == AUDIO
    else:
        with pytest.raises(DownloadError) as caught:
            await stage.playai.download(audio_of(stage), destination)
        assert caught.value.job_id == JOB_ID
        assert (now() - begun >= 7.5) is (case.outcome is BEGUN_AGAIN)
        assert ("redirects" in str(caught.value)) is (case.outcome is FOLLOWED)
        assert_untouched(destination)
    await stage.assert_idle()
    await stage.heal()
    await stage.playai.download(audio_of(stage), destination)
    assert destination.read_bytes() == AUDIO


@pytest.mark.parametrize("case", [case for case in DOWNLOADING if case.outcome is BEGUN_AGAIN], ids=str)
async def test_a_timeout_around_a_download_that_meets_a_fault_that_lasts(
    case: Case, stage: Stage, destination: Path
) -> None:
    """It is kept to the moment, and leaves nothing."""
    await case.plan(stage.service, lasting=True)
    begun = now()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(SOON):
            await stage.playai.download(audio_of(stage), destination)
    assert now() - begun == pytest.approx(SOON, abs=0.001)
    assert_untouched(destination)
    await stage.assert_idle()


# The page.


def table(title: str) -> tuple[list[str], list[list[str]]]:
    """The head and the rows of the first table under a title of the page."""
    section = PAGE.read_text(encoding="utf-8").split(f"## {title}\n")[1].split("\n## ")[0]
    lines = section[section.index("|") :].split("\n\n")[0].splitlines()
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return head, rows


def test_the_page_shows_the_matrix() -> None:
    """Cell by cell, and the reasons why some are empty."""
    head, rows = table("Waiting")
    assert head == ["Fault", *(phase.capitalize() for phase in PHASES)]
    assert rows == waits_in_words()
    page = PAGE.read_text(encoding="utf-8")
    assert dict(re.findall(r"^- (\w): (.*)\.$", page, re.MULTILINE)) == REASONS


def test_the_page_shows_what_follows_for_creations_and_downloads() -> None:
    """Cell by cell, too."""
    assert table("Creating")[1] == creations_in_words()
    assert table("Downloading")[1] == downloads_in_words()
