"""The audio of a job, and the origin that serves it."""

import asyncio
import io
import math
import sys
import time
import wave
from array import array
from collections.abc import Mapping
from itertools import pairwise
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID, uuid4

import pytest

from playai_async.emulator import Emulator
from playai_async.emulator._service.audio import MAX_FRAMES, Audio
from playai_async.emulator._service.audio_origin import SignedLinks
from tests.emulator.plain_client import PlainClient

pytestmark = pytest.mark.looptime

SIZE = 44 + 2 * 72_000
"""The size in bytes of the audio of a job with the default input."""


async def output_of(client: PlainClient, job_id: UUID) -> dict[str, Any]:
    """Return the output of a job."""
    output: dict[str, Any] = (await client.ask(job_id)).json["output"]
    return output


@pytest.mark.parametrize(
    ("parameters", "rate", "frames"),
    [
        (None, 24_000, 72_000),
        ({"text": "x" * 15, "outputFormat": "mp3"}, 24_000, 24_000),
        ({"text": "x", "sampleRate": 8_000}, 8_000, 800),
        ({"text": "x" * 7, "sampleRate": 44_100.0}, 44_100, 20_580),
        ({"text": "x" * 16, "sampleRate": 192_000}, 192_000, 204_800),
        ({"sampleRate": 7_999}, 24_000, 2_400),
        ({"text": 5, "sampleRate": 192_001}, 24_000, 2_400),
        ({"text": "", "sampleRate": 44_100.5}, 24_000, 2_400),
        ({"text": "\ud83d", "sampleRate": True}, 24_000, 2_400),
        ({"text": "x", "sampleRate": "48000"}, 24_000, 2_400),
    ],
    ids=[
        "usual",
        "other format",
        "slowest",
        "whole float",
        "fastest",
        "too slow",
        "too fast",
        "fraction",
        "bool",
        "text",
    ],
)
async def test_the_audio_is_a_wav_as_long_as_the_text(
    emulator: Emulator, client: PlainClient, parameters: Mapping[str, Any] | None, rate: int, frames: int
) -> None:
    """15 characters make a second, with a minimum of a tenth; the job's JSON has the exact size and duration."""
    output = await output_of(client, emulator.add_job(input=parameters))
    reply = await client.fetch(output["url"])
    with wave.open(io.BytesIO(reply.body)) as audio:
        assert (audio.getnchannels(), audio.getsampwidth(), audio.getcomptype()) == (1, 2, "NONE")
        assert (audio.getframerate(), audio.getnframes()) == (rate, frames)
        assert len(audio.readframes(frames)) == 2 * frames
    assert (output["duration"], output["fileSize"], output["contentType"]) == (
        frames / rate,
        len(reply.body),
        "audio/wav",
    )


async def test_the_audio_is_audible(emulator: Emulator) -> None:
    """It is loud enough, does not clip, and has no jumps."""
    samples = array("h", emulator.audio_of(emulator.add_job())[44:])
    if sys.byteorder == "big":
        samples.byteswap()
    assert 5_000 < max(samples) < 10_000
    assert -10_000 < min(samples) < -5_000
    assert max(abs(after - before) for before, after in pairwise(samples)) < 2_000


async def test_each_text_has_its_own_sound(emulator: Emulator) -> None:
    """So a test notices files that are mixed up. The same text always gives the same audio."""
    one, same, other = (emulator.add_job(input={"text": text * 45}) for text in "aab")
    assert emulator.audio_of(one) == emulator.audio_of(same)
    assert emulator.audio_of(one) != emulator.audio_of(other)
    assert len(emulator.audio_of(one)) == len(emulator.audio_of(other))


async def test_the_longest_text_costs_neither_time_nor_memory(emulator: Emulator, client: PlainClient) -> None:
    """A range at the end of an hour of audio generates only that range."""
    job_id = emulator.add_job(input={"text": "x" * 50_000})
    output = await output_of(client, job_id)
    assert (output["fileSize"], output["duration"]) == (160_000_044, 80_000_000 / 24_000)
    began = time.process_time()
    reply = await client.fetch(output["url"], headers={"Range": "bytes=-10"})
    assert time.process_time() - began < 1.0
    assert reply.headers["Content-Range"] == "bytes 160000034-160000043/160000044"


@pytest.mark.parametrize(("start", "stop"), [(0, 44), (40, 50), (95_990, 96_100), (44, 300_000), (7, 7)], ids=str)
async def test_any_part_equals_that_part_of_the_whole(start: int, stop: int) -> None:
    """Also across the end of the header and of the tune, and for parts of parts."""
    content = Audio.from_input({"text": "x" * 150}).file()
    whole = content[:]
    assert len(whole) == len(content)
    assert content[start:stop] == whole[start:stop]
    assert content.part(20, 290_000)[start:stop] == whole[20:290_000][start:stop]


