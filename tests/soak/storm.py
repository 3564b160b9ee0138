"""The faults of a soak, decided by its seed: injected faults, restarts and quota changes.

Values only, the same for the same seed. The exact times depend on the machine.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from typing import Literal

import attrs

from playai_async.emulator import Fault, Hang, Malformed, Reset, Slow, Status
from tests.soak.plan import REQUEST_TIMEOUT, SPAN, Soak


@attrs.frozen(kw_only=True)
class Injection:
    """A fault for the next requests.

    Attributes:
        fault: The fault.
        times: For how many requests.
        endpoint: At which endpoint.
        age: Only for the job that started this many jobs ago; None: for any job.
    """

    fault: Fault
    times: int
    endpoint: Literal["status", "create", "audio"]
    age: int | None


@attrs.frozen
class Outage:
    """All connections are closed, and nothing listens for some seconds."""

    seconds: float


@attrs.frozen
class Quotas:
    """New quotas."""

    reading: int | None
    creating: int | None


@attrs.frozen
class ClearFaults:
    """Faults that no request has met are removed, and hanging requests receive a response."""


Event = Injection | Outage | Quotas | ClearFaults


def storm(soak: Soak) -> Iterator[tuple[float, Event]]:
    """Yield events forever, each with the seconds to wait before it."""
    for number in itertools.count():
        rng = soak.rng("event", number)
        pause = rng.uniform(0.1, 0.9)
        kind = rng.random()
        if number == 0 or 0.78 < kind < 0.93:
            yield (
                pause,
                Quotas(
                    rng.choice((None, rng.randint(20, 80), rng.randint(300, 1500))),
                    rng.choice((None, rng.randint(1, 5), rng.randint(20, 100))),
                ),
            )
        elif kind >= 0.96:
            yield pause, Outage(rng.choice((0.0, rng.uniform(0.0, 3.0))))
        elif kind >= 0.93:
            yield pause, ClearFaults()
        else:
            yield pause, _injection(soak, rng)


def _injection(soak: Soak, rng: random.Random) -> Injection:
    endpoint: Literal["status", "create", "audio"] = rng.choices(("status", "create", "audio"), (72, 12, 16))[0]
    aimed = endpoint == "status" and rng.random() < 0.4
    fault = fault_by(rng, malformed=endpoint != "audio")
    if endpoint == "create" and fault == Malformed("other_id"):
        fault = Malformed("truncated")  # a wrong id of a new job cannot be detected
    return Injection(
        fault=fault,
        # A refusal ends all waits that share the request, and a hang blocks a connection, so these are rare.
        times=rng.randint(1, 3) if isinstance(fault, Hang) or _refuses(fault) else rng.randint(1, 10),
        endpoint=endpoint,
        age=int(SPAN * soak.job_rate * rng.random() ** 2) if aimed else None,
    )


def fault_by(rng: random.Random, *, malformed: bool) -> Fault:
    """Return a random fault; at an endpoint without JSON, no malformed reply."""
    kinds: list[Callable[[random.Random], Fault]] = [_failure, _refusal, _redirect, _throttle, _hang, _slow, _reset]
    weights = [22, 8, 2, 15, 8, 15, 15]
    if malformed:
        kinds.append(_malformed)
        weights.append(15)
    return rng.choices(kinds, weights)[0](rng)


def _failure(rng: random.Random) -> Fault:
    return Status(rng.choice((500, 501, 502, 503, 504)))


def _refusal(rng: random.Random) -> Fault:
    return Status(rng.choice((400, 401, 403, 404, 409, 418, 451)))


def _redirect(rng: random.Random) -> Fault:
    return Status(rng.choice((301, 302, 303, 307, 308)), headers={"Location": "/elsewhere"})


def _throttle(rng: random.Random) -> Fault:
    hint = rng.choice((None, None, "0", "1", "2", "-1", "soon"))
    return Status(429, headers={} if hint is None else {"Retry-After": hint})


def _hang(_: random.Random) -> Fault:
    return Hang()


def _slow(rng: random.Random) -> Fault:
    return Slow(rng.uniform(0.05, 2 * REQUEST_TIMEOUT))


def _reset(rng: random.Random) -> Fault:
    return Reset(midway=rng.random() < 0.5)


def _malformed(rng: random.Random) -> Fault:
    return Malformed(rng.choice(("html", "other_id", "truncated", "wrong_types", b"", b"\x00\xff", b"[]")))


def name_of(fault: Fault) -> str:
    """Return the name of a fault in the results."""
    detail = ""
    match fault:
        case Status():
            detail = f" {fault.status}"
        case Malformed():
            detail = f" {fault.body if isinstance(fault.body, str) else 'bytes'}"
        case Reset(midway=True):
            detail = " midway"
        case _:
            pass
    return f"{type(fault).__name__}{detail}"


def _refuses(fault: Fault) -> bool:
    return isinstance(fault, Status) and fault.status < 500 and fault.status != 429
