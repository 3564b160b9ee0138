"""What the published contract says: its OpenAPI description, the body of each error, ids and parameters.

404 and 405 are not in the contract; the emulator sends them in the contract's error shape.
"""

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
"""The type of each documented field. Other fields may hold anything; any model, language or format is accepted."""

_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)


def contract() -> dict[str, Any]:
    """Return the OpenAPI 3.1 description of the API that the emulator implements.

    Tests can check a client or a server against it.

    Returns:
        The description as a new dictionary, which the caller may change.
    """
    text = resources.files("playai_async.emulator").joinpath("openapi.json").read_text(encoding="utf-8")
    description: dict[str, Any] = json.loads(text)
    return description


def documented_response(
    status: int, headers: Mapping[str, str] | None = None, *, message: str | None = None
) -> Response:
    """Return a response with the body that the contract documents for a status, or without a body below 400.

    `message` replaces the default error message.
    """
    if status < HTTPStatus.BAD_REQUEST:
        return Response(status, b"", headers or {})
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return json_response(status, RATE_LIMITED_BODY, headers)
    error_id, default = _ERROR_BODIES.get(status, ("INTERNAL_ERROR", "Something went wrong."))
    return json_response(status, {"errorMessage": message or default, "errorId": error_id}, headers)


def parse_job_id(text: str) -> UUID | None:
    """Return the job id in a path, or None if the text is not a UUID in the form of 8-4-4-4-12 digits.

    `uuid.UUID` alone would also accept braces, URNs and digits without hyphens, which `format: uuid` does not allow.
    """
    return UUID(text) if _UUID.fullmatch(text) else None


def parse_parameters(body: bytes | None) -> dict[str, Any]:
    """Return the parameters in the body of a request that creates a job.

    Args:
        body: The body as received; None if it was too long to be read.

    Raises:
        ValueError: The body is not a JSON object or breaks the contract. The message goes into the 400 response.
    """
    parameters = _parse_json_object(body)
    for name in REQUIRED_PARAMETERS:
        if parameters.get(name, "") == "":
            raise ValueError(f"{name} is missing or empty.")
    for name, (description, types) in PARAMETER_TYPES.items():
        if name in parameters and not _has_type(parameters[name], types):
            raise ValueError(f"{name} must be {description}.")
    return parameters


def _parse_json_object(body: bytes | None) -> dict[str, Any]:
    if body is None:
        raise ValueError("The body is too long.")
    try:
        parameters: dict[str, Any] = dict(json.loads(body.decode()).items())
        # Python's parser accepts NaN and numbers that overflow to infinity, which JSON cannot represent.
        json.dumps(parameters, allow_nan=False)
    except (AttributeError, ValueError, RecursionError):
        raise ValueError("The body is not a JSON object.") from None
    return parameters


def _has_type(value: object, types: tuple[type, ...]) -> bool:
    # A bool is an int in Python, but not a number in JSON.
    return isinstance(value, types) and not isinstance(value, bool)
