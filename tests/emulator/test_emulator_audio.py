"""What a job sounds like, and the origin that serves it."""

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
"""Bytes of the usual job's audio."""


async def output_of(client: PlainClient, job_id: UUID) -> dict[str, Any]:
    """Return what a job shows of its end."""
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
async def test_the_audio_is_a_wav_of_the_length_of_the_text(
    emulator: Emulator, client: PlainClient, parameters: Mapping[str, Any] | None, rate: int, frames: int
) -> None:
    """Fifteen characters a second, a tenth of one at least; and the document tells its length to the byte."""
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


async def test_the_audio_can_be_heard(emulator: Emulator) -> None:
    """It is loud enough, does not overdrive, and never jumps."""
    samples = array("h", emulator.audio_of(emulator.add_job())[44:])
    if sys.byteorder == "big":
        samples.byteswap()
    assert 5_000 < max(samples) < 10_000
    assert -10_000 < min(samples) < -5_000
    assert max(abs(after - before) for before, after in pairwise(samples)) < 2_000


async def test_each_text_has_a_sound_of_its_own(emulator: Emulator) -> None:
    """Who mixes up files notices; the same text always sounds the same."""
    one, same, other = (emulator.add_job(input={"text": text * 45}) for text in "aab")
    assert emulator.audio_of(one) == emulator.audio_of(same)
    assert emulator.audio_of(one) != emulator.audio_of(other)
    assert len(emulator.audio_of(one)) == len(emulator.audio_of(other))


async def test_the_longest_text_costs_neither_time_nor_memory(emulator: Emulator, client: PlainClient) -> None:
    """Asking for an hour's end makes that end alone, in far less than a turn of the loop may take."""
    job_id = emulator.add_job(input={"text": "x" * 50_000})
    output = await output_of(client, job_id)
    assert (output["fileSize"], output["duration"]) == (160_000_044, 80_000_000 / 24_000)
    began = time.process_time()
    reply = await client.fetch(output["url"], headers={"Range": "bytes=-10"})
    assert time.process_time() - began < 1.0
    assert reply.headers["Content-Range"] == "bytes 160000034-160000043/160000044"


@pytest.mark.parametrize(("start", "stop"), [(0, 44), (40, 50), (95_990, 96_100), (44, 300_000), (7, 7)], ids=str)
async def test_any_part_is_that_of_the_whole(start: int, stop: int) -> None:
    """Across the header's end, and across the tune's, by whatever way it is cut."""
    content = Audio.from_input({"text": "x" * 150}).file()
    whole = content[:]
    assert len(whole) == len(content)
    assert content[start:stop] == whole[start:stop]
    assert content.part(20, 290_000)[start:stop] == whole[20:290_000][start:stop]


async def test_no_text_makes_more_than_a_wav_can_hold() -> None:
    """Its sizes have 32 bits."""
    audio = Audio(192_000, MAX_FRAMES, b"digest")
    assert audio.file()[:8] == b"RIFF" + (audio.size - 8).to_bytes(4, "little")
    assert Audio.from_input({"text": "x" * 1_000_000, "sampleRate": 192_000}).frames == MAX_FRAMES


async def test_a_whole_file_comes_with_what_downloads_go_by(emulator: Emulator, client: PlainClient) -> None:
    """Length, type, a strong tag, and that ranges are to be had; no credentials are asked for."""
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


async def test_head_has_the_headers_alone(emulator: Emulator, client: PlainClient) -> None:
    """Those of the whole file: ranges are for GET."""
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
    """These bytes and no others, told apart from the whole by Content-Range."""
    job_id = emulator.add_job()
    reply = await client.fetch(emulator.link_of(job_id), headers={"Range": wanted})
    assert (reply.status, reply.headers["Content-Range"]) == (206, f"bytes {first}-{last}/{SIZE}")
    assert reply.headers["Content-Length"] == str(last - first + 1)
    assert reply.body == emulator.audio_of(job_id)[first : last + 1]


@pytest.mark.parametrize("wanted", [f"bytes={SIZE}-", f"bytes={SIZE}-{SIZE + 9}", "bytes=-0"], ids=str)
async def test_a_range_beyond_the_end_is_416(emulator: Emulator, client: PlainClient, wanted: str) -> None:
    """The answer says how long the file is."""
    reply = await client.fetch(emulator.link_of(emulator.add_job()), headers={"Range": wanted})
    assert (reply.status, reply.headers["Content-Range"]) == (416, f"bytes */{SIZE}")


