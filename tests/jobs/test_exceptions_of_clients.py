"""`classify_error`: what the real exceptions of each client mean. In real time, over loopback.

Every client meets the same faults. A client that is not installed is skipped; the dependency group `clients` has all.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
from collections.abc import Iterator

import aiohttp
import pytest
import trustme
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from playai_async.jobs import Throttled, Transient, classify_error
from tests.jobs.faulty_service import Addresses, faulty_service
from tests.jobs.status_requests import REQUESTS

VERDICTS = {
    "429": Throttled(7.0),
    "dated": Throttled(10.0),
    "503": Transient(7.0),
    "404": None,
    "hang": Transient(),
    "garbage": Transient(),
    "cut": Transient(),
}
"""By the path of a fault."""

ONLY = {"botocore": {"aws": Throttled()}, "aiobotocore": {"aws": Throttled()}}
"""Faults that only these clients understand."""

SILENT = {("botocore", "cut")}
"""Faults for which a client raises nothing."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addresses]:
    """A service that answers with faults. Clients trust one authority, because most read the file for each request."""
    authority = tmp_path_factory.mktemp("trusted") / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(authority))
    with faulty_service() as addresses, pytest.MonkeyPatch.context() as monkeypatch:
        for variable in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE"):
            monkeypatch.setenv(variable, str(authority))
        yield addresses


def import_client(module: str) -> None:
    """Import a client, or skip the test. Some make 100,000 objects, among which there is no garbage to look for."""
    gc.disable()
    try:
        pytest.importorskip(module)
    finally:
        gc.enable()


def raised(module: str, url: str) -> Exception:
    """Return what a client raises."""
    try:
        asyncio.run(REQUESTS[module](url))
    except Exception as error:  # noqa: BLE001 - of any class
        return error
    pytest.fail(f"{module} did not raise for {url}")


@pytest.mark.parametrize("module", REQUESTS)
def test_each_client_is_understood(module: str, service: Addresses) -> None:
    """A reply by its status, and a connection that fails as transient."""
    import_client(module)
    expected = {**VERDICTS, **ONLY.get(module, {}), "refused": Transient(), "TLS": Transient()}
    urls = {"refused": service.closed, "TLS": f"{service.https}/404"}
    errors = {
        fault: raised(module, urls.get(fault, f"{service.http}/{fault}"))
        for fault in expected
        if (module, fault) not in SILENT
    }
    assert {fault: classify_error(error) for fault, error in errors.items()} == {
        fault: expected[fault] for fault in errors
    }, errors


def test_a_proxy_that_refuses_is_no_reply_of_the_service(service: Addresses) -> None:
    """Its status is in an exception of aiohttp like that of a reply."""

    async def get() -> None:
        async with aiohttp.ClientSession() as http, http.get("https://api.example", proxy=f"{service.http}/"):
            pass

    with pytest.raises(aiohttp.ClientHttpProxyError) as caught:
        asyncio.run(get())
    assert classify_error(caught.value) == Transient()


def aiohttp_error(kind: type[aiohttp.ClientResponseError], status: int) -> aiohttp.ClientResponseError:
    """Make an exception of aiohttp for a reply."""
    info = aiohttp.RequestInfo(URL("http://localhost"), "GET", CIMultiDictProxy(CIMultiDict()))
    return kind(info, (), status=status)


@pytest.mark.parametrize(
    ("name", "arguments", "verdict"),
    [
        ("aiohttp.ServerTimeoutError", (), Transient()),
        ("aiohttp.ServerDisconnectedError", (), Transient()),
        ("aiohttp.InvalidURL", ("nonsense",), None),
        ("httpx.PoolTimeout", ("no connection is free",), Transient()),
        ("httpx.UnsupportedProtocol", ("ftp",), None),
        ("httpx.InvalidURL", ("nonsense",), None),
        ("httpx.TooManyRedirects", ("a circle",), None),
        ("requests.exceptions.InvalidURL", (), None),
        ("requests.exceptions.JSONDecodeError", ("no JSON", "{", 1), None),
        ("urllib3.exceptions.LocationValueError", (), None),
        ("botocore.exceptions.NoCredentialsError", (), None),
        ("botocore.exceptions.ClientError", ({"Error": {"Code": "RequestTimeout"}}, "DescribeJobs"), Transient()),
        ("botocore.exceptions.ClientError", ({"Error": {"Code": "AccessDenied"}}, "DescribeJobs"), None),
        ("aiobotocore.response.AioReadTimeoutError", (), Transient()),
        ("azure.core.exceptions.ServiceRequestTimeoutError", ("late",), Transient()),
        ("azure.core.exceptions.SerializationError", (), None),
        ("fal_client.client.FalClientTimeoutError", (1.0,), Transient()),
        ("replicate.exceptions.ReplicateError", (None, None, 429), Throttled()),
        ("replicate.exceptions.ReplicateError", (None, None, 404), None),
        ("google.api_core.exceptions.RetryError", ("gave up", None), Transient()),
        ("google.api_core.exceptions.NotFound", ("no such job",), None),
        ("google.auth.exceptions.TransportError", ("no token",), Transient()),
        ("google.auth.exceptions.DefaultCredentialsError", ("no credentials",), None),
    ],
    ids=str,
)
def test_exceptions_that_need_no_request(
    name: str, arguments: tuple[object, ...], verdict: Throttled | Transient | None
) -> None:
    """What a client raises in rarer cases; a mistake of the caller is final."""
    module, _, kind = name.rpartition(".")
    pytest.importorskip(module)
    keywords = {"endpoint_url": "http://localhost"} if name.startswith("aiobotocore") else {}
    assert classify_error(getattr(importlib.import_module(module), kind)(*arguments, **keywords)) == verdict


def test_the_codes_of_aws_are_botocore_s_own() -> None:
    """It knows more of them than the documentation of any service."""
    standard = pytest.importorskip("botocore.retries.standard")
    exceptions = pytest.importorskip("botocore.exceptions")

    def verdict(code: str) -> object:
        return classify_error(exceptions.ClientError({"Error": {"Code": code}}, "DescribeJobs"))

    throttled = standard.ThrottledRetryableChecker._THROTTLED_ERROR_CODES
    timeouts = set(standard.TransientRetryableChecker._TRANSIENT_ERROR_CODES) - set(throttled)
    assert {code: verdict(code) for code in throttled} == dict.fromkeys(throttled, Throttled())
    assert {code: verdict(code) for code in timeouts} == dict.fromkeys(timeouts, Transient())


def test_a_reply_of_aiohttp_without_a_status_is_final() -> None:
    """Its deprecated `code`, which warns, is not read."""
    assert classify_error(aiohttp_error(aiohttp.ClientResponseError, 0)) is None
    assert classify_error(aiohttp_error(aiohttp.ContentTypeError, 503)) == Transient()
