"""A file that is written completely or not at all.

Data goes into a part file beside the destination. At the end the part file replaces the destination atomically. This
protects against a process that dies, but not against a power failure. All of this blocks, so `disk` runs it in threads.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import threading
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

import attrs

__all__ = ["Destination", "PartFile", "format_of"]

_FORMATS: Mapping[str, str] = {
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/wave": "wav",
    "audio/vnd.wave": "wav",
    "audio/ogg": "ogg",
    "application/ogg": "ogg",
    "audio/flac": "flac",
    "audio/x-flac": "flac",
    "audio/basic": "mulaw",
    "audio/mulaw": "mulaw",
    "audio/pcmu": "mulaw",
    "audio/l16": "raw",
    "audio/pcm": "raw",
    "audio/raw": "raw",
}
"""The service's format names by media type. Not the `mimetypes` module, whose table differs between machines."""

_NAMES = frozenset(_FORMATS.values())
_UNKNOWN = "bin"
_SEPARATORS = tuple(filter(None, (os.sep, os.altsep)))


def format_of(content_type: str) -> str | None:
    """Return the service's name for the format of a media type; None if the media type says nothing of it."""
    return _FORMATS.get(content_type.partition(";")[0].strip().lower())


@attrs.frozen
class Destination:
    """Where a caller wants a file: the path of the file, or a directory in which the file gets a name.

    Attributes:
        path: The path of the file or of the directory.
        format: The format of the service that the suffix of a file names; None for another suffix or a directory.
    """

    path: Path
    format: str | None

    @classmethod
    def checked(cls, destination: str | os.PathLike[str]) -> Destination:
        """Validate a destination before anything is requested that costs money.

        Raises:
            OSError: The directory does not exist or is not writable, or the path exists and is not a regular file.
            ValueError: The text cannot be a path.
            TypeError: The value has the wrong type.
        """
        text = os.fspath(destination)
        if not isinstance(text, str):
            raise TypeError(f"destination must be a str or a path of one, not {type(text).__name__}")
        if "\0" in text:
            raise ValueError("destination contains a null character")
        os.fsencode(text)  # raises a ValueError for a lone surrogate
        path, real = Path(text), _real_path(text)
        directory = real if real.is_dir() else real.parent
        if directory != real and text.endswith(_SEPARATORS):
            code = errno.ENOTDIR if real.exists() else errno.ENOENT
            raise OSError(code, os.strerror(code), text)
        if not directory.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(directory))
        if not os.access(directory, os.W_OK | os.X_OK):
            if _is_read_only(directory):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), text)
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(directory))
        if directory == real:
            return cls(path, None)
        _check_replaceable(path)
        suffix = path.suffix[1:].lower()
        return cls(path, suffix if suffix in _NAMES else None)

    def file(self, job_id: UUID, content_type: str, output_format: object = None) -> Path:
        """Return the path of the file. A server never chooses any part of the name.

        Args:
            job_id: The name of the file in a directory.
            content_type: The media type, which decides the suffix in a directory.
            output_format: The format that the job was created with, which decides if the media type is unknown.

        Raises:
            OSError: The path exists and is not a regular file.
        """
        if not self.path.is_dir():
            return self.path
        requested = output_format.lower() if isinstance(output_format, str) else _UNKNOWN
        suffix = format_of(content_type) or (requested if requested in _NAMES else _UNKNOWN)
        path = self.path / f"{job_id}.{suffix}"
        _check_replaceable(path)
        return path


