"""Replies, `Retry-After` and parameters, drawn at random but the same every time: what must hold for any of them."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from playai_async import Completed, InvalidResponseError, PlayAIError, RateLimitedError, TtsJob, TtsParameters, Unknown
from playai_async._api.contract import Reply
from tests.fuzz.fuzzed import (
    A_DAY,
    CONTRACT,
    DOCUMENTS,
    ERRORS,
    STATUSES,
    check_hint,
    check_reply,
    hints,
    replies,
    reply_of,
)
from tests.support.scripted import API_KEY, COMPLETED, JOB_ID, USER_ID, job_json

SAME_EVERY_TIME = settings(derandomize=True, database=None, deadline=None, max_examples=100)

TEXT = st.text(st.characters(codec="utf-8"), max_size=30)
WILD_TEXT = st.text(st.characters(codec=None, categories=None), max_size=20) | st.sampled_from([API_KEY, USER_ID])
FINITE = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | FINITE | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=10,
)
TIMES = st.datetimes(timezones=st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))).map(
    datetime.isoformat
)

TOKENS = (
    *(b"{", b"}", b"[", b"]", b":", b",", b'"', b'\\"', b"\\", b"\\u0000", b"\\ud800", b"\\udc00"),
    *(
        b"null",
        b"true",
        b"NaN",
        b"-Infinity",
        b"1e999",
        b"-0",
        b"9" * 400,
        b"0.1e-999",
        b"\x00",
        b"\xff",
        b"\xef\xbb\xbf",
    ),
    *(b'"id":', b'"status":', b'"COMPLETED"', b'"IN_PROGRESS"', b'"output":{}', b"\xf0\x9f\x98\x80", b"\xed\xa0\x80"),
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A document of the contract's with some bytes changed, left out, put in, or written twice."""
    body = draw(st.sampled_from([json.dumps(document).encode() for document in (*DOCUMENTS, *ERRORS)]))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(body)))
        end = draw(st.integers(start, min(len(body), start + 40)))
        inner = draw(st.sampled_from([b"", body[start:end] * 2, *TOKENS]) | st.binary(min_size=1, max_size=4))
        body = body[:start] + inner + body[end:]
    return body


@st.composite
def jobs(draw: st.DrawFn) -> dict[str, Any]:
    """A job as the contract has it, with fields that it does not know."""
    output = draw(
        st.sampled_from([{"status": "IN_PROGRESS"}, {"status": "FAILED"}])
        | st.fixed_dictionaries(
            {
                "status": st.just("COMPLETED"),
                "url": TEXT,
                "contentType": TEXT,
                "fileSize": FINITE | st.integers(0, 2**53),
                "duration": FINITE,
            }
        )
        | st.fixed_dictionaries({"status": TEXT.filter(lambda text: text not in KNOWN)})
    )
    known = {
        "id": str(JOB_ID),
        "createdAt": draw(TIMES),
        "input": draw(st.dictionaries(TEXT, JSON, max_size=5)),
        "completedAt": draw(st.none() | TIMES),
        "output": {**draw(st.dictionaries(TEXT, JSON, max_size=2)), **output},
    }
    return {**draw(st.dictionaries(TEXT, JSON, max_size=2)), **known}


KNOWN = {"COMPLETED", "IN_PROGRESS", "FAILED"}


@SAME_EVERY_TIME
@given(status=st.sampled_from(STATUSES), body=mutated(), complete=st.booleans(), creates=st.booleans())
def test_any_change_to_a_document_is_understood(status: int, body: bytes, complete: bool, creates: bool) -> None:
    """Cut, doubled, garbled: a job as the contract has it, or a documented error."""
    check_reply(Reply(status, None, body, complete), creates=creates)


@SAME_EVERY_TIME
@given(job=jobs(), creates=st.booleans())
def test_any_job_of_the_contract_is_read_and_written_again(job: dict[str, Any], creates: bool) -> None:
    """As it came, to the value; what is not known is ignored, but for that of a state that is not."""
    outcome = check_reply(Reply(201 if creates else 200, None, json.dumps(job).encode()), creates=creates)
    assert isinstance(outcome, TtsJob)
    assert outcome.created_at == datetime.fromisoformat(job["createdAt"])
    assert outcome.input == job["input"]
    assert outcome.output.status == job["output"]["status"]
    assert outcome.done is (outcome.output.status in {"COMPLETED", "FAILED"})
    if isinstance(outcome.output, Completed):
        assert (outcome.output.file_size, outcome.output.duration) == (
            job["output"]["fileSize"],
            job["output"]["duration"],
        )
    if isinstance(outcome.output, Unknown):
        assert {**outcome.output.fields, "status": outcome.output.status} == job["output"]


