"""The contract without HTTP: which reply becomes which job or error, in which words, and with which secrets hidden."""

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
    """Make a reply; a body that is not bytes is written as JSON."""
    return Reply(status, retry_after, body if isinstance(body, bytes) else json.dumps(body).encode(), complete)


def read(reply: Reply) -> TtsJob:
    """Read a status reply about the job."""
    return Contract(Credentials(KEY, USER)).parse_status(reply, JOB_ID, now=NOW)


def error_of(reply: Reply) -> PlayAIError:
    """Read a reply that must raise."""
    with pytest.raises(PlayAIError) as caught:
        read(reply)
    return caught.value


def status_error_of(reply: Reply) -> APIStatusError:
    """Read a reply that must raise for its status."""
    error = error_of(reply)
    assert isinstance(error, APIStatusError)
    return error


def invalid_response_of(reply: Reply) -> InvalidResponseError:
    """Read a reply that must raise for its content."""
    error = error_of(reply)
    assert isinstance(error, InvalidResponseError)
    return error


# Replies with a job


def test_a_200_with_the_job_is_the_job() -> None:
    """As the contract has it."""
    assert read(reply_of(200, JOB)) == TtsJob(
        JOB_ID, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), {"text": SPOKEN}, None, InProgress()
    )


def test_a_job_has_the_very_id_that_was_asked_for() -> None:
    """Thousands of waits hold one object for each job, and not one for each reply."""
    assert read(reply_of(200, JOB)).id is JOB_ID


def test_what_creates_a_job_is_told_apart_from_what_does_not() -> None:
    """201 and 200 bring a job; any other 2xx breaks the contract, and the rest are errors by their status."""
    contract = Contract(Credentials(KEY, USER))
    assert [contract.parse_created(reply_of(status, JOB), now=NOW).id for status in (200, 201)] == [JOB_ID] * 2
    kinds = {202: InvalidResponseError, 299: InvalidResponseError, 199: APIStatusError, 300: APIStatusError}
    for status, kind in kinds.items():
        with pytest.raises(kind):
            contract.parse_created(reply_of(status, JOB), now=NOW)


def test_a_429_to_what_would_create_a_job_may_name_a_date() -> None:
    """As one to any other request."""
    with pytest.raises(RateLimitedError) as caught:
        Contract(Credentials(KEY, USER)).parse_created(
            reply_of(429, "Slow.", retry_after="Sun, 06 Nov 1994 08:49:47 GMT"), now=NOW
        )
    assert caught.value.retry_after == 10.0


def test_the_letter_case_of_the_id_does_not_matter() -> None:
    """It is the same UUID."""
    assert read(reply_of(200, {**JOB, "id": str(JOB_ID).upper()})).id == JOB_ID


def test_a_200_about_another_job_breaks_the_contract() -> None:
    """Taking it would end the wait with somebody else's audio."""
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
    """It says what is wrong and where, and in the message the job and the status, too."""
    error = invalid_response_of(reply)
    assert error.problems == (problem,)
    assert str(error) == f"The response for job {JOB_ID} breaks the contract ({reply.status}): {problem}."
    assert error.job_id == JOB_ID


def test_arrays_are_deep_or_not_whatever_their_number() -> None:
    """A hundred levels are the limit, in arrays as in objects, however many stand side by side."""
    deep = {**JOB, "input": json.loads("[" * 150 + "]" * 150)}
    assert invalid_response_of(reply_of(200, deep)).problems == ("nested too deeply @ $",)
    wide = {**JOB, "input": {"x": [[[]]] * 150}}
    assert read(reply_of(200, wide)).input == {"x": [[[]]] * 150}


@pytest.mark.parametrize("value", [[], {}, 1, 1.5, "", {"a": "b"}], ids=repr)
def test_two_hundred_thousand_marks_of_structure_are_read_and_no_more(value: object) -> None:
    """Brackets, braces, commas and colons: each value has one, and takes far more memory and time than its text."""
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
            assert read(reply).id == JOB_ID


