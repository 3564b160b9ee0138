"""The API key and the user id, and how to keep them out of everything that is printed."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

import attrs

from playai_async._exceptions import ConfigurationError

__all__ = ["Credentials"]

_MIN_SECRET = 6
"""Characters. A shorter secret is not redacted: the service issues none, and redacting it would damage plain text."""

_REDACTED = "[hidden]"
_PARTIAL_ESCAPE = re.compile(r"(?:\\{1,3}(?:u[0-9a-fA-F]{0,3})?|%?[0-9a-fA-F]{0,2}|&#?\w{0,7})\Z")
_ENTITIES = {"&": "amp", '"': "quot", "'": "apos", "<": "lt", ">": "gt"}


@attrs.frozen(repr=False)
class Credentials:
    """The API key and the user id. `repr()` shows neither.

    Attributes:
        api_key: The key, without `Bearer`.
        user_id: The user id.
    """

    api_key: str
    user_id: str

    @classmethod
    def checked(cls, api_key: str, user_id: str) -> Credentials:
        """Validate the credentials.

        Args:
            api_key: The key, with or without a leading `Bearer`.
            user_id: The user id.

        Raises:
            ConfigurationError: A value is empty or contains a character that a header must not contain.
        """
        scheme, _, rest = api_key.partition(" ")
        key = rest if scheme.lower() == "bearer" else api_key
        for name, value in (("api_key (PLAYAI_API_KEY)", key), ("user_id (PLAYAI_USER_ID)", user_id)):
            if not value:
                raise ConfigurationError(f"{name} is empty")
            # Only visible ASCII characters: a line break would start another header.
            if not all("!" <= character <= "~" for character in value):
                raise ConfigurationError(f"{name} contains a space, a line break or a character outside ASCII")
        return cls(key, user_id)

    def headers(self) -> dict[str, str]:
        """Return the headers that the contract requires."""
        return {"Authorization": f"Bearer {self.api_key}", "X-USER-ID": self.user_id}

    def redact(self, text: str) -> str:
        """Replace the key and the user id in a text from the service, however they are escaped.

        The beginning of a secret is replaced too, because a server or a lost connection may truncate an echoed secret.
        A secret of fewer than six characters is not replaced.
        """
        # The longer secret first: it may contain the other.
        for secret in sorted((self.api_key, self.user_id), key=len, reverse=True):
            if len(secret) < _MIN_SECRET:
                break
            # The full secret first: only this pattern can backtrack if an escape can be read in two ways.
            text = re.sub(_escaped_pattern(secret), _REDACTED, text)
            text = "".join(_redact_prefixes(text, secret))
        return text

    def __repr__(self) -> str:
        return "Credentials(hidden)"


def _escaped_pattern(secret: str) -> str:
    """Return a pattern that matches the secret with any of its characters escaped for JSON, Python, a URL or HTML."""
    return "".join(_escaped_character(character).pattern for character in secret)


@functools.cache
def _escaped_character(character: str) -> re.Pattern[str]:
    code, name = ord(character), f"|{_ENTITIES[character]}" if character in _ENTITIES else ""
    return re.compile(
        rf"(?:%(?i:{code:02x})|\\{{1,2}}u(?i:{code:04x})|&(?i:#0{{0,3}}{code}|#x0{{0,2}}{code:x}{name});"
        rf"|\\{{0,3}}{re.escape(character)})"  # unescaped last: a % in the secret may be the first of an escape
    )


def _redact_prefixes(text: str, secret: str) -> Iterator[str]:
    """Yield the text in pieces, with every prefix of the secret redacted.

    Extends each match character by character: one pattern for all prefixes of a long secret takes seconds to compile.
    """
    end = 0
    for match in re.finditer(_escaped_pattern(secret[:_MIN_SECRET]), text):
        if match.start() < end:
            continue
        yield text[end : match.start()]
        yield _REDACTED
        end, matched = match.end(), _MIN_SECRET
        while matched < len(secret) and (following := _escaped_character(secret[matched]).match(text, end)):
            end, matched = following.end(), matched + 1
        partial = _PARTIAL_ESCAPE.match(text, end)
        end = end if partial is None else partial.end()
    yield text[end:]