async def test_no_audio_is_longer_than_a_wav_can_be() -> None:
    """The sizes in a WAV header have 32 bits."""
    audio = Audio(192_000, MAX_FRAMES, b"digest")
    assert audio.file()[:8] == b"RIFF" + (audio.size - 8).to_bytes(4, "little")
    assert Audio.from_input({"text": "x" * 1_000_000, "sampleRate": 192_000}).frames == MAX_FRAMES


async def test_a_whole_file_has_the_headers_that_downloads_need(emulator: Emulator, client: PlainClient) -> None:
    """Length, type, a strong ETag and Accept-Ranges; no credentials are needed."""
    job_id = emulator.add_job()
    reply = await client.fetch(emulator.link_of(job_id))
    assert (reply.status, reply.body) == (200, emulator.audio_of(job_id))
    assert {name: reply.headers[name] for name in ("Content-Length", "Content-Type", "Accept-Ranges")} == {
        "Content-Length": str(SIZE),
        "Content-Type": "audio/wav",
        "Accept-Ranges": "bytes",
    }
    assert reply.headers["ETag"][0] == reply.headers["ETag"][-1] == '"'
    assert not {"Authorization", "X-USER-ID"} & set(emulator.audio_arrivals[0].headers)


async def test_head_sends_the_headers_only(emulator: Emulator, client: PlainClient) -> None:
    """They are those of the whole file, because ranges apply to GET only."""
    link = emulator.link_of(emulator.add_job())
    head, got = await client.fetch(link, "HEAD", {"Range": "bytes=0-9"}), await client.fetch(link)
    assert (head.status, head.body) == (200, b"")
    assert {**head.headers, "Date": ""} == {**got.headers, "Date": ""}


@pytest.mark.parametrize(
    ("wanted", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=40-99", 40, 99),
        ("bytes=100-", 100, SIZE - 1),
        ("bytes=-100", SIZE - 100, SIZE - 1),
        (f"bytes=-{SIZE + 1}", 0, SIZE - 1),
        (f"bytes=5-{SIZE}", 5, SIZE - 1),
        (f"bytes={SIZE - 1}-{10**30}", SIZE - 1, SIZE - 1),
        ("BYTES=1-2", 1, 2),
    ],
    ids=str,
)
async def test_a_range_is_206(emulator: Emulator, client: PlainClient, wanted: str, first: int, last: int) -> None:
    """Exactly the requested bytes are sent, with Content-Range."""
    job_id = emulator.add_job()
    reply = await client.fetch(emulator.link_of(job_id), headers={"Range": wanted})
    assert (reply.status, reply.headers["Content-Range"]) == (206, f"bytes {first}-{last}/{SIZE}")
    assert reply.headers["Content-Length"] == str(last - first + 1)
    assert reply.body == emulator.audio_of(job_id)[first : last + 1]


@pytest.mark.parametrize("wanted", [f"bytes={SIZE}-", f"bytes={SIZE}-{SIZE + 9}", "bytes=-0"], ids=str)
async def test_a_range_beyond_the_end_is_416(emulator: Emulator, client: PlainClient, wanted: str) -> None:
    """The response has the size of the file."""
    reply = await client.fetch(emulator.link_of(emulator.add_job()), headers={"Range": wanted})
    assert (reply.status, reply.headers["Content-Range"]) == (416, f"bytes */{SIZE}")


@pytest.mark.parametrize(
    "wanted",
    ["bytes=9-5", "bytes=0-1,5-9", "bytes=-", "bytes=a-b", "bytes 0-5", "lines=0-5", f"bytes=0-{'9' * 5_000}"],
    ids=["backwards", "two", "empty", "letters", "no sign", "other unit", "thousands of digits"],
)
async def test_a_malformed_range_is_ignored(emulator: Emulator, client: PlainClient, wanted: str) -> None:
    """HTTP requires this. A server may also ignore several ranges at once."""
    reply = await client.fetch(emulator.link_of(emulator.add_job()), headers={"Range": wanted})
    assert (reply.status, len(reply.body)) == (200, SIZE)


