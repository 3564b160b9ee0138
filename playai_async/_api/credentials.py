"""What the service knows its caller by, and how to keep it from being shown."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

import attrs

from playai_async._exceptions import ConfigurationError

__all__ = ["Credentials"]

_SHORTEST_SECRET = 6
_HIDDEN = "[hidden]"
_CUT_ESCAPE = re.compile(r"(?:\\{1,3}(?:u[0-9a-fA-F]{0,3})?|%?[0-9a-fA-F]{0,2}|&#?\w{0,7})\Z")
_ENTITIES = {"&": "amp", '"': "quot", "'": "apos", "<": "lt", ">": "gt"}


@attrs.frozen(repr=False)
class Credentials:
    """What the service knows its caller by; never shown by `repr()`.

    Attributes:
        api_key: The key, without `Bearer`.
        user_id: The user id.
    """

    api_key: str
    user_id: str

    @classmethod
    def checked(cls, api_key: str, user_id: str) -> Credentials:
        """Accept what may stand in a header.

        Args:
            api_key: The key, with or without `Bearer` before it.
            user_id: The user id.

        Raises:
            ConfigurationError: One is empty, or has characters that a header must not carry.
        """
        scheme, _, rest = api_key.partition(" ")
        key = rest if scheme.lower() == "bearer" else api_key
        for name, value in (("api_key (PLAYAI_API_KEY)", key), ("user_id (PLAYAI_USER_ID)", user_id)):
            if not value:
                raise ConfigurationError(f"{name} is empty")
            # Visible ASCII alone: a line break would start another header.
            if not all("!" <= character <= "~" for character in value):
                raise ConfigurationError(f"{name} has a space, a line break or a character outside ASCII")
        return cls(key, user_id)

    def headers(self) -> dict[str, str]:
        """Return the headers that the contract requires."""
        return {"Authorization": f"Bearer {self.api_key}", "X-USER-ID": self.user_id}

    def redact(self, text: str) -> str:
        """Take the key and the user id out of what the service wrote, in each spelling that a reply may use.

        The beginning of one goes, too: whoever echoes it may cut it off, as may the end of a connection. One of under
        six characters is left: no service issues it, and taking it out would shred plain words.
        """
        # The longer first: one may be part of the other.
        for secret in sorted((self.api_key, self.user_id), key=len, reverse=True):
            if len(secret) < _SHORTEST_SECRET:
                break
            # All of it first: where a spelling can be read in two ways, only this looks for the one that fits.
            text = re.sub(_any_spelling(secret), _HIDDEN, text)
            text = "".join(_without_beginnings(text, secret))
        return text

    def __repr__(self) -> str:
        return "Credentials(hidden)"


def _any_spelling(secret: str) -> str:
    """A pattern of a secret, each character of it as it is, or escaped as JSON, Python, a URL or HTML would."""
    return "".join(_spellings_of(character).pattern for character in secret)


@functools.cache
def _spellings_of(character: str) -> re.Pattern[str]:
    code, name = ord(character), f"|{_ENTITIES[character]}" if character in _ENTITIES else ""
    return re.compile(
        rf"(?:%(?i:{code:02x})|\\{{1,2}}u(?i:{code:04x})|&(?i:#0{{0,3}}{code}|#x0{{0,2}}{code:x}{name});"
        rf"|\\{{0,3}}{re.escape(character)})"  # as it is at last: the secret's own % may be the first of an escape's
    )


def _without_beginnings(text: str, secret: str) -> Iterator[str]:
    """Yield a text in pieces, with each beginning of a secret hidden as far as it goes.

    Step by step: a pattern for every beginning of a long secret would take seconds to compile.
    """
    shown = 0
    for found in re.finditer(_any_spelling(secret[:_SHORTEST_SECRET]), text):
        if found.start() < shown:
            continue
        yield text[shown : found.start()]
        yield _HIDDEN
        shown, told = found.end(), _SHORTEST_SECRET
        while told < len(secret) and (further := _spellings_of(secret[told]).match(text, shown)):
            shown, told = further.end(), told + 1
        cut = _CUT_ESCAPE.match(text, shown)
        shown = shown if cut is None else cut.end()
    yield text[shown:]
