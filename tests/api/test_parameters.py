"""The parameters of a job, as they are sent to the service."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from playai_async import TtsParameters
from playai_async._api.contract import Contract
from playai_async._api.credentials import Credentials

CONTRACT = Contract(Credentials("a-key", "a-user"))


def body_of(parameters: TtsParameters) -> dict[str, Any]:
    """Return the decoded body of the request."""
    body: dict[str, Any] = json.loads(CONTRACT.encode_parameters(parameters))
    return body


def test_parameters_that_are_none_are_omitted() -> None:
    """They are not sent as null."""
    assert body_of(TtsParameters("Hello", "v")) == {"text": "Hello", "voice": "v", "model": "PlayDialog"}


def test_every_field_has_the_services_name() -> None:
    """All fields of the public API reference. Values are sent unchanged."""
    parameters = TtsParameters(
        "Hello",
        "v",
        model="a-new-model",
        voice2="w",
        turn_prefix="A:",
        turn_prefix2="B:",
        prompt="calm",
        prompt2="gay",
        voice_conditioning_seconds=10,
        voice_conditioning_seconds2=20.5,
        language="klingon",
        output_format="flac",
        speed=1.5,
        sample_rate=48_000,
        seed=0,
        temperature=0.7,
        quality="high",
        web_hook_url="https://hooks.example/1",
        extra={"newField": [1, {"a": None}], "other": None},
    )
    assert body_of(parameters) == {
        "text": "Hello",
        "voice": "v",
        "model": "a-new-model",
        "voice2": "w",
        "turnPrefix": "A:",
        "turnPrefix2": "B:",
        "prompt": "calm",
        "prompt2": "gay",
        "voiceConditioningSeconds": 10,
        "voiceConditioningSeconds2": 20.5,
        "language": "klingon",
        "outputFormat": "flac",
        "speed": 1.5,
        "sampleRate": 48_000,
        "seed": 0,
        "temperature": 0.7,
        "quality": "high",
        "webHookUrl": "https://hooks.example/1",
        "newField": [1, {"a": None}],
        "other": None,
    }


def test_an_integer_stays_an_integer() -> None:
    """A service may reject 48000.0 as a sample rate."""
    assert b'"sampleRate":48000,' in CONTRACT.encode_parameters(TtsParameters("Hi", "v", sample_rate=48_000, seed=1))


def test_text_is_sent_as_utf_8() -> None:
    """Escapes would make the text up to six times as long."""
    assert "नमस्ते 👋".encode() in CONTRACT.encode_parameters(TtsParameters("नमस्ते 👋", "v"))


def test_extra_may_set_a_parameter_that_is_none() -> None:
    """For example a known field with a type that is new."""
    assert body_of(TtsParameters("Hi", "v", extra={"seed": "random"}))["seed"] == "random"


@pytest.mark.parametrize("name", ["text", "voice", "model", "speed"])
def test_extra_must_not_repeat_a_parameter(name: str) -> None:
    """It would be unclear which value was meant."""
    with pytest.raises(ValueError, match=f"extra repeats parameters: {name}"):
        CONTRACT.encode_parameters(TtsParameters("Hi", "v", speed=2, extra={name: "x"}))


LOOP: dict[str, Any] = {}
LOOP["x"] = LOOP
DEEP: list[Any] = []
for _ in range(100_000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("extra", "error"),
    [
        ({"x": object()}, TypeError),
        ({"x": b"bytes"}, TypeError),
        ({"x": {1, 2}}, TypeError),
        ({"x": math.nan}, ValueError),
        ({"x": math.inf}, ValueError),
        ({"x": LOOP}, ValueError),
        ({"x": DEEP}, ValueError),
        ({"x": "\ud800"}, ValueError),
        ({1: "x"}, TypeError),
    ],
    ids=["object", "bytes", "set", "NaN", "infinity", "loop", "deep", "surrogate", "name"],
)
def test_values_that_are_not_json_are_rejected(extra: Any, error: type[Exception]) -> None:
    """Before anything is sent."""
    with pytest.raises(error):
        CONTRACT.encode_parameters(TtsParameters("Hi", "v", extra=extra))


def test_extra_that_is_nested_too_deeply_is_rejected() -> None:
    """The message names `extra`, the only parameter that can be nested."""
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"x": deep}
    with pytest.raises(ValueError, match=r"^extra is nested too deeply$"):
        CONTRACT.encode_parameters(TtsParameters("Hi", "v", extra=deep))


def test_the_error_message_does_not_contain_the_text() -> None:
    """The text may be private, and errors are logged."""
    words = "^a text of the parameters contains a lone surrogate, which is not a character$"
    with pytest.raises(ValueError, match=words) as caught:
        CONTRACT.encode_parameters(TtsParameters("a private text \ud800", "v"))
    assert "private" not in repr(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