@pytest.mark.parametrize(
    ("tag", "status"),
    [(None, 206), ('"other"', 200), ("Wed, 21 Oct 2015 07:28:00 GMT", 200)],
    ids=["its own", "another's", "a date"],
)
async def test_if_range_sends_the_whole_file_when_it_has_changed(
    emulator: Emulator, client: PlainClient, tag: str | None, status: int
) -> None:
    """A resumed download must not mix two files."""
    link = emulator.link_of(emulator.add_job())
    own = (await client.fetch(link)).headers["ETag"]
    reply = await client.fetch(link, headers={"Range": "bytes=100-", "If-Range": tag or own})
    assert reply.status == status


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_another_method_is_405(emulator: Emulator, client: PlainClient, method: str) -> None:
    """The Allow header lists the allowed methods."""
    reply = await client.fetch(emulator.link_of(emulator.add_job()), method)
    assert (reply.status, reply.headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("lifetime", [0.0, 0.25, 60.0, 3600.0], ids=str)
async def test_a_link_expires_after_its_lifetime(lifetime: float) -> None:
    """Exactly then, in loop time; a new link works again."""
    async with Emulator(link_lifetime=lifetime) as emulator, PlainClient(emulator) as client:
        await asyncio.sleep(0.125)
        job_id = emulator.add_job()
        link = emulator.link_of(job_id)
        if lifetime:
            await asyncio.sleep(lifetime - 0.001)
            assert (await client.fetch(link)).status == 200
            await asyncio.sleep(0.001)
        assert (await client.fetch(link)).status == 403
        assert (await client.fetch(emulator.link_of(job_id))).status == (200 if lifetime else 403)


async def test_every_response_has_a_new_link(emulator: Emulator, client: PlainClient) -> None:
    """So another status request gives a link that lives longer. Whole seconds are shown without a fraction."""
    job_id = emulator.add_job()
    first = (await output_of(client, job_id))["url"]
    await asyncio.sleep(100.0)
    second = (await output_of(client, job_id))["url"]
    expiries = [int(url.partition("Expires=")[2].partition("&")[0]) for url in (first, second)]
    assert expiries[1] - expiries[0] == 100
    assert second == emulator.link_of(job_id)


async def test_a_link_from_before_the_clock_went_back_is_still_valid() -> None:
    """Fixtures run by the wall clock, and virtual time begins after them."""
    links, job_id = SignedLinks(3600.0, lambda: "http://127.0.0.1:8124"), uuid4()
    query = dict(parse_qsl(urlsplit(links.sign(job_id, now=1e6)).query))
    assert links.refusal(job_id, query, now=0.0) is None
    assert float(query["Expires"]) == pytest.approx(time.time() + 3600.0, abs=60.0)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Signature=", "Signature=0"),
        ("Signature=", "Signature=%C3%BC"),
        ("Signature=", "Other="),
        ("Expires=", "Expires=9"),
        ("Expires=", "Other="),
        ("?", "?Expires=9999999999&"),
    ],
    ids=["other signature", "beyond ASCII", "no signature", "later", "no expiry", "expiry twice"],
)
async def test_a_forged_link_is_403(emulator: Emulator, client: PlainClient, old: str, new: str) -> None:
    """The body is that of an object store, not of the API."""
    link = emulator.link_of(emulator.add_job())
    reply = await client.fetch(link.replace(old, new))
    assert (reply.status, reply.headers["Content-Type"]) == (403, "application/xml")
    assert b"<Code>AccessDenied</Code>" in reply.body


async def test_a_link_is_for_one_job(emulator: Emulator, client: PlainClient) -> None:
    """The signature fits no other job, known or unknown, and no other path."""
    one, other = emulator.add_job(), emulator.add_job()
    link = emulator.link_of(one)
    for path in (f"/{other}.wav", f"/{uuid4()}.wav", "/nonsense.wav", "/"):
        assert (await client.fetch(link.replace(f"/{one}.wav", path))).status == 403


@pytest.mark.parametrize(("duration", "fails"), [(math.inf, False), (0.0, True)], ids=["in progress", "failed"])
async def test_a_job_without_audio_is_404(
    emulator: Emulator, client: PlainClient, duration: float, *, fails: bool
) -> None:
    """Even with a valid link."""
    job_id = emulator.add_job(duration, fails=fails)
    assert (await client.fetch(emulator.link_of(job_id))).status == 404


async def test_the_audio_has_no_quota() -> None:
    """Requests for audio do not spend the quota of the API either."""
    async with Emulator(quota=1, create_quota=0) as emulator, PlainClient(emulator) as client:
        job_id = emulator.add_job()
        assert {(await client.fetch(emulator.link_of(job_id))).status for _ in range(5)} == {200}
        assert (await client.ask(job_id)).status == 200
