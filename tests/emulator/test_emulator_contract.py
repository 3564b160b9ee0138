"""The emulator's responses, and requests to it, checked against the OpenAPI description of the contract."""

import asyncio
import math
import threading
from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeVar
from uuid import UUID

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck
from openapi_core import OpenAPI
from schemathesis import Case, GenerationMode
from schemathesis.core.failures import FailureGroup
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi import checks

from playai_async.emulator import Emulator, Fault, Malformed, Status, contract
from tests.emulator.plain_client import CREDENTIALS, PARAMETERS, PlainClient
from tests.support.contract_checks import OpenAPIChecker, assert_request_conforms

T = TypeVar("T")

JOBS = "/api/v1/tts"
PATH = "/api/v1/tts/{asyncTtsJobId}"
COMPLETED = UUID("11111111-2222-4333-8444-555555555555")
FAILED = UUID("22222222-2222-4333-8444-555555555555")
IN_PROGRESS = UUID("33333333-2222-4333-8444-555555555555")
UNKNOWN = UUID("44444444-2222-4333-8444-555555555555")

OPERATION = schemathesis.openapi.from_dict(contract())[PATH]["GET"]
CREATION = schemathesis.openapi.from_dict(contract())[JOBS]["POST"]
RESPONSE_CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
SAME_EVERY_TIME = hypothesis.settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=20,
    suppress_health_check=list(HealthCheck),
)


class Served:
    """An emulator in its own thread, with a job in each state; schemathesis is synchronous."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.emulator = Emulator(api_key="key", user_id="user", retry_after=True)
        asyncio.run_coroutine_threadsafe(self.emulator.start(), self._loop).result(10.0)
        self.do(lambda emulator: emulator.add_job(job_id=COMPLETED))
        self.do(lambda emulator: emulator.add_job(job_id=FAILED, fails=True))
        self.do(lambda emulator: emulator.add_job(math.inf, job_id=IN_PROGRESS))

    def do(self, action: Callable[[Emulator], T]) -> T:
        """Call a function with the emulator in the emulator's loop, and return its result."""

        async def act() -> T:
            return action(self.emulator)

        return asyncio.run_coroutine_threadsafe(act(), self._loop).result(10.0)

    def misbehave(self, fault: Fault, endpoint: Literal["status", "create"] = "status") -> None:
        """Inject a fault for the next request."""
        self.do(lambda emulator: emulator.inject(fault, endpoint=endpoint))

    def close(self) -> None:
        """Stop the emulator and its thread."""
        asyncio.run_coroutine_threadsafe(self.emulator.stop(), self._loop).result(10.0)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10.0)
        self._loop.close()


@pytest.fixture
def served() -> Iterator[Served]:
    """An emulator for synchronous clients."""
    served = Served()
    yield served
    served.close()


def check_response(served: Served, job_id: UUID | str, headers: dict[str, str] = CREDENTIALS) -> int:
    """Request a job's status, check the response against the description, and return the response's status."""
    case = OPERATION.Case(path_parameters={"asyncTtsJobId": str(job_id)}, headers=dict(headers))
    response = case.call(base_url=served.emulator.base_url)
    case.validate_response(response, checks=RESPONSE_CHECKS)
    return response.status_code


def check_creation(served: Served, parameters: Any, headers: dict[str, str] = CREDENTIALS) -> int:
    """Create a job, check the response against the description, and return the response's status."""
    case = CREATION.Case(body=parameters, media_type="application/json", headers=dict(headers))
    response = case.call(base_url=served.emulator.base_url)
    case.validate_response(response, checks=RESPONSE_CHECKS)
    return response.status_code


@pytest.mark.parametrize(
    ("operation", "mode", "expected", "others"),
    [
        (OPERATION, GenerationMode.POSITIVE, 404, set[int]()),
        (OPERATION, GenerationMode.NEGATIVE, 400, {401, 404}),
        (CREATION, GenerationMode.POSITIVE, 201, set[int]()),
        # If only the credentials were invalid, the valid ones that are sent instead make the request valid.
        (CREATION, GenerationMode.NEGATIVE, 400, {201, 401}),
    ],
    ids=["good", "bad", "good creations", "bad creations"],
)
def test_responses_to_generated_requests_conform(
    served: Served, operation: APIOperation[Any, Any, Any, Any], mode: GenerationMode, expected: int, others: set[int]
) -> None:
    """Valid and invalid requests, with every check that schemathesis has."""
    asked = set[int]()

    @SAME_EVERY_TIME
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def check(case: Case[Any]) -> None:
        asked.add(case.call_and_validate(base_url=served.emulator.base_url, headers=CREDENTIALS).status_code)

    check()
    assert expected in asked
    assert asked <= {expected, *others}


@pytest.mark.parametrize("job_id", [COMPLETED, FAILED, IN_PROGRESS], ids=["completed", "failed", "in progress"])
def test_a_job_in_any_state_conforms(served: Served, job_id: UUID) -> None:
    """Each of the three outputs is in the description."""
    assert check_response(served, job_id) == 200


def test_every_documented_status_of_a_status_request_occurs_and_conforms(served: Served) -> None:
    """A suitable request produces it, or otherwise a fault."""
    seen = {
        check_response(served, COMPLETED),
        check_response(served, "bad"),
        check_response(served, COMPLETED, {}),
        check_response(served, UNKNOWN),
    }
    for status in (403, 500):
        served.misbehave(Status(status))
        seen.add(check_response(served, COMPLETED))
    served.emulator.quota = 0
    seen.add(check_response(served, COMPLETED))
    assert seen == {int(status) for status in contract()["paths"][PATH]["get"]["responses"]}


