"""A local server that emulates the service, for tests: it follows the contract, and misbehaves on request.

```python
async with Emulator(quota=60) as emulator:
    job_id = emulator.add_job(duration=2.0)
    emulator.inject(Status(503), times=3)
    ...  # point the client under test to emulator.base_url, and let it follow the links to the audio
```

The emulator is a real HTTP server in the event loop of the test. A client reaches it with real requests on loopback,
so connection pools, timeouts, disconnects and downloads are tested as well. It listens on loopback addresses only.

**What a request passes through**

1. The listener: an aiohttp server on a free port, or on the port that you choose. `stop()` aborts all connections and
   refuses new ones; `start()` listens on the same port again.
2. The log. Each request is recorded on arrival, before anything else is decided.
3. The fault plan. The request meets the first fault of `inject()` that matches its endpoint and job, if any.
4. The checks, in this order: endpoint (404), method (405), credentials (401), quota (429), body or id (400), job (404).
   Any key is accepted unless you give one.
5. The quota: fixed windows, or another kind of `limiter`, counted for each key. Status requests and requests that
   create jobs are counted separately. A request that meets a fault or has a bad id spends quota; a refused one (401,
   429) does not.
6. The state of the job. A job is IN_PROGRESS for its duration, then COMPLETED or FAILED. The state is computed from the
   time of the request, so nothing runs in the background. `set_output()` shows any other output instead.
7. The response. `Status` and `Malformed` replace it, `Slow` and `Hang` delay it, and `Reset` resets the connection.

**The audio origin** is a second server on another port, like an object store. It serves a WAV file for each
completed job, under signed links that expire, and supports ranges. It checks no credentials and has no quota. Each
response with a completed job has a new link. The sound is a tune, or with `Emulator(speak=True)` the text of the job,
spoken by the program espeak-ng.

**Webhooks**: when a job with a `webHookUrl` completes or fails, the emulator calls that URL, if it is on loopback.
Calls run in the background and disturb nothing; `stop()` cancels them. `webhook_calls` has the latest ones.

**Time** is the time of the event loop. With a virtual clock such as looptime's, durations, windows and the expiry of
links pass in virtual time, without delay; with a normal loop they pass in real time. The wall clock is used only for
dates such as `createdAt`.

**What is counted**: `stats` has the number of requests to the API, the responses by status, and the requests in
progress. `requests_of()` counts the requests for one job. `arrivals` has the latest requests with time, path,
headers and body. Requests to the audio origin are in `audio_arrivals` only.

The emulator implements the contract independently. It imports nothing of the client, because a mistake that both
shared would not show in a test. `contract()` returns the contract as an OpenAPI description.
"""

import inspect as _inspect

from playai_async.emulator._emulator import Emulator
from playai_async.emulator._faults import Fault, Hang, Malformed, Reset, Slow, Status
from playai_async.emulator._request_log import Arrival, EmulatorStats
from playai_async.emulator._service.contract import contract
from playai_async.emulator._webhooks import WebhookCall

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
    "WebhookCall",
    "contract",
]

# Tracebacks, reprs and pickles show the module that users import from. `Fault` is a union and has no such name.
for _name in __all__:
    _public = globals()[_name]
    if _inspect.isclass(_public) or _inspect.isfunction(_public):
        _public.__module__ = __name__
