"""Texts of created jobs, spoken by espeak-ng, or by a script in its place. In real time, since a process speaks."""

import asyncio
import io
import os
import shutil
import struct
import wave
from array import array
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from playai_async.emulator import Emulator, _speech
from playai_async.emulator._service.audio import Audio
from tests.emulator.plain_client import PARAMETERS, PlainClient

pytestmark = pytest.mark.looptime(False)  # noqa: FBT003 - looptime's own way; the time of processes is real

needs_espeak = pytest.mark.skipif(shutil.which(_speech.PROGRAM) is None, reason="needs the program espeak-ng")
needs_scripts = pytest.mark.skipif(os.name == "nt", reason="needs shell scripts")

SAMPLES = b"\x01\x02" * 50
RATES = 22_050, 44_100
"""Frames and bytes per second."""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of a program that is found in place of espeak-ng, once a test has written it."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")
    monkeypatch.setattr(_speech, "PROGRAM", "a-program-that-speaks")
    return tmp_path / "a-program-that-speaks"


def write_script(path: Path, commands: str) -> None:
    path.write_text(f"#!/bin/sh\n{commands}\n")
    path.chmod(0o755)


def write_wav_script(path: Path) -> None:
    """Write a program that writes what espeak-ng writes."""
    sizes = 0x7FFF_F024, 0x7FFF_F000
    header = struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", sizes[0], b"WAVE", b"fmt ", 16, 1, 1, *RATES, 2, 16, b"data", sizes[1]
    )
    path.with_suffix(".wav").write_bytes(header + SAMPLES)
    write_script(path, f"cat > /dev/null; cat {path.with_suffix('.wav')}")


@asynccontextmanager
async def speaking(**options: Any) -> AsyncIterator[tuple[Emulator, PlainClient]]:
    """Run an emulator that speaks, and whose jobs are done when they are created."""
    async with Emulator(speak=True, job_duration=0.0, **options) as emulator, PlainClient(emulator) as client:
        yield emulator, client


async def audio_of(client: PlainClient, text: str) -> bytes:
    """Create a job, and return its audio, which has the length that the job says."""
    job: dict[str, Any] = (await client.create(PARAMETERS | {"text": text})).json
    body = (await client.fetch(job["output"]["url"])).body
    assert len(body) == job["output"]["fileSize"]
    with wave.open(io.BytesIO(body)) as sound:
        assert sound.getnframes() / sound.getframerate() == job["output"]["duration"]
    return body


def tune(text: str) -> bytes:
    return Audio.from_input({"text": text}).file()[:]


@needs_espeak
async def test_a_created_job_speaks_its_text() -> None:
    """At the rate of espeak-ng, and another text sounds different and takes longer."""
    async with speaking() as (emulator, client):
        assert emulator.speaks
        short, long = await audio_of(client, "Hello."), await audio_of(client, "Hello, how are you today?")
        with wave.open(io.BytesIO(short)) as sound:
            assert (sound.getnchannels(), sound.getsampwidth(), sound.getframerate()) == (1, 2, 22_050)
            assert 0.2 < sound.getnframes() / sound.getframerate() < 5
        assert len(short) < len(long)
        assert max(abs(sample) for sample in array("h", short[44:])) > 3_000


@needs_espeak
@pytest.mark.parametrize("text", ["-w /nowhere/x.wav", "<audio src='/etc/passwd'/>", "\ud83d", "日本語"])
async def test_no_text_is_an_option_or_markup(text: str) -> None:
    """Each one is spoken."""
    async with speaking() as (_, client):
        assert await audio_of(client, text) != tune(text)


@needs_espeak
async def test_the_longest_text_is_spoken_and_a_longer_one_is_not() -> None:
    """So no text keeps a processor busy for more than about a second."""
    async with speaking() as (_, client):
        text = ("word " * 1_000)[: _speech.MAX_SPOKEN_CHARACTERS]
        assert await audio_of(client, text) != tune(text)
        assert await audio_of(client, text + "x") == tune(text + "x")


async def test_without_the_program_there_is_a_tune(program: Path) -> None:
    """As without `speak`."""
    async with speaking() as (emulator, client):
        assert not emulator.speaks
        assert await audio_of(client, "Hello.") == tune("Hello.")


def test_an_emulator_does_not_speak_unless_it_is_asked_to() -> None:
    assert not Emulator().speaks


@needs_scripts
async def test_output_that_is_no_wav_file_gives_a_tune(program: Path) -> None:
    """The program is another one, or says nothing, as espeak-ng does for a text of nothing but spaces."""
    write_script(program, "cat")
    async with speaking() as (emulator, client):
        assert emulator.speaks
        for text in ("Hello.", "RIFF" + "x" * 60, " "):
            assert await audio_of(client, text) == tune(text)