def test_every_documented_status_of_a_creation_occurs_and_conforms(served: Served) -> None:
    """A suitable request produces it, or otherwise a fault."""
    seen = {
        check_creation(served, PARAMETERS),
        check_creation(served, {}),
        check_creation(served, PARAMETERS, {}),
    }
    for status in (403, 500):
        served.misbehave(Status(status), "create")
        seen.add(check_creation(served, PARAMETERS))
    served.emulator.create_quota = 0
    seen.add(check_creation(served, PARAMETERS))
    assert seen == {int(status) for status in contract()["paths"][JOBS]["post"]["responses"]}


@pytest.mark.parametrize("fault", [Malformed(), Malformed("wrong_types"), Status(200, {})], ids=repr)
def test_the_checks_detect_a_malformed_response_to_a_creation(served: Served, fault: Fault) -> None:
    """Otherwise the tests above would prove nothing."""
    served.misbehave(fault, "create")
    with pytest.raises(FailureGroup):
        check_creation(served, PARAMETERS)


@pytest.mark.parametrize(
    "fault",
    [
        Malformed("html"),
        Malformed("truncated"),
        Malformed("wrong_types"),
        Malformed(b"[]"),
        Status(418),
        Status(429, {}),
    ],
    ids=["html", "truncated", "wrong types", "list", "unlisted status", "429 as an object"],
)
def test_the_checks_detect_a_malformed_response(served: Served, fault: Fault) -> None:
    """Otherwise the tests above would prove nothing."""
    served.misbehave(fault)
    with pytest.raises(FailureGroup):
        check_response(served, COMPLETED)


@pytest.mark.parametrize(
    "output",
    [
        {"status": "QUEUED"},
        {"status": "COMPLETED"},
        {"status": "COMPLETED", "url": "x", "contentType": "audio/mpeg", "fileSize": "1", "duration": 1.0},
        {},
    ],
    ids=["unlisted", "bare", "size as text", "empty"],
)
def test_the_checks_detect_a_malformed_output(served: Served, output: dict[str, Any]) -> None:
    """The description requires the fields of each kind of output."""
    served.do(lambda emulator: emulator.set_output(COMPLETED, output))
    with pytest.raises(FailureGroup):
        check_response(served, COMPLETED)


def test_the_description_is_valid_openapi() -> None:
    """openapi-core reads only valid descriptions."""
    OpenAPI.from_dict(contract()).check_spec()


def test_each_call_returns_a_new_description() -> None:
    """So the caller may change it, for example to add a server."""
    contract().clear()
    assert contract()["openapi"].startswith("3.1")


@pytest.mark.looptime
async def test_a_valid_request_conforms(emulator: Emulator, client: PlainClient) -> None:
    """It is checked as it arrived."""
    await client.ask(emulator.add_job())
    await client.create({**PARAMETERS, "seed": None, "unknown": []})
    for arrival in emulator.arrivals:
        assert_request_conforms(arrival, emulator.base_url)


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", f"/api/v1/tts/{UNKNOWN}", {"X-USER-ID": "user"}),
        ("GET", f"/api/v1/tts/{UNKNOWN}", {"Authorization": "Bearer key"}),
        ("GET", f"/api/v1/tts/{UNKNOWN}", {"Authorization": "Basic key", "X-USER-ID": "user"}),
        ("GET", "/api/v1/tts/bad", CREDENTIALS),
        ("GET", "/api/v2/tts", CREDENTIALS),
        ("DELETE", f"/api/v1/tts/{UNKNOWN}", CREDENTIALS),
    ],
    ids=["no key", "no user", "other scheme", "no uuid", "other endpoint", "other method"],
)
async def test_an_invalid_request_does_not_conform(
    emulator: Emulator, client: PlainClient, method: str, path: str, headers: dict[str, str]
) -> None:
    """The failure has the request and the reason."""
    await client.send(method, path, headers)
    checker = OpenAPIChecker(emulator.base_url)
    with pytest.raises(AssertionError, match=f"{method} {path} breaks the contract: ."):
        checker.assert_conforms(emulator.arrivals[0])


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"", CREDENTIALS),
        (b"{", CREDENTIALS),
        ({"text": "t"}, CREDENTIALS),
        ({**PARAMETERS, "text": ""}, CREDENTIALS),
        ({**PARAMETERS, "speed": "1"}, CREDENTIALS),
        ({**PARAMETERS, "language": None}, CREDENTIALS),
        (PARAMETERS, {**CREDENTIALS, "Content-Type": "text/plain"}),
        (PARAMETERS, {"X-USER-ID": "user"}),
    ],
    ids=["no body", "no JSON", "no voice", "no text", "other type", "null", "other media type", "no key"],
)
async def test_an_invalid_creation_does_not_conform(
    emulator: Emulator, client: PlainClient, body: Any, headers: dict[str, str]
) -> None:
    """The body and its content type are checked, too."""
    await client.create(body, headers)
    with pytest.raises(AssertionError, match=f"POST {JOBS} breaks the contract: ."):
        assert_request_conforms(emulator.arrivals[0], emulator.base_url)
