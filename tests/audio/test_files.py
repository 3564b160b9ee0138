"""Files that are written completely or not at all, and their names."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from playai_async._audio.files import Destination, PartFile

JOB_ID = UUID("6f1c2d3e-4a5b-4c6d-8e7f-9a0b1c2d3e4f")


@pytest.mark.parametrize(
    ("content_type", "ending"),
    [
        ("audio/mpeg", ".mp3"),
        ("audio/wav", ".wav"),
        ("audio/x-wav", ".wav"),
        ("audio/ogg", ".ogg"),
        ("audio/flac", ".flac"),
        ("audio/basic", ".mulaw"),
        ("audio/L16;rate=24000", ".raw"),
        (" AUDIO/MPEG ; charset=x", ".mp3"),
        ("text/html", ".bin"),
        ("../../evil", ".bin"),
        ("", ".bin"),
    ],
    ids=repr,
)
def test_in_a_directory_a_file_is_named_by_the_job_and_its_content_type(
    content_type: str, ending: str, tmp_path: Path
) -> None:
    """No text of a server becomes part of a path."""
    assert Destination.checked(tmp_path).file(JOB_ID, content_type) == tmp_path / f"{JOB_ID}{ending}"


@pytest.mark.parametrize(
    ("content_type", "output_format", "ending"),
    [
        ("application/octet-stream", "mp3", ".mp3"),
        ("", "FLAC", ".flac"),
        ("binary/octet-stream", "mulaw", ".mulaw"),
        ("audio/wav", "mp3", ".wav"),
        ("", "opus", ".bin"),
        ("", "../../evil", ".bin"),
        ("", 7, ".bin"),
    ],
    ids=repr,
)
def test_where_the_content_type_says_nothing_a_file_is_named_by_the_format_of_the_job(
    content_type: str, output_format: object, ending: str, tmp_path: Path
) -> None:
    """If it is one of the formats of the service."""
    path = Destination.checked(tmp_path).file(JOB_ID, content_type, output_format)
    assert path == tmp_path / f"{JOB_ID}{ending}"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.mp3", "mp3"), ("a.b.WAV", "wav"), ("a.raw", "raw"), ("a.m4a", None), ("a", None), (".mp3", None), ("", None)],
)
def test_the_suffix_of_a_file_names_a_format(name: str, expected: str | None, tmp_path: Path) -> None:
    """If the service has that format. The name of a directory does not."""
    assert Destination.checked(tmp_path / name).format == expected
    (tmp_path / "there.mp3").mkdir()
    assert Destination.checked(tmp_path / "there.mp3").format is None


def test_a_given_file_name_is_kept(tmp_path: Path) -> None:
    """Even if its suffix does not match the content type."""
    assert Destination.checked(str(tmp_path / "a.mp3")).file(JOB_ID, "audio/wav") == tmp_path / "a.mp3"


@pytest.mark.parametrize("made", [False, True], ids=["missing", "there"])
def test_a_path_that_ends_in_a_separator_is_a_directory(tmp_path: Path, *, made: bool) -> None:
    """A file with that name is not what the caller meant."""
    if made:
        (tmp_path / "out").mkdir()
        assert Destination.checked(f"{tmp_path}/out/").file(JOB_ID, "audio/wav").parent == tmp_path / "out"
    else:
        with pytest.raises(FileNotFoundError, match="out"):
            Destination.checked(f"{tmp_path}/out/")
        (tmp_path / "out").touch()
        with pytest.raises(NotADirectoryError, match="out"):
            Destination.checked(f"{tmp_path}/out/")


def test_only_a_regular_file_is_replaced(tmp_path: Path) -> None:
    """Not a device or a pipe, for example."""
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", Path(os.devnull)):
        with pytest.raises(OSError, match="not a regular file"):
            Destination.checked(place)
    os.mkfifo(tmp_path / f"{JOB_ID}.wav")
    with pytest.raises(OSError, match="not a regular file"):
        Destination.checked(tmp_path).file(JOB_ID, "audio/wav")


def test_an_invalid_path_is_rejected(tmp_path: Path) -> None:
    """Before a job is created whose audio could not be saved."""
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "nowhere").symlink_to("missing/a.wav")
    for name, error in (
        ("a\0b", ValueError),
        ("\ud800", ValueError),
        ("circle", OSError),
        ("nowhere", FileNotFoundError),
        ("x" * 256, OSError),
    ):
        with pytest.raises(error):
            Destination.checked(f"{tmp_path}/{name}")


def test_a_directory_that_is_not_writable_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Patched, because the superuser can write to any directory."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    for place in (tmp_path, tmp_path / "a.wav"):
        with pytest.raises(PermissionError):
            Destination.checked(place)


def test_a_read_only_file_system_is_named_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the destination, whether it is a file or a directory. Where the system does not tell, access is denied."""

    def statvfs(_: object) -> Any:
        return SimpleNamespace(f_flag=os.ST_RDONLY | os.ST_NOSUID)

    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(os, "statvfs", statvfs)
    for place in (tmp_path, tmp_path / "a.wav"):
        with pytest.raises(OSError, match="Read-only file system") as caught:
            Destination.checked(place)
        assert (caught.value.errno, caught.value.filename) == (errno.EROFS, str(place))
    monkeypatch.delattr(os, "statvfs")
    with pytest.raises(PermissionError):
        Destination.checked(tmp_path)


