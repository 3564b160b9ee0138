"""What a job is created from. No I/O and no JSON here; `_converter` knows the service's own names."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, cast

import attrs
from attrs import validators

__all__ = ["TtsParameters"]


def _is_number(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):  # bool is an int in Python, and no number here
        raise TypeError(f"{attribute.name} must be a number, not {type(value).__name__}")
    if not abs(value) <= sys.float_info.max:
        raise ValueError(f"{attribute.name} must be finite")


def _is_mapping(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, Mapping):
        raise TypeError(f"{attribute.name} must be a mapping, not {type(value).__name__}")
    if not all(isinstance(name, str) for name in cast("Mapping[object, Any]", value)):
        raise TypeError(f"the names in {attribute.name} must be strings")


def _is_not_blank(_: object, attribute: attrs.Attribute[str], value: str) -> None:
    if not value.strip():
        raise ValueError(f"{attribute.name} is empty")


def _is_text(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, str):  # attrs' own validator shows the whole attribute
        raise TypeError(f"{attribute.name} must be a str, not {type(value).__name__}")


_OPTIONAL_TEXT = validators.optional(_is_text)
_OPTIONAL_NUMBER = validators.optional(_is_number)


@attrs.frozen
class TtsParameters:
    """What a job is created from: the fields of the service's POST, under Python's names.

    None leaves a field out of the request. Values that this version does not know, such as a new model, are sent as
    they are.

    Attributes:
        text: The text to speak.
        voice: The id of a voice.
        model: The model that speaks.
        voice2: The second speaker's voice (PlayDialog).
        turn_prefix: The prefix of the first speaker's lines in `text`.
        turn_prefix2: The prefix of the second speaker's lines.
        prompt: A style prompt for the first speaker.
        prompt2: A style prompt for the second speaker.
        voice_conditioning_seconds: Seconds of the voice sample to condition on.
        voice_conditioning_seconds2: The same for the second speaker.
        language: The language of the text, such as `english`.
        output_format: The audio format, such as `mp3` or `wav`.
        speed: The pace of speech; 1 is normal.
        sample_rate: Hz.
        seed: A seed for reproducible speech.
        temperature: How much the speech may vary.
        quality: The quality (Play3.0-mini).
        web_hook_url: A URL that the service calls when the job is finished.
        extra: Fields that this version does not know, under the service's names, with JSON values.

    Raises:
        TypeError: A value has the wrong type.
        ValueError: The text or the voice is blank, or a number is not finite.
    """

    text: str = attrs.field(validator=[_is_text, _is_not_blank])
    voice: str = attrs.field(validator=[_is_text, _is_not_blank])
    model: str = attrs.field(default="PlayDialog", kw_only=True, validator=_is_text)
    voice2: str | None = attrs.field(default=None, kw_only=True, validator=_OPTIONAL_TEXT)
    turn_prefix: str | None = attrs.field(default=None, kw_only=True, validator=_OPTIONAL_TEXT)
    turn_prefix2: str | None = attrs.field(default=None, kw_only=True, validator=_OPTIONAL_TEXT)
    prompt: str | None = attrs.field(default=None, kw_only=True, validator=_OPTIONAL_TEXT)
    prompt2: str | None = attrs.field(default=None, kw_only=True, validator=_OPTIONAL_TEXT)
    voice_conditioning_seconds: float | None = attrs.field(default=None, kw_only=True, validator=_OPTIONAL_NUMBER)
    voice_conditioning_seconds2: float | None = attrs.field(default=None, kw_only=True, validator=_OPTIONAL_NUMBER)
    language: str | None = attrs.field(default=None, kw_only=True, validator=_OPTIONAL_TEXT)
    output_format: str | None = attrs.field(default=None, kw_only=True, validator=_OPTIONAL_TEXT)
    speed: float | None = attrs.field(default=None, kw_only=True, validator=_OPTIONAL_NUMBER)
    sample_rate: float | None = attrs.field(default=None, kw_only=True, validator=_OPTIONAL_NUMBER)
    seed: float | None = attrs.field(default=None, kw_only=True, validator=_OPTIONAL_NUMBER)
    temperature: float | None = attrs.field(default=None, kw_only=True, validator=_OPTIONAL_NUMBER)
    quality: str | None = attrs.field(default=None, kw_only=True, validator=_OPTIONAL_TEXT)
    web_hook_url: str | None = attrs.field(default=None, kw_only=True, validator=_OPTIONAL_TEXT)
    extra: Mapping[str, Any] = attrs.field(factory=dict[str, Any], kw_only=True, hash=False, validator=_is_mapping)
