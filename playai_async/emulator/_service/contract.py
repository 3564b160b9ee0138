"""The contract as an OpenAPI 3.1 description, for tests that check either side against it."""

import json
import re
from collections.abc import Mapping
from http import HTTPStatus
from importlib import resources
from typing import Any, Final
from uuid import UUID

from playai_async.emulator._service.messages import Response, json_response

RATE_LIMITED_BODY: Final = "Rate limit exceeded. Please wait a few moments and try again."

_ERROR_BODIES: Final[Mapping[int, tuple[str, str]]] = {
    400: ("INVALID_PARAMETERS", "The parameters are not valid."),
    401: ("UNAUTHORIZED", "The API key or the user id is missing or not valid."),
    403: ("UNSUPPORTED_PLAN", "Your plan does not include this endpoint."),
    404: ("NOT_FOUND", "There is no such job."),
    405: ("METHOD_NOT_ALLOWED", "This endpoint does not support the method."),
}


_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)


def contract() -> dict[str, Any]:
    """Return the OpenAPI 3.1 description of what the emulator speaks, as a new dictionary each time."""
    text = resources.files("playai_async.emulator").joinpath("openapi.json").read_text(encoding="utf-8")
    description: dict[str, Any] = json.loads(text)
    return description


def documented_response(
    status: int, headers: Mapping[str, str] | None = None, *, message: str | None = None
) -> Response:
    """Return what the service would send with a status: the documented body, or none below 400.

    The contract lists 400, 401, 403, 429 and 5xx. 404 and 405 are the emulator's own choice, in the same
    shape. A `message` takes the place of the usual one.
    """
    if status < HTTPStatus.BAD_REQUEST:
        return Response(status, b"", headers or {})
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return json_response(status, RATE_LIMITED_BODY, headers)
    error_id, usual = _ERROR_BODIES.get(status, ("INTERNAL_ERROR", "Something went wrong."))
    return json_response(status, {"errorMessage": message or usual, "errorId": error_id}, headers)


def parse_job_id(text: str) -> UUID | None:
    """Return the id a path names, or None if it is not a UUID in its canonical form of 8-4-4-4-12 digits.

    `uuid.UUID` alone would also take braces, URNs and digits without hyphens, which the contract's `format:
    uuid` does not.
    """
    return UUID(text) if _UUID.fullmatch(text) else None


REQUIRED_PARAMETERS: Final = ("text", "voice")

_STRING: Final = ("a string", (str,))
_NUMBER: Final = ("a number", (int, float))
_NUMBER_OR_NULL: Final = ("a number or null", (int, float, type(None)))

PARAMETER_TYPES: Final[Mapping[str, tuple[str, tuple[type, ...]]]] = {
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
    parameters = _parse_json_object(body)
    for name in REQUIRED_PARAMETERS:
        if parameters.get(name, "") == "":
            raise ValueError(f"{name} is missing or empty.")
    for name, (described, types) in PARAMETER_TYPES.items():
        if name in parameters and not _fits(parameters[name], types):
            raise ValueError(f"{name} must be {described}.")
    return parameters


def _parse_json_object(body: bytes | None) -> dict[str, Any]:
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