def test_an_error_names_the_destination(tmp_path: Path) -> None:
    """The caller does not know the name of the part file."""
    path = tmp_path / "there" / "a.wav"
    part = PartFile(path)
    with pytest.raises(FileNotFoundError, match=r"a\.wav") as caught:
        part.restart()
    part.discard()
    assert caught.value.filename == str(path)


def write(path: Path, data: bytes = b"audio") -> None:
    """Write a file by way of a part file."""
    part = PartFile(path)
    part.restart()
    part.write(data)
    part.finish()


def test_the_part_file_is_created_when_data_arrives(tmp_path: Path) -> None:
    """Thousands of queued downloads must not hold open files."""
    part = PartFile(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []
    part.discard()


def test_a_discarded_file_is_removed(tmp_path: Path) -> None:
    """The destination stays as it was."""
    (tmp_path / "a").write_bytes(b"old")
    part = PartFile(tmp_path / "a")
    part.restart()
    part.write(b"new")
    part.discard()
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


@pytest.mark.parametrize("method", ["restart", "write", "finish"])
def test_a_file_is_discarded_while_the_disk_hangs(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once if it is there, and again when the method that hangs has ended. The destination stays as it was."""
    (tmp_path / "a").write_bytes(b"old")
    part = PartFile(tmp_path / "a")
    hangs, goes_on = threading.Event(), threading.Event()
    real_path: Callable[[Any], str] = os.path.realpath

    class Hanging:
        """A file whose calls take until they are let go on."""

        def __init__(self, file: Any) -> None:
            self._file = file

        def __getattr__(self, name: str) -> Any:
            hangs.set()
            goes_on.wait(10)
            return getattr(self._file, name)

    def hanging_path(path: Any) -> str:
        hangs.set()
        goes_on.wait(10)
        return real_path(path)

    if method == "restart":
        monkeypatch.setattr(os.path, "realpath", hanging_path)
    else:
        part.restart()
        file = part._file
        part._file = Hanging(file)  # type: ignore[assignment]  # a file that hangs
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(getattr(part, method), *[b"new"] if method == "write" else [])
        hangs.wait(10)
        part.discard()
        assert [path.name for path in tmp_path.iterdir()] == ["a"]
        goes_on.set()
        if method == "finish":
            with pytest.raises(FileNotFoundError):
                running.result()
        else:
            running.result()
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]
    assert part._file is not None
    assert part._file.closed


def test_a_symbolic_link_is_kept(tmp_path: Path) -> None:
    """The target is replaced, and the part file is beside the target."""
    (tmp_path / "there").mkdir()
    (tmp_path / "here").mkdir()
    target, link = tmp_path / "there" / "a.wav", tmp_path / "here" / "a.wav"
    link.symlink_to(target)
    part = PartFile(link)
    part.restart()
    assert [path.parent.name for path in tmp_path.rglob("*.part")] == ["there"]
    part.write(b"audio")
    part.finish()
    assert link.is_symlink()
    assert target.read_bytes() == b"audio"


def test_a_name_may_be_as_long_as_the_system_allows(tmp_path: Path) -> None:
    """The name of the part file does not depend on it."""
    path = tmp_path / ("x" * 255)
    write(path)
    assert path.read_bytes() == b"audio"


def mode_of(path: Path) -> int:
    """Return the permissions of a file."""
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_has_the_default_mode(tmp_path: Path) -> None:
    """Not the mode of a temporary file, which nobody else could read."""
    (tmp_path / "usual").touch()
    write(tmp_path / "made")
    assert mode_of(tmp_path / "made") == mode_of(tmp_path / "usual")


@pytest.mark.parametrize("mode", [0o600, 0o664, 0o444, 0o640], ids=oct)
def test_a_replaced_file_keeps_its_mode(mode: int, tmp_path: Path) -> None:
    """A private file stays private, also while its new version is being written."""
    path = tmp_path / "a"
    path.touch()
    path.chmod(mode)
    part = PartFile(path)
    part.restart()
    assert [mode_of(path) for path in tmp_path.glob(".*.part")] == [0o600]
    part.finish()
    assert mode_of(path) == mode


def test_the_mode_is_kept_of_a_file_that_is_deleted_meanwhile(tmp_path: Path) -> None:
    """And a file that appears meanwhile gives its mode, too."""
    old, new = tmp_path / "old", tmp_path / "new"
    old.touch()
    old.chmod(0o640)
    parts = [PartFile(old), PartFile(new)]
    for part in parts:
        part.restart()
    old.unlink()
    new.touch()
    new.chmod(0o604)
    for part in parts:
        part.finish()
    assert (mode_of(old), mode_of(new)) == (0o640, 0o604)


@pytest.mark.parametrize(
    ("permitted", "mode", "asked"),
    [
        ({"user", "group"}, 0o6750, [(1, 2)]),
        ({"group"}, 0o750, [(1, 2), (-1, 2)]),
        (set[str](), 0o750, [(1, 2), (-1, 2)]),
    ],
    ids=["superuser", "member of the group", "neither"],
)
def test_a_replaced_file_keeps_its_owner_where_that_is_permitted(
    permitted: set[str], mode: int, asked: list[tuple[int, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise as much of it as possible, without the set-user-ID and set-group-ID bits."""
    path, seen = tmp_path / "a", list[tuple[int, int]]()
    path.touch()
    path.chmod(0o6750)
    real_stat = Path.stat

    def other_owner(self: Path, **options: Any) -> Any:
        found = real_stat(self, **options)
        if self != path:
            return found
        return os.stat_result([*found[:4], 1, 2, *found[6:]])

    def chown(_: Path, user: int, group: int) -> None:
        seen.append((user, group))
        if ("user" in permitted) < (user == 1) or ("group" in permitted) < (user == -1):
            raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "chown", chown)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", other_owner)
        write(path)
    assert (mode_of(path), seen) == (mode, asked)


def test_a_file_system_without_modes_is_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some network shares refuse every change of a mode."""

    def chmod(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    (tmp_path / "a").touch()
    monkeypatch.setattr(Path, "chmod", chmod)
    write(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"audio"


def test_restart_discards_the_data(tmp_path: Path) -> None:
    """Even if the second data is shorter."""
    part = PartFile(tmp_path / "a")
    part.restart()
    part.write(b"much that is wrong")
    part.restart()
    part.write(b"right")
    part.finish()
    assert (tmp_path / "a").read_bytes() == b"right"


def test_two_downloads_to_one_destination_do_not_mix(tmp_path: Path) -> None:
    """The file that is finished last remains, complete."""
    one, other = PartFile(tmp_path / "a"), PartFile(tmp_path / "a")
    one.restart()
    other.restart()
    one.write(b"one")
    other.write(b"other")
    other.finish()
    one.finish()
    assert (tmp_path / "a").read_bytes() == b"one"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
