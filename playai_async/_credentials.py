"""What the service knows its caller by, and how to keep it from being shown."""

from __future__ import annotations

import re

import attrs

from playai_async._exceptions import ConfigurationError

__all__ = ["Credentials"]

_SHORTEST_SECRET = 6
_HIDDEN = "[hidden]"
_ENTITIES = {"&": "amp", '"': "quot", "'": "apos", "<": "lt", ">": "gt"}
_LONGEST_SPELLING = 10


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
            begins = _cut_off_at(text, secret) if cut else None
            text = text if begins is None else text[:begins] + _HIDDEN
        return text

    def __repr__(self) -> str:
        return "Credentials(hidden)"


def _any_spelling(secret: str) -> str:
    """A pattern of a secret, each character of it as it is, or escaped as JSON, Python, a URL or HTML would."""
    return "".join(
        rf"(?:\\{{0,3}}{re.escape(character)}|%(?i:{ord(character):02x})|\\{{1,2}}u(?i:{ord(character):04x})"
        rf"|&(?i:#0{{0,3}}{ord(character)}|#x0{{0,2}}{ord(character):x}{_entity(character, '|')});)"
        for character in secret
    )


def _entity(character: str, before: str, after: str = "") -> str:
    return f"{before}{_ENTITIES[character]}{after}" if character in _ENTITIES else ""


def _cut_off_at(text: str, secret: str) -> int | None:
    """Say where a secret begins, in any spelling, of which the text ends before all of it was told.

    Not by a pattern for each beginning of the secret: those of a long one would take seconds to compile.
    """
    from_here = max(0, len(text) - _LONGEST_SPELLING * len(secret))
    spelled = [_spellings(character) for character in secret]
    # In lower case, as escapes may be in either; letter by letter, since some outside ASCII become two.
    tail = "".join(character.lower() if character.isascii() else character for character in text[from_here:])
    for found in re.finditer(f"(?={_any_spelling(secret[:_SHORTEST_SECRET])})", text[from_here:]):
        if _reaches_the_end(tail, found.start(), spelled):
            return from_here + found.start()
    return None


def _reaches_the_end(text: str, begins: int, spelled: list[list[str]]) -> bool:
    ends = {begins}
    for count, spellings in enumerate(spelled):
        nearly = [text[end:] for end in ends if end > len(text) - _LONGEST_SPELLING]  # an escape may be what is cut
        if count >= _SHORTEST_SECRET and any(spelling.startswith(rest) for rest in nearly for spelling in spellings):
            return True
        ends = {end + len(spelling) for end in ends for spelling in spellings if text.startswith(spelling, end)}
    return False


def _spellings(character: str) -> list[str]:
    """The ways to write a character that `_any_spelling` finds, in lower case."""
    code = ord(character)
    escapes = [f"%{code:02x}", f"\\u{code:04x}", f"\\\\u{code:04x}", _entity(character, "&", ";")]
    escapes += [f"&#{'0' * count}{code};" for count in range(4)] + [f"&#x{'0' * count}{code:x};" for count in range(3)]
    return ["\\" * count + character.lower() for count in range(4)] + [escape for escape in escapes if escape]