def test_numbers_of_up_to_three_hundred_digits_are_read() -> None:
    """Those past a double's range take time that grows with the square of their length."""
    assert read(reply_of(200, {**JOB, "input": {"x": int("9" * 300)}})).input == {"x": int("9" * 300)}
    error = invalid_response_of(reply_of(200, {**JOB, "input": {"x": int("9" * 301)}}))
    assert error.problems == ("not JSON @ $",)


def test_every_problem_of_a_reply_is_in_the_message() -> None:
    """One after the other."""
    error = invalid_response_of(reply_of(200, {**JOB, "createdAt": 1, "completedAt": 1}))
    assert len(error.problems) == 2
    assert str(error).endswith(f"breaks the contract (200): {error.problems[0]}; {error.problems[1]}.")


def test_a_broken_reply_raises_without_the_lower_error() -> None:
    """A decoder's error holds the whole document, and would take it into every log of the traceback."""
    error = error_of(reply_of(200, b'{"text": "' + SPOKEN.encode()))
    assert (error.__cause__, error.__context__) == (None, None)


def test_lone_surrogates_in_the_input_do_no_harm() -> None:
    """They came from whoever created the job, and the job is done all the same."""
    assert read(reply_of(200, {**JOB, "input": {"text": "\ud800"}})).input == {"text": "\ud800"}


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
def test_the_message_of_a_broken_reply_never_holds_what_is_spoken(change: dict[str, Any]) -> None:
    """Messages are logged; only the excerpt, which is asked for by name, may hold text."""
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
    """Whatever the body says, even a good job."""
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
def test_the_words_of_an_error_are_the_services_own_where_it_has_any(
    body: object, error_id: str | None, message: str | None, words: str
) -> None:
    """Both fields are optional, and neither their types nor the body's can be relied on."""
    error = status_error_of(reply_of(401, body))
    assert (error.error_id, error.message) == (error_id, message)
    assert str(error) == f"PlayAI answered 401 for job {JOB_ID}{words}"


def test_a_429_speaks_in_a_bare_string() -> None:
    """So the contract has it, unlike the other errors."""
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
def test_a_429_brings_the_servers_hint(retry_after: str | None, hint: float | None) -> None:
    """Measured from the time given; what is unusable is none."""
    error = error_of(reply_of(429, "Slow down.", retry_after=retry_after))
    assert isinstance(error, RateLimitedError)
    assert error.retry_after == hint


def test_a_reply_that_broke_off_still_tells_its_status() -> None:
    """What is missing of an error's body is not missed."""
    error = error_of(reply_of(503, b'{"errorMessage": "Down', complete=False))
    assert isinstance(error, UnexpectedServiceError)
    assert error.excerpt == '{"errorMessage": "Down'


@pytest.mark.parametrize("status", [200, 400, 429, 500], ids=str)
def test_an_excerpt_is_the_beginning_of_the_body(status: int) -> None:
    """200 characters at most, the last an ellipsis where there was more."""
    exact, longer = error_of(reply_of(status, b"x" * 200)), error_of(reply_of(status, b"x" * 201))
    assert isinstance(exact, InvalidResponseError | APIStatusError)
    assert isinstance(longer, InvalidResponseError | APIStatusError)
    assert (exact.excerpt, longer.excerpt) == ("x" * 200, "x" * 199 + "…")


def test_an_excerpt_of_what_is_no_text_is_text() -> None:
    """It can be printed, whatever came."""
    assert status_error_of(reply_of(500, b"\xffbad\xc3")).excerpt == "\ufffdbad\ufffd"


def test_a_long_message_is_cut() -> None:
    """A stack trace of the service's does not belong in ours."""
    error = status_error_of(reply_of(500, {"errorMessage": "x" * 1000, "errorId": "y" * 1000}))
    assert (error.message, error.error_id) == ("x" * 199 + "…", "y" * 199 + "…")


# Secrets


def spelt(secret: str) -> list[str]:
    """Spell a secret in the ways that a reply may echo it in."""
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
    "URL but for slashes",
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
def test_an_echoed_secret_is_hidden_in_every_spelling(status: int, way: int, secret: str) -> None:
    """Services echo requests in their errors; those end in logs."""
    echo = spelt(secret)[way]
    error = error_of(reply_of(status, f"denied: [{echo}]!".encode()))
    assert isinstance(error, InvalidResponseError | APIStatusError)
    assert error.excerpt == "denied: [[hidden]]!"


