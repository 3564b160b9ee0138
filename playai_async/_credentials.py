"""What the service knows its caller by, and how to keep it from being shown."""

from __future__ import annotations

import re

import attrs

from playai_async._exceptions import ConfigurationError

__all__ = ["Credentials"]

_SHORTEST_SECRET = 6
_HIDDEN = "[hidden]"
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

    def redact(self, text: str, *, cut: bool = False) -> str:
        """Take the key and the user id out of what the service wrote, in each spelling that a reply may use.

        One of under six characters is left: no service issues it, and taking it out would shred plain words.

        Args:
            text: What the service wrote.
            cut: Whether the text may end in the middle of a secret.
        """
        # The longer first: one may be part of the other.
        for secret in sorted((self.api_key, self.user_id), key=len, reverse=True):
            if len(secret) < _SHORTEST_SECRET:
                break
            text = re.sub(_any_spelling(secret), _HIDDEN, text)
            beginnings = range(len(secret) - 1, _SHORTEST_SECRET - 1, -1) if cut else ()
            left = next((length for length in beginnings if text.endswith(secret[:length])), 0)
            text = text[:-left] + _HIDDEN if left else text
        return text

    def __repr__(self) -> str:
        return "Credentials(hidden)"


def _any_spelling(secret: str) -> str:
    """A pattern of a secret, each character of it as it is, or escaped as JSON, Python, a URL or HTML would."""
    return "".join(
        rf"(?:\\{{0,3}}{re.escape(character)}|%(?i:{ord(character):02x})|\\{{1,2}}u(?i:{ord(character):04x})"
        rf"|&(?i:#0{{0,3}}{ord(character)}|#x0{{0,2}}{ord(character):x}{_entity_of(character)});)"
        for character in secret
    )


def _entity_of(character: str) -> str:
    return f"|{_ENTITIES[character]}" if character in _ENTITIES else ""
