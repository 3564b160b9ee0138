"""A key and a user id that are hard to hide, and a look for them wherever a log, a crash report or a pickle would."""

from __future__ import annotations

import html
import json
import pickle
import re
import traceback
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

API_KEY = 'ak-"quoted\\and/slashed'
USER_ID = "user+id=fedcba98"

_TESTS = str(Path(__file__).parents[1])


def assert_hidden(text: str) -> None:
    """Fail if a secret shows, in any spelling that a reply or a `repr` may give it."""
    for secret in (API_KEY, USER_ID):
        for spelling in (
            secret,
            repr(secret)[1:-1],
            json.dumps(secret)[1:-1],
            urllib.parse.quote(secret, safe=""),
            html.escape(secret),
            re.sub(r"\W", lambda found: f"&#{ord(found[0])};", secret),
            re.sub(r"\W", lambda found: f"&#x{ord(found[0]):X};", secret),
        ):
            assert spelling not in text


def assert_error_hides(error: BaseException) -> None:
    """Look at an error, and at all that it came of, as a log, a crash reporter and another process would."""
    for link in _chain(error):
        report = traceback.TracebackException.from_exception(link, capture_locals=True)
        for part in _parts(report):
            # The frames of the tests aside: they hold the secrets themselves.
            part.stack = traceback.StackSummary.from_list(
                [frame for frame in part.stack if not frame.filename.startswith(_TESTS)]
            )
        assert_hidden("".join(report.format()))
        assert_hidden(repr(link) + str(link) + repr(vars(link)))
    assert_hidden(pickle.dumps(error, 0).decode("latin-1"))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what it came of, suppressed or not; and the errors that it holds."""
    found, todo = set[int](), [error]
    while todo:
        link = todo.pop()
        if id(link) not in found:
            found.add(id(link))
            yield link
            held = [link.__cause__, link.__context__, *link.args, *vars(link).values()]
            held += link.exceptions if isinstance(link, BaseExceptionGroup) else ()
            todo += [other for other in held if isinstance(other, BaseException)]


def _parts(report: traceback.TracebackException | None) -> Iterator[traceback.TracebackException]:
    if report is not None:
        yield report
        yield from _parts(report.__cause__)
        yield from _parts(report.__context__)
        for part in report.exceptions or ():
            yield from _parts(part)


def assert_no_piece_shows(error: BaseException, secret: str) -> None:
    """Fail if eight characters of a secret in a row show in an error, or in what it came of."""
    shown = "".join(f"{link!r} {link} {vars(link)}" for link in _chain(error)).replace("\\x00", "").replace("\0", "")
    assert [at for at in range(len(secret) - 7) if secret[at : at + 8] in shown] == []
