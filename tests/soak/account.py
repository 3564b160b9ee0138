"""Records every wait of a soak from its opening to its end, and collects broken promises.

Details of errors are written to a file until the end, so that memory stays flat.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TextIO
from uuid import UUID
from weakref import WeakSet

import attrs

from playai_async import PlayAIError, TtsJob
from tests.soak.oracle import (
    OUTCOMES,
    History,
    RecordedError,
    Wait,
    is_suspicious,
    lost,
    outcome_of,
    problems_of_end,
    problems_of_error,
    problems_of_state,
)
from tests.soak.plan import WAYS, Caller, Soak
from tools.tables import table

MAX_MESSAGES = 25
"""How many broken promises are described."""


class LeftEarlyError(Exception):
    """Raised by a caller of the soak to leave its own loop."""


class Account:
    """Counts waits and checks how they end.

    Args:
        soak: The parameters of the soak.
        journal: Where errors are stored until the end.

    Attributes:
        opened: Waits by way.
        ended: Waits by way and outcome.
        errors: Errors by class.
        whole_files: Completed downloads.
        open: The waits that have not ended.
        callers: The callers that have not returned.
        messages: Descriptions of the first broken promises.
        violations: The number of broken promises.
        ending: Whether the soak is over, so that callers are cancelled and sessions closed.
        closed: Sessions that are closed or closing.
        is_polled: Returns whether a session was polling a job until a moment ago.
        slack: Returns how late the machine was in the last seconds.
        begins: The loop time at the beginning.
    """

    def __init__(self, soak: Soak, journal: TextIO) -> None:
        self.soak = soak
        self.opened: Counter[str] = Counter()
        self.ended: Counter[tuple[str, str]] = Counter()
        self.errors: Counter[str] = Counter()
        self.whole_files = 0
        self.open: set[Wait] = set()
        self.callers: set[CallerWaits] = set()
        self.messages: list[str] = []
        self.violations = 0
        self.ending = False
        self.closed: WeakSet[object] = WeakSet()
        self.slack: Callable[[], float] = lambda: 0.0
        self.is_polled: Callable[[object, UUID | None], bool] = lambda _session, _job_id: False
        self.begins = 0.0
        self._journal = journal

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return asyncio.get_running_loop().time() - self.begins

    def violation(self, words: str) -> None:
        """Record a broken promise."""
        self.violations += 1
        if len(self.messages) < MAX_MESSAGES:
            self.messages.append(words)

    @contextlib.contextmanager
    def track(
        self,
        caller: Caller,
        session: object,
        jobs: Sequence[UUID | None],
        *,
        timeout: float | None,
        max_failures: int,
    ) -> Iterator[CallerWaits]:
        """Open a caller's waits, and check that each has ended when the block is left.

        Args:
            caller: The caller.
            session: The session of the waits.
            jobs: The jobs; None for a job that the call creates.
            timeout: Seconds, or None.
            max_failures: How many failures in a row the waits tolerate.
        """
        now = self.now
        waits = [Wait(caller.number, caller.way, job_id, timeout, max_failures, now, now) for job_id in jobs]
        tracked = CallerWaits(self, caller, session, waits)
        self.opened[caller.way] += len(jobs)
        self.open.update(tracked.waits)
        self.callers.add(tracked)
        try:
            yield tracked
        except PlayAIError as error:
            tracked.check_raised(error)
        except LeftEarlyError:
            tracked.left = True
        except asyncio.CancelledError:
            tracked.check_cancelled()
            raise
        except Exception as error:  # noqa: BLE001 - the library must not raise any other error
            tracked.left = True
            self.violation(f"caller {caller.number} ({caller.way}): undocumented error {error!r}; {caller}")
        finally:
            tracked.close()
            self.callers.remove(tracked)

    def end(self, wait: Wait, outcome: str) -> None:
        """Record the end of a wait."""
        if wait not in self.open:
            self.violation(f"{wait}: ended twice, the second time as {outcome}")
            return
        self.open.remove(wait)
        self.ended[wait.way, outcome] += 1

    def record(self, what: object) -> None:
        """Store a value until the end."""
        self._journal.write(f"{json.dumps(what)}\n")

    def check_history(self, history: History, created: Sequence[tuple[str, str]]) -> None:
        """Compare the stored errors and jobs with what the service reports."""
        texts = Counter(text for _, text in created)
        known = dict(created)
        for text, count in texts.items():
            if count > 1:
                self.violation(f"one call created {count} jobs: {text!r}")
        self._journal.seek(0)
        for line in self._journal:
            match json.loads(line):
                case {"error": met}:
                    if (why := history.unexplained(RecordedError(**met))) is not None:
                        self.violation(f"caller {met['caller']}: {why}; {met}")
                case {"created": [job_id, text]}:
                    if known.get(job_id) != text:
                        self.violation(f"a call returned job {job_id}, which the service does not have: {text!r}")

    def table(self) -> str:
        """Return the table of all waits, and the meaning of its columns."""
        lines = []
        for way in WAYS:
            counts = [self.ended[way, outcome] for outcome in OUTCOMES]
            lines.append([way, *(f"{count:,}" for count in [self.opened[way], *counts])])
        totals = [sum(self.ended[way, outcome] for way in WAYS) for outcome in OUTCOMES]
        lines.append(["all", *(f"{count:,}" for count in [self.opened.total(), *totals])])
        legend = [f"{outcome}: {meaning}" for outcome, meaning in OUTCOMES.items()]
        legend.append("Each wait has exactly one outcome. `unknown` are waits for jobs that do not exist.")
        return "\n".join([table(["waits", "opened", *OUTCOMES], lines), "", *legend])

    def lost(self, calm_since: float, queues: Callable[[int], bool]) -> dict[Wait, str]:
        """Return the waits that should have ended, with reasons.

        Args:
            calm_since: When the faults stopped.
            queues: Returns whether the session of a slot has queued polls.
        """
        waits: dict[Wait, str] = {}
        for tracked in self.callers:
            waits |= tracked.lost(calm_since, queues=queues(tracked.caller.slot))
        return waits

    def check_totals(self) -> None:
        """Report waits that have not ended, or have ended more than once."""
        for wait in list(self.open)[:MAX_MESSAGES]:
            self.violation(f"{wait}: never ended")
        if self.opened.total() != self.ended.total() + len(self.open):
            self.violation(f"{self.opened.total()} waits were opened, but {self.ended.total()} ended")


class CallerWaits:
    """The waits of one caller; at least one.

    Attributes:
        caller: The caller.
        session: The session.
        waits: All waits, in the caller's order.
        left: Whether the caller left early, or an error ended the other waits.
    """

    def __init__(self, account: Account, caller: Caller, session: object, waits: Sequence[Wait]) -> None:
        self.caller = caller
        self.session = session
        self.waits = waits
        self.left = False
        self._account = account
        self._open = list(waits)

    def asking(self) -> None:
        """Record that the caller asks for the next result now; it could not have received a result earlier."""
        for wait in self._open:
            wait.asked = self._account.now

    def is_open_after_close(self) -> bool:
        """Return whether the caller still waits, although its session was closed."""
        return any(wait.asked < math.inf for wait in self._open)

    def busy(self) -> None:
        """Record that the caller processes a result and does not ask for the next one."""
        for wait in self._open:
            wait.asked = math.inf

    def lost(self, calm_since: float, *, queues: bool) -> dict[Wait, str]:
        """Return the waits that should have ended, with reasons."""
        account = self._account
        return lost(account.soak, self._open, account.now, calm_since, queues=queues) if self._open else {}

    def check_state(self, job: TtsJob, before: TtsJob | None) -> None:
        """Check a state that the caller received."""
        wait = self.waits[0]
        problems = list(problems_of_state(self._account.soak, wait, job, self._account.now))
        if before is not None and (before.done or before == job):
            problems.append(f"received {job} after {before}")
        self._report(wait, problems)

    def check_end(self, result: TtsJob | PlayAIError, wait: Wait | None = None) -> None:
        """Check the end of a wait.

        Args:
            result: The result.
            wait: The wait; None: the one that the result belongs to.
        """
        account = self._account
        about = result.id if isinstance(result, TtsJob) else result.job_id
        wait = wait or next((wait for wait in self._open if wait.job_id in {about, None}), None)
        if wait is None:
            account.violation(f"caller {self.caller.number}: no wait matches {result!r}; {self.caller}")
            return
        if isinstance(result, TtsJob):
            self._report(wait, problems_of_end(account.soak, wait, result, account.now))
        else:
            self._report(wait, problems_of_error(account.soak, wait, result, account.now, account.slack()))
        outcome = outcome_of(result)
        if outcome == "closed" and self.session not in account.closed:
            account.violation(f"{wait}: its session was not closed, but the wait ended with {result!r}; {self.caller}")
        if isinstance(result, PlayAIError):
            if outcome == "errors":
                account.errors[type(result).__name__] += 1
            if outcome == "errors" or (
                is_suspicious(account.soak, wait, result, account.now)
                and not account.is_polled(self.session, result.job_id)
            ):
                account.record({"error": attrs.asdict(RecordedError.of(wait, result, account.now))})
        self.end(wait, outcome)

    def end(self, wait: Wait, outcome: str) -> None:
        """Record the end of one wait."""
        self._open.remove(wait)
        self._account.end(wait, outcome)

    def check_raised(self, error: PlayAIError) -> None:
        """Check an error that was raised for one wait and ended the others."""
        if len(self.waits) > 1 and self.caller.return_exceptions:
            self._account.violation(
                f"caller {self.caller.number}: {error!r} was raised instead of returned; {self.caller}"
            )
        self.check_end(error)
        self.left = True

    def check_cancelled(self) -> None:
        """Check that a cancellation was planned."""
        if self.caller.leaving == "stays" and not self._account.ending:
            self._account.violation(f"caller {self.caller.number} was cancelled, but not by the soak; {self.caller}")
        self.left = True

    def close(self) -> None:
        """Record the end of all waits that the caller left open."""
        if self._open and not self.left:
            self._account.violation(
                f"{self._open[0]}: no result, like {len(self._open) - 1} other waits; {self.caller}"
            )
        for wait in list(self._open):
            self.end(wait, "cancelled")

    def _report(self, wait: Wait, problems: Iterator[str] | list[str]) -> None:
        for problem in problems:
            self._account.violation(f"{wait}: {problem}; {self.caller}")
