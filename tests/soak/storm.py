"""What befalls the service of a soak, decided by its seed: faults, restarts, and other quotas.

Values alone, the same for the same seed; when the next comes is up to the machine.
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
    """A fault for the next requests; `age` aims it at a job that started so many jobs ago, None at all."""

    fault: Fault
    times: int
    endpoint: Literal["status", "create", "audio"]
    age: int | None


@attrs.frozen
class Outage:
    """All connections are cut, and nobody listens for so many seconds."""

    seconds: float


@attrs.frozen
class Quotas:
    """Other quotas from now on."""

    reading: int | None
    creating: int | None


@attrs.frozen
class Relief:
    """Faults that were not met yet are forgotten, and requests that hang are answered."""


Event = Injection | Outage | Quotas | Relief


def storm(soak: Soak) -> Iterator[tuple[float, Event]]:
    """Yield what befalls the service, for ever: seconds to wait, and then what."""
    for number in itertools.count():
        dice = soak.dice("event", number)
        pause = dice.uniform(0.1, 0.9)
        kind = dice.random()
        if number == 0 or 0.78 < kind < 0.93:
            yield (
                pause,
                Quotas(
                    dice.choice((None, dice.randint(20, 80), dice.randint(300, 1500))),
                    dice.choice((None, dice.randint(1, 5), dice.randint(20, 100))),
                ),
            )
        elif kind >= 0.96:
            yield pause, Outage(dice.choice((0.0, dice.uniform(0.0, 3.0))))
        elif kind >= 0.93:
            yield pause, Relief()
        else:
            yield pause, _injection(soak, dice)


def _injection(soak: Soak, dice: random.Random) -> Injection:
    endpoint: Literal["status", "create", "audio"] = dice.choices(("status", "create", "audio"), (72, 12, 16))[0]
    aimed = endpoint == "status" and dice.random() < 0.4
    fault = fault_by(dice, malformed=endpoint != "audio")
    if endpoint == "create" and fault == Malformed("other_id"):
        fault = Malformed("truncated")  # the id of a job that is only now created could be any, and nobody can tell
    return Injection(
        fault=fault,
        # A refusal ends the wait of everybody who shares the request, and a hang holds a connection: few of them.
        times=dice.randint(1, 3) if isinstance(fault, Hang) or _refuses(fault) else dice.randint(1, 10),
        endpoint=endpoint,
        age=int(SPAN * soak.job_rate * dice.random() ** 2) if aimed else None,
    )


def fault_by(dice: random.Random, *, malformed: bool) -> Fault:
    """Return a fault by the dice; at an endpoint that has no contract, none that breaks it."""
    kinds: list[Callable[[random.Random], Fault]] = [_failure, _refusal, _redirect, _throttle, _hang, _slow, _reset]
    weights = [22, 8, 2, 15, 8, 15, 15]
    if malformed:
        kinds.append(_malformed)
        weights.append(15)
    return dice.choices(kinds, weights)[0](dice)


def _failure(dice: random.Random) -> Fault:
    return Status(dice.choice((500, 501, 502, 503, 504)))


def _refusal(dice: random.Random) -> Fault:
    return Status(dice.choice((400, 401, 403, 404, 409, 418, 451)))


def _redirect(dice: random.Random) -> Fault:
    return Status(dice.choice((301, 302, 303, 307, 308)), headers={"Location": "/elsewhere"})


def _throttle(dice: random.Random) -> Fault:
    hint = dice.choice((None, None, "0", "1", "2", "-1", "soon"))
    return Status(429, headers={} if hint is None else {"Retry-After": hint})


def _hang(_: random.Random) -> Fault:
    return Hang()


def _slow(dice: random.Random) -> Fault:
    return Slow(dice.uniform(0.05, 2 * REQUEST_TIMEOUT))


def _reset(dice: random.Random) -> Fault:
    return Reset(midway=dice.random() < 0.5)


def _malformed(dice: random.Random) -> Fault:
    return Malformed(dice.choice(("html", "other_id", "truncated", "wrong_types", b"", b"\x00\xff", b"[]")))


def name_of(fault: Fault) -> str:
    """Return what an account calls a fault."""
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
