"""The contract without HTTP: which reply becomes which job or error, the error messages, and redacted secrets."""

from __future__ import annotations

import html
import json
import urllib.parse
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import attrs
import pytest

from playai_async import (
    APIStatusError,
    ConfigurationError,
    ForbiddenError,
    InProgress,
    InvalidParametersError,
    InvalidResponseError,
    NotFoundError,
    PlayAIError,
    RateLimitedError,
    TransportError,
    TtsJob,
    UnauthorizedError,
    UnexpectedServiceError,
)
from playai_async._api.contract import Contract, Reply
from playai_async._api.credentials import Credentials
from playai_async._models import job_id_of

JOB_ID = UUID("3fa85f64-5717-4562-b3fc-2c963f66afa6")
OTHER_ID = UUID("00000000-0000-4000-8000-000000000001")
NOW = 784_111_777.0
KEY = 'ak-0123"456\\789/=+'
USER = "user&name%<1>"
SPOKEN = "the words that are spoken"
JOB: dict[str, Any] = {
    "id": str(JOB_ID),
    "createdAt": "2026-01-02T03:04:05Z",
    "input": {"text": SPOKEN},
    "completedAt": None,
    "output": {"status": "IN_PROGRESS"},
}


def reply_of(status: int, body: object, *, retry_after: str | None = None, complete: bool = True) -> Reply:
    """Build a reply. A body that is not bytes is encoded as JSON."""
    return Reply(status, retry_after, body if isinstance(body, bytes) else json.dumps(body).encode(), complete)


def parse(reply: Reply) -> TtsJob:
    """Parse a status reply about the job."""
    return Contract(Credentials(KEY, USER)).parse_status(reply, JOB_ID, now=NOW)


def error_of(reply: Reply) -> PlayAIError:
    """Return the error that a reply raises."""
    with pytest.raises(PlayAIError) as caught:
        parse(reply)
    return caught.value


def status_error_of(reply: Reply) -> APIStatusError:
    """Return the `APIStatusError` that a reply raises."""
    error = error_of(reply)
    assert isinstance(error, APIStatusError)
    return error


def invalid_response_of(reply: Reply) -> InvalidResponseError:
    """Return the `InvalidResponseError` that a reply raises."""
    error = error_of(reply)
    assert isinstance(error, InvalidResponseError)
    return error


# Replies with a job


def test_a_200_with_the_job_returns_the_job() -> None:
    """Every field is parsed."""
    assert parse(reply_of(200, JOB)) == TtsJob(
        JOB_ID, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), {"text": SPOKEN}, None, InProgress()
    )


def test_a_job_shares_the_requested_id_object() -> None:
    """Thousands of waits share one UUID per job instead of one per reply."""
    assert parse(reply_of(200, JOB)).id is JOB_ID


def test_a_job_is_created_by_201_200_and_202_only() -> None:
    """Any other 2xx breaks the contract, and other statuses raise the error of the status."""
    contract = Contract(Credentials(KEY, USER))
    assert [contract.parse_created(reply_of(status, JOB), now=NOW).id for status in (200, 201, 202)] == [JOB_ID] * 3
    kinds = {203: InvalidResponseError, 299: InvalidResponseError, 199: APIStatusError, 300: APIStatusError}
    for status, kind in kinds.items():
        with pytest.raises(kind):
            contract.parse_created(reply_of(status, JOB), now=NOW)


LOST = {**JOB, "createdAt": None}


