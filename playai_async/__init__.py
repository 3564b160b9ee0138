"""Wait for PlayAI text-to-speech jobs with asyncio.

async with PlayAISession() as playai:
    job = await playai.wait_for_completion(job_id)
"""

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
from playai_async._models import Completed, Failed, InProgress, SessionStats, TtsJob, TtsParameters, Unknown
from playai_async._session import PlayAISession
from playai_async._settings import Pacing, Polling
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
