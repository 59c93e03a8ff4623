"""What may be written as a server's URL, and that no link in the clear is taken by default."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest

from sidecar.config.load import load_config
from sidecar.config.store_url import checked_store, shown_store, store_password, store_warning
from storage.errors import UnsupportedStore
from storage.postgres_url import link_problem, servers_of
from storage.sqlite_file import path_of_url

FAR = "postgresql://aegis@db.internal/aegis"


@pytest.mark.parametrize("url", [
    "postgresql://aegis@127.0.0.1/aegis",
    "postgres://aegis@localhost:5432/aegis",
    "postgresql://aegis@[::1]:5432/aegis",
    "postgresql://aegis@%2Fvar%2Frun%2Fpostgresql/aegis",
    "postgresql://aegis@127.8.9.1,localhost/aegis?sslmode=prefer",
    f"{FAR}?sslmode=disable",
    f"{FAR}?sslmode=require",
    f"{FAR}?sslmode=verify-ca&sslrootcert=/etc/ca.pem",
    f"{FAR}?sslmode=verify-full&sslrootcert=/etc/ca.pem&sslcert=/etc/c.crt&sslkey=/etc/c.key",
    "postgresql://aegis@db1,db2:5433/aegis?sslmode=verify-full&target_session_attrs=read-write",
    f"{FAR}?sslmode=verify-full&search_path=aegis",
    f"{FAR}?sslmode=verify-full&ssl_min_protocol_version=TLSv1.2&ssl_max_protocol_version=TLSv1.3",
])  # fmt: skip
def test_a_link_that_is_local_or_protected_or_meant_to_be_open_is_taken(url: str) -> None:
    assert checked_store(url) == url


@pytest.mark.parametrize(("parameters", "said"), [
    ("", "without sslmode the link to db.internal may be in the clear: write ?sslmode=verify-full"),
    ("?sslmode=prefer", "with sslmode=prefer the link to db.internal may be in the clear"),
    ("?sslmode=allow", "with sslmode=allow the link to db.internal may be in the clear"),
    ("?sslmode=", "without sslmode the link to db.internal"),
    ("?sslmode=verify", "sslmode=verify is none of disable, allow, prefer, require"),
    ("?sslmod=verify-full", "sslmod is not a parameter of a store; did you mean sslmode?"),
    ("?ssl_mode=verify-full", "ssl_mode is not a parameter of a store; did you mean sslmode?"),
    ("?synchronous_commit=off", "synchronous_commit is not a parameter of a store: sslmode"),
    ("?sslmode=verify-full&sslrootcert=ca.pem", "sslrootcert must be the whole path of a file"),
    ("?sslmode=verify-full&sslrootcert=system", "sslrootcert must be the whole path of a file"),
    ("?sslmode=verify-full&sslcert=/c.crt", "sslcert stands without sslkey"),
    ("?sslmode=verify-full&sslkey=/c.key", "sslkey stands without sslcert"),
    ("?sslmode=verify-full&sslcert=/c&sslkey=/k&sslpassword=x", "sslpassword is not taken"),
    ("?sslmode=verify-full&target_session_attrs=standby", "does not find the primary"),
    ("?sslmode", "what follows ? is not NAME=VALUE"),
])  # fmt: skip
def test_everything_else_is_refused_with_what_to_write(parameters: str, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        checked_store(FAR + parameters, is_secret=True)
    assert said in str(caught.value)


@pytest.mark.parametrize(("url", "said"), [
    ("postgresql://aegis@db,/aegis?sslmode=require", "a host between commas is missing"),
    ("postgresql://a@b:x@127.0.0.1/aegis", "an @ in a name or password is written %40"),
    ("postgresql://a:x#y@127.0.0.1/aegis", "a # is written %23"),
])  # fmt: skip
def test_a_url_that_two_readers_could_read_differently_is_refused(url: str, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        checked_store(url, is_secret=True)
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["ssl_min_protocol_version", "ssl_max_protocol_version"])
@pytest.mark.parametrize(
    "version", ["TLSv1", "TLSv1.1", "SSLv3", "MINIMUM_SUPPORTED", "tlsv1.2", ""]
)
@pytest.mark.parametrize("place", [FAR, "postgresql://aegis@127.0.0.1/aegis"])
def test_g12_no_version_of_tls_is_taken_that_is_broken(place: str, name: str, version: str) -> None:
    url = f"{place}?sslmode=verify-full&{name}={version}"
    with pytest.raises(ValueError) as caught:
        checked_store(url)
    assert str(caught.value) == f"{name}={version} is none of TLSv1.2, TLSv1.3"
    assert link_problem(url) == str(caught.value), "the store itself does not take it either"


def test_one_far_server_among_near_ones_is_enough() -> None:
    url = "postgresql://aegis@127.0.0.1:5432,10.0.0.7:5433,localhost/aegis"
    with pytest.raises(ValueError, match=r"the link to 10\.0\.0\.7:5433 may be in the clear"):
        checked_store(url)
    assert checked_store(url.replace(",10.0.0.7:5433", ""))


@pytest.mark.parametrize(("url", "said"), [
    (f"{FAR}?sslmode=disable", "the link to db.internal is in the clear, records and password"),
    (f"{FAR}?sslmode=require", "is encrypted, but anybody may answer there"),
    (f"{FAR}?sslmode=require&sslrootcert=/etc/ca.pem", ""),
    (f"{FAR}?sslmode=verify-full", ""),
    ("postgresql://aegis@127.0.0.1/aegis?sslmode=disable", ""),
    ("sqlite:////var/lib/aegis.db", ""),
])  # fmt: skip
def test_a_link_that_is_weaker_than_it_could_be_is_warned_about(
    tmp_path: Path, url: str, said: str
) -> None:
    assert said in store_warning(url)
    assert bool(said) == bool(store_warning(url))
    path = tmp_path / "sidecar.yaml"
    upstreams = "upstreams: {shop: {url: http://shop.internal}}"
    path.write_text(f"store: {url}\npolicies: ./policies\n{upstreams}\n")
    loaded = load_config(path, {}, [])
    assert loaded.config is not None, "it can be used"
    assert [problem.is_warning for problem in loaded.problems] == [True] * bool(said)


def test_servers_are_told_apart_and_their_password_is_not_shown() -> None:
    url = "postgresql://aegis:hunter2@db1:5432,[fd00::1]:5433/aegis?sslmode=require"
    one, other = servers_of(url)
    assert (one.shown, other.shown) == ("db1:5432", "[fd00::1]:5433")
    assert one.url == "postgresql://aegis:hunter2@db1:5432/aegis?sslmode=require"
    assert other.url == "postgresql://aegis:hunter2@[fd00::1]:5433/aegis?sslmode=require"
    assert "hunter2" not in shown_store(url) and store_password(url) == "hunter2"
    # One @ too many: half of a password must not be taken for a host that is named in a message.
    assert "nter2" not in link_problem("postgresql://aegis:hu@nter2@db/aegis")


@pytest.mark.parametrize("sign", "@/?#")
def test_a_sign_of_a_password_that_divides_the_url_is_named_and_nothing_of_the_password(
    sign: str,
) -> None:
    """Half of the password would be taken for a host, which is named in a message."""
    url = f"postgresql://aegis:se{sign}c=ret@db.internal/aegis?sslmode=require"
    problem = link_problem(url)
    assert quote(sign, safe="") in problem
    assert not any(half in problem for half in ("aegis", "se", "c=ret"))
    with pytest.raises(ValueError) as caught:
        checked_store(url, is_secret=True)
    assert str(caught.value) == problem
    sound = url.replace(f"se{sign}c", f"se{quote(sign, safe='')}c")
    assert link_problem(sound) == "" and checked_store(sound, is_secret=True) == sound


@pytest.mark.parametrize("scheme", ["postgresql+asyncpg", "POSTGRESQL", " postgresql", "mysql"])
def test_a_url_that_nobody_recognises_is_not_repeated(scheme: str) -> None:
    with pytest.raises(UnsupportedStore) as caught:
        path_of_url(f"{scheme}://aegis:hunter2@db.internal/aegis")
    assert "hunter2" not in f"{caught.value} {caught.value.next_step}"
    assert "postgresql://USER:PASSWORD@HOST/DATABASE" in caught.value.next_step