@pytest.mark.parametrize(
    "reply",
    [
        reply_of(201, LOST),
        reply_of(200, {"id": str(JOB_ID)}),
        reply_of(202, {"jobId": str(JOB_ID)}),
        reply_of(202, {"jobId": str(JOB_ID).upper()}),
        reply_of(202, {"id": JOB_ID.hex}),
        reply_of(202, {"id": None, "jobId": str(JOB_ID)}),
        reply_of(203, JOB),
        reply_of(299, json.dumps(JOB, indent=4).encode()),
        reply_of(201, {"data": {"id": str(JOB_ID)}}),
        reply_of(201, [{"id": str(JOB_ID)}]),
        reply_of(201, {"input": {"voice": {"id": str(OTHER_ID)}}, "id": str(JOB_ID)}),
        reply_of(201, {"id": str(JOB_ID), "input": {"voice": {"id": str(OTHER_ID)}}}),
        reply_of(201, {"input": {"x": {}}, "voice": {"id": str(OTHER_ID)}, "id": str(JOB_ID)}),
        reply_of(201, {"jobId": str(OTHER_ID), "id": str(JOB_ID)}),
        reply_of(201, json.dumps(JOB).encode()[:60]),
        reply_of(201, json.dumps(JOB).encode() + b"}"),
        reply_of(201, json.dumps(JOB).replace('"Hello"', "NaN").encode() + b"\xff"),
        reply_of(201, json.dumps(JOB).encode(), complete=False),
    ],
    ids=lambda reply: f"{reply.status} {reply.body[:24]!r}",
)
def test_an_invalid_reply_to_a_creation_names_the_job(reply: Reply) -> None:
    """The job is paid for, and its id is all that is needed to wait for it."""
    with pytest.raises(InvalidResponseError, match=rf"\. The reply names job {JOB_ID}\.$") as caught:
        Contract(Credentials(KEY, USER)).parse_created(reply, now=NOW)
    assert caught.value.job_id == JOB_ID


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        {"id": "job-1"},
        {"id": f"{{{JOB_ID}}}"},
        {"errorId": str(JOB_ID)},
        {"input": {"text": f'"id": "{JOB_ID}"'}},
        {"jobs": [{"id": str(JOB_ID)}, {"id": str(OTHER_ID)}]},
        b" " * 70_000 + json.dumps({"id": str(JOB_ID)}).encode(),
    ],
    ids=lambda body: str(body)[:24],
)
def test_an_invalid_reply_to_a_creation_may_name_no_job(body: object) -> None:
    """Several ids are ambiguous, and a wrong id is worse than none."""
    with pytest.raises(InvalidResponseError) as caught:
        Contract(Credentials(KEY, USER)).parse_created(reply_of(202, body), now=NOW)
    assert caught.value.job_id is None
    assert "names" not in str(caught.value)


@pytest.mark.parametrize("status", [302, 400, 429, 500], ids=str)
def test_an_error_status_to_a_creation_names_no_job(status: int) -> None:
    """The contract has no id in such a body: it may be the id of anything."""
    with pytest.raises(APIStatusError) as caught:
        Contract(Credentials(KEY, USER)).parse_created(reply_of(status, {"id": str(JOB_ID)}), now=NOW)
    assert caught.value.job_id is None


@pytest.mark.parametrize(("status", "named"), [(201, JOB_ID), (500, None)], ids=str)
def test_a_reply_that_breaks_off_names_the_job_only_if_its_status_is_2xx(status: int, named: UUID | None) -> None:
    """What else has an id in its body may mean anything by it."""
    error = TransportError("The connection was lost.")
    reply = reply_of(status, json.dumps({"id": str(JOB_ID)}).encode()[:-1], complete=False)
    Contract(Credentials(KEY, USER)).name_created(error, reply)
    assert error.job_id == named


def test_a_429_to_a_creation_may_have_an_http_date() -> None:
    """`Retry-After` is parsed as for any other request."""
    with pytest.raises(RateLimitedError) as caught:
        Contract(Credentials(KEY, USER)).parse_created(
            reply_of(429, "Slow.", retry_after="Sun, 06 Nov 1994 08:49:47 GMT"), now=NOW
        )
    assert caught.value.retry_after == 10.0


def test_the_letter_case_of_the_id_does_not_matter() -> None:
    """The id is the same UUID in upper case."""
    assert parse(reply_of(200, {**JOB, "id": str(JOB_ID).upper()})).id == JOB_ID


def test_a_200_about_another_job_breaks_the_contract() -> None:
    """Otherwise a wait could end with the audio of somebody else."""
    error = invalid_response_of(reply_of(200, {**JOB, "id": str(OTHER_ID)}))
    assert error.problems == ("the id of another job @ $.id",)
    assert error.job_id == JOB_ID


