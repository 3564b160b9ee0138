"""Files that are written completely or not at all, and their names."""

from __future__ import annotations

import os
from pathlib import Path
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


def test_an_error_names_the_destination(tmp_path: Path) -> None:
    """The caller does not know the name of the part file."""
    path = tmp_path / "there" / "a.wav"
    with pytest.raises(FileNotFoundError, match=r"a\.wav") as caught, PartFile(path) as part:
        part.restart()
    assert caught.value.filename == str(path)


def test_the_part_file_is_created_when_data_arrives(tmp_path: Path) -> None:
    """Thousands of queued downloads must not hold open files."""
    with PartFile(tmp_path / "a"):
        assert list(tmp_path.iterdir()) == []


def test_a_symbolic_link_is_kept(tmp_path: Path) -> None:
    """The target is replaced, and the part file is beside the target."""
    (tmp_path / "there").mkdir()
    (tmp_path / "here").mkdir()
    target, link = tmp_path / "there" / "a.wav", tmp_path / "here" / "a.wav"
    link.symlink_to(target)
    with PartFile(link) as part:
        part.restart()
        assert [path.parent.name for path in tmp_path.rglob("*.part")] == ["there"]
        part.write(b"audio")
        part.finish()
    assert link.is_symlink()
    assert target.read_bytes() == b"audio"


def test_a_name_may_be_as_long_as_the_system_allows(tmp_path: Path) -> None:
    """The name of the part file does not depend on it."""
    path = tmp_path / ("x" * 255)
    with PartFile(path) as part:
        part.restart()
        part.write(b"audio")
        part.finish()
    assert path.read_bytes() == b"audio"


def test_a_file_has_the_default_mode(tmp_path: Path) -> None:
    """Not the mode of a temporary file, which nobody else could read."""
    (tmp_path / "usual").touch()
    with PartFile(tmp_path / "made") as part:
        part.restart()
        part.finish()
    assert (tmp_path / "made").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_restart_discards_the_data(tmp_path: Path) -> None:
    """Even if the second data is shorter."""
    with PartFile(tmp_path / "a") as part:
        part.restart()
        part.write(b"much that is wrong")
        part.restart()
        part.write(b"right")
        assert part.size == 5
        part.finish()
    assert (tmp_path / "a").read_bytes() == b"right"


def test_two_downloads_to_one_destination_do_not_mix(tmp_path: Path) -> None:
    """The file that is finished last remains, complete."""
    with PartFile(tmp_path / "a") as one, PartFile(tmp_path / "a") as other:
        one.restart()
        other.restart()
        one.write(b"one")
        other.write(b"other")
        other.finish()
        one.finish()
    assert (tmp_path / "a").read_bytes() == b"one"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
