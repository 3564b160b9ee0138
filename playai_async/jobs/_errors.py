"""The exceptions that a `JobPoller` raises for any service."""

from __future__ import annotations

import contextlib

from playai_async._exceptions import ConfigurationError, JobTimeoutError, PollerClosedError, copied
from playai_async.jobs._classify import status_of
from playai_async.jobs._scheduling.request import JobId

__all__ = ["JobErrors"]


class JobErrors:
    """The exceptions of a poller that knows nothing of its service."""

    def closed(self, job_id: JobId | None) -> Exception:
        """The poller was closed."""
        return PollerClosedError("The poller was closed.", job_id=job_id)

    def wrong_loop(self, job_id: JobId | None) -> Exception:  # noqa: ARG002 - the signature of `Errors`
        """The poller belongs to another event loop."""
        return ConfigurationError("The poller belongs to the event loop that first used it; make one for each loop.")

    def cut_short(self, job_id: JobId | None) -> Exception:
        """Something outside of the poller cancelled a request."""
        return RuntimeError(f"The request for job {_shown(job_id)} was cancelled from outside.")

    def is_answer(self, error: Exception) -> bool:
        """Return whether the error has an HTTP status, as the exceptions of HTTP clients have."""
        return status_of(error) is not None

    def wrap(self, error: Exception, job_id: JobId | None) -> Exception:  # noqa: ARG002 - the signature of `Errors`
        """Return the error as it is."""
        return error

    def for_waiter(self, error: Exception, job_id: JobId) -> Exception:
        """Return a copy of an error with a note that names the job; the error itself if it cannot be copied."""
        twin = copied(error)
        note = f"While waiting for job {_shown(job_id)}."
        with contextlib.suppress(Exception):  # a frozen exception takes no note
            if note not in getattr(twin, "__notes__", ()):
                twin.add_note(note)
        return twin

    def timed_out(
        self,
        job_id: JobId,
        *,
        job: object | None,
        last_error: Exception | None,
        elapsed: float,
        polls: int,
        why: str,
    ) -> Exception:
        """The deadline of a wait passed."""
        seen = "no answer yet" if job is None else "not finished when last seen"
        return JobTimeoutError(
            f"Job {_shown(job_id)} was not finished after {elapsed:.1f} s (polls: {polls}; {seen}{why}).",
            job_id=job_id,
            job=job,
            last_error=last_error,
            elapsed=elapsed,
            polls=polls,
        )


def _shown(job_id: JobId | None) -> str:
    """Return the text of an id of any class on one line; the name of the class if the id raises."""
    try:
        return " ".join(str(job_id).splitlines())
    except Exception:  # noqa: BLE001 - else a wait for this job would never end
        return f"<{type(job_id).__name__}>"
