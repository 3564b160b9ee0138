"""From text to a file in one call, and piece by piece, against the emulator."""

from __future__ import annotations

import asyncio
import io
import logging
import threading
import wave
from pathlib import Path
from typing import Any

import pytest

from playai_async import (
    Completed,
    DownloadError,
    InvalidParametersError,
    JobFailedError,
    PlayAISession,
    Polling,
    SessionClosedError,
    TransportError,
    TtsJob,
    TtsParameters,
    WaitTimeoutError,
)
from playai_async._api.jobs import JobsApi
from playai_async._audio.files import Destination, PartFile
from playai_async.emulator import Emulator, Hang, Reset, Slow, Status
from tests.support.clock import now
from tests.support.contract_checks import assert_request_conforms
from tests.support.files import files_left
from tests.support.scripted import API_KEY, USER_ID

PARAMETERS = TtsParameters("The quick brown fox jumps over the lazy dogs.", "v", output_format="wav", seed=7)


async def test_text_becomes_a_file_that_plays(emulator: Emulator, playai: PlayAISession, tmp_path: Path) -> None:
    """With as many seconds as the job says; one POST, polls, and one GET without credentials."""
    job = await playai.speak(PARAMETERS, tmp_path)
    path = tmp_path / f"{job.id}.wav"
    with wave.open(str(path)) as audio:
        assert audio.getnframes() / audio.getframerate() == job.output.duration == 3.0
    assert path.stat().st_size == job.output.file_size
    assert job.input == {
        "text": "The quick brown fox jumps over the lazy dogs.",
        "voice": "v",
        "model": "PlayDialog",
        "outputFormat": "wav",
        "seed": 7,
    }
    assert [arrival.method for arrival in emulator.arrivals] == ["POST", *["GET"] * (len(emulator.arrivals) - 1)]
    for arrival in emulator.arrivals:
        assert_request_conforms(arrival, emulator.base_url)
    (fetched,) = emulator.audio_arrivals
    assert "Authorization" not in fetched.headers
    assert "X-USER-ID" not in fetched.headers


async def test_the_three_steps_are_the_same_by_themselves(
    emulator: Emulator, playai: PlayAISession, tmp_path: Path
) -> None:
    """Create, wait, download; also when the link has expired."""
    job = await playai.create_job(PARAMETERS)
    assert not job.done
    finished = await playai.wait_for_completion(job)
    path = await playai.download(finished, tmp_path / "speech.wav")
    assert path.read_bytes() == emulator.audio_of(job.id)
    with wave.open(io.BytesIO(path.read_bytes())) as audio:
        assert audio.getnchannels() == 1
    await asyncio.sleep(4_000)  # past the lifetime of a link
    assert (await playai.download(finished, tmp_path)).read_bytes() == emulator.audio_of(job.id)


async def test_a_lost_connection_in_the_middle_of_the_audio_is_resumed(
    emulator: Emulator, playai: PlayAISession, tmp_path: Path
) -> None:
    """With a range, which the emulator offers."""
    emulator.inject(Reset(midway=True), times=2, endpoint="audio")
    told: list[int] = []
    job = await playai.speak(PARAMETERS, tmp_path, on_progress=lambda received, _: told.append(received))
    assert (tmp_path / f"{job.id}.wav").read_bytes() == emulator.audio_of(job.id)
    assert ["Range" in arrival.headers for arrival in emulator.audio_arrivals] == [False, True, True]
    assert told == sorted(told)


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("speech.wav", {}, "wav"),
        ("speech.b.FLAC", {}, "flac"),
        ("speech.wav", {"output_format": "mp3"}, "mp3"),
        ("speech.wav", {"extra": {"outputFormat": "ogg"}}, "ogg"),
        ("speech.m4a", {}, None),
        ("speech", {}, None),
        ("", {}, None),
    ],
    ids=["suffix", "capitals", "given", "given as an extra", "another suffix", "no suffix", "directory"],
)
async def test_the_suffix_of_the_file_is_the_format_that_is_requested(
    name: str,
    given: dict[str, Any],
    expected: str | None,
    emulator: Emulator,
    playai: PlayAISession,
    tmp_path: Path,
) -> None:
    """If it is a format of the service, and no format is given."""
    job = await playai.speak(TtsParameters("Hi.", "v", **given), tmp_path / name)
    assert job.input.get("outputFormat") == expected