DIGITS = b'{"id": ' + b"9" * 5000 + b"}"


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (reply_of(200, b""), "not JSON @ $"),
        (reply_of(200, b"<html>"), "not JSON @ $"),
        (reply_of(200, b"\xff\xfe{}"), "not JSON @ $"),
        (reply_of(200, b'{"id": "\xff"}'), "not JSON @ $"),
        (reply_of(200, b'{"id": NaN}'), "not JSON @ $"),
        (reply_of(200, b"-Infinity"), "not JSON @ $"),
        (reply_of(200, b'{"id": 1e999}'), "not JSON @ $"),
        (reply_of(200, DIGITS), "not JSON @ $"),
        (reply_of(200, json.dumps(JOB).encode()[:-1]), "not JSON @ $"),
        (reply_of(200, json.dumps(JOB).encode() + b"}"), "not JSON @ $"),
        (reply_of(200, b"[" * 90_000), "nested too deeply @ $"),
        (reply_of(200, b'{"a":' * 90_000), "nested too deeply @ $"),
        (reply_of(200, b"[" + b"[]," * 200_000 + b"[]]"), "too many values @ $"),
        (reply_of(200, b"[" + b"1.5," * 200_000 + b"1]"), "too many values @ $"),
        (reply_of(200, b"[" + b"[]" * 200_000 + b"]"), "too many values @ $"),
        (reply_of(200, b'{"a":' * 200_000), "too many values @ $"),
        (reply_of(200, JOB, complete=False), "longer than 8388608 bytes @ $"),
        (reply_of(200, None), "expected an object, got null @ $"),
        (reply_of(200, [JOB]), "expected an object, got an array @ $"),
        (reply_of(200, {**JOB, "input": "\ud800"}), "expected an object, got a string @ $.input"),
        (reply_of(200, {**JOB, "id": "\ud800"}), "expected a UUID @ $.id"),
        (reply_of(201, JOB), "expected status 200, got 201 @ $"),
        (reply_of(202, b""), "expected status 200, got 202 @ $"),
        (reply_of(204, b""), "expected status 200, got 204 @ $"),
        (reply_of(206, JOB), "expected status 200, got 206 @ $"),
        (reply_of(299, JOB), "expected status 200, got 299 @ $"),
    ],
    ids=lambda value: f"{value.status} {value.body[:12]!r}" if isinstance(value, Reply) else value,
)
def test_a_2xx_that_is_not_the_job_breaks_the_contract(reply: Reply, problem: str) -> None:
    """The error names the problem and its path; the message also has the job id and the status."""
    error = invalid_response_of(reply)
    assert error.problems == (problem,)
    assert str(error) == f"The response for job {JOB_ID} breaks the contract ({reply.status}): {problem}."
    assert error.job_id == JOB_ID


def test_depth_is_limited_and_the_number_of_arrays_side_by_side_is_not() -> None:
    """A hundred levels are allowed, in arrays and in objects."""
    deep = {**JOB, "input": json.loads("[" * 150 + "]" * 150)}
    assert invalid_response_of(reply_of(200, deep)).problems == ("nested too deeply @ $",)
    wide = {**JOB, "input": {"x": [[[]]] * 150}}
    assert parse(reply_of(200, wide)).input == {"x": [[[]]] * 150}


@pytest.mark.parametrize("value", [[], {}, 1, 1.5, "", {"a": "b"}], ids=repr)
def test_a_reply_may_have_200_000_structural_characters(value: object) -> None:
    """Brackets, braces, commas and colons. Each value needs one, and much more memory and time than its text."""
    each = json.dumps([value, value]).count(",") + sum(json.dumps(value).count(mark) for mark in "[{:")
    spare = sum(json.dumps({**JOB, "input": {"x": [], "y": ""}}).count(mark) for mark in "[{:,") - 1
    count = (200_000 - spare) // each
    rest = 200_000 - spare - count * each
    for more, many in ((0, False), (1, True)):
        reply = reply_of(200, {**JOB, "input": {"x": [value] * count, "y": "," * (rest + more)}})
        assert sum(reply.body.count(mark) for mark in (b"[", b"{", b":", b",")) == 200_000 + more
        if many:
            assert invalid_response_of(reply).problems == ("too many values @ $",)
        else:
            assert parse(reply).id == JOB_ID


def test_integers_may_have_300_digits() -> None:
    """The time to parse a longer integer grows with the square of its length."""
    assert parse(reply_of(200, {**JOB, "input": {"x": int("9" * 300)}})).input == {"x": int("9" * 300)}
    error = invalid_response_of(reply_of(200, {**JOB, "input": {"x": int("9" * 301)}}))
    assert error.problems == ("not JSON @ $",)


def test_every_problem_of_a_reply_is_in_the_message() -> None:
    """Separated by semicolons."""
    error = invalid_response_of(reply_of(200, {**JOB, "createdAt": 1, "completedAt": 1}))
    assert len(error.problems) == 2
    assert str(error).endswith(f"breaks the contract (200): {error.problems[0]}; {error.problems[1]}.")


def test_an_invalid_reply_raises_without_the_decoders_error() -> None:
    """The decoder's error contains the document, and would log it with the traceback."""
    error = error_of(reply_of(200, b'{"text": "' + SPOKEN.encode()))
    assert (error.__cause__, error.__context__) == (None, None)


