"""The proxies of the environment, and the log of requests (`--verbose`)."""

import asyncio
import base64
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from yarl import URL

from playai_async._cli.errors import UsageError
from playai_async._cli.network import Proxies
from playai_async.emulator import Emulator, Hang, Reset, Status
from tests.cli.conftest import KEY, USER, Broken, Shell, Terminal

pytestmark = pytest.mark.looptime

ID = "8a1f4c9e-3f1b-4b8e-9d57-0c2f6a7b1e42"
PROXY = "http://proxy.example:3128"


@attrs.define
class RefusingProxy:
    """A proxy that refuses each request, and keeps its header lines."""

    url: str
    heads: list[list[str]] = attrs.field(factory=list[list[str]])

    @property
    def requests(self) -> list[str]:
        return [head[0] for head in self.heads]


@pytest.fixture
async def proxy(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RefusingProxy]:
    """A proxy that all variables of the environment point to."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        started.heads.append((await reader.readuntil(b"\r\n\r\n")).decode().splitlines())
        writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        started = RefusingProxy(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://{started.url}")
        yield started


@pytest.fixture
def netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A netrc file with a password for every host."""
    file = tmp_path / "netrc"
    file.write_text("default login somebody password from-netrc\n")
    file.chmod(0o600)
    monkeypatch.setenv("NETRC", str(file))


@pytest.fixture
def remote(credentials: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that is not on this machine."""
    monkeypatch.setenv("PLAYAI_BASE_URL", "https://playai.test")


@pytest.mark.parametrize(
    ("https", "no_proxy", "url", "used"),
    [
        (PROXY, None, "https://api.play.ai", True),
        (PROXY, "", "https://api.play.ai", True),
        (PROXY, "*", "https://api.play.ai", False),
        (PROXY, "api.play.ai", "https://api.play.ai", False),
        (PROXY, "play.ai", "https://api.play.ai", False),
        (PROXY, "other, .PLAY.ai", "https://api.play.ai", False),
        (PROXY, "a *.play.ai", "https://api.play.ai.", False),
        (PROXY, "lay.ai,,.", "https://api.play.ai", True),
        (PROXY, "play.ai:443", "https://api.play.ai", False),
        (PROXY, "play.ai:8443", "https://api.play.ai", True),
        (PROXY, "10.0.0.0/8", "https://10.1.2.3", False),
        (PROXY, "10.1.2.3", "https://10.1.2.3", False),
        (PROXY, "10.1.2.4", "https://10.1.2.3", True),
        (PROXY, "10.0.0.0/8", "https://api.play.ai", True),
        (PROXY, "[2001:db8::]/32", "https://[2001:db8::1]", True),
        (PROXY, "2001:db8::/32", "https://[2001:db8::1]", False),
        (PROXY, "[2001:db8::1]", "https://[2001:db8::1]", False),
        (PROXY, None, "https://localhost", False),
        (PROXY, "other", "https://127.8.8.8", False),
        (PROXY, "other", "https://[::1]:8443", False),
        (PROXY, "", "https://127.0.0.1", True),
        (PROXY, "", "http://127.0.0.1", False),
        (PROXY, None, "http://localhost", False),
        ("", None, "https://api.play.ai", False),
        (None, None, "https://api.play.ai", False),
    ],
)
def test_no_proxy_excludes_hosts(
    monkeypatch: pytest.MonkeyPatch, https: str | None, no_proxy: str | None, url: str, *, used: bool
) -> None:
    """Domains with their subdomains, addresses, networks and ports. http is never sent through a proxy."""
    for name, value in (("HTTPS_PROXY", https), ("NO_PROXY", no_proxy)):
        monkeypatch.delenv(name.lower(), raising=False)
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert Proxies.from_environment().proxy_for(URL(url)) == (URL(PROXY) if used else None)


def test_names_in_lower_case_take_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in curl and in Python. A proxy without a scheme is an http proxy."""
    monkeypatch.setenv("HTTPS_PROXY", "http://upper.example:1")
    monkeypatch.setenv("https_proxy", "lower.example:1")
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "other.example")
    assert Proxies.from_environment().proxy_for(URL("https://api.play.ai")) == URL("http://lower.example:1")