@pytest.mark.parametrize(
    ("name", "content_type", "warning"),
    [
        ("speech.mp3", "audio/wav", "The audio of job {} is wav, in a .mp3 file."),
        ("speech.wav", "audio/x-wav; rate=24000", None),
        ("speech.mp3", "application/octet-stream", None),
        ("speech.m4a", "audio/wav", None),
        ("", "audio/wav", None),
    ],
    ids=["another", "same", "unknown", "another suffix", "directory"],
)
async def test_audio_that_does_not_fit_its_file_name_is_logged(
    name: str,
    content_type: str,
    warning: str | None,
    emulator: Emulator,
    playai: PlayAISession,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Once, as a warning. The file is written all the same."""
    speaking = asyncio.create_task(playai.speak(TtsParameters("Hi.", "v"), tmp_path / name))
    await asyncio.sleep(0.5)
    (job_id,) = emulator.jobs
    finished = await playai.get_job(emulator.add_job())
    output = finished.raise_for_failure().output
    fields = {"url": output.url, "contentType": content_type, "fileSize": output.file_size, "duration": 3}
    emulator.set_output(job_id, {"status": "COMPLETED", **fields})
    await speaking
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert warnings == ([] if warning is None else [warning.format(job_id)])
    assert len(list(tmp_path.iterdir())) == 1


async def test_a_destination_whose_disk_hangs_does_not_hold_up_the_deadline(
    playai: PlayAISession, emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No job is created."""
    goes_on = threading.Event()

    def hang(*_: object) -> None:
        goes_on.wait(10)
        raise TimeoutError("the disk's own")

    monkeypatch.setattr(Destination, "checked", hang)
    with pytest.raises(WaitTimeoutError, match=r"No job was created within 0\.1 s, because the disk"):
        await playai.speak(PARAMETERS, tmp_path, timeout=0.1)
    goes_on.set()
    with pytest.raises(TimeoutError, match="the disk's own"):
        await playai.speak(PARAMETERS, tmp_path, timeout=0.1)
    assert emulator.stats.requests == 0


async def test_no_job_is_made_for_a_file_that_could_not_be_kept(
    emulator: Emulator, playai: PlayAISession, tmp_path: Path
) -> None:
    """The destination is looked at first."""
    with pytest.raises(FileNotFoundError):
        await playai.speak(PARAMETERS, tmp_path / "nowhere" / "speech.wav")
    with pytest.raises(TypeError):
        await playai.speak(PARAMETERS, 7)  # type: ignore[arg-type]  # the point of the test
    with pytest.raises(TypeError, match="on_progress"):
        await playai.speak(PARAMETERS, tmp_path, on_progress=7)  # type: ignore[arg-type]  # the point of the test
    with pytest.raises(TypeError, match="TtsParameters"):
        await playai.speak("Hello", tmp_path)  # type: ignore[arg-type]  # the point of the test
    assert emulator.stats.requests == 0


async def test_a_job_that_failed_raises(playai: PlayAISession, emulator: Emulator, tmp_path: Path) -> None:
    """There is no audio to be had."""
    speaking = asyncio.create_task(playai.speak(PARAMETERS, tmp_path))
    await asyncio.sleep(0.5)
    (job_id,) = emulator.jobs
    emulator.set_output(job_id, {"status": "FAILED"})
    with pytest.raises(JobFailedError) as caught:
        await speaking
    assert caught.value.job_id == job_id
    assert files_left(tmp_path) == []


async def test_a_refusal_by_the_service_is_raised(emulator: Emulator, playai: PlayAISession, tmp_path: Path) -> None:
    """Nothing was made."""
    with pytest.raises(InvalidParametersError):
        await playai.speak(TtsParameters("Hi", "v", extra={"sampleRate": "high"}), tmp_path)
    assert emulator.jobs == ()


async def test_a_reset_after_the_request_leaves_a_job_that_nobody_knows_of(
    emulator: Emulator, playai: PlayAISession, tmp_path: Path
) -> None:
    """Which is why it is not sent again, and the message says so."""
    emulator.inject(Reset(), endpoint="create")
    with pytest.raises(TransportError, match="may exist"):
        await playai.speak(PARAMETERS, tmp_path)
    assert len(emulator.jobs) == 1


async def test_a_job_that_is_done_at_once_is_not_polled_for(tmp_path: Path) -> None:
    """Its creation has answered already."""
    async with (
        Emulator(job_duration=0.0) as emulator,
        PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url) as playai,
    ):
        await playai.speak(PARAMETERS, tmp_path)
        assert emulator.stats.requests == 1