def test_lone_surrogates_in_the_input_are_accepted() -> None:
    """The input comes from the creator of the job, and the job is done anyway."""
    assert parse(reply_of(200, {**JOB, "input": {"text": "\ud800"}})).input == {"text": "\ud800"}


@pytest.mark.parametrize(
    "change",
    [
        {"input": SPOKEN},
        {"id": SPOKEN},
        {"createdAt": SPOKEN},
        {"output": SPOKEN},
        {"output": {"status": "COMPLETED", "url": "u", "contentType": "t", "fileSize": SPOKEN, "duration": SPOKEN}},
        {"id": str(OTHER_ID)},
    ],
    ids=str,
)
def test_the_message_of_an_invalid_reply_never_contains_spoken_text(change: dict[str, Any]) -> None:
    """Messages are logged. Only the excerpt may contain text."""
    error = invalid_response_of(reply_of(200, {**JOB, **change}))
    assert SPOKEN not in str(error)
    assert SPOKEN not in "".join(error.problems)


# Replies with an error


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (100, APIStatusError),
        (199, APIStatusError),
        (300, APIStatusError),
        (301, APIStatusError),
        (302, APIStatusError),
        (304, APIStatusError),
        (307, APIStatusError),
        (400, InvalidParametersError),
        (401, UnauthorizedError),
        (402, APIStatusError),
        (403, ForbiddenError),
        (404, NotFoundError),
        (405, APIStatusError),
        (408, APIStatusError),
        (409, APIStatusError),
        (410, APIStatusError),
        (418, APIStatusError),
        (422, APIStatusError),
        (425, APIStatusError),
        (429, RateLimitedError),
        (451, APIStatusError),
        (499, APIStatusError),
        (500, UnexpectedServiceError),
        (501, UnexpectedServiceError),
        (502, UnexpectedServiceError),
        (503, UnexpectedServiceError),
        (504, UnexpectedServiceError),
        (599, UnexpectedServiceError),
    ],
    ids=str,
)
def test_each_status_has_its_own_error(status: int, kind: type[APIStatusError]) -> None:
    """The body does not matter, even if it is a valid job."""
    error = status_error_of(reply_of(status, JOB))
    assert (type(error), error.status, error.job_id) == (kind, status, JOB_ID)


