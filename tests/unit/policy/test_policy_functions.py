"""The functions conditions may call, globs, and windows: one strict reading each."""

from __future__ import annotations

import fnmatch
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.policy import cel_functions
from sidecar.policy.cel_functions import cidr, contains_ip
from sidecar.policy.matchers import Glob, SourceMatcher, read_network
from sidecar.policy.windows import BadWindow, parse_window

HOSTS = [
    ("https://Example.ORG", "example.org"),
    ("http://example.org:8080/a?b#c", "example.org"),
    ("HTTPS://a-b.example.org?x", "a-b.example.org"),
    ("https://example.org#x", "example.org"),
    ("http://10.0.0.1/", "10.0.0.1"),
    ("http://[::1]/", "[::1]"),
    ("http://[0:0::0:1]:80/", "[::1]"),
    ("http://_srv.example.org/", "_srv.example.org"),
    ("http://localhost", "localhost"),
]
NO_HOSTS = [
    "", "example.org", "//example.org", "ftp://example.org", "javascript:alert(1)",
    "https:example.org", "https:/example.org", "https:///example.org", "https://", "https://:80/",
    "https://user@example.org/", "https://user:pw@example.org/", "https://example.org\\@evil/",
    "https:\\\\example.org", "https://example.org\\x", "https://ex%61mple.org/",
    "https://exämple.org/", "https://example。org/", "https://example.org./", "https://.example.org",
    "https://a..b/", "https://-a.org/", "https://a-.org/", " https://example.org",
    "https://example.org/ x", "https://example.org\n", "https://exam\tple.org/", "http://127.1/",
    "http://2130706433/", "http://0x7f000001/", "http://0177.0.0.1/", "http://1.2.3/",
    "http://1.2.3.4.5/", "http://1.2.3.0x4/", "http://256.1.1.1/", "http://a.1/",
    "http://[::1", "http://[::1%eth0]/", "http://[1.2.3.4]/", "http://[g::1]/", "http://::1/",
    "http://example.org:99999/", "http://example.org:/", "http://example.org:a/",
    "http://example.org:80@evil/", "http://a,b/", "http://" + "a" * 64 + ".org/",
    "http://" + "a." * 127 + "aa/", "https://example.org\0.evil", "view-source:http://x/",
]  # fmt: skip


@pytest.mark.parametrize(("url", "wanted"), HOSTS)
def test_the_host_of_a_plain_url(url: str, wanted: str) -> None:
    assert cel_functions.host(url) == wanted


@pytest.mark.parametrize("url", NO_HOSTS)
def test_an_odd_url_is_an_error(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        cel_functions.host(url)


@pytest.mark.parametrize(
    ("name", "domain", "wanted"),
    [
        ("acme.io", "acme.io", True), ("a.acme.io", "acme.io", True),
        ("A.ACME.io", "acme.IO", True),
        ("evilacme.io", "acme.io", False), ("acme.io.evil", "acme.io", False),
        ("io", "acme.io", False),
        ("acme.io.", "acme.io", True), ("", "acme.io", False),
    ],
)  # fmt: skip
def test_in_domain(name: str, domain: str, wanted: bool) -> None:
    assert cel_functions.in_domain(name, domain) is wanted


@pytest.mark.parametrize("domain", ["", ".", ".acme.io", "ä.io"])
def test_what_is_no_domain_is_an_error(domain: str) -> None:
    with pytest.raises(ValueError, match="domain"):
        cel_functions.in_domain("a", domain)


@pytest.mark.parametrize(
    ("path", "root", "wanted"),
    [
        ("/srv/work", "/srv/work", True), ("/srv/work/", "/srv/work", True),
        ("/srv/work/a/b", "/srv/work/", True), ("/srv//work///a", "/srv/work", True),
        ("/srv/work-old/a", "/srv/work", False), ("/srv/work/../x", "/srv/work", False),
        ("/srv/./work", "/srv/work", False), ("/srv/work/..", "/srv/work", False),
        ("srv/work/a", "/srv/work", False), ("", "/srv/work", False), ("/", "/srv/work", False),
        ("/srv/work/a\0", "/srv/work", False), ("/srv/work/...", "/srv/work", True),
        ("/srv/Work/a", "/srv/work", False), ("/any", "/", True), ("~/a", "/", False),
        ("\\srv\\work", "/srv", False),
    ],
)  # fmt: skip
def test_under(path: str, root: str, wanted: bool) -> None:
    assert cel_functions.under(path, root) is wanted


@pytest.mark.parametrize("root", ["", "srv", "/srv/..", "/./srv"])
def test_what_is_no_root_is_an_error(root: str) -> None:
    with pytest.raises(ValueError, match="root"):
        cel_functions.under("/srv", root)


def test_networks() -> None:
    assert cel_functions.contains_ip(cel_functions.cidr("10.0.0.0/8"), "10.1.2.3")
    assert cel_functions.contains_ip(cel_functions.cidr("10.0.0.0/8"), "::ffff:10.1.2.3")
    assert not cel_functions.contains_ip(cel_functions.cidr("10.0.0.0/8"), "11.0.0.0")
    assert not cel_functions.contains_ip("::/0", "10.1.2.3")
    for network, address in (("10.0.0.0/8", "x"), ("10.0.0.0/8", ""), ("x", "10.0.0.1")):
        with pytest.raises(ValueError, match=r"."):
            cel_functions.contains_ip(network, address)


@given(st.text("ab*/?[", max_size=8), st.text("ab/?[", max_size=12))
def test_a_glob_is_stars_and_nothing_else(pattern: str, text: str) -> None:
    wanted = re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text, re.DOTALL)
    assert Glob(pattern).matches(text) is (wanted is not None)


@given(st.text("ab*/", max_size=8), st.text("ab/\n", max_size=12))
def test_a_glob_agrees_with_the_shell_on_stars(pattern: str, text: str) -> None:
    assert Glob(pattern).matches(text) is fnmatch.fnmatchcase(text, pattern)


def test_d5_a_glob_has_no_bad_case() -> None:
    started = time.process_time()
    assert not Glob("*a" * 50 + "b").matches("a" * 100_000)
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize(
    "text",
    ["mon-sun 00:00-24:00 UTC", "sun-mon 22:00-02:00 UTC", "mon,wed,fri-sat 01:00-02:00 UTC"],
)
def test_windows_that_are_read(text: str) -> None:
    assert parse_window(text).text == text


@pytest.mark.parametrize(
    "text",
    ["", "mon 09:00-10:00", "09:00-10:00 UTC", "mon 09:00 UTC", "mon 24:00-24:00 UTC",
     "mon 24:30-25:00 UTC", "mon- 09:00-10:00 UTC", "Mon 09:00-10:00 UTC", "mon 09:00-10:00 ../x",
     "mon,, 09:00-10:00 UTC", "mon 09:00-10:00 /etc/passwd", "mon 0９:00-10:00 UTC"],
)  # fmt: skip
def test_windows_that_are_refused(text: str) -> None:
    with pytest.raises(BadWindow):
        parse_window(text)


@pytest.mark.parametrize("came_from", ["10.1.2.3", "::ffff:10.1.2.3"])
def test_a_network_of_ipv4_inside_ipv6_is_one_of_ipv4(came_from: str) -> None:
    assert SourceMatcher((read_network("::ffff:10.0.0.0/104"),)).matches(came_from)
    assert contains_ip(cidr("::ffff:10.0.0.0/104"), came_from)
    assert not SourceMatcher((read_network("::ffff:10.0.0.0/104"),)).matches("11.1.2.3")
