"""What a job is created from, as the service is sent it."""

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
    """The body, as the service reads it."""
    body: dict[str, Any] = json.loads(CONTRACT.encode_parameters(parameters))
    return body


def test_what_was_left_out_is_left_out() -> None:
    """None is no null."""
    assert body_of(TtsParameters("Hello", "v")) == {"text": "Hello", "voice": "v", "model": "PlayDialog"}


def test_every_field_has_the_services_name() -> None:
    """All of the published reference's; values are passed on as they are."""
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


def test_a_whole_number_stays_one() -> None:
    """A service may refuse 48000.0 for a sample rate."""
    assert b'"sampleRate":48000,' in CONTRACT.encode_parameters(TtsParameters("Hi", "v", sample_rate=48_000, seed=1))


def test_text_of_any_language_is_sent_as_utf_8() -> None:
    """Escapes would make it up to six times as long."""
    assert "नमस्ते 👋".encode() in CONTRACT.encode_parameters(TtsParameters("नमस्ते 👋", "v"))


def test_extra_may_fill_what_was_left_out() -> None:
    """A known field whose new type this version does not know, say."""
    assert body_of(TtsParameters("Hi", "v", extra={"seed": "random"}))["seed"] == "random"


@pytest.mark.parametrize("name", ["text", "voice", "model", "speed"])
def test_what_is_given_twice_is_refused(name: str) -> None:
    """Nobody could tell which of the two was meant."""
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
def test_what_is_no_json_is_refused(extra: Any, error: type[Exception]) -> None:
    """Before anything is sent."""
    with pytest.raises(error):
        CONTRACT.encode_parameters(TtsParameters("Hi", "v", extra=extra))


def test_what_is_nested_too_deeply_is_said_to_be() -> None:
    """And where: the rest of the parameters cannot be."""
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"x": deep}
    with pytest.raises(ValueError, match=r"^extra is nested too deeply$"):
        CONTRACT.encode_parameters(TtsParameters("Hi", "v", extra=deep))


def test_a_refusal_does_not_show_the_text() -> None:
    """It may be private, and errors end up in logs."""
    words = "^a text of the parameters contains a lone surrogate, which is not a character$"
    with pytest.raises(ValueError, match=words) as caught:
        CONTRACT.encode_parameters(TtsParameters("a private text \ud800", "v"))
    assert "private" not in repr(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