@pytest.mark.parametrize(
    "wanted",
    ["bytes=9-5", "bytes=0-1,5-9", "bytes=-", "bytes=a-b", "bytes 0-5", "lines=0-5", f"bytes=0-{'9' * 5_000}"],
    ids=["backwards", "two", "empty", "letters", "no sign", "other unit", "thousands of digits"],
)
async def test_a_range_that_is_none_is_ignored(emulator: Emulator, client: PlainClient, wanted: str) -> None:
    """So says HTTP, and several at once may be."""
    reply = await client.fetch(emulator.link_of(emulator.add_job()), headers={"Range": wanted})
    assert (reply.status, len(reply.body)) == (200, SIZE)


@pytest.mark.parametrize(
    ("tag", "status"),
    [(None, 206), ('"other"', 200), ("Wed, 21 Oct 2015 07:28:00 GMT", 200)],
    ids=["its own", "another's", "a date"],
)
async def test_if_range_wants_the_file_that_it_knows(
    emulator: Emulator, client: PlainClient, tag: str | None, status: int
) -> None:
    """A download that goes on must not become half of one file and half of another."""
    link = emulator.link_of(emulator.add_job())
    own = (await client.fetch(link)).headers["ETag"]
    reply = await client.fetch(link, headers={"Range": "bytes=100-", "If-Range": tag or own})
    assert reply.status == status


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_another_method_is_405(emulator: Emulator, client: PlainClient, method: str) -> None:
    """The answer names those there are."""
    reply = await client.fetch(emulator.link_of(emulator.add_job()), method)
    assert (reply.status, reply.headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("lifetime", [0.0, 0.25, 60.0, 3600.0], ids=str)
async def test_a_link_is_good_for_its_lifetime(lifetime: float) -> None:
    """To the instant, in the loop's time, and a new one is good again."""
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


async def test_every_answer_has_a_fresh_link(emulator: Emulator, client: PlainClient) -> None:
    """Asking again is how a client gets one that is good for longer; round times are shown without a fraction."""
    job_id = emulator.add_job()
    first = (await output_of(client, job_id))["url"]
    await asyncio.sleep(100.0)
    second = (await output_of(client, job_id))["url"]
    expiries = [int(url.partition("Expires=")[2].partition("&")[0]) for url in (first, second)]
    assert expiries[1] - expiries[0] == 100
    assert second == emulator.link_of(job_id)


async def test_a_link_of_before_the_clock_was_set_back_is_still_good() -> None:
    """Fixtures run by the wall's clock, and virtual time begins after them."""
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
    """The body is an object store's, not the service's."""
    link = emulator.link_of(emulator.add_job())
    reply = await client.fetch(link.replace(old, new))
    assert (reply.status, reply.headers["Content-Type"]) == (403, "application/xml")
    assert b"<Code>AccessDenied</Code>" in reply.body


async def test_a_link_is_for_one_job(emulator: Emulator, client: PlainClient) -> None:
    """Another's signature does not fit, be it one there is or not, and nowhere is no better."""
    one, other = emulator.add_job(), emulator.add_job()
    link = emulator.link_of(one)
    for path in (f"/{other}.wav", f"/{uuid4()}.wav", "/nonsense.wav", "/"):
        assert (await client.fetch(link.replace(f"/{one}.wav", path))).status == 403


@pytest.mark.parametrize(("duration", "fails"), [(math.inf, False), (0.0, True)], ids=["in progress", "failed"])
async def test_a_job_without_audio_is_404(
    emulator: Emulator, client: PlainClient, duration: float, *, fails: bool
) -> None:
    """However good its link is."""
    job_id = emulator.add_job(duration, fails=fails)
    assert (await client.fetch(emulator.link_of(job_id))).status == 404


async def test_the_audio_has_no_quota() -> None:
    """Nor does it spend any."""
    async with Emulator(quota=1, create_quota=0) as emulator, PlainClient(emulator) as client:
        job_id = emulator.add_job()
        assert {(await client.fetch(emulator.link_of(job_id))).status for _ in range(5)} == {200}
        assert (await client.ask(job_id)).status == 200
