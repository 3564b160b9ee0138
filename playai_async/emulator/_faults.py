"""Ways to misbehave, as values; and the plan that says which request meets which.

Nothing is sent from here: `_delivery.py` does that.
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
    # 1xx are interim: a final answer with one would leave the client waiting for another.
    check_count(attribute.name, value, least=200, most=599)


def _validate_malformation(_instance: object, _attribute: object, value: object) -> None:
    if not isinstance(value, bytes) and value not in _MALFORMATIONS:
        raise ValueError(f"body must be bytes or one of {', '.join(sorted(_MALFORMATIONS))}, not {value!r}")


@attrs.frozen
class Status:
    """Answer with a status, whatever was asked.

    Args:
        status: 200 to 599.
        body: JSON to send, or bytes to send as they are; left out (None), the body the contract documents.
        headers: More headers, such as `Retry-After` or `Location`.

    Raises:
        TypeError: The status is no integer.
        ValueError: The status is out of range.
    """

    status: int = attrs.field(validator=_validate_status)
    body: Any = None
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str], kw_only=True)


@attrs.frozen
class Malformed:
    """Answer 200, or 201 to a request that creates a job, with a body that breaks the contract, whatever was asked.

    Args:
        body: `"html"` (a proxy's page), `"truncated"` (half the job's JSON), `"other_id"` (another job's
            document), `"wrong_types"` (numbers as text, a date as a number), or bytes to send as they are.

    Raises:
        ValueError: The body is none of these.
    """

    body: Malformation | bytes = attrs.field(default="truncated", validator=_validate_malformation)


@attrs.frozen
class Hang:
    """Answer nothing until the faults are cleared, the emulator stops, or the client goes.

    Once cleared, the answer that was due on arrival is sent.
    """


@attrs.frozen
class Slow:
    """Answer as usual, but byte by byte, the last one after so many seconds; what is long comes in larger drops.

    Args:
        seconds: How long the answer takes.

    Raises:
        TypeError: The seconds are no number.
        ValueError: They are negative or not finite.
    """

    seconds: float = attrs.field(validator=_validate_seconds)


@attrs.frozen
class Reset:
    """Cut the connection with a TCP reset in place of an answer.

    A plain aiohttp client answers the first cut of a GET that has brought no headers yet by sending it again,
    unasked: it takes `times=2` for one of its requests to fail. `PlayAISession` has that turned off in a client
    session of its own.

    Args:
        midway: Send the headers and half the body first.
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
    """The faults that were asked for, met in the order in which they were."""

    def __init__(self) -> None:
        self._faults: list[_PlannedFault] = []

    def add(self, fault: Fault, *, times: int | None, job_id: UUID | None, endpoint: Endpoint) -> None:
        """Plan a fault for the next `times` requests (None: all) to an endpoint, of one job or of any (None)."""
        if times is not None:
            check_count("times", times, least=1)
        planned = _PlannedFault(_check_fault(fault), times, check_job_id(job_id), endpoint)
        _check_fit(planned)
        self._faults.append(planned)

    def take(self, endpoint: Endpoint, job_id: UUID | None) -> Fault | None:
        """Return the fault that a request to an endpoint for a job meets, and count it as met."""
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
        """Forget every fault that is left."""
        self._faults.clear()


def _check_fault(fault: object) -> Fault:
    if not isinstance(fault, Fault):
        raise TypeError(f"fault must be a Status, Malformed, Hang, Slow or Reset, not {fault!r}")
    return fault


def _check_fit(planned: _PlannedFault) -> None:
    """Refuse what no request could ever meet."""
    if planned.endpoint not in get_args(Endpoint):
        raise ValueError(f"endpoint must be one of {', '.join(get_args(Endpoint))}, not {planned.endpoint!r}")
    if planned.endpoint == "create" and planned.job_id is not None:
        raise ValueError("job_id must be None at the endpoint that creates jobs: the job is yet to be")
    if planned.endpoint == "audio" and isinstance(planned.fault, Malformed):
        raise ValueError("fault must not be Malformed at the endpoint of the audio: there is no contract to break")


def apply_fault(
    fault: Fault | None, answer: Response, *, endpoint: Endpoint, job_id: UUID | None, now: float
) -> Response:
    """Return the answer to send in place of the one that is due, where the fault is about its content."""
    match fault:
        case Status():
            return _status_response(fault)
        case Malformed():
            document = json.loads(answer.body[:]) if answer.status in {200, 201} else _placeholder_document(job_id, now)
            return _malformed_response(fault, 201 if endpoint == "create" else 200, document)
        case _:
            return answer


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
    """Return the document of a job that there is not, for a fault to distort."""
    job = Job(id=job_id or uuid4(), began=now, created_at=datetime.now(UTC), duration=math.inf)
    return job.document(now, link="")


def _truncated(document: Mapping[str, Any]) -> bytes:
    whole = json.dumps(document).encode()
    return whole[: len(whole) // 2]


def _other_id(document: Mapping[str, Any]) -> bytes:
    # Derived, not drawn: the same request meets the same body again.
    return json.dumps({**document, "id": str(uuid5(UUID(document["id"]), "another job"))}).encode()


def _wrong_types(document: Mapping[str, Any]) -> bytes:
    output = {"status": "COMPLETED", "url": None, "contentType": 7, "fileSize": "48000", "duration": True}
    return json.dumps({**document, "createdAt": 1_700_000_000, "output": output}).encode()


_MALFORMATIONS: Final[Mapping[str, Callable[[Mapping[str, Any]], bytes]]] = {
    "html": lambda _document: b"<!doctype html><title>Bad gateway</title><h1>Bad gateway</h1>",
    "other_id": _other_id,
    "truncated": _truncated,
    "wrong_types": _wrong_types,
}