@pytest.mark.parametrize("secret", [KEY, USER], ids=["key", "user id"])
@pytest.mark.parametrize("field", ["errorMessage", "errorId"], ids=str)
def test_a_secret_in_the_services_words_is_hidden(field: str, secret: str) -> None:
    """In the message, in the attributes and in the excerpt, which all show the same words."""
    error = status_error_of(reply_of(401, {field: f"Key {secret} is unknown."}))
    assert str(error) == f"PlayAI answered 401 for job {JOB_ID}: Key [hidden] is unknown."
    assert (error.message or error.error_id) == "Key [hidden] is unknown."
    assert error.excerpt == json.dumps({field: "Key [hidden] is unknown."})


@pytest.mark.parametrize("start", range(170, 201, 3), ids=str)
def test_no_part_of_a_secret_is_left_at_the_end_of_an_excerpt(start: int) -> None:
    """It is hidden before the text is cut, since half a key would not be found."""
    body = b"x" * start + KEY.encode() + b"y" * 300
    message = status_error_of(reply_of(401, body.decode())).message
    assert message == ("x" * start + "[hidden]" + "y" * 300)[:199] + "…"
    assert status_error_of(reply_of(401, body)).excerpt == message


def test_no_part_of_a_secret_is_left_where_a_body_broke_off() -> None:
    """A connection may break within an echoed key."""
    error = status_error_of(reply_of(502, b"unknown key " + KEY[:12].encode(), complete=False))
    assert error.excerpt == "unknown key [hidden]"


@pytest.mark.parametrize("secret", [KEY, USER], ids=["key", "user id"])
@pytest.mark.parametrize("way", range(len(WAYS)), ids=WAYS.__getitem__)
def test_no_part_of_an_escaped_secret_is_left_where_a_body_broke_off(way: int, secret: str) -> None:
    """Wherever that was, in the middle of an escape too."""
    echo = spelt(secret)[way]
    for length in range(len(spelt(secret[:6])[way]), len(echo)):
        error = status_error_of(reply_of(502, f"denied: {echo[:length]}".encode(), complete=False))
        assert error.excerpt == "denied: [hidden]"


def test_a_secret_in_utf_16_is_hidden() -> None:
    """Read as UTF-8, it has a null after each letter."""
    error = status_error_of(reply_of(401, f"unknown key {KEY}.".encode("utf-16-le")))
    assert error.excerpt == "unknown key [hidden]."


def test_what_is_almost_like_a_secret_is_left_as_it_is() -> None:
    """Fewer than six characters, or others."""
    for end in (KEY[:5], KEY[:5] + "%", KEY[1:], "\\" * 50, KEY[:5] + KEY):
        left = end.replace(KEY, "[hidden]")
        assert status_error_of(reply_of(502, end.encode(), complete=False)).excerpt == left


@pytest.mark.parametrize("way", range(len(WAYS)), ids=WAYS.__getitem__)
def test_the_beginning_of_a_secret_is_hidden_wherever_it_stands(way: int) -> None:
    """Who echoes it may cut it off; what is no part of it stays."""
    beginning = spelt(KEY[:-3])[way]
    echo = f"no {beginning}?, nor {beginning}... or {spelt(KEY)[way]}."
    assert status_error_of(reply_of(502, echo.encode())).excerpt == "no [hidden]?, nor [hidden]... or [hidden]."


def test_no_part_of_a_secret_is_left_where_a_long_status_is_cut() -> None:
    """As in a body."""
    key = "k0" * 2_000
    assert Contract(Credentials(key, USER)).sanitize(key * 30).replace("[hidden]", "").strip("…[hiden]") == ""