@SAME_EVERY_TIME
@given(first=JSON, name=st.sampled_from(["id", "createdAt", "input", "completedAt", "output"]))
def test_a_field_that_is_there_twice_counts_as_it_is_last(first: object, name: str) -> None:
    """As in most readers of JSON; so that the first cannot hide behind the last, nor the other way round."""
    body = json.dumps(job_json(COMPLETED))
    twice = f"{{{json.dumps(name)}: {json.dumps(first)}, {body[1:]}"
    outcome = check_reply(Reply(200, None, twice.encode()))
    assert isinstance(outcome, TtsJob)
    assert isinstance(outcome.output, Completed)
    last = f"{body[:-1]}, {json.dumps(name)}: {json.dumps([first])}}}"
    assert isinstance(check_reply(Reply(200, None, last.encode())), InvalidResponseError)


def nested(depth: int) -> dict[str, Any]:
    """A value with so many objects in each other."""
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


MIB = 1024 * 1024
HOSTILE: dict[str, Callable[[], bytes]] = {
    "brackets": lambda: b"[" * (8 * MIB),
    "objects": lambda: b'{"a":' * MIB,
    "pairs": lambda: b"[" + b"{}," * (2 * MIB) + b"{}]",
    "digits": lambda: b"9" * (8 * MIB),
    "a long exponent": lambda: b"1e" + b"9" * (8 * MIB - 2),
    "many numbers": lambda: b"[" + b"1," * (4 * MIB - 2) + b"1]",
    "an open string": lambda: b'"' + b"a" * (8 * MIB - 1),
    "escapes": lambda: b'"' + b"\\u0000" * (8 * MIB // 6) + b'"',
    "half surrogates": lambda: b'"' + b"\\ud800" * (8 * MIB // 6) + b'"',
    "backslashes": lambda: b'"' + b"\\" * (8 * MIB - 2) + b'"',
    "one key again and again": lambda: b"{" + b'"id":1,' * MIB + b'"id":1}',
    "many keys": lambda: b"{" + b",".join(b'"%d":0' % number for number in range(10**5, 6 * 10**5)) + b"}",
    "spaces": lambda: b" " * (8 * MIB),
    "zeros": lambda: b"\0" * (8 * MIB),
    "no UTF-8": lambda: b"\xff" * (8 * MIB),
    "the key over and over": lambda: API_KEY.encode() * (8 * MIB // len(API_KEY)),
    "a job with a long state": lambda: json.dumps(job_json({"status": "X" * (7 * MIB)})).encode(),
    "a job with a long link": lambda: json.dumps(job_json({**COMPLETED, "url": "x" * (7 * MIB)})).encode(),
    "a job with a long time": lambda: json.dumps({**job_json(), "createdAt": "2" * (7 * MIB)}).encode(),
    "a job with a long id": lambda: json.dumps({**job_json(), "id": "-" * (7 * MIB)}).encode(),
}


@pytest.mark.parametrize("status", [200, 500], ids=str)
@pytest.mark.parametrize("kind", HOSTILE)
def test_the_longest_of_replies_takes_a_bounded_time(kind: str, status: int) -> None:
    """The event loop stands still meanwhile, so that it is bounded whatever the eight mebibytes say."""
    reply = Reply(status, "9" * MIB, HOSTILE[kind]())
    begun = time.process_time()
    with contextlib.suppress(PlayAIError):
        CONTRACT.parse_status(reply, JOB_ID, now=0.0)
    assert time.process_time() - begun < 2.0


@pytest.mark.parametrize("data", [*replies(), b"", b"\0", b"\xff\xff"], ids=repr)
def test_what_the_fuzzer_begins_from_is_understood(data: bytes) -> None:
    """The contract's examples are jobs and errors as it has them."""
    reply = reply_of(data)
    outcome = check_reply(reply, creates=reply.status == 201)
    assert isinstance(outcome, TtsJob) is (reply.status in {200, 201} and len(data) > 2)


# `Retry-After`.

NOW = datetime(2026, 11, 6, 8, 49, 37, tzinfo=UTC)

ZONES = st.sampled_from(
    ["GMT", "UT", "UTC", "Z", "EST", "-0000", "+0000", "+2359", "-2359", "+2400", "-9999", "+99999999", "CET", "", "?"]
)


@SAME_EVERY_TIME
@given(seconds=st.integers(-200_000, 200_000), zone=st.integers(-1439, 1439))
def test_a_date_in_any_zone_is_obeyed_to_the_second(seconds: int, zone: int) -> None:
    """The difference to now, whatever the offset, if it lies ahead, and a day at most."""
    date = (NOW + timedelta(seconds=seconds)).astimezone(timezone(timedelta(minutes=zone)))
    expected = None if seconds <= 0 else min(float(seconds), A_DAY)
    assert check_hint(format_datetime(date), now=NOW.timestamp()) == expected


@SAME_EVERY_TIME
@given(
    day=st.integers(-1, 40),
    month=st.sampled_from(["Jan", "Feb", "Nov", "Dec", "nov", "November", "11", "", "Foo"]),
    year=st.integers(0, 10_100) | st.sampled_from([0, 1, 68, 69, 99, 100, 999, 9999, 10_000, 10**20]),
    clock=st.sampled_from(["08:49:37", "23:59:60", "24:00:00", "8:49", "08.49.37", "-1:00:00", "99:99:99", ""]),
    zone=ZONES,
    form=st.sampled_from(
        ["Fri, {0} {1} {2} {3} {4}", "Friday, {0}-{1}-{2} {3} {4}", "Fri {1} {0} {3} {2}", "{0} {1} {2} {3} {4}"]
    ),
    now=st.sampled_from([0.0, NOW.timestamp(), 253_402_300_799.0]),
)
@example(day=31, month="Dec", year=9999, clock="23:59:60", zone="-2359", form="{0} {1} {2} {3} {4}", now=0.0)
@example(day=1, month="Jan", year=1, clock="08:49:37", zone="+2359", form="{0} {1} {2} {3} {4}", now=0.0)
@example(day=1, month="Jan", year=0, clock="08:49:37", zone="GMT", form="{0} {1} {2} {3} {4}", now=0.0)
def test_a_date_of_any_year_and_zone_does_no_harm(
    day: int, month: str, year: int, clock: str, zone: str, form: str, now: float
) -> None:
    """From the year 0 to past 9999, on days, hours and in zones that there are not."""
    check_hint(form.format(day, month, year, clock, zone), now=now)


@SAME_EVERY_TIME
@given(text=st.binary(max_size=60), now=st.floats(0, 1e11))
@example(text=b"Fri, 06 Nov 2026 08:49:37 GMT, Fri, 06 Nov 2026 08:49:37 GMT", now=0.0)
def test_any_bytes_of_a_header_do_no_harm(text: bytes, now: float) -> None:
    """Both as aiohttp decodes them, with surrogates in place of what is no UTF-8, and as others do."""
    for decoded in (text.decode("utf-8", "surrogateescape"), text.decode("latin-1")):
        hint = check_hint(decoded, now=now)
        reply = Reply(429, decoded, b'"Rate limit exceeded."')
        outcome = check_reply(reply)
        assert isinstance(outcome, RateLimitedError)
        assert hint is None or outcome.retry_after is not None or now > 0


@pytest.mark.parametrize("data", hints(), ids=repr)
def test_what_the_fuzzer_of_hints_begins_from_does_no_harm(data: bytes) -> None:
    """Hints of each form, and none."""
    check_hint(data.decode(), now=784_111_777.0)


# Parameters.

NAMES = {"output_format": "outputFormat", "web_hook_url": "webHookUrl"}
WORDS = st.text(min_size=1, max_size=20).filter(lambda text: text.strip() and text.isprintable())
FIELDS = {
    "voice2": st.none() | TEXT,
    "prompt": st.none() | WILD_TEXT,
    "speed": st.none() | st.floats() | st.integers(),
    "seed": st.none() | FINITE | st.integers(),
    "output_format": st.none() | TEXT,
    "web_hook_url": st.none() | TEXT,
    "extra": st.dictionaries(TEXT, JSON, max_size=4) | st.dictionaries(WILD_TEXT, st.floats(), max_size=2),
}


@SAME_EVERY_TIME
@given(text=WORDS, fields=st.fixed_dictionaries({}, optional=FIELDS))
def test_any_parameters_are_written_as_they_are_or_refused(text: str, fields: dict[str, Any]) -> None:
    """The body reads back as what was given, without what was left out; else a `ValueError` or `TypeError`."""
    with contextlib.suppress(ValueError, TypeError):
        body = CONTRACT.encode_parameters(TtsParameters(text, "v", **fields))
        assert_says(body, text, fields)


def assert_says(body: bytes, text: str, fields: dict[str, Any]) -> None:
    """Fail unless a body says what was given, and no more."""
    written = json.loads(body.decode())
    values = {name: value for name, value in fields.items() if name != "extra" and value is not None}
    named = {NAMES.get(name, name): value for name, value in values.items()}
    assert written == {"model": "PlayDialog", "text": text, "voice": "v", **named, **fields.get("extra", {})}
    assert not any(isinstance(value, float) and not math.isfinite(value) for value in written.values())


@pytest.mark.parametrize("depth", [10, 500, 5_000, 100_000], ids=str)
def test_extra_of_any_depth_is_written_or_refused(depth: int) -> None:
    """What is nested too deeply for the writer is the caller's mistake."""
    parameters = TtsParameters("Hello", "v", extra={"nested": nested(depth)})
    try:
        body = CONTRACT.encode_parameters(parameters)
    except ValueError:
        assert depth >= 500
    else:
        assert body.count(b"{") == depth + 2
