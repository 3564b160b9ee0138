"""A file that comes into being whole or not at all.

What is written goes into a part file beside its destination, which takes its place at the very end. That survives the
end of the process, not the loss of power. Writes are made where they are asked for: one into the system's cache is
shorter than the way to a thread and back.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import UUID

import attrs

__all__ = ["Destination", "PartFile"]

_ENDINGS: Mapping[str, str] = {
    "audio/mpeg": ".mp3",
    "audio/mp3": ".mp3",
    "audio/wav": ".wav",
    "audio/x-wav": ".wav",
    "audio/wave": ".wav",
    "audio/vnd.wave": ".wav",
    "audio/ogg": ".ogg",
    "application/ogg": ".ogg",
    "audio/flac": ".flac",
    "audio/x-flac": ".flac",
    "audio/basic": ".mulaw",
    "audio/mulaw": ".mulaw",
    "audio/pcmu": ".mulaw",
    "audio/l16": ".raw",
    "audio/pcm": ".raw",
    "audio/raw": ".raw",
}
"""By media type, the service's own names of its formats; not the machine's table, which differs between machines."""

_OTHER_ENDING = ".bin"


@attrs.frozen
class Destination:
    """Where a caller wants a file: a path, or a directory in which it gets a name.

    Attributes:
        path: The one or the other.
    """

    path: Path

    @classmethod
    def checked(cls, destination: str | os.PathLike[str]) -> Destination:
        """Accept where a file can be put, before anything is asked for that costs money.

        Raises:
            OSError: There is no such directory, or something is there that is no file.
            TypeError: It is of the wrong type.
        """
        text = os.fspath(destination)
        if not isinstance(text, str):
            raise TypeError(f"destination must be a str or a path of one, not {type(text).__name__}")
        path = Path(text)
        if not path.is_dir():
            ends_in_separator = text.endswith(tuple(filter(None, (os.sep, os.altsep))))
            directory = path if ends_in_separator else path.parent
            if not directory.is_dir():
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(directory))
            if path.exists() and not path.is_file():
                raise OSError(errno.EINVAL, "not a file", str(path))  # such as a device, which must not be replaced
        return cls(path)

    def file(self, job_id: UUID, content_type: str) -> Path:
        """Return the path of the file; never a name that a server chose."""
        if not self.path.is_dir():
            return self.path
        kind = content_type.partition(";")[0].strip().lower()
        return self.path / f"{job_id}{_ENDINGS.get(kind, _OTHER_ENDING)}"


class PartFile:
    """A file that is being written beside its destination; a context manager that leaves the whole of it or nothing.

    Args:
        path: The destination. Where that is a symbolic link, the file that it leads to is replaced.

    Attributes:
        size: Bytes written.

    Raises:
        OSError: It cannot be made; or, later, written or put in its place.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.resolve()
        self._part = self._path.with_name(f".{secrets.token_hex(8)}.part")
        self._file = self._part.open("xb")
        self.size = 0

    def write(self, data: bytes) -> None:
        """Write what comes next."""
        self._file.write(data)
        self.size += len(data)

    def restart(self) -> None:
        """Forget what was written."""
        self._file.seek(0)
        self._file.truncate()
        self.size = 0

    def finish(self) -> None:
        """Put the file in its place, and in that of one that is there."""
        self._file.close()
        self._part.replace(self._path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):  # what it could not write it could not write before, and that was raised
            self._file.close()
        with contextlib.suppress(OSError):
            self._part.unlink(missing_ok=True)
