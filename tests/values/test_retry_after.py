"""`Retry-After`: which values are used, and that no value raises."""

from __future__ import annotations

import time
from collections.abc import Iterator
from email.utils import formatdate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playai_async._retry_after import parse_retry_after

NOW = 784_111_777.0
"""Sun, 06 Nov 1994 08:49:37 GMT: the moment that RFC 9110 writes its examples of."""

A_DAY = 86_400.0

SAME_EVERY_TIME = settings(derandomize=True, database=None, deadline=None, max_examples=200)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("1", 1.0),
        ("120", 120.0),
        ("007", 7.0),
        (" 5\t", 5.0),
        ("86400", A_DAY),
        ("86401", A_DAY),
        ("9" * 20, A_DAY),
        ("9" * 21, A_DAY),
        ("9" * 100_000, A_DAY),
        ("0" * 19 + "5", 5.0),
        ("0" * 20 + "5", 5.0),
        ("1.5", 2.0),
        ("1.0", 1.0),
        ("7.", 7.0),
        (".25", 1.0),
        ("0.001", 1.0),
        ("86399.5", A_DAY),
        ("1." + "0" * 1_000 + "1", 1.0),
    ],
    ids=lambda value: str(value)[:24],
)
def test_seconds_are_used_up_to_a_day(value: str, hint: float) -> None:
    """A fraction is rounded up. A larger value is a mistake that must not stop a backend."""
    assert parse_retry_after(value, now=NOW) == hint


@pytest.mark.parametrize(
    "value",
    [
        "Sun, 06 Nov 1994 08:49:47 GMT",
        "Sunday, 06-Nov-94 08:49:47 GMT",
        "Sun Nov  6 08:49:47 1994",
        "Sun, 06 Nov 1994 08:49:47 -0000",
        "Sun, 06 Nov 1994 10:49:47 +0200",
        "06 Nov 1994 08:49:47 GMT",
        "  Sun, 06 Nov 1994 08:49:47 GMT  ",
    ],
    ids=["IMF-fixdate", "RFC 850", "asctime", "no zone known", "offset", "no weekday", "spaces"],
)
def test_every_form_of_an_http_date_is_used(value: str) -> None:
    """Each is ten seconds in the future. A date without a zone is in UTC."""
    assert parse_retry_after(value, now=NOW) == 10.0


