"""The service on loopback, for tests: an HTTP server that speaks PlayAI's contract and misbehaves on request.

It is an implementation of the contract of its own: nothing here may import the client beside it, or an error
made once would cancel out. Nothing here is fit to face a network: it listens on loopback alone.

```python
async with Emulator(quota=60) as emulator:
    job_id = emulator.add_job(duration=2.0)
    emulator.inject(Status(503), times=3)
    ...  # point the client under test at emulator.base_url, and let it follow the links
```
"""

from playai_async.emulator._emulator import Emulator
from playai_async.emulator._faults import Fault, Hang, Malformed, Reset, Slow, Status
from playai_async.emulator._request_log import Arrival, EmulatorStats
from playai_async.emulator._service.contract import contract

__all__ = [
    "Arrival",
    "Emulator",
    "EmulatorStats",
    "Fault",
    "Hang",
    "Malformed",
    "Reset",
    "Slow",
    "Status",
    "contract",
]
