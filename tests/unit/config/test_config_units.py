"""Durations, sizes, URLs and hosts as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.endpoints import read_host_name, read_listener, read_url
from sidecar.config.units import duration_s, duration_text, size_bytes, size_text


@pytest.mark.parametrize(("text", "seconds"), [
    ("250ms", 0.25), ("0s", 0.0), ("30s", 30.0), ("5m", 300.0), ("24h", 86400.0), ("7d", 604800.0),
])  # fmt: skip
def test_durations(text: str, seconds: float) -> None:
    assert duration_s(text) == seconds


@pytest.mark.parametrize(("text", "count"), [
    ("0B", 0), ("512B", 512), ("64KiB", 65536), ("1MiB", 1048576), ("2GiB", 2 * 1024**3),
])  # fmt: skip
def test_sizes(text: str, count: int) -> None:
    assert size_bytes(text) == count


@pytest.mark.parametrize("value", [
    "", "5", "s", "5 s", "5S", "-5s", "+5s", "1.5s", "05s", "1h30m", "5s\n", " 5s", "٥s", 5, 5.0,
    True, None, "9" * 5000 + "s", "1M", "1w",
])  # fmt: skip
def test_what_is_no_duration(value: object) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        duration_s(value)


@pytest.mark.parametrize("value", [
    "", "5", "KiB", "5 KiB", "5kib", "5KB", "5K", "-5B", "1.5MiB", "05B", "5B\n", 5, True, "1TiB",
])  # fmt: skip
def test_what_is_no_size(value: object) -> None:
    with pytest.raises(ValueError, match="not a size"):
        size_bytes(value)


@given(st.integers(min_value=0, max_value=10**14))
def test_what_is_written_is_read_back(count: int) -> None:
    assert duration_s(duration_text(count / 1000)) == count / 1000
    assert size_bytes(size_text(count)) == count


@pytest.mark.parametrize(("url", "canonical", "host", "port", "is_private"), [
    ("http://a.internal", "http://a.internal", "a.internal", 80, False),
    ("HTTP://A.Internal:80/", "http://a.internal", "a.internal", 80, False),
    ("https://a:8443/x/y/", "https://a:8443/x/y", "a", 8443, False),
    ("http://my_service:80/%20x", "http://my_service/%20x", "my_service", 80, False),
    ("http://[0:0::1]:9/", "http://[::1]:9", "::1", 9, True),
    ("http://127.0.0.1", "http://127.0.0.1", "127.0.0.1", 80, True),
    ("http://localhost:3000/mcp", "http://localhost:3000/mcp", "localhost", 3000, True),
    ("https://8.8.8.8/", "https://8.8.8.8", "8.8.8.8", 443, True),
])  # fmt: skip
def test_urls(url: str, canonical: str, host: str, port: int, is_private: bool) -> None:
    place = read_url(url)
    assert (place.url, place.host, place.port) == (canonical, host, port)
    assert place.is_plainly_private == is_private


@pytest.mark.parametrize(("path", "base", "endpoint"), [
    ("", "", ""), ("/", "", ""), ("/mcp", "/mcp", "/mcp"), ("/mcp/", "/mcp", "/mcp/"),
])  # fmt: skip
def test_a_slash_at_the_end_belongs_to_an_endpoint_alone(
    path: str, base: str, endpoint: str
) -> None:
    url = f"http://a{path}"
    assert read_url(url).url == f"http://a{base}"
    assert read_url(url, is_endpoint=True).url == f"http://a{endpoint}"


@given(st.text(max_size=60))
def test_no_text_breaks_the_readers(text: str) -> None:
    for read in (read_url, read_listener, read_host_name):
        for attempt in (text, f"http://{text}/", f"http://a/{text}", f"{text}:80"):
            try:
                read(attempt)  # type: ignore[operator]
            except ValueError as error:
                assert text not in str(error) or len(text) < 20


@given(st.from_regex(r"http://[a-z0-9.\[\]:@_-]{1,20}(/[a-z%./-]{0,20})?", fullmatch=True))
def test_reading_a_url_again_changes_nothing(url: str) -> None:
    try:
        place = read_url(url)
    except ValueError:
        return
    assert read_url(place.url) == place
    assert "@" not in place.url
    assert "//" not in place.url.removeprefix("http://")