@pytest.mark.parametrize("login", ["", "me:p%40ss@", "me@"], ids=["without a login", "with a login", "with a name"])
async def test_requests_go_through_the_proxy(
    remote: None, netrc: None, proxy: RefusingProxy, shell: Shell, monkeypatch: pytest.MonkeyPatch, login: str
) -> None:
    """In a tunnel. The proxy gets its own login, but neither the key nor a password from a netrc file."""
    monkeypatch.setenv("HTTPS_PROXY", f"http://{login}{proxy.url}")
    result = await shell.run("get", ID)
    assert (result.status, result.out) == (3, "")
    assert set(proxy.requests) == {"CONNECT playai.test:443 HTTP/1.1"}
    assert result.err.count("502") == 1
    sent = "\n".join(proxy.heads[0])
    encoded = {"": "", "me:p%40ss@": base64.b64encode(b"me:p@ss").decode(), "me@": base64.b64encode(b"me:").decode()}
    assert re.findall(r"(?i)authorization: (.*)", sent) == ([f"Basic {encoded[login]}"] if login else [])
    for secret in (KEY, USER, "from-netrc"):
        assert secret not in sent
    assert "p@ss" not in result.err
    assert "p%40ss" not in result.err


async def test_creations_go_through_the_proxy(remote: None, proxy: RefusingProxy, shell: Shell) -> None:
    """As status requests do, although they have connections of their own."""
    result = await shell.run("create", "--voice", "v", "--text", "x")
    assert (result.status, result.out) == (3, "")
    assert set(proxy.requests) == {"CONNECT playai.test:443 HTTP/1.1"}
    assert "may exist" not in result.err


async def test_nothing_for_a_loopback_address_goes_through_the_proxy(
    emulator: Emulator, netrc: None, proxy: RefusingProxy, shell: Shell, tmp_path: Path
) -> None:
    """Neither a request nor a download. A netrc file has no effect."""
    result = await shell.run("create", "--voice", "v", "--text", "x", "--download", tmp_path / "out")
    assert (result.status, result.err) == (0, "")
    assert proxy.requests == []


async def test_downloads_go_through_the_proxy(
    emulator: Emulator, netrc: None, proxy: RefusingProxy, shell: Shell, tmp_path: Path
) -> None:
    """Also if the service is on this machine."""
    job = emulator.add_job()
    url = "https://audio.test/1.mp3?signature=secret"
    emulator.set_output(
        job, {"status": "COMPLETED", "url": url, "contentType": "audio/mpeg", "fileSize": 1, "duration": 1}
    )
    result = await shell.run("wait", job, "--download", tmp_path)
    assert result.status == 3
    assert set(proxy.requests) == {"CONNECT audio.test:443 HTTP/1.1"}
    assert "from-netrc" not in str(proxy.heads)
    assert "secret" not in result.err + str(proxy.heads)


