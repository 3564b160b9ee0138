"""The body of a request that creates a job, held to the contract."""

import json
from collections.abc import Mapping
from typing import Any, Final

REQUIRED: Final = ("text", "voice")

_STRING: Final = ("a string", (str,))
_NUMBER: Final = ("a number", (int, float))
_NUMBER_OR_NULL: Final = ("a number or null", (int, float, type(None)))

TYPES: Final[Mapping[str, tuple[str, tuple[type, ...]]]] = {
    "model": _STRING,
    "text": _STRING,
    "voice": _STRING,
    "voice2": _STRING,
    "turnPrefix": _STRING,
    "turnPrefix2": _STRING,
    "prompt": _STRING,
    "prompt2": _STRING,
    "voiceConditioningSeconds": _NUMBER,
    "voiceConditioningSeconds2": _NUMBER,
    "language": _STRING,
    "outputFormat": _STRING,
    "speed": _NUMBER,
    "sampleRate": _NUMBER,
    "seed": _NUMBER_OR_NULL,
    "temperature": _NUMBER_OR_NULL,
    "quality": _STRING,
    "webHookUrl": _STRING,
}
"""What each field must be. Others may be anything, and no model, language or format is unknown."""


def parse_parameters(body: bytes | None) -> dict[str, Any]:
    """Return the parameters a body holds.

    Args:
        body: The body as it came; None: too long to be read.

    Returns:
        The JSON object as sent.

    Raises:
        ValueError: It is none, or breaks the contract; the message is fit for the answer.
    """
    parameters = _parse(body)
    for name in REQUIRED:
        if parameters.get(name, "") == "":
            raise ValueError(f"{name} is missing or empty.")
    for name, (described, types) in TYPES.items():
        if name in parameters and not _fits(parameters[name], types):
            raise ValueError(f"{name} must be {described}.")
    return parameters


def _parse(body: bytes | None) -> dict[str, Any]:
    if body is None:
        raise ValueError("The body is too long.")
    try:
        parameters: dict[str, Any] = dict(json.loads(body.decode()).items())
        # Python reads NaN and numbers beyond all bounds, which could not be sent back as JSON.
        json.dumps(parameters, allow_nan=False)
    except (AttributeError, ValueError, RecursionError):
        raise ValueError("The body is not a JSON object.") from None
    return parameters


def _fits(value: object, types: tuple[type, ...]) -> bool:
    # To Python a bool is an int.
    return isinstance(value, types) and not isinstance(value, bool)