class PartFile:
    """A file that is being written beside its destination.

    Each method may run in another thread, one at a time. `discard` alone may be called while another method runs.

    Args:
        path: The destination. If it is a symbolic link, the target of the link is replaced.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part: Path | None = None
        self._file: BinaryIO | None = None
        self._replaced: os.stat_result | None = None
        self._discarded = False
        self._running = threading.Lock()

    def restart(self) -> None:
        """Create the file, or discard everything written so far.

        Raises:
            OSError: The file cannot be created.
        """
        with self._operation():
            if self._file is None:  # only when data arrives: thousands of queued downloads must not hold open files
                self._create()
            else:
                self._file.seek(0)
                self._file.truncate()

    def write(self, data: bytes) -> None:
        """Append data. `restart` must have been called before.

        Raises:
            OSError: The data cannot be written.
        """
        with self._operation():
            self._opened()[0].write(data)

    def finish(self) -> None:
        """Move the file to its destination. An existing file is replaced, and its mode is kept.

        Raises:
            OSError: The file cannot be moved.
        """
        with self._operation():
            file, part = self._opened()
            file.close()
            with contextlib.suppress(FileNotFoundError):
                self._replaced = self._path.stat()
            if self._replaced is not None:
                _keep_access(part, self._replaced)
            part.replace(self._path)

    def discard(self) -> None:
        """Remove the file, unless it was finished. Does not raise.

        A method that is running, maybe for long, does not delay this; it closes the file when it ends.
        """
        self._discarded = True
        self._unlink()
        self._remove_if_discarded()

    def _create(self) -> None:
        self._path = _real_path(self._path)
        with contextlib.suppress(FileNotFoundError):
            self._replaced = self._path.stat()
        # Nobody else may read the new version of a private file, not even until it gets the mode of the old one.
        mode = 0o666 if self._replaced is None else 0o600
        self._part = self._path.with_name(f".{secrets.token_hex(8)}.part")
        self._file = open(self._part, "xb", opener=lambda path, flags: os.open(path, flags, mode))  # noqa: SIM115

    def _opened(self) -> tuple[BinaryIO, Path]:
        assert self._file is not None and self._part is not None, "call restart first"  # noqa: S101, PT018 - for type checkers
        return self._file, self._part

    @contextlib.contextmanager
    def _operation(self) -> Generator[None, None, None]:
        """Run one method. An `OSError` names the destination, because the caller does not know the part file."""
        try:
            with self._running:
                yield
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from None
        finally:
            self._remove_if_discarded()

    def _remove_if_discarded(self) -> None:
        """Close and remove a discarded file, unless a method is running: that calls this when it has ended."""
        if not self._discarded or not self._running.acquire(blocking=False):
            return
        try:
            if self._file is not None:
                with contextlib.suppress(OSError):  # close() fails only after a write that failed and raised already
                    self._file.close()
            self._unlink()
        finally:
            self._running.release()

    def _unlink(self) -> None:
        if self._part is not None:
            with contextlib.suppress(OSError):
                self._part.unlink(missing_ok=True)


def _real_path(path: str | Path) -> Path:
    """Resolve symbolic links."""
    return Path(os.path.realpath(path))  # Path.resolve raises if the links form a circle


def _check_replaceable(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))  # for example a device, which would be replaced


def _is_read_only(directory: Path) -> bool:
    """Return whether a file system is mounted read-only. `os.access` does not say why it refuses."""
    try:
        return bool(os.statvfs(directory).f_flag & os.ST_RDONLY)
    except (AttributeError, OSError):  # Windows has no `statvfs`
        return False


def _keep_access(part: Path, old: os.stat_result) -> None:
    """Give a new file the mode of an old one, and its owner and group where the system permits that."""
    new, kept = part.stat(), True
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        kept = _chown(part, old.st_uid, old.st_gid)
        if not kept:
            _chown(part, -1, old.st_gid)  # the owner of a file may give it to any of their own groups
    mode = stat.S_IMODE(old.st_mode)
    with contextlib.suppress(OSError):  # some file systems have no modes
        part.chmod(mode if kept else mode & ~(stat.S_ISUID | stat.S_ISGID))


def _chown(path: Path, user: int, group: int) -> bool:
    try:
        os.chown(path, user, group)
    except OSError:
        return False
    return True