@pytest.mark.parametrize("value", ["socks5://me:pass-word@proxy.example:1080", "http://[", "http://", "proxy:port"])
def test_an_invalid_proxy_is_a_usage_error(
    remote: None, shell: Shell, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """Nothing is sent without the proxy. The message does not have the value, which may contain a password."""
    monkeypatch.setenv("HTTPS_PROXY", value)
    result = shell.run_main("get", ID)
    assert (result.status, result.out) == (2, "")
    (line,) = result.err.splitlines()
    assert "HTTPS_PROXY must be the http or https URL of a proxy" in line
    assert "pass-word" not in line


async def test_an_invalid_proxy_that_is_not_needed_is_ignored(
    emulator: Emulator, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The emulator can be used on any machine."""
    monkeypatch.setenv("HTTPS_PROXY", "socks5://proxy.example:1080")
    assert (await shell.run("get", emulator.add_job())).status == 0
    with pytest.raises(UsageError):
        Proxies.from_environment().proxy_for(URL("https://api.play.ai"))


@pytest.mark.parametrize("words", ["--verbose get {id}", "get --verbose {id}", "get {id} --verbose"])
async def test_verbose_logs_each_request(emulator: Emulator, shell: Shell, words: str) -> None:
    """Before or after the command. One line on standard error with method, path, status and seconds."""
    job = emulator.add_job()
    result = await shell.run(*words.format(id=job).split())
    assert (result.status, len(result.lines)) == (0, 1)
    assert re.fullmatch(rf"GET /api/v1/tts/{job} 200 0\.\d{{3}} s\n", result.err)


async def test_verbose_logs_creations_and_statuses(emulator: Emulator, shell: Shell, tmp_path: Path) -> None:
    """And downloads. Above the progress display. No key and no signed link is logged."""
    shell.err = err = Terminal()
    emulator.inject(Status(429), endpoint="create")
    emulator.inject(Status(500), endpoint="status")
    result = await shell.run(
        "--verbose", "create", "--verbose", "--voice", "v", "--text", "x", "--download", tmp_path / "out"
    )
    (job,) = emulator.jobs
    assert result.status == 0
    requests = [re.sub(r" \d+\.\d{3} s$", "", line) for line in err.lines()]
    assert requests[:3] == ["POST /api/v1/tts 429", "POST /api/v1/tts 201", f"GET /api/v1/tts/{job} 500"]
    assert set(requests[3:-1]) == {f"GET /api/v1/tts/{job} 200"}
    assert re.fullmatch(rf"GET /{job}\.\w+ 200", requests[-1])
    for secret in (KEY, USER, "?", emulator.audio_url):
        assert secret not in "".join(err.lines())


async def test_verbose_logs_each_request_of_a_download(emulator: Emulator, shell: Shell, tmp_path: Path) -> None:
    """With the status, also of an attempt that failed."""
    job = emulator.add_job()
    emulator.inject(Status(503), endpoint="audio")
    result = await shell.run("--verbose", "wait", job, "--download", tmp_path)
    assert result.status == 0
    requests = [re.sub(r" \d+\.\d{3} s$", "", line).partition(".")[::2] for line in result.err.splitlines()[1:]]
    assert [(path, status.partition(" ")[2]) for path, status in requests] == [
        (f"GET /{job}", "503"),
        (f"GET /{job}", "200"),
    ]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [(Hang(), r"10\.\d{3} s \(timed out\)"), (Reset(), r"0\.\d{3} s \(the connection was lost\)")],
    ids=["timeout", "lost"],
)
async def test_verbose_logs_a_request_without_an_answer(
    emulator: Emulator, shell: Shell, fault: Any, reason: str
) -> None:
    """With the reason."""
    job = emulator.add_job()
    emulator.inject(fault)
    result = await shell.run("get", job, "--verbose")
    assert re.fullmatch(rf"GET /api/v1/tts/{job} no answer {reason}", result.err.splitlines()[0])


async def test_verbose_logs_a_refused_connection(emulator: Emulator, shell: Shell) -> None:
    """With the reason."""
    await emulator.stop()
    result = await shell.run("get", ID, "--verbose")
    assert re.search(r" s \(no connection to 127\.0\.0\.1:\d+\)$", result.err.splitlines()[0])


async def test_verbose_logs_a_cancelled_request(emulator: Emulator, shell: Shell) -> None:
    """As after Ctrl-C."""
    emulator.inject(Hang())
    command = asyncio.create_task(shell.run("get", emulator.add_job(), "--verbose"))
    await asyncio.sleep(3)
    command.cancel()
    with pytest.raises(asyncio.CancelledError):
        await command
    assert shell.err.getvalue().endswith(" s (cancelled)\n")


async def test_the_log_needs_no_standard_error(emulator: Emulator, shell: Shell) -> None:
    """A log line that cannot be written is not an error."""
    shell.err = Broken(BrokenPipeError())
    assert (await shell.run("get", emulator.add_job(), "--verbose")).status == 0


def test_verbose_without_a_command_prints_the_help(shell: Shell) -> None:
    """As no arguments do."""
    result = shell.run_main("--verbose")
    assert (result.status, result.err) == (0, "")
    assert "--verbose" in result.out


async def test_the_demo_logs_its_requests(shell: Shell) -> None:
    """As the other commands do."""
    result = await shell.run("--verbose", "demo", "--jobs", 1, "--longest", 1)
    assert result.status == 0
    assert re.match(r"GET /api/v1/tts/[0-9a-f-]+ 200 ", result.err)
