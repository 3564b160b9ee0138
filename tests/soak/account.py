"""The account of a soak: every wait, from its opening to its one end; and every promise that was found broken.

What is told of each error goes to a file until the end, since memory is to stay flat.
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
    Met,
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

MOST_TOLD = 25
"""Broken promises that are told of one by one."""


class LeftEarlyError(Exception):
    """What a caller of the soak raises to break off."""


class Account:
    """Counts waits, and judges how they end.

    Args:
        soak: What was asked for.
        journal: Where errors are noted until the end.

    Attributes:
        opened: Waits by way.
        ended: Waits by way and outcome.
        errors: Errors by class.
        whole_files: Downloads that came to their end.
        open: The waits that have not ended.
        visits: The callers that are not done.
        broken: The first promises that were broken, each in words.
        breaches: How many there were.
        ending: Whether callers are being cancelled, and sessions closed, since the soak is over.
        closed: Sessions that are closed, or being closed.
        is_polled: Says whether a session was about to be told of a job.
        slack: Says by how much the machine was late lately.
        begins: The loop's time at the beginning.
    """

    def __init__(self, soak: Soak, journal: TextIO) -> None:
        self.soak = soak
        self.opened: Counter[str] = Counter()
        self.ended: Counter[tuple[str, str]] = Counter()
        self.errors: Counter[str] = Counter()
        self.whole_files = 0
        self.open: set[Wait] = set()
        self.visits: set[Visit] = set()
        self.broken: list[str] = []
        self.breaches = 0
        self.ending = False
        self.closed: WeakSet[object] = WeakSet()
        self.slack: Callable[[], float] = lambda: 0.0
        self.is_polled: Callable[[object, UUID | None], bool] = lambda _session, _job_id: False
        self.begins = 0.0
        self._journal = journal

    @property
    def now(self) -> float:
        """Seconds from the beginning."""
        return asyncio.get_running_loop().time() - self.begins

    def breach(self, words: str) -> None:
        """Note a broken promise."""
        self.breaches += 1
        if len(self.broken) < MOST_TOLD:
            self.broken.append(words)

    @contextlib.contextmanager
    def visit(
        self,
        caller: Caller,
        session: object,
        jobs: Sequence[UUID | None],
        *,
        timeout: float | None,
        patience: int,
    ) -> Iterator[Visit]:
        """Open a caller's waits, and see that each ends, by whatever way the block is left.

        Args:
            caller: Whose waits they are.
            session: In which session.
            jobs: For which jobs; None: for one that is to be created.
            timeout: Seconds, or None.
            patience: How many failures in a row they bear.
        """
        now = self.now
        waits = [Wait(caller.number, caller.way, job_id, timeout, patience, now, now) for job_id in jobs]
        visit = Visit(self, caller, session, waits)
        self.opened[caller.way] += len(jobs)
        self.open.update(visit.waits)
        self.visits.add(visit)
        try:
            yield visit
        except PlayAIError as error:
            visit.raised(error)
        except LeftEarlyError:
            visit.left = True
        except asyncio.CancelledError:
            visit.cancelled()
            raise
        except Exception as error:  # noqa: BLE001 - no other may come out of the library
            visit.left = True
            self.breach(f"caller {caller.number} ({caller.way}): {error!r} is not documented; {caller}")
        finally:
            visit.over()
            self.visits.remove(visit)

    def end(self, wait: Wait, outcome: str) -> None:
        """Note the end of a wait."""
        if wait not in self.open:
            self.breach(f"{wait}: it ended a second time, {outcome}")
            return
        self.open.remove(wait)
        self.ended[wait.way, outcome] += 1

    def note(self, what: object) -> None:
        """Keep something until the end."""
        self._journal.write(f"{json.dumps(what)}\n")

    def explain(self, history: History, created: Sequence[tuple[str, str]]) -> None:
        """Hold what was noted against what the service tells."""
        texts = Counter(text for _, text in created)
        known = dict(created)
        for text, count in texts.items():
            if count > 1:
                self.breach(f"{count} jobs were created by one call: {text!r}")
        self._journal.seek(0)
        for line in self._journal:
            match json.loads(line):
                case {"error": met}:
                    if (why := history.unexplained(Met(**met))) is not None:
                        self.breach(f"caller {met['caller']}: {why}; {met}")
                case {"created": [job_id, text]}:
                    if known.get(job_id) != text:
                        self.breach(f"job {job_id}, which a call returned, is not the service's: {text!r}")

    def table(self) -> str:
        """Return the table of all waits, and what its columns mean."""
        lines = []
        for way in WAYS:
            counts = [self.ended[way, outcome] for outcome in OUTCOMES]
            lines.append([way, *(f"{count:,}" for count in [self.opened[way], *counts])])
        totals = [sum(self.ended[way, outcome] for way in WAYS) for outcome in OUTCOMES]
        lines.append(["all", *(f"{count:,}" for count in [self.opened.total(), *totals])])
        legend = [f"{outcome}: {meaning}" for outcome, meaning in OUTCOMES.items()]
        legend.append("A wait ends in one way, and once. `unknown` are waits for jobs that there are not.")
        return "\n".join([table(["waits", "opened", *OUTCOMES], lines), "", *legend])

    def lost(self, calm_since: float, queues: Callable[[int], bool]) -> dict[Wait, str]:
        """Say which waits should not be open any more.

        Args:
            calm_since: Since when nothing has befallen the service.
            queues: Says of a seat whether its session has polls that wait for their turn.
        """
        waits: dict[Wait, str] = {}
        for visit in self.visits:
            waits |= visit.lost(calm_since, queues=queues(visit.caller.seat))
        return waits

    def balance(self) -> None:
        """Find waits that have not ended, or not once."""
        for wait in list(self.open)[:MOST_TOLD]:
            self.breach(f"{wait}: it never ended")
        if self.opened.total() != self.ended.total() + len(self.open):
            self.breach(f"{self.opened.total()} waits were opened, and {self.ended.total()} ended")


class Visit:
    """The waits of one caller; at least one.

    Attributes:
        caller: Whose they are.
        session: In which session.
        waits: All of them, in the caller's order.
        left: Whether the caller broke off, or an error let go of the rest.
    """

    def __init__(self, account: Account, caller: Caller, session: object, waits: Sequence[Wait]) -> None:
        self.caller = caller
        self.session = session
        self.waits = waits
        self.left = False
        self._account = account
        self._open = list(waits)

    def asks(self) -> None:
        """Note that the caller asks for the next result now: before it could not have been told."""
        for wait in self._open:
            wait.asked = self._account.now

    def outstays(self) -> bool:
        """Say whether the caller asks for more, although it must have been told by now that its session is closed."""
        return any(wait.asked < math.inf for wait in self._open)

    def is_busy(self) -> None:
        """Note that the caller does not ask for a while."""
        for wait in self._open:
            wait.asked = math.inf

    def lost(self, calm_since: float, *, queues: bool) -> dict[Wait, str]:
        """Say which of the waits should not be open any more."""
        account = self._account
        return lost(account.soak, self._open, account.now, calm_since, queues=queues) if self._open else {}

    def saw(self, job: TtsJob, before: TtsJob | None) -> None:
        """Judge a state that the caller was told, after another."""
        wait = self.waits[0]
        problems = list(problems_of_state(self._account.soak, wait, job, self._account.now))
        if before is not None and (before.done or before == job):
            problems.append(f"it was told {job} after {before}")
        self._tell(wait, problems)

    def take(self, result: TtsJob | PlayAIError, wait: Wait | None = None) -> None:
        """Judge the end of a wait.

        Args:
            result: How it ended.
            wait: Which; None: the one that the result is about.
        """
        account = self._account
        about = result.id if isinstance(result, TtsJob) else result.job_id
        wait = wait or next((wait for wait in self._open if wait.job_id in {about, None}), None)
        if wait is None:
            account.breach(f"caller {self.caller.number}: there is no wait for {result!r}; {self.caller}")
            return
        if isinstance(result, TtsJob):
            self._tell(wait, problems_of_end(account.soak, wait, result, account.now))
        else:
            self._tell(wait, problems_of_error(account.soak, wait, result, account.now, account.slack()))
        outcome = outcome_of(result)
        if outcome == "closed" and self.session not in account.closed:
            account.breach(f"{wait}: its session was not closed: {result!r}; {self.caller}")
        if isinstance(result, PlayAIError):
            if outcome == "errors":
                account.errors[type(result).__name__] += 1
            if outcome == "errors" or (
                is_suspicious(account.soak, wait, result, account.now)
                and not account.is_polled(self.session, result.job_id)
            ):
                account.note({"error": attrs.asdict(Met.of(wait, result, account.now))})
        self.end(wait, outcome)

    def end(self, wait: Wait, outcome: str) -> None:
        """Note the end of one wait."""
        self._open.remove(wait)
        self._account.end(wait, outcome)

    def raised(self, error: PlayAIError) -> None:
        """Judge an error that was raised: of one wait, which lets go of the others."""
        if len(self.waits) > 1 and self.caller.return_exceptions:
            self._account.breach(f"caller {self.caller.number}: {error!r} was raised, not returned; {self.caller}")
        self.take(error)
        self.left = True

    def cancelled(self) -> None:
        """Judge a cancellation, which must be somebody's."""
        if self.caller.leaving == "stays" and not self._account.ending:
            self._account.breach(f"caller {self.caller.number} was cancelled by nobody; {self.caller}")
        self.left = True

    def over(self) -> None:
        """End what is still open: the caller has let go of it."""
        if self._open and not self.left:
            self._account.breach(f"{self._open[0]}: it has no result, like {len(self._open) - 1} others; {self.caller}")
        for wait in list(self._open):
            self.end(wait, "cancelled")

    def _tell(self, wait: Wait, problems: Iterator[str] | list[str]) -> None:
        for problem in problems:
            self._account.breach(f"{wait}: {problem}; {self.caller}")
