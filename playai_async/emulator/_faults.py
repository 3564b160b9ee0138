"""Faults: ways to misbehave, the plan of which request meets which fault, and the responses that a fault replaces.

Nothing is sent from here. `_http.py` sends responses, and carries out the faults of the connection: `Hang`, `Slow` and
`Reset`.
"""

import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias, get_args
from uuid import UUID, uuid4, uuid5

import attrs

from playai_async.emulator._service.contract import documented_response
from playai_async.emulator._service.jobs import Job
from playai_async.emulator._service.messages import JSON_TYPE, Endpoint, Response, json_response
from playai_async.emulator._validation import check_count, check_job_id, check_seconds

Malformation: TypeAlias = Literal["html", "other_id", "truncated", "wrong_types"]


def _validate_seconds(_instance: object, attribute: "attrs.Attribute[float]", value: float) -> None:
    check_seconds(attribute.name, value)


def _validate_status(_instance: object, attribute: "attrs.Attribute[int]", value: int) -> None:
    # 1xx responses are interim: after one, the client would wait for the final response.
    check_count(attribute.name, value, least=200, most=599)


def _validate_malformation(_instance: object, _attribute: object, value: object) -> None:
    if not isinstance(value, bytes) and value not in _MALFORMATIONS:
        raise ValueError(f"body must be bytes or one of {', '.join(sorted(_MALFORMATIONS))}, not {value!r}")


@attrs.frozen
class Status:
    """Respond with a status, whatever the request is.

    Args:
        status: The status, from 200 to 599.
        body: A JSON value, or bytes that are sent unchanged. None: the body that the contract documents.
        headers: Additional headers, such as `Retry-After` or `Location`.

    Raises:
        TypeError: The status is not an integer.
        ValueError: The status is out of range.
    """

    status: int = attrs.field(validator=_validate_status)
    body: Any = None
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str], kw_only=True)


@attrs.frozen
class Malformed:
    """Respond with 200 and a body that breaks the contract, whatever the request is.

    A request that creates a job gets 201 instead of 200.

    Args:
        body: `"html"` (the page of a proxy), `"truncated"` (half of the job's JSON), `"other_id"` (the job with
            another id), `"wrong_types"` (numbers as text, a date as a number), or bytes that are sent unchanged.

    Raises:
        ValueError: The body is none of these.
    """

    body: Malformation | bytes = attrs.field(default="truncated", validator=_validate_malformation)


@attrs.frozen
class Hang:
    """Send nothing until `clear_faults()` is called, the emulator stops, or the client disconnects.

    `clear_faults()` sends the response that was due when the request arrived.
    """


@attrs.frozen
class Slow:
    """Send the usual response slowly: byte by byte, at an even pace.

    A body of more than 1,024 bytes is sent in 1,024 pieces.

    Args:
        seconds: Seconds until the last byte is sent.

    Raises:
        TypeError: `seconds` is not a number.
        ValueError: `seconds` is negative or not finite.
    """

    seconds: float = attrs.field(validator=_validate_seconds)


@attrs.frozen
class Reset:
    """Close the connection with a TCP reset instead of a response.

    A plain aiohttp client retries a GET by itself if the connection is lost before the headers: `times=2` makes one
    of its requests fail. `PlayAISession` switches these retries off in the client session that it opens.

    Args:
        midway: Send the headers and half of the body first.
    """

    midway: bool = attrs.field(default=False, kw_only=True)


Fault: TypeAlias = Status | Malformed | Hang | Slow | Reset


@attrs.define
class _PlannedFault:
    fault: Fault
    remaining: int | None
    job_id: UUID | None
    endpoint: Endpoint