def test_no_part_of_a_secret_is_left_where_a_long_body_is_cut() -> None:
    """Only the beginning of a huge body is searched; what is searched last may be half a key."""
    key = "k0" * 2_000
    contract = Contract(Credentials(key, USER))
    with pytest.raises(UnexpectedServiceError) as caught:
        contract.parse_status(reply_of(500, key.encode() * 30), JOB_ID, now=NOW)
    assert caught.value.excerpt.replace("[hidden]", "").strip("…[hiden]") == ""


def test_a_secret_that_is_part_of_the_other_leaves_nothing_of_it() -> None:
    """The longer goes first."""
    contract = Contract(Credentials("secret", "secret-and-more"))
    assert contract.sanitize("secret-and-more or secret") == "[hidden] or [hidden]"
    contract = Contract(Credentials("secret-and-more", "secret"))
    assert contract.sanitize("secret-and-more or secret") == "[hidden] or [hidden]"


def test_a_secret_of_a_few_characters_is_left() -> None:
    """Nobody issues one, and taking it out would shred plain words."""
    assert Contract(Credentials("a", "error")).sanitize("an error of error-6") == "an error of error-6"
    assert Contract(Credentials("a", "error6")).sanitize("an error of error6") == "an error of [hidden]"


def test_what_is_shown_is_short_clean_and_redacted() -> None:
    """It goes into logs: no lone surrogate may stop a handler from writing it."""
    assert Contract(Credentials(KEY, USER)).sanitize(f"a\ud800{KEY}" + "x" * 300) == "a?[hidden]" + "x" * 189 + "…"


def test_what_is_shown_is_on_one_line() -> None:
    """A line break would forge a line of a log, and an escape would be a command to a terminal."""
    assert Contract(Credentials(KEY, USER)).sanitize("a\r\nb\x1b[2Jc\u2028d") == "a  b [2Jc d"


def test_the_words_of_a_body_are_read_up_to_64_kib() -> None:
    """What is longer is no message."""
    for size, message in ((65_536, "No."), (65_537, None)):
        body = json.dumps({"errorMessage": "No.", "x": ""}).encode()
        body = body[:-2] + b"x" * (size - len(body)) + body[-2:]
        assert (len(body), status_error_of(reply_of(400, body)).message) == (size, message)


def test_nothing_prints_the_secrets() -> None:
    """Neither credentials nor what holds them."""
    credentials = Credentials(KEY, USER)
    assert repr(credentials) == str(credentials) == "Credentials(hidden)"
    assert KEY not in repr(Contract(credentials))


def test_a_reply_prints_without_its_body() -> None:
    """It may hold spoken text."""
    assert SPOKEN not in repr(reply_of(200, JOB))


# Credentials


@pytest.mark.parametrize(
    "api_key",
    ["ak-123456", "Bearer ak-123456", "bearer ak-123456", "BEARER ak-123456"],
    ids=str,
)
def test_the_headers_are_what_the_contract_requires(api_key: str) -> None:
    """`Bearer` is said once, however the key was given."""
    assert Credentials.checked(api_key, "user-1").headers() == {
        "Authorization": "Bearer ak-123456",
        "X-USER-ID": "user-1",
    }


UNFIT = ["a b", " ab", "ab ", "ab\n", "ab\r\nX-Evil: 1", "a\tb", "a\x00b", "a\x7fb", "añb", "a\u2028b", "\ud800"]


@pytest.mark.parametrize("value", UNFIT, ids=ascii)
def test_a_key_that_no_header_may_carry_is_refused(value: str) -> None:
    """A line break would start another header. The message does not show the key."""
    with pytest.raises(ConfigurationError) as caught:
        Credentials.checked(value, "user-1")
    assert str(caught.value) == ("api_key (PLAYAI_API_KEY) contains a space, a line break or a character outside ASCII")


@pytest.mark.parametrize("value", UNFIT, ids=ascii)
def test_a_user_id_that_no_header_may_carry_is_refused(value: str) -> None:
    """A line break would start another header. The message does not show the id."""
    with pytest.raises(ConfigurationError) as caught:
        Credentials.checked("ak-123456", value)
    assert str(caught.value) == ("user_id (PLAYAI_USER_ID) contains a space, a line break or a character outside ASCII")


