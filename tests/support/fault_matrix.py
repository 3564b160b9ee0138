"""The fault matrix, as values: what may go wrong, at which moment, and what must hold.

`MATRIX` is the one table of it, for waits; what follows while a job is created is derived from it, and `DOWNLOADS` is
the same for audio. `test_fault_matrix` runs every cell, and sees that `tests/README.md` shows the same.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from functools import partial

import attrs

from playai_async import (
    APIStatusError,
    DownloadError,
    ForbiddenError,
    InvalidParametersError,
    InvalidResponseError,
    NotFoundError,
    PlayAIError,
    RateLimitedError,
    TransportError,
    UnauthorizedError,
    UnexpectedServiceError,
    WaitTimeoutError,
)
from tests.support.faults import (
    Fault,
    Plan,
    answers,
    asked,
    clock_steps,
    closed,
    connecting,
    first_says,
    garbled_tls,
    http,
    idle,
    in_a_moment,
    in_body,
    interim,
    not_listening,
    not_resolved,
    on_accept,
    reset,
    restarting,
    says,
    silent,
    slow,
    slow_handshake,
    untrusted,
)

REQUEST_TIMEOUT = 2.0
"""Seconds, in every run."""

SLOW, TOO_SLOW = 1.0, 5.0
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n"
BIG = 8 * 1024 * 1024 + 1
BOMB = gzip.compress(b" " * BIG)

PHASES = ("queued", "connecting", "sending", "headers", "body", "pause")


@attrs.frozen
class Outcome:
    """What follows from a fault.

    Attributes:
        text: How the page puts it.
        error: What a fault that lasts is raised as, or None where all goes well in spite of it.
        failures: How many transient failures a fault that is met once counts as.
        at_once: Whether it is raised the first time.
        may_exist: Whether the error must say that there may be a job all the same.
        refused: Whether the service surely did nothing with the request.
    """

    text: str
    error: type[PlayAIError] | None = None
    failures: int = 0
    at_once: bool = False
    may_exist: bool = False
    refused: bool = False


JOB = Outcome("job")
POLLED_AGAIN = Outcome("job, polled again", failures=1)
TRANSPORT = Outcome("`TransportError`", TransportError, failures=1)
EITHER = Outcome("`TransportError` or `InvalidResponseError`", PlayAIError, failures=1)
BROKEN = Outcome("`InvalidResponseError`", InvalidResponseError, failures=1)
SERVER = Outcome("`UnexpectedServiceError`", UnexpectedServiceError, failures=1)
STATUS = Outcome("at once", APIStatusError, at_once=True)
LATE = Outcome("`APIStatusError`", APIStatusError, failures=1)
EARLY = attrs.evolve(LATE, refused=True)
HELD = Outcome("deadline", WaitTimeoutError)
AWAY = attrs.evolve(TRANSPORT, failures=0)  # only where it lasts: else it is back before anybody asks

REASONS = {
    "a": "nothing of the wait is under way, so that the next connection meets it",
    "b": "there is a connection already: its name was looked up, and its port was open",
    "c": "a message has it, and there is none yet",
    "d": "a head has it, which was read before",
    "e": "a body has it, and there is none yet, or ever",
}
LATER, CONNECTED, NO_MESSAGE, NO_HEAD, NO_BODY = REASONS


@attrs.frozen
class Cell:
    """What holds in one phase under one fault, and the ways in which the fault is brought about."""

    outcome: Outcome
    ways: Mapping[str, Plan]


def cell(outcome: Outcome, *ways: Plan, **named: Plan) -> Cell:
    """Make a cell with one way, or with several that have names."""
    return Cell(outcome, {**dict(zip(("",), ways, strict=False)), **named})


def status(outcome: Outcome, *codes: int, idle_too: bool = False) -> tuple[Cell | str, ...]:
    """Make the row of a status: it counts, whenever it comes, and whether or not its body is whole."""
    heads = {str(code): f"{code} Status" for code in codes}
    cut = {f"{name} cut": asked(says(http(head, b'{"err', length=500))) for name, head in heads.items()}
    no_gzip = http(heads[str(codes[0])], b"no gzip", "Content-Encoding: gzip")
    unasked = cell(JOB, idle(says(http("408 Request Timeout", b"late", "Connection: close")))) if idle_too else LATER
    return (
        unasked,
        NO_MESSAGE,
        cell(outcome, **{name: on_accept(says(http(head))) for name, head in heads.items()}),
        cell(outcome, **{name: asked(says(http(head, b'"odd"'))) for name, head in heads.items()}),
        cell(outcome, **cut, **{f"{codes[0]} no gzip": asked(says(no_gzip))}),
        unasked,
    )


def document(change: Callable[[bytes], bytes], *head: str, then: Fault = closed) -> Plan:
    """Answer 200 with what is made of the right body, and a length that fits."""
    return asked(answers(lambda body: http("200 OK", change(body), *head), then=then))


# Each row: the phases in their order, with a cell or the letter of the reason why there is none.
MATRIX: Mapping[str, tuple[Cell | str, ...]] = {
    "connection refused": (LATER, cell(TRANSPORT, not_listening), CONNECTED, CONNECTED, CONNECTED, LATER),
    "connection reset": (
        cell(JOB, idle(reset)),
        cell(TRANSPORT, connecting(reset)),
        cell(TRANSPORT, on_accept(reset)),
        cell(TRANSPORT, asked(reset)),
        cell(TRANSPORT, in_body(reset)),
        cell(JOB, idle(reset)),
    ),
    "connection closed": (
        cell(JOB, idle(closed)),
        cell(TRANSPORT, connecting(closed)),
        cell(TRANSPORT, on_accept(closed)),
        cell(TRANSPORT, asked(closed)),
        cell(TRANSPORT, in_body(closed)),
        cell(JOB, idle(closed)),
    ),
    "half-open: silence": (
        cell(POLLED_AGAIN, idle(silent)),
        cell(TRANSPORT, connecting(silent)),
        cell(TRANSPORT, on_accept(silent)),
        cell(TRANSPORT, asked(silent)),
        cell(TRANSPORT, in_body(silent)),
        cell(POLLED_AGAIN, idle(silent)),
    ),
    "slow, within `request_timeout`": (
        LATER,
        cell(JOB, connecting(slow_handshake(SLOW))),
        cell(JOB, on_accept(slow(SLOW))),
        cell(JOB, asked(slow(SLOW))),
        cell(JOB, in_body(slow(SLOW))),
        LATER,
    ),
    "slow, past `request_timeout`": (
        LATER,
        cell(TRANSPORT, connecting(slow_handshake(TOO_SLOW))),
        cell(TRANSPORT, on_accept(slow(TOO_SLOW))),
        cell(TRANSPORT, asked(slow(TOO_SLOW))),
        cell(TRANSPORT, in_body(slow(TOO_SLOW))),
        LATER,
    ),
    "name not resolved": (LATER, cell(TRANSPORT, not_resolved), CONNECTED, CONNECTED, CONNECTED, LATER),
    "TLS failure": (
        cell(JOB, idle(garbled_tls)),
        cell(TRANSPORT, untrusted=connecting(untrusted), no_TLS=connecting(says(http("400 Bad Request")))),
        cell(TRANSPORT, on_accept(garbled_tls)),
        cell(TRANSPORT, asked(garbled_tls)),
        cell(TRANSPORT, in_body(garbled_tls)),
        cell(JOB, idle(garbled_tls)),
    ),
    "length too small": (
        LATER,
        NO_MESSAGE,
        NO_MESSAGE,
        NO_BODY,
        cell(
            EITHER,
            rest_at_once=asked(answers(lambda body: http("200 OK", body, length=len(body) // 2))),
            rest_later=document(lambda body: body[: len(body) // 2], then=in_a_moment(says(b'"}}'))),
        ),
        LATER,
    ),
    "length too large": (
        LATER,
        NO_MESSAGE,
        NO_MESSAGE,
        NO_BODY,
        cell(
            TRANSPORT,
            closed=asked(answers(lambda body: http("200 OK", body, length=len(body) + 1))),
            kept_open=asked(answers(lambda body: http("200 OK", body, length=len(body) + 1), then=silent)),
        ),
        LATER,
    ),
    "length unreadable": (
        LATER,
        NO_MESSAGE,
        NO_MESSAGE,
        cell(
            TRANSPORT,
            negative=asked(answers(lambda body: http("200 OK", body, length=-1))),
            word=asked(answers(lambda body: http("200 OK", body, length="ten"))),
            two=asked(answers(lambda body: http("200 OK", body, "Content-Length: 7"))),
        ),
        NO_HEAD,
        LATER,
    ),
    "truncated": (
        LATER,
        NO_MESSAGE,
        NO_MESSAGE,
        cell(TRANSPORT, asked(answers(lambda body: http("200 OK", body)[:30]))),
        cell(
            BROKEN,
            half=document(lambda body: body[: len(body) // 2]),
            half_gzip=document(lambda body: gzip.compress(body)[:-20], "Content-Encoding: gzip"),
            empty=document(lambda _: b""),
        ),
        LATER,
    ),
    "bad encoding": (
        LATER,
        NO_MESSAGE,
        NO_MESSAGE,
        cell(TRANSPORT, asked(says(b"\x00\xffno HTTP at all\r\n\r\n"))),
        cell(
            TRANSPORT,
            no_gzip=document(lambda body: body, "Content-Encoding: gzip"),
            chunks=asked(
                answers(lambda body: http("200 OK", b"zz\r\n" + body, "Transfer-Encoding: chunked", length=""))
            ),
        ),
        LATER,
    ),
    "bad UTF-8": (
        LATER,
        NO_MESSAGE,
        NO_MESSAGE,
        cell(JOB, asked(answers(lambda body: http("200 \xff", body, "X-Note: \xff\xfe")))),
        cell(
            BROKEN,
            byte=document(lambda body: body.replace(b"spoken", b"\xff")),
            utf16=document(lambda body: body.decode().encode("utf-16")),
        ),
        LATER,
    ),
    "too large": (
        LATER,
        NO_MESSAGE,
        NO_MESSAGE,
        cell(TRANSPORT, asked(answers(lambda body: http("200 OK", body, "X-Long: " + "x" * 100_000)))),
        cell(
            BROKEN,
            plain=document(lambda body: body.ljust(BIG)),
            unpacked=document(lambda _: BOMB, "Content-Encoding: gzip"),
        ),
        LATER,
    ),
    "1xx, then the answer": (
        LATER,
        NO_MESSAGE,
        cell(JOB, **{code: on_accept(first_says(interim(code))) for code in ("100", "102", "103")}),
        cell(JOB, **{code: asked(first_says(interim(code))) for code in ("100", "102", "103")}),
        NO_BODY,
        LATER,
    ),
    "1xx, then silence": (
        LATER,
        NO_MESSAGE,
        cell(TRANSPORT, **{code: on_accept(says(interim(code), then=silent)) for code in ("100", "103")}),
        cell(TRANSPORT, **{code: asked(says(interim(code), then=silent)) for code in ("100", "103")}),
        NO_BODY,
        LATER,
    ),
    "101": (
        LATER,
        NO_MESSAGE,
        cell(STATUS, on_accept(says(SWITCHING))),
        cell(STATUS, asked(says(SWITCHING))),
        NO_BODY,
        LATER,
    ),
    "204, or another 2xx": (
        LATER,
        NO_MESSAGE,
        cell(BROKEN, on_accept(says(b"HTTP/1.1 204 No Content\r\n\r\n"))),
        cell(BROKEN, asked(says(b"HTTP/1.1 204 No Content\r\n\r\n"))),
        cell(BROKEN, **{code: asked(answers(partial(http, f"{code} Status"))) for code in ("206", "202", "201")}),
        LATER,
    ),
    "3xx": status(STATUS, 301, 302, 303, 307, 308),
    "4xx, but those below": status(STATUS, 400, 401, 403, 404, 418, idle_too=True),
    "408": status(LATE, 408),
    "425": status(EARLY, 425),
    "429": status(HELD, 429),
    "5xx": status(SERVER, 500, 502, 503, 504, 599),
    "server restart": (
        cell(AWAY, restarting(idle)),
        cell(TRANSPORT, restarting(connecting)),
        cell(TRANSPORT, restarting(on_accept)),
        cell(TRANSPORT, restarting(asked)),
        cell(TRANSPORT, restarting(in_body)),
        cell(AWAY, restarting(idle)),
    ),
    "clock step": (
        cell(JOB, idle(clock_steps)),
        cell(JOB, connecting(clock_steps)),
        cell(JOB, on_accept(clock_steps)),
        cell(JOB, asked(clock_steps)),
        cell(JOB, in_body(clock_steps)),
        cell(JOB, idle(clock_steps)),
    ),
}

# The same faults while a job is created: what may have been received is never sent twice.
_NEVER_TWICE = {"at_once": True, "may_exist": True}
CREATED = JOB
SENT_AGAIN = Outcome("sent again: `TransportError`", TransportError)
UNTIMELY = Outcome("`APIStatusError` †", APIStatusError, **_NEVER_TWICE)
TOO_EARLY = Outcome("sent again: `APIStatusError`", APIStatusError)
HELD_BACK = Outcome("sent again: `RateLimitedError`", RateLimitedError)
LOST = Outcome("`TransportError` †", TransportError, **_NEVER_TWICE)
UNREADABLE = Outcome("`InvalidResponseError` †", InvalidResponseError, **_NEVER_TWICE)
ONE_OR_THE_OTHER = Outcome("`TransportError` † or `InvalidResponseError` †", PlayAIError, **_NEVER_TWICE)
DOWN = Outcome("`UnexpectedServiceError` †", UnexpectedServiceError, **_NEVER_TWICE)
REFUSED = Outcome("`APIStatusError`", APIStatusError, at_once=True)

UNSENT: Mapping[Outcome, Outcome] = {JOB: CREATED, TRANSPORT: SENT_AGAIN}
"""What follows where no connection came about, by what follows in a wait."""

SENT: Mapping[Outcome, Outcome] = {
    JOB: CREATED,
    TRANSPORT: LOST,
    BROKEN: UNREADABLE,
    EITHER: ONE_OR_THE_OTHER,
    SERVER: DOWN,
    STATUS: REFUSED,
    LATE: UNTIMELY,
    EARLY: TOO_EARLY,
    HELD: HELD_BACK,
}
"""What follows where there was a connection, in the same way."""

# And while audio is downloaded.
FILE = Outcome("file")
BEGUN_AGAIN = Outcome("begun again: `DownloadError`", DownloadError)
FOLLOWED = Outcome("followed: `DownloadError`", DownloadError)
GIVEN_UP = Outcome("`DownloadError`", DownloadError, at_once=True)


def codes(*numbers: int) -> dict[str, Plan]:
    """Answer with statuses, and bodies that say nothing."""
    return {str(code): asked(says(http(f"{code} Status", b"<Error/>"))) for code in numbers}


DOWNLOADS: Mapping[str, Cell] = {
    "connection refused": cell(BEGUN_AGAIN, not_listening),
    "connection reset": cell(
        BEGUN_AGAIN,
        connecting=connecting(reset),
        sending=on_accept(reset),
        headers=asked(reset),
        body=in_body(reset),
    ),
    "connection closed": cell(
        BEGUN_AGAIN,
        connecting=connecting(closed),
        sending=on_accept(closed),
        headers=asked(closed),
        body=in_body(closed),
    ),
    "half-open: silence": cell(
        BEGUN_AGAIN,
        connecting=connecting(silent),
        sending=on_accept(silent),
        headers=asked(silent),
        body=in_body(silent),
    ),
    "slow, never silent for `request_timeout`": cell(FILE, headers=asked(slow(SLOW)), body=in_body(slow(TOO_SLOW))),
    "name not resolved": cell(BEGUN_AGAIN, connecting=not_resolved),
    "TLS failure": cell(
        BEGUN_AGAIN,
        connecting=connecting(untrusted),
        TLS_headers=asked(garbled_tls),
        TLS_body=in_body(garbled_tls),
    ),
    "length wrong": cell(
        GIVEN_UP,
        small=asked(answers(lambda body: http("200 OK", body, length=len(body) - 1))),
        large=asked(answers(lambda body: http("200 OK", body, length=len(body) + 1))),
    ),
    "length unreadable": cell(BEGUN_AGAIN, asked(answers(lambda body: http("200 OK", body, length="ten")))),
    "truncated": cell(
        BEGUN_AGAIN,
        head=asked(answers(lambda body: http("200 OK", body)[:30])),
        no_length=asked(answers(lambda body: http("200 OK", body[:-1], length=""))),
    ),
    "bad encoding": cell(
        BEGUN_AGAIN,
        no_HTTP=asked(says(b"\x00\xffno HTTP at all\r\n\r\n")),
        chunks=asked(answers(lambda body: http("200 OK", b"zz\r\n" + body, "Transfer-Encoding: chunked", length=""))),
    ),
    "encoded unasked": cell(GIVEN_UP, asked(answers(lambda body: http("200 OK", body, "Content-Encoding: gzip")))),
    "too large": cell(GIVEN_UP, asked(answers(lambda body: http("200 OK", body + b"x", length="")))),
    "1xx, then the answer": cell(FILE, asked(first_says(interim("103")))),
    "1xx, then silence": cell(BEGUN_AGAIN, asked(says(interim("103"), then=silent))),
    "204, or another 2xx": cell(GIVEN_UP, **codes(202, 206)),
    "3xx": cell(FOLLOWED, asked(says(http("302 Found", b"", "Location: /audio/elsewhere")))),
    "4xx, but those below": cell(GIVEN_UP, **codes(400, 401, 403, 404, 410, 416)),
    "408, 425, 429": cell(BEGUN_AGAIN, **codes(408, 425, 429)),
    "5xx": cell(BEGUN_AGAIN, **codes(500, 503)),
    "server restart": cell(
        BEGUN_AGAIN,
        connecting=restarting(connecting),
        headers=restarting(asked),
        body=restarting(in_body),
    ),
    "clock step": cell(FILE, headers=asked(clock_steps), body=in_body(clock_steps)),
}


EXACTLY: Mapping[str, type[PlayAIError]] = {
    "rest_at_once": TransportError,
    "rest_later": InvalidResponseError,
    "400": InvalidParametersError,
    "401": UnauthorizedError,
    "403": ForbiddenError,
    "404": NotFoundError,
}


@attrs.frozen
class Case:
    """One way to bring about one cell of a table."""

    fault: str
    phase: str
    way: str
    outcome: Outcome
    plan: Plan
    is_first: bool  # of the ways of its cell

    def __str__(self) -> str:
        return ", ".join(filter(None, [self.fault, self.way, self.phase]))

    @property
    def over_tls(self) -> bool:
        """Whether there must be TLS, or a name to look up, for it to happen."""
        return "connecting" in {self.phase, self.way} or self.fault == "TLS failure"

    @property
    def error(self) -> type[PlayAIError] | None:
        """What it is raised as, to the class."""
        return EXACTLY.get(self.way.split(" ")[0], self.outcome.error)


WAITING = [
    Case(fault, phase, way, cell.outcome, plan, is_first=way == next(iter(cell.ways)))
    for fault, row in MATRIX.items()
    for phase, cell in zip(PHASES, row, strict=True)
    if isinstance(cell, Cell)
    for way, plan in cell.ways.items()
]

CREATING = [
    attrs.evolve(case, outcome=(UNSENT if case.phase == "connecting" else SENT)[case.outcome])
    for case in WAITING
    if case.is_first and case.phase not in {"queued", "pause"}
]

DOWNLOADING = [
    Case(fault, "", way, cell.outcome, plan, is_first=way == next(iter(cell.ways)))
    for fault, cell in DOWNLOADS.items()
    for way, plan in cell.ways.items()
]


# The same, as `tests/README.md` has it: each row's cells, as text.


def waits_in_words() -> list[list[str]]:
    """The table of waits."""
    return [
        [fault, *(cell.outcome.text if isinstance(cell, Cell) else f"- {cell}" for cell in row)]
        for fault, row in MATRIX.items()
    ]


def creations_in_words() -> list[list[str]]:
    """The table of creations: what follows where nothing of the request was sent, and where something was."""

    def words(fault: str, *, sent: bool) -> str:
        cases = [case for case in CREATING if case.fault == fault and (case.phase != "connecting") is sent]
        return ", or ".join(dict.fromkeys(case.outcome.text for case in cases)) or "-"

    return [[fault, words(fault, sent=False), words(fault, sent=True)] for fault in MATRIX]


def downloads_in_words() -> list[list[str]]:
    """The table of downloads."""
    return [[fault, cell.outcome.text] for fault, cell in DOWNLOADS.items()]