@pytest.mark.parametrize(
    ("body", "error_id", "message", "words"),
    [
        ({"errorMessage": "No.", "errorId": "UNAUTHORIZED"}, "UNAUTHORIZED", "No.", ": UNAUTHORIZED: No."),
        ({"errorMessage": "No", "errorId": "UNAUTHORIZED"}, "UNAUTHORIZED", "No", ": UNAUTHORIZED: No."),
        ({"errorMessage": "No."}, None, "No.", ": No."),
        ({"errorId": "UNAUTHORIZED"}, "UNAUTHORIZED", None, ": UNAUTHORIZED."),
        ({"errorMessage": "", "errorId": ""}, "", "", "."),
        ({"errorMessage": None, "errorId": None}, None, None, "."),
        ({"errorMessage": ["No."], "errorId": 401}, None, None, "."),
        ({"errorMessage": True, "errorId": {}}, None, None, "."),
        ({"message": "No.", "error": "x"}, None, None, "."),
        ({}, None, None, "."),
        ([], None, None, "."),
        (None, None, None, "."),
        (401, None, None, "."),
        ("Not today.", None, "Not today.", ": Not today."),
        ({"errorMessage": "a\ud800b", "errorId": "\udfff"}, "?", "a?b", ": ?: a?b."),
        (b'{"errorMessage": NaN}', None, None, "."),
        (b"<html><h1>401</h1></html>", None, None, "."),
        (b"\xff", None, None, "."),
        (b"", None, None, "."),
        (b"[" * 200_000, None, None, "."),
        (DIGITS, None, None, "."),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_an_error_message_quotes_the_service(
    body: object, error_id: str | None, message: str | None, words: str
) -> None:
    """Both fields are optional, and may have any type."""
    error = status_error_of(reply_of(401, body))
    assert (error.error_id, error.message) == (error_id, message)
    assert str(error) == f"PlayAI answered 401 for job {JOB_ID}{words}"


def test_the_body_of_a_429_is_a_bare_string() -> None:
    """The contract defines this body for 429 only."""
    error = status_error_of(reply_of(429, "Rate limit exceeded. Please wait a few moments and try again."))
    assert error.message == "Rate limit exceeded. Please wait a few moments and try again."
    assert error.error_id is None


@pytest.mark.parametrize(
    ("retry_after", "hint"),
    [
        (None, None),
        ("7", 7.0),
        ("0", None),
        ("soon", None),
        ("Sun, 06 Nov 1994 08:49:47 GMT", 10.0),
        ("999999", 86_400.0),
    ],
    ids=str,
)
@pytest.mark.parametrize("status", [408, 425, 429, 503], ids=str)
def test_an_error_has_the_parsed_retry_after(status: int, retry_after: str | None, hint: float | None) -> None:
    """An HTTP date is compared with the given time. An unusable value is None."""
    assert status_error_of(reply_of(status, "Slow down.", retry_after=retry_after)).retry_after == hint


def test_a_retry_after_date_is_measured_from_the_date_of_the_reply() -> None:
    """The clock of the service may be an hour ahead."""
    reply = attrs.evolve(
        reply_of(429, "Slow.", retry_after="Sun, 06 Nov 1994 09:49:38 GMT"), date="Sun, 06 Nov 1994 09:49:37 GMT"
    )
    assert status_error_of(reply).retry_after == 1.0


@pytest.mark.parametrize(
    ("header", "request_id"),
    [
        (None, None),
        ("", None),
        (" \t", None),
        ("req-1", "req-1"),
        ("\udcff\nreq", "? req"),
        (f"for {KEY}", "for [hidden]"),
        ("r" * 10_000, "r" * 199 + "…"),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_an_error_has_the_id_of_its_request(header: str | None, request_id: str | None) -> None:
    """It is what the support of the service asks for."""
    error = status_error_of(attrs.evolve(reply_of(500, {}), request_id=header))
    assert error.request_id == request_id
    assert error.job_id == JOB_ID


def test_an_incomplete_reply_still_has_its_status() -> None:
    """The rest of the body of an error is not needed."""
    error = error_of(reply_of(503, b'{"errorMessage": "Down', complete=False))
    assert isinstance(error, UnexpectedServiceError)
    assert error.excerpt == '{"errorMessage": "Down'


@pytest.mark.parametrize("status", [200, 400, 429, 500], ids=str)
def test_an_excerpt_is_the_beginning_of_the_body(status: int) -> None:
    """At most 200 characters, the last of them an ellipsis if the body is longer."""
    exact, longer = error_of(reply_of(status, b"x" * 200)), error_of(reply_of(status, b"x" * 201))
    assert isinstance(exact, InvalidResponseError | APIStatusError)
    assert isinstance(longer, InvalidResponseError | APIStatusError)
    assert (exact.excerpt, longer.excerpt) == ("x" * 200, "x" * 199 + "…")


def test_an_excerpt_of_binary_data_is_text() -> None:
    """The excerpt can always be printed."""
    assert status_error_of(reply_of(500, b"\xffbad\xc3")).excerpt == "\ufffdbad\ufffd"


def test_a_long_message_is_truncated() -> None:
    """The service may send a stack trace."""
    error = status_error_of(reply_of(500, {"errorMessage": "x" * 1000, "errorId": "y" * 1000}))
    assert (error.message, error.error_id) == ("x" * 199 + "…", "y" * 199 + "…")


# Secrets


def escaped(secret: str) -> list[str]:
    """Return the secret in all the ways in which a reply may escape it."""
    return [
        secret,
        json.dumps(secret)[1:-1],
        urllib.parse.quote(secret, safe=""),
        urllib.parse.quote(secret),
        urllib.parse.quote(secret, safe="").replace("%2F", "%2f").replace("%3D", "%3d").replace("%3C", "%3c"),
        json.dumps(secret)[1:-1].replace("/", "\\/"),
        json.dumps(secret)[1:-1].replace("<", "\\u003c").replace(">", "\\u003E").replace("&", "\\u0026"),
        repr(secret)[1:-1],
        html.escape(secret),
        html.escape(secret).replace("&quot;", "&#34;").replace("+", "&#43;").replace("&lt;", "&LT;"),
        "".join(f"&#{ord(character):03};" for character in secret),
        "".join(f"&#x{ord(character):X};" for character in secret),
        "".join(f"&#X{ord(character):04x};" for character in secret),
    ]


WAYS = [
    "raw",
    "JSON",
    "URL",
    "URL except slashes",
    "URL in lower case",
    "JSON with slashes escaped",
    "JSON for HTML",
    "Python",
    "HTML",
    "HTML with other entities",
    "HTML in decimals",
    "HTML in hexadecimals",
    "HTML in long hexadecimals",
]


@pytest.mark.parametrize("secret", [KEY, USER], ids=["key", "user id"])
@pytest.mark.parametrize("way", range(len(WAYS)), ids=WAYS.__getitem__)
@pytest.mark.parametrize("status", [200, 401, 429, 500], ids=str)
def test_an_echoed_secret_is_redacted_in_every_escape(status: int, way: int, secret: str) -> None:
    """A service may echo requests in errors, and errors are logged."""
    echo = escaped(secret)[way]
    error = error_of(reply_of(status, f"denied: [{echo}]!".encode()))
    assert isinstance(error, InvalidResponseError | APIStatusError)
    assert error.excerpt == "denied: [[hidden]]!"


@pytest.mark.parametrize("secret", [KEY, USER], ids=["key", "user id"])
@pytest.mark.parametrize("field", ["errorMessage", "errorId"], ids=str)
def test_a_secret_in_the_services_message_is_redacted(field: str, secret: str) -> None:
    """In the message, the attributes and the excerpt."""
    error = status_error_of(reply_of(401, {field: f"Key {secret} is unknown."}))
    assert str(error) == f"PlayAI answered 401 for job {JOB_ID}: Key [hidden] is unknown."
    assert (error.message or error.error_id) == "Key [hidden] is unknown."
    assert error.excerpt == json.dumps({field: "Key [hidden] is unknown."})


@pytest.mark.parametrize("start", range(170, 201, 3), ids=str)
def test_no_part_of_a_secret_remains_at_the_end_of_an_excerpt(start: int) -> None:
    """The text is redacted before it is truncated, because half a key would not be found."""
    body = b"x" * start + KEY.encode() + b"y" * 300
    message = status_error_of(reply_of(401, body.decode())).message
    assert message == ("x" * start + "[hidden]" + "y" * 300)[:199] + "…"
    assert status_error_of(reply_of(401, body)).excerpt == message


def test_no_part_of_a_secret_remains_in_an_incomplete_body() -> None:
    """A connection may be lost in the middle of an echoed key."""
    error = status_error_of(reply_of(502, b"unknown key " + KEY[:12].encode(), complete=False))
    assert error.excerpt == "unknown key [hidden]"


@pytest.mark.parametrize("secret", [KEY, USER], ids=["key", "user id"])
@pytest.mark.parametrize("way", range(len(WAYS)), ids=WAYS.__getitem__)
def test_no_part_of_an_escaped_secret_remains_in_an_incomplete_body(way: int, secret: str) -> None:
    """Even if the body ends in the middle of an escape."""
    echo = escaped(secret)[way]
    for length in range(len(escaped(secret[:6])[way]), len(echo)):
        error = status_error_of(reply_of(502, f"denied: {echo[:length]}".encode(), complete=False))
        assert error.excerpt == "denied: [hidden]"


def test_a_secret_in_utf_16_is_redacted() -> None:
    """Decoded as UTF-8, there is a null after each letter."""
    error = status_error_of(reply_of(401, f"unknown key {KEY}.".encode("utf-16-le")))
    assert error.excerpt == "unknown key [hidden]."


def test_text_that_resembles_a_secret_is_unchanged() -> None:
    """Fewer than six characters of the secret, or different characters."""
    for end in (KEY[:5], KEY[:5] + "%", KEY[1:], "\\" * 50, KEY[:5] + KEY):
        left = end.replace(KEY, "[hidden]")
        assert status_error_of(reply_of(502, end.encode(), complete=False)).excerpt == left


@pytest.mark.parametrize("way", range(len(WAYS)), ids=WAYS.__getitem__)
def test_the_beginning_of_a_secret_is_redacted_anywhere(way: int) -> None:
    """A server may truncate the secret that it echoes. The text around it is unchanged."""
    beginning = escaped(KEY[:-3])[way]
    echo = f"no {beginning}?, nor {beginning}... or {escaped(KEY)[way]}."
    assert status_error_of(reply_of(502, echo.encode())).excerpt == "no [hidden]?, nor [hidden]... or [hidden]."


def test_no_part_of_a_secret_remains_in_a_truncated_status() -> None:
    """As in a body."""
    key = "k0" * 500
    assert Contract(Credentials(key, USER)).sanitize(key * 120).replace("[hidden]", "").strip("…[hiden]") == ""


def test_no_part_of_a_secret_remains_in_a_truncated_body() -> None:
    """Only the beginning of a huge body is searched, and it may end with half a key."""
    key = "k0" * 500
    contract = Contract(Credentials(key, USER))
    with pytest.raises(UnexpectedServiceError) as caught:
        contract.parse_status(reply_of(500, key.encode() * 120), JOB_ID, now=NOW)
    assert caught.value.excerpt.replace("[hidden]", "").strip("…[hiden]") == ""


def test_a_secret_that_contains_the_other_is_redacted_completely() -> None:
    """The longer secret is redacted first."""
    contract = Contract(Credentials("secret", "secret-and-more"))
    assert contract.sanitize("secret-and-more or secret") == "[hidden] or [hidden]"
    contract = Contract(Credentials("secret-and-more", "secret"))
    assert contract.sanitize("secret-and-more or secret") == "[hidden] or [hidden]"


def test_a_secret_of_a_few_characters_is_not_redacted() -> None:
    """The service issues no such secret, and redacting it would damage plain text."""
    assert Contract(Credentials("a", "error")).sanitize("an error of error-6") == "an error of error-6"
    assert Contract(Credentials("a", "error6")).sanitize("an error of error6") == "an error of [hidden]"


def test_sanitized_text_is_short_printable_and_redacted() -> None:
    """A lone surrogate would make a log handler fail."""
    assert Contract(Credentials(KEY, USER)).sanitize(f"a\ud800{KEY}" + "x" * 300) == "a?[hidden]" + "x" * 189 + "…"


def test_sanitized_text_is_on_one_line() -> None:
    """A line break would forge a log line, and an escape would be a command to a terminal."""
    assert Contract(Credentials(KEY, USER)).sanitize("a\r\nb\x1b[2Jc\u2028d") == "a  b [2Jc d"


def test_the_message_of_a_body_is_parsed_up_to_64_kib() -> None:
    """A longer body is not an error message."""
    for size, message in ((65_536, "No."), (65_537, None)):
        body = json.dumps({"errorMessage": "No.", "x": ""}).encode()
        body = body[:-2] + b"x" * (size - len(body)) + body[-2:]
        assert (len(body), status_error_of(reply_of(400, body)).message) == (size, message)


def test_repr_never_shows_the_secrets() -> None:
    """Neither of the credentials nor of an object that holds them."""
    credentials = Credentials(KEY, USER)
    assert repr(credentials) == str(credentials) == "Credentials(hidden)"
    assert KEY not in repr(Contract(credentials))


def test_the_repr_of_a_reply_omits_the_body() -> None:
    """The body may contain spoken text."""
    assert SPOKEN not in repr(reply_of(200, JOB))


# Credentials


@pytest.mark.parametrize(
    "api_key",
    ["ak-123456", "Bearer ak-123456", "bearer ak-123456", "BEARER ak-123456"],
    ids=str,
)
def test_the_headers_are_what_the_contract_requires(api_key: str) -> None:
    """`Bearer` appears once, whether or not the key starts with it."""
    assert Credentials.checked(api_key, "user-1").headers() == {
        "Authorization": "Bearer ak-123456",
        "X-USER-ID": "user-1",
    }


UNFIT = ["a b", " ab", "ab ", "ab\n", "ab\r\nX-Evil: 1", "a\tb", "a\x00b", "a\x7fb", "añb", "a\u2028b", "\ud800"]


@pytest.mark.parametrize("value", UNFIT, ids=ascii)
def test_a_key_that_is_not_valid_in_a_header_is_rejected(value: str) -> None:
    """A line break would start another header. The message does not contain the key."""
    with pytest.raises(ConfigurationError) as caught:
        Credentials.checked(value, "user-1")
    assert str(caught.value) == ("api_key (PLAYAI_API_KEY) contains a space, a line break or a character outside ASCII")


@pytest.mark.parametrize("value", UNFIT, ids=ascii)
def test_a_user_id_that_is_not_valid_in_a_header_is_rejected(value: str) -> None:
    """A line break would start another header. The message does not contain the id."""
    with pytest.raises(ConfigurationError) as caught:
        Credentials.checked("ak-123456", value)
    assert str(caught.value) == ("user_id (PLAYAI_USER_ID) contains a space, a line break or a character outside ASCII")


@pytest.mark.parametrize("value", ["Bearer a b", "Bearer  ab", "Bearer ab\n", "Bearer\nab"], ids=ascii)
def test_the_key_after_bearer_is_validated_too(value: str) -> None:
    """What follows it is checked alike."""
    with pytest.raises(ConfigurationError, match=r"contains a space, a line break"):
        Credentials.checked(value, "user-1")


@pytest.mark.parametrize("value", ["", "Bearer", "Bearer ", "bearer "], ids=ascii)
def test_an_empty_key_is_rejected(value: str) -> None:
    """An environment variable may be set and empty. The message names the variable."""
    with pytest.raises(ConfigurationError) as caught:
        Credentials.checked(value, "user-1")
    assert str(caught.value) == "api_key (PLAYAI_API_KEY) is empty"


def test_an_empty_user_id_is_rejected() -> None:
    """The message names the environment variable."""
    with pytest.raises(ConfigurationError) as caught:
        Credentials.checked("ak-123456", "")
    assert str(caught.value) == "user_id (PLAYAI_USER_ID) is empty"


def test_credentials_may_contain_every_visible_ascii_character() -> None:
    """The service decides what a key consists of."""
    visible = "".join(chr(code) for code in range(0x21, 0x7F))
    assert Credentials.checked(visible, visible).headers() == {
        "Authorization": f"Bearer {visible}",
        "X-USER-ID": visible,
    }


def test_a_key_may_begin_with_bearer() -> None:
    """Only the word `Bearer` and a space are removed."""
    assert Credentials.checked("Bearer123", "u").headers()["Authorization"] == "Bearer Bearer123"


# Identifying a job

A_JOB = TtsJob(JOB_ID, datetime(2026, 1, 2, tzinfo=UTC), {}, None, InProgress())


@pytest.mark.parametrize("job", [JOB_ID, str(JOB_ID), str(JOB_ID).upper(), A_JOB], ids=["UUID", "text", "upper", "job"])
def test_a_job_is_a_uuid_its_text_or_a_job(job: UUID | str | TtsJob) -> None:
    """All three are accepted."""
    assert job_id_of(job) == JOB_ID


@pytest.mark.parametrize(
    "job",
    [
        "",
        "../../admin",
        JOB_ID.hex,
        f"{{{JOB_ID}}}",
        JOB_ID.urn,
        f" {JOB_ID}",
        f"{JOB_ID}\n",
        f"{JOB_ID}?x=1",
        str(JOB_ID).replace("3", "٣"),
        str(JOB_ID).replace("-", "", 1) + "-",
        "\ud800",
    ],
    ids=ascii,
)
def test_text_that_is_not_a_uuid_is_rejected(job: str) -> None:
    """The text becomes part of a URL, so only a UUID is allowed."""
    with pytest.raises(ValueError, match=r"^not a job id") as caught:
        job_id_of(job)
    assert repr(job) in str(caught.value)


def test_a_long_text_is_truncated_in_the_message() -> None:
    """The caller may have passed the text to speak."""
    with pytest.raises(ValueError, match=r"^not a job id") as caught:
        job_id_of("x" * 50_000)
    like = "00000000-0000-0000-0000-000000000000"
    assert str(caught.value) == f"not a job id (a UUID like {like}): '" + "x" * 200 + "'"


def job_with_id(job_id: object) -> TtsJob:
    """A job as a caller may build it, for example from a database."""
    return attrs.evolve(A_JOB, id=job_id)  # type: ignore[arg-type]  # which is the point


def test_the_id_of_a_job_that_a_caller_built_is_validated_too() -> None:
    """The id becomes part of a URL and of a file name."""
    assert job_id_of(job_with_id(str(JOB_ID).upper())) == JOB_ID
    for text in ("../../../admin?x=1#", f"{JOB_ID}\r\nX-Other: header"):
        with pytest.raises(ValueError, match=r"^not a job id"):
            job_id_of(job_with_id(text))
    for thing in (None, 1, A_JOB):
        with pytest.raises(TypeError, match=f"not by {type(thing).__name__}"):
            job_id_of(job_with_id(thing))


@pytest.mark.parametrize("job", [None, 1, JOB_ID.bytes, [JOB_ID], {"id": str(JOB_ID)}, InProgress()], ids=str)
def test_other_types_are_rejected_as_a_job(job: object) -> None:
    """The message names the accepted types."""
    with pytest.raises(TypeError) as caught:
        job_id_of(job)  # type: ignore[arg-type]  # the point of the test
    assert str(caught.value) == (f"a job is named by a UUID, its text or a TtsJob, not by {type(job).__name__}")