@needs_scripts
@pytest.mark.parametrize(
    "commands",
    [
        pytest.param("cat > /dev/null; exit 1", id="fails"),
        pytest.param("exec < /dev/null", id="reads nothing"),
        pytest.param("exec yes 2> /dev/null", id="never ends"),
        pytest.param("exec sleep 60", id="says nothing"),
    ],
)
async def test_a_program_that_fails_gives_a_tune(program: Path, monkeypatch: pytest.MonkeyPatch, commands: str) -> None:
    """After ten seconds at most: here after fewer. No process is left."""
    monkeypatch.setattr(_speech, "SPEAKING_TIMEOUT", 0.3)
    write_script(program, f"echo $$ > {program}.pid; {commands}")
    async with Emulator(speak=True, job_duration=0.0) as emulator, PlainClient(emulator) as client:
        assert await audio_of(client, "Hello.") == tune("Hello.")
    with pytest.raises(ProcessLookupError):
        os.kill(int(Path(f"{program}.pid").read_text()), 0)


@needs_scripts
async def test_a_program_that_cannot_be_run_gives_a_tune(program: Path) -> None:
    """It was removed after the emulator had found it."""
    write_script(program, "exec true")
    async with speaking() as (_, client):
        program.unlink()
        assert await audio_of(client, "Hello.") == tune("Hello.")


@needs_scripts
async def test_a_client_that_disconnects_ends_the_program(program: Path) -> None:
    """And creates no job."""
    started = Path(f"{program}.pid")
    write_script(program, f"echo $$ > {started}.new; mv {started}.new {started}; exec sleep 60")
    async with Emulator(speak=True) as emulator, PlainClient(emulator) as client:
        creation = asyncio.create_task(client.create())
        async with asyncio.timeout(30):
            while not started.exists():
                await asyncio.sleep(0.01)
        creation.cancel()
        await asyncio.gather(creation, return_exceptions=True)
        process = int(started.read_text())
        with pytest.raises(ProcessLookupError):
            async with asyncio.timeout(30):
                while True:
                    os.kill(process, 0)
                    await asyncio.sleep(0.01)
        assert emulator.jobs == ()


@needs_scripts
async def test_only_requests_that_create_a_job_start_a_process(program: Path) -> None:
    """A refused one does not, nor does a request for the status of a job."""
    write_script(program, f"echo $$ >> {program}.log")
    async with Emulator(speak=True, api_key="key") as emulator, PlainClient(emulator) as client:
        assert (await client.create(b"{")).status == 400
        assert (await client.create({"text": 5, "voice": "v"})).status == 400
        assert (await client.create(headers={"Authorization": "Bearer other", "X-USER-ID": "user"})).status == 401
        assert (await client.ask(emulator.add_job())).status == 200
        assert (await client.fetch(emulator.link_of(emulator.jobs[0]))).body == tune(
            "The quick brown fox jumps over the lazy dogs."
        )
        assert not Path(f"{program}.log").exists()
        assert (await client.create()).status == 201
        assert Path(f"{program}.log").read_text().count("\n") == 1


@needs_scripts
async def test_the_sizes_in_the_header_of_speech_are_those_of_the_file(program: Path) -> None:
    """The program writes to a pipe, so its own sizes are not valid."""
    write_wav_script(program)
    async with speaking() as (_, client):
        body = await audio_of(client, "Hello.")
    with wave.open(io.BytesIO(body)) as sound:
        assert (sound.getframerate(), sound.readframes(100)) == (22_050, SAMPLES)


@needs_scripts
async def test_memory_for_speech_is_limited(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Later jobs get the tune; earlier ones keep their speech."""
    write_wav_script(program)
    monkeypatch.setattr(_speech, "MAX_KEPT_BYTES", 1)
    async with speaking() as (_, client):
        link = (await client.create()).json["output"]["url"]
        assert await audio_of(client, "Hello.") == tune("Hello.")
        assert (await client.fetch(link)).body[44:] == SAMPLES


async def test_a_created_job_with_the_voice_that_does_not_exist_fails() -> None:
    """So that a failed job can be tried from outside of the process."""
    async with Emulator(job_duration=0.0) as emulator, PlainClient(emulator) as client:
        reply = await client.create(PARAMETERS | {"voice": "no-such-voice"})
        assert (reply.status, reply.json["output"]) == (201, {"status": "FAILED"})
        assert (await client.ask(UUID(reply.json["id"]))).json["output"] == {"status": "FAILED"}