@pytest.mark.parametrize("value", ["Bearer a b", "Bearer  ab", "Bearer ab\n", "Bearer\nab"], ids=ascii)
def test_bearer_does_not_hide_what_a_header_may_not_carry(value: str) -> None:
    """What follows it is checked alike."""
    with pytest.raises(ConfigurationError, match=r"contains a space, a line break"):
        Credentials.checked(value, "user-1")


@pytest.mark.parametrize("value", ["", "Bearer", "Bearer ", "bearer "], ids=ascii)
def test_an_empty_key_is_refused(value: str) -> None:
    """A variable may be set and empty. The message names it."""
    with pytest.raises(ConfigurationError) as caught:
        Credentials.checked(value, "user-1")
    assert str(caught.value) == "api_key (PLAYAI_API_KEY) is empty"


def test_an_empty_user_id_is_refused() -> None:
    """The message names the variable."""
    with pytest.raises(ConfigurationError) as caught:
        Credentials.checked("ak-123456", "")
    assert str(caught.value) == "user_id (PLAYAI_USER_ID) is empty"


def test_every_visible_character_of_ascii_may_be_in_a_credential() -> None:
    """From the exclamation mark to the tilde: what a key is made of is the service's affair."""
    visible = "".join(chr(code) for code in range(0x21, 0x7F))
    assert Credentials.checked(visible, visible).headers() == {
        "Authorization": f"Bearer {visible}",
        "X-USER-ID": visible,
    }


def test_a_key_may_begin_like_the_scheme() -> None:
    """Only the word `Bearer` and a space are taken off."""
    assert Credentials.checked("Bearer123", "u").headers()["Authorization"] == "Bearer Bearer123"


# What names a job

A_JOB = TtsJob(JOB_ID, datetime(2026, 1, 2, tzinfo=UTC), {}, None, InProgress())


@pytest.mark.parametrize("job", [JOB_ID, str(JOB_ID), str(JOB_ID).upper(), A_JOB], ids=["UUID", "text", "upper", "job"])
def test_a_job_is_named_by_an_id_its_text_or_the_job(job: UUID | str | TtsJob) -> None:
    """Whatever the caller has at hand."""
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
def test_a_text_that_is_no_id_is_refused(job: str) -> None:
    """It goes into the URL of a request: nothing but an id may."""
    with pytest.raises(ValueError, match=r"^not a job id") as caught:
        job_id_of(job)
    assert repr(job) in str(caught.value)


def test_a_long_text_that_is_no_id_is_cut_in_the_message() -> None:
    """Somebody passed the text to speak."""
    with pytest.raises(ValueError, match=r"^not a job id") as caught:
        job_id_of("x" * 50_000)
    like = "00000000-0000-0000-0000-000000000000"
    assert str(caught.value) == f"not a job id (a UUID like {like}): '" + "x" * 200 + "'"


def job_with_id(job_id: object) -> TtsJob:
    """A job as a caller may make it up, out of a database, say."""
    return attrs.evolve(A_JOB, id=job_id)  # type: ignore[arg-type]  # which is the point


def test_the_id_of_a_job_that_a_caller_made_is_held_to_the_same() -> None:
    """It goes into the URL of a request, and into the name of a file."""
    assert job_id_of(job_with_id(str(JOB_ID).upper())) == JOB_ID
    for text in ("../../../admin?x=1#", f"{JOB_ID}\r\nX-Other: header"):
        with pytest.raises(ValueError, match=r"^not a job id"):
            job_id_of(job_with_id(text))
    for thing in (None, 1, A_JOB):
        with pytest.raises(TypeError, match=f"not by {type(thing).__name__}"):
            job_id_of(job_with_id(thing))


@pytest.mark.parametrize("job", [None, 1, JOB_ID.bytes, [JOB_ID], {"id": str(JOB_ID)}, InProgress()], ids=str)
def test_anything_else_names_no_job(job: object) -> None:
    """The message says what would."""
    with pytest.raises(TypeError) as caught:
        job_id_of(job)  # type: ignore[arg-type]  # the point of the test
    assert str(caught.value) == (f"a job is named by a UUID, its text or a TtsJob, not by {type(job).__name__}")
