"""The contract as an OpenAPI 3.1 description, for tests that check either side against it."""

import json
from importlib import resources
from typing import Any


def contract() -> dict[str, Any]:
    """Return the OpenAPI 3.1 description of what the emulator speaks, as a new dictionary each time."""
    text = resources.files("playai_async.emulator").joinpath("openapi.json").read_text(encoding="utf-8")
    description: dict[str, Any] = json.loads(text)
    return description
