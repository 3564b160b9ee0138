"""Requests that the contract requires to be refused."""

from collections.abc import Mapping

import pytest

from playai_async.emulator import Emulator
from tests.emulator.plain_client import CREDENTIALS, PlainClient

pytestmark = pytest.mark.looptime

UNKNOWN = "11111111-2222-4333-8444-555555555555"


@pytest.mark.parametrize(
    "headers",
    [
        {"X-USER-ID": "user"},
        {"Authorization": "", "X-USER-ID": "user"},
        {"Authorization": "key", "X-USER-ID": "user"},
        {"Authorization": "Bearer", "X-USER-ID": "user"},
        {"Authorization": "Basic key", "X-USER-ID": "user"},
        {"Authorization": "Bearer Bearer key", "X-USER-ID": "user"},
        {"Authorization": "Bearer key"},
        {"Authorization": "Bearer key", "X-USER-ID": ""},
    ],
    ids=[
        "no key",
        "empty key header",
        "no scheme",
        "scheme alone",
        "other scheme",
        "doubled scheme",
        "no user",
        "empty user",
    ],
)
async def test_missing_or_malformed_credentials_are_401(
    emulator: Emulator, client: PlainClient, headers: Mapping[str, str]
) -> None:
    """Both headers must be present and well-formed, even if any key is accepted."""
    reply = await client.ask(emulator.add_job(), headers)
    assert (reply.status, reply.json["errorId"]) == (401, "UNAUTHORIZED")


@pytest.mark.parametrize(
    ("key", "user", "status"),
    [("right", "me", 200), ("wrong", "me", 401), ("right", "you", 401)],
    ids=["both match", "other key", "other user"],
)
async def test_given_credentials_must_match(key: str, user: str, status: int) -> None:
    """An emulator created with a key and a user id accepts no others."""
    async with Emulator(api_key="right", user_id="me") as emulator, PlainClient(emulator) as client:
        headers = {"Authorization": f"Bearer {key}", "X-USER-ID": user}
        assert (await client.ask(emulator.add_job(), headers)).status == status


@pytest.mark.parametrize(
    "text",
    [
        "12",
        UNKNOWN.replace("-", ""),
        f"{{{UNKNOWN}}}",
        f"urn:uuid:{UNKNOWN}",
        UNKNOWN[:-1] + "g",
        f"{UNKNOWN}%0A",
    ],
    ids=["number", "no hyphens", "braces", "urn", "no hex digit", "line feed"],
)
async def test_an_id_that_is_not_a_uuid_is_400(client: PlainClient, text: str) -> None:
    """The contract allows the canonical form only; Python's parser accepts more."""
    reply = await client.ask(text)
    assert (reply.status, reply.json["errorId"]) == (400, "INVALID_PARAMETERS")


async def test_an_unknown_job_is_404(client: PlainClient) -> None:
    """The contract does not list 404; the emulator sends it in the contract's error shape."""
    reply = await client.ask(UNKNOWN)
    assert (reply.status, set(reply.json)) == (404, {"errorMessage", "errorId"})


@pytest.mark.parametrize(
    "path",
    ["/", "/api/v1", "/api/v1/tts/", f"/api/v1/tts/{UNKNOWN}/audio"],
    ids=["root", "above", "empty", "below"],
)
async def test_an_unknown_endpoint_is_404(client: PlainClient, path: str) -> None:
    """Without credentials, too."""
    assert (await client.send("GET", path, {})).status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD"])
async def test_another_method_is_405(client: PlainClient, method: str) -> None:
    """The Allow header has the allowed method, as HTTP requires."""
    reply = await client.send(method, f"/api/v1/tts/{UNKNOWN}")
    assert (reply.status, reply.headers["Allow"]) == (405, "GET")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD"])
async def test_another_method_at_the_create_endpoint_is_405(client: PlainClient, method: str) -> None:
    """The API cannot list jobs."""
    reply = await client.send(method, "/api/v1/tts")
    assert (reply.status, reply.headers["Allow"]) == (405, "POST")


async def test_a_status_request_is_checked_in_a_fixed_order() -> None:
    """Credentials, quota, id: a request without a key spends no quota, a request with a bad id does."""
    async with Emulator(quota=1) as emulator, PlainClient(emulator) as client:
        replies = [
            await client.ask("bad", {}),
            await client.ask("bad", CREDENTIALS),
            await client.ask("bad", CREDENTIALS),
        ]
    assert [reply.status for reply in replies] == [401, 400, 429]
