"""Wait for PlayAI text-to-speech jobs with asyncio.

async with PlayAISession() as playai:
    job = await playai.wait_for_completion(job_id)
"""

# What is where, from the top. Each may import what is below it; the emulator imports nothing of the client.
#
#     _cli, contrib, testing    the command line, Redis and PostgreSQL, the pytest plugin
#     _session, _runtime        `PlayAISession`, and what builds its parts in the event loop
#     _audio                    create a job, download its audio, or both
#     jobs                      the engine, which waits for the jobs of any service
#     _api                      one HTTP request to PlayAI
#     _telemetry                log records and OpenTelemetry
#     other modules             settings, exceptions, models

import attrs as _attrs

from playai_async._exceptions import (
    APIStatusError,
    ConfigurationError,
    DownloadError,
    ForbiddenError,
    InvalidParametersError,
    InvalidResponseError,
    JobFailedError,
    NotFoundError,
    PlayAIError,
    RateLimitedError,
    SessionClosedError,
    TransportError,
    UnauthorizedError,
    UnexpectedServiceError,
    WaitTimeoutError,
)
from playai_async._models import Completed, Failed, InProgress, TtsJob, TtsParameters, Unknown
from playai_async._session import PlayAISession
from playai_async._settings import Pacing, Polling
from playai_async._telemetry.stats import SessionStats
from playai_async._version import __version__

__all__ = [
    "APIStatusError",
    "Completed",
    "ConfigurationError",
    "DownloadError",
    "Failed",
    "ForbiddenError",
    "InProgress",
    "InvalidParametersError",
    "InvalidResponseError",
    "JobFailedError",
    "NotFoundError",
    "Pacing",
    "PlayAIError",
    "PlayAISession",
    "Polling",
    "RateLimitedError",
    "SessionClosedError",
    "SessionStats",
    "TransportError",
    "TtsJob",
    "TtsParameters",
    "UnauthorizedError",
    "UnexpectedServiceError",
    "Unknown",
    "WaitTimeoutError",
    "__version__",
]

for _name in __all__:
    if isinstance(_public := globals()[_name], type):
        # Users import it from here: tracebacks, reprs and pickles say so. The annotations are resolved first, since
        # their names are those of the module that defines the class.
        if _attrs.has(_public):
            _attrs.resolve_types(_public)
            _public.__annotations__ = {field.name: field.type for field in _attrs.fields(_public)}
        _public.__module__ = __name__