class FaultPlan:
    """The planned faults. A request meets the first one that matches."""

    def __init__(self) -> None:
        self._faults: list[_PlannedFault] = []

    def add(self, fault: Fault, *, times: int | None, job_id: UUID | None, endpoint: Endpoint) -> None:
        """Plan a fault for the next `times` requests (None: all) to an endpoint, for one job or for any (None)."""
        if times is not None:
            check_count("times", times, least=1)
        planned = _PlannedFault(_check_fault(fault), times, check_job_id(job_id), endpoint)
        _check_can_match(planned)
        self._faults.append(planned)

    def take(self, endpoint: Endpoint, job_id: UUID | None) -> Fault | None:
        """Return the fault that a request meets, and use it up once."""
        for planned in self._faults:
            if planned.endpoint != endpoint or planned.job_id not in (None, job_id):
                continue
            if planned.remaining is not None:
                planned.remaining -= 1
                if not planned.remaining:
                    self._faults.remove(planned)
            return planned.fault
        return None

    def clear(self) -> None:
        """Remove all planned faults."""
        self._faults.clear()


def apply_fault(
    fault: Fault | None, response: Response, *, endpoint: Endpoint, job_id: UUID | None, now: float
) -> Response:
    """Return the response that replaces the usual one under `Status` and `Malformed`; otherwise the usual one."""
    match fault:
        case Status():
            return _status_response(fault)
        case Malformed():
            has_job = response.status in {200, 201}
            document = json.loads(response.body[:]) if has_job else _placeholder_document(job_id, now)
            return _malformed_response(fault, 201 if endpoint == "create" else 200, document)
        case _:
            return response


def _check_fault(fault: object) -> Fault:
    if not isinstance(fault, Fault):
        raise TypeError(f"fault must be a Status, Malformed, Hang, Slow or Reset, not {fault!r}")
    return fault


def _check_can_match(planned: _PlannedFault) -> None:
    """Refuse a fault that no request could ever meet."""
    if planned.endpoint not in get_args(Endpoint):
        raise ValueError(f"endpoint must be one of {', '.join(get_args(Endpoint))}, not {planned.endpoint!r}")
    if planned.endpoint == "create" and planned.job_id is not None:
        raise ValueError('job_id must be None with endpoint="create": the job does not exist yet')
    if planned.endpoint == "audio" and isinstance(planned.fault, Malformed):
        raise ValueError('Malformed cannot be used with endpoint="audio": the contract does not describe audio')


def _status_response(fault: Status) -> Response:
    if fault.body is None:
        return documented_response(fault.status, fault.headers)
    if isinstance(fault.body, bytes):
        return Response(fault.status, fault.body, {"Content-Type": JSON_TYPE, **fault.headers})
    return json_response(fault.status, fault.body, fault.headers)


def _malformed_response(fault: Malformed, status: int, document: Mapping[str, Any]) -> Response:
    content_type = "text/html" if fault.body == "html" else JSON_TYPE
    body = fault.body if isinstance(fault.body, bytes) else _MALFORMATIONS[fault.body](document)
    return Response(status, body, {"Content-Type": content_type})


def _placeholder_document(job_id: UUID | None, now: float) -> dict[str, Any]:
    """Return the JSON of a job that does not exist, for `Malformed` to distort."""
    job = Job(id=job_id or uuid4(), began=now, created_at=datetime.now(UTC), duration=math.inf)
    return job.to_json(now, link="")


def _truncate(document: Mapping[str, Any]) -> bytes:
    whole = json.dumps(document).encode()
    return whole[: len(whole) // 2]


def _change_id(document: Mapping[str, Any]) -> bytes:
    # Derived from the id, not random: the same request gets the same body again.
    return json.dumps({**document, "id": str(uuid5(UUID(document["id"]), "another job"))}).encode()


def _change_types(document: Mapping[str, Any]) -> bytes:
    output = {"status": "COMPLETED", "url": None, "contentType": 7, "fileSize": "48000", "duration": True}
    return json.dumps({**document, "createdAt": 1_700_000_000, "output": output}).encode()


_MALFORMATIONS: Final[Mapping[str, Callable[[Mapping[str, Any]], bytes]]] = {
    "html": lambda _document: b"<!doctype html><title>Bad gateway</title><h1>Bad gateway</h1>",
    "other_id": _change_id,
    "truncated": _truncate,
    "wrong_types": _change_types,
}