async def test_a_quota_for_creations_is_kept_apart_from_that_for_polls(tmp_path: Path) -> None:
    """Thirty texts under the published quotas: nothing is lost, and few 429s are met."""
    async with (
        Emulator(60, create_quota=20) as emulator,
        PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url) as playai,
    ):
        texts = [TtsParameters(f"Text number {number}.", "v") for number in range(30)]
        jobs = await asyncio.gather(*(playai.speak(text, tmp_path, timeout=None) for text in texts))
        assert len({job.id for job in jobs}) == len(emulator.jobs) == 30
        assert len(list(tmp_path.iterdir())) == 30
        assert emulator.stats.throttled <= 20


# Time, cancellation, closing


@pytest.mark.parametrize(
    ("endpoint", "seconds", "words"),
    [
        ("create", 5.0, r"No job was created within 5\.0 s \(requests: 1\)\. The job may exist all the same\."),
        ("status", 5.0, r"was not done after .* \(polls: 1; no answer yet\)"),
        ("audio", 9.0, r"The audio of job .* was not downloaded within 9\.0 s; it can be downloaded again\."),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isalpha() else "",
)
async def test_one_deadline_bounds_all_three(
    endpoint: Any, seconds: float, words: str, emulator: Emulator, playai: PlayAISession, tmp_path: Path
) -> None:
    """Whichever of them it meets; what there is of a job comes with the error."""
    emulator.inject(Hang(), times=None, endpoint=endpoint)
    began = now()
    with pytest.raises(WaitTimeoutError, match=words) as caught:
        await playai.speak(PARAMETERS, tmp_path, timeout=seconds)
    assert now() - began == pytest.approx(seconds, abs=0.1)
    assert files_left(tmp_path) == []
    if endpoint == "audio":
        assert caught.value.job is not None
        assert isinstance(caught.value.job.output, Completed)
        emulator.clear_faults()
        await playai.download(caught.value.job, tmp_path)
    assert caught.value.job_id == (None if endpoint == "create" else emulator.jobs[0])


async def test_left_out_the_deadline_is_the_pollings(emulator: Emulator, playai: PlayAISession, tmp_path: Path) -> None:
    """That of the polling given, or of the session."""
    emulator.inject(Hang(), times=None, endpoint="create")
    with pytest.raises(WaitTimeoutError, match=r"within 4\.0 s"):
        await playai.speak(PARAMETERS, tmp_path, polling=Polling(timeout=4))


@pytest.mark.parametrize("endpoint", ["create", "status", "audio"])
@pytest.mark.parametrize("ending", ["cancel", "close"])
async def test_an_early_end_leaves_nothing(
    endpoint: Any, ending: str, emulator: Emulator, playai: PlayAISession, tmp_path: Path
) -> None:
    """Cancelled or closed in each of the three: no task, no file, and the job's id in the error once there is one."""
    emulator.inject(Slow(50), times=None, endpoint=endpoint)
    speaking = asyncio.create_task(playai.speak(PARAMETERS, tmp_path))
    await asyncio.sleep(8)
    assert len(list(tmp_path.iterdir())) == (endpoint == "audio")
    if ending == "cancel":
        speaking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await speaking
    else:
        await playai.aclose()
        with pytest.raises(SessionClosedError) as caught:
            await speaking
        assert caught.value.job_id == (None if endpoint == "create" else emulator.jobs[0])
    assert files_left(tmp_path) == []
    assert (playai.stats.open_waits, playai.stats.in_flight) == (0, 0)


async def test_a_full_disk_does_not_lose_the_job(
    emulator: Emulator, playai: PlayAISession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is the system's own, and tells whose audio it was."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(PartFile, "write", full)
    with pytest.raises(OSError, match="No space left") as caught:
        await playai.speak(PARAMETERS, tmp_path)
    assert str(emulator.jobs[0]) in caught.value.__notes__[0]


async def test_what_on_progress_raises_passes_through(
    emulator: Emulator, playai: PlayAISession, tmp_path: Path
) -> None:
    """Also where it looks like our own deadline; a note tells whose audio it was."""

    def late(*_: object) -> None:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine") as caught:
        await playai.speak(PARAMETERS, tmp_path, on_progress=late)
    assert type(caught.value) is TimeoutError
    assert str(emulator.jobs[0]) in caught.value.__notes__[0]


async def test_redirects_of_the_audio_carry_no_credentials(
    emulator: Emulator, playai: PlayAISession, tmp_path: Path
) -> None:
    """From the audio's origin to the service itself, even: it is a stranger there."""
    job = await playai.wait_for_completion(emulator.add_job())
    emulator.reset_stats()
    location = f"{emulator.base_url}/api/v1/tts/{job.id}"
    emulator.inject(Status(302, headers={"Location": location}), endpoint="audio", times=2)
    with pytest.raises(DownloadError, match=r"\(401\)"):
        await playai.download(job, tmp_path)
    *redirected, asked = sorted(emulator.arrivals, key=lambda arrival: "Authorization" in arrival.headers)
    assert (len(redirected), asked.method) == (2, "GET"), "one status request of our own, for a fresh link"
    for arrival in (*redirected, *emulator.audio_arrivals):
        assert "Authorization" not in arrival.headers
        assert "X-USER-ID" not in arrival.headers


async def test_a_close_that_is_given_up_has_ended_everything(emulator: Emulator, tmp_path: Path) -> None:
    """Waits, creations and downloads alike, whenever the closing is cancelled; what follows is refused."""
    for steps in range(8):
        playai = PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url)
        done = await playai.get_job(emulator.add_job())
        emulator.inject(Hang(), endpoint="create")
        emulator.inject(Hang(), endpoint="audio")
        tasks = [
            asyncio.create_task(playai.wait_for_completion(emulator.add_job(float("inf")))),
            asyncio.create_task(playai.create_job(PARAMETERS)),
            asyncio.create_task(playai.download(done, tmp_path)),
        ]
        await asyncio.sleep(0.5)
        closing = asyncio.create_task(playai.aclose())
        for _ in range(steps):
            await asyncio.sleep(0)
        closing.cancel()
        await asyncio.sleep(0.5)
        assert all(task.done() for task in tasks) == (steps > 0), "before its first step it has not begun"
        await playai.aclose()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [SessionClosedError] * 3
        emulator.clear_faults()


async def test_a_session_that_closes_between_two_steps_ends_the_speaking(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the very moment at which the job was created: nothing waits for it any more, and the error names it."""
    about_to_wait = asyncio.Event()
    creates = JobsApi.create

    async def create(service: JobsApi, body: bytes) -> TtsJob:
        job = await creates(service, body)
        about_to_wait.set()
        return job

    async def close() -> None:
        await about_to_wait.wait()
        await playai.aclose()

    monkeypatch.setattr(JobsApi, "create", create)
    playai = PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url)
    closing = asyncio.create_task(close())
    with pytest.raises(SessionClosedError) as caught:
        await playai.speak(PARAMETERS, tmp_path, timeout=50)
    assert caught.value.job_id == emulator.jobs[0]
    await closing