@pytest.fixture
def far_time_zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine in another time zone than UTC."""
    monkeypatch.setenv("TZ", "XXX+9")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("far_time_zone")
def test_a_date_without_a_zone_is_in_utc() -> None:
    """It is not in the time zone of the machine."""
    assert parse_retry_after("Sun, 06 Nov 1994 08:49:47 -0000", now=NOW) == 10.0
    assert parse_retry_after("Sun, 06 Nov 1994 08:49:47", now=NOW) == 10.0


LATER = "Sun, 06 Nov 1994 08:49:47 GMT"


@pytest.mark.parametrize("ahead", [-3_600.0, -0.9, 0.9, 3_600.0, 1e9], ids=str)
def test_a_date_is_measured_from_the_date_of_the_reply(ahead: float) -> None:
    """So it does not matter if the clock of this machine, or of the service, is wrong."""
    sent = formatdate(NOW, usegmt=True)
    assert parse_retry_after(LATER, date=sent, now=NOW + ahead) == 10.0
    assert parse_retry_after(LATER, date=LATER, now=NOW + ahead) is None
    assert parse_retry_after(formatdate(NOW - 1, usegmt=True), date=sent, now=NOW - 2) is None
    assert parse_retry_after("7", date=LATER, now=NOW) == 7.0


@pytest.mark.parametrize("sent", [None, "", "soon", "\ud800", "Sun, 06 Nov 99999 08:49:37 GMT"], ids=ascii)
def test_without_a_date_of_the_reply_the_clock_here_counts(sent: str | None) -> None:
    """Some servers and proxies send none."""
    assert parse_retry_after(LATER, date=sent, now=NOW) == 10.0


def test_the_current_time_is_not_rounded() -> None:
    """Although dates have whole seconds."""
    assert parse_retry_after("Sun, 06 Nov 1994 08:49:47 GMT", now=NOW + 0.25) == 9.75


@pytest.mark.parametrize("ahead", [A_DAY, A_DAY + 1, 400 * A_DAY], ids=str)
def test_a_date_more_than_a_day_ahead_is_limited_to_a_day(ahead: float) -> None:
    """A clock that is wrong by a year must not stop a backend for a year."""
    assert parse_retry_after(formatdate(NOW + ahead, usegmt=True), now=NOW) == A_DAY


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        " ",
        "0",
        "000",
        "-1",
        "+1",
        "1.5.",
        "1e3",
        "0x10",
        "1,2",
        "5 seconds",
        "soon",
        "nan",
        "inf",
        "٣",
        "²",
        "１２",  # noqa: RUF001 - digits, and not ASCII
        "Sun, ٠٦ Nov 1994 08:49:47 GMT",
        "null",
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:36 GMT",
        "Thu, 01 Jan 1970 00:00:00 GMT",
        "Sun, 31 Feb 2094 08:49:37 GMT",
        "Sun, 06 Nov 1994 25:00:00 GMT",
        "Sun, 06 Nov 99999 08:49:37 GMT",
        "Sun, 06 Nov 2094 08:49:37 +9999",
        "Sun, 06 Nov 2094 08:49:37 +999999999999999",
        "1994-11-06T08:49:47Z",
        "\x00",
        "\ud800",
    ],
    ids=ascii,
)
def test_other_values_are_ignored(value: str | None) -> None:
    """0, the past and unreadable values are None, and the session chooses its own pause."""
    assert parse_retry_after(value, now=NOW) is None


def assert_usable_or_none(value: str, now: float) -> None:
    """Check that the value does not raise, and is either a usable number of seconds or None."""
    hint = parse_retry_after(value, now=now)
    assert hint is None or (type(hint) is float and 0 < hint <= A_DAY)


PARTS = (
    *("0", "1", "12", "31", "60", "94", "1994", "2094", "9999", "99999999999999999999", "٣", "1.5"),
    *("-0000", "+2359", "-9999", "GMT", "Z"),
    *("Sun,", "Sunday,", "Nov", "06-Nov-94"),
    *("08:49:37", "24:60:60", "8:4", "8.49.37", ":", "-", ",", ".", ""),
)
MOMENTS = st.floats(min_value=0, max_value=4e9)


@SAME_EVERY_TIME
@given(value=st.text(), now=MOMENTS)
def test_any_text_is_usable_or_none(value: str, now: float) -> None:
    """A server or a proxy may write any text into a header."""
    assert_usable_or_none(value, now)


@SAME_EVERY_TIME
@given(
    parts=st.lists(
        st.sampled_from(PARTS),
        max_size=8,
    ),
    joint=st.sampled_from([" ", "", "-", ":", ", "]),
    now=MOMENTS,
)
def test_text_that_resembles_a_date_is_usable_or_none(parts: list[str], joint: str, now: float) -> None:
    """The standard library's date parser accepts many forms."""
    assert_usable_or_none(joint.join(parts), now)


@SAME_EVERY_TIME
@given(seconds=st.integers(), now=MOMENTS)
def test_seconds_are_used_exactly(seconds: int, now: float) -> None:
    """Seconds count from the reply, whatever the time is."""
    expected = None if seconds <= 0 else min(float(seconds), A_DAY)
    assert parse_retry_after(str(seconds), now=now) == expected


@SAME_EVERY_TIME
@given(date=st.integers(min_value=0, max_value=4_000_000_000), now=MOMENTS)
def test_dates_are_used_exactly(date: int, now: float) -> None:
    """The result is the difference to the current time, if the date is in the future."""
    expected = None if date <= now else min(date - now, A_DAY)
    assert parse_retry_after(formatdate(date, usegmt=True), now=now) == expected
