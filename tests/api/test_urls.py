"""Which URLs of audio files are accepted. Tests of sessions and downloads cover the rest."""

from __future__ import annotations

import pytest
from yarl import URL

from playai_async import ConfigurationError
from playai_async._api.urls import checked_base_url, checked_link


@pytest.mark.parametrize(
    "link",
    [
        "https://audio.example/a.mp3?Signature=a%2Bb%2fc~%7E&Key-Pair-Id=K",
        "https://audio.example:8443/%E2%82%AC/a",
        "https://[2001:db8::1]/a",
        "http://127.0.0.1:8080/a?x=%7e",
        "http://[::1]:8080/a",
        "http://localhost/a",
    ],
)
def test_a_signed_url_is_unchanged(link: str) -> None:
    """Its escapes are part of the signature. Only the fragment is removed."""
    assert str(checked_link(f"{link}#t=3")) == link


@pytest.mark.parametrize(
    ("location", "base", "found"),
    [
        ("/b?x=%7e", "https://a.example/a?y=1", "https://a.example/b?x=%7e"),
        ("//b.example/b", "https://a.example/a", "https://b.example/b"),
        ("https://b.example/b", "http://127.0.0.1/a", "https://b.example/b"),
        ("http://127.0.0.2/b", "http://127.0.0.1/a", "http://127.0.0.2/b"),
    ],
)
def test_a_redirect_may_be_relative_or_more_secure(location: str, base: str, found: str) -> None:
    """It is never less secure."""
    assert str(checked_link(location, URL(base))) == found


@pytest.mark.parametrize("location", ["http://127.0.0.1/b", "http://localhost/b", "http://[::1]/b"])
def test_a_redirect_never_leads_from_https_to_http(location: str) -> None:
    """Not even to a loopback host, which would be the client's own machine."""
    with pytest.raises(ValueError, match="from https to http"):
        checked_link(location, URL("https://audio.example/a"))


@pytest.mark.parametrize("host", ["1.2.3", "999.1.1.1", "1", "127.1", "1.2.3.4.", "1.2.3.4.5", "01.02.03.04"])
def test_an_invalid_ip_address_is_rejected(host: str) -> None:
    """Every attempt would fail, because no client accepts digits and dots as a name."""
    with pytest.raises(ValueError, match="has no valid host"):
        checked_link(f"https://{host}/a")
    with pytest.raises(ConfigurationError, match="has no valid host"):
        checked_base_url(f"https://{host}/")
