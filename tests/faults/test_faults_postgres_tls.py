"""TLS to the server: accepted where it can be trusted, refused with the reason where it cannot.

A real cluster with ssl=on and certificates made here. A PostgreSQL that was built without OpenSSL
(the wheel's) gets a front that speaks TLS for it; what the sidecar's side does is the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import postgres_server
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from postgres_proxy import proxy

from storage import open_store
from storage.errors import StoreError, StoreUnavailable, UnsupportedStore
from storage.postgres_connect import Servers
from storage.statements import load_statements

CERTIFICATES = "Compare sslmode, sslrootcert, sslcert and sslkey"


class Authority:
    """Signs certificates; itself one that nobody else knows."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.file = folder / f"{name}.pem"
        certificate = self._signed(self._name, self._key, None)
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, common_name: str, host: str | None = None) -> tuple[Path, Path]:
        """A certificate and its key, for a server under `host` or for a client."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
        names = x509.SubjectAlternativeName([x509.DNSName(host)]) if host else None
        certificate = self._signed(subject, key, names)
        files = self._folder / f"{common_name}.crt", self._folder / f"{common_name}.key"
        files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        files[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return files

    def _signed(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        names: x509.SubjectAlternativeName | None,
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        is_authority = subject == self._name
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        )
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self._key, hashes.SHA256())


@dataclass
class Site:
    """Where a server with TLS answers, one that wants a client's certificate, one without TLS."""

    url: str
    guarded_url: str
    plain_url: str
    authority: Authority
    is_real: bool

    def with_tls(self, mode: str = "verify-full", authority: Authority | None = None) -> str:
        return f"{self.url}?sslmode={mode}&sslrootcert={(authority or self.authority).file}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    authority = Authority(tmp_path_factory.mktemp("authority"), "ours")
    certificate, key = authority.issue("server", "localhost")
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(postgres_server.new_cluster())
        plain = stack.enter_context(postgres_server.new_cluster())
        for one in (cluster, plain):
            one.initialise()
        plain.start("fsync=off")
        plain_url = asyncio.run(postgres_server.new_database(plain.dsn()))
        if not cluster.has_tls:
            yield _fronted(stack, plain, plain_url, authority, certificate, key)
            return
        settings = {"ssl_cert_file": certificate, "ssl_key_file": key,
                    "ssl_ca_file": authority.file}  # fmt: skip
        files = [f"{name}={cluster.put(p.name, p.read_bytes())}" for name, p in settings.items()]
        cluster.admit(
            "local all all trust",
            "host all postgres 127.0.0.1/32 trust",
            "hostssl guarded all all trust clientcert=verify-ca",
            "hostssl all all all scram-sha-256",
        )
        cluster.start("fsync=off", "ssl=on", *files)
        url = asyncio.run(postgres_server.new_database(cluster.dsn()))
        url = url.replace("127.0.0.1", "localhost")
        asyncio.run(_guarded_database(cluster.dsn(), url.rpartition("/")[2]))
        yield Site(url, f"{url.rpartition('/')[0]}/guarded", plain_url, authority, True)


async def _guarded_database(dsn: str, owner: str) -> None:
    admin = await asyncpg.connect(dsn)
    await admin.execute(f"CREATE DATABASE guarded OWNER {owner} TEMPLATE template0")
    await admin.close()


def _fronted(
    stack: contextlib.ExitStack,
    plain: postgres_server.Cluster,
    plain_url: str,
    authority: Authority,
    certificate: Path,
    key: Path,
) -> Site:
    urls = []
    for wanted in (ssl.CERT_NONE, ssl.CERT_REQUIRED):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        context.load_verify_locations(authority.file)
        context.verify_mode = wanted
        front = stack.enter_context(proxy(plain.port, context))
        urls.append(plain_url.replace(f"127.0.0.1:{plain.port}", f"localhost:{front.port}"))
    return Site(urls[0], urls[1], plain_url, authority, False)


async def works(url: str) -> None:
    store = await open_store(url, now_us=lambda: 1, node_id="node")
    await store.probe()
    assert await store.tenants() == []
    await store.close()


async def refused(url: str, reason: str, step: str = CERTIFICATES) -> None:
    with pytest.raises(UnsupportedStore) as caught:
        await open_store(url, now_us=lambda: 1, node_id="node")
    assert caught.value.code == "unsupported_store"
    assert reason in str(caught.value), caught.value
    assert step in caught.value.next_step
    assert postgres_server.PASSWORD not in str(caught.value)


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
async def test_a_server_with_a_certificate_of_our_authority_is_accepted(
    site: Site, mode: str
) -> None:
    await works(site.with_tls(mode))
    if site.is_real:
        connection = await asyncpg.connect(site.with_tls(mode))
        encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        assert await connection.fetchval(encrypted)
        await connection.close()


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
async def test_a_certificate_of_another_authority_is_refused(
    site: Site, tmp_path: Path, mode: str
) -> None:
    await refused(site.with_tls(mode, Authority(tmp_path, "theirs")), "no secure connection: ")


async def test_a_certificate_for_another_host_is_refused(site: Site) -> None:
    elsewhere = site.with_tls().replace("@localhost:", "@127.0.0.1:")
    await refused(elsewhere, "is not valid for '127.0.0.1'")
    await works(elsewhere.replace("verify-full", "verify-ca"))


async def test_an_authority_s_file_that_is_not_there_is_named(site: Site, tmp_path: Path) -> None:
    missing = f"{site.url}?sslmode=verify-full&sslrootcert={tmp_path}/none.pem"
    await refused(missing, "No such file or directory")
    (tmp_path / "none.pem").write_text("this is no certificate")
    await refused(missing, "no secure connection: ")


async def test_a_server_without_tls_is_refused_when_tls_is_asked_for(site: Site) -> None:
    for mode in ("require", "verify-full"):
        url = f"{site.plain_url}?sslmode={mode}&sslrootcert={site.authority.file}"
        await refused(url, "the server offers no TLS")
    await works(site.plain_url)
    await works(f"{site.plain_url}?sslmode=disable")


async def test_a_client_s_certificate_is_shown_to_a_server_that_wants_one(site: Site) -> None:
    guarded = f"{site.guarded_url}?sslmode=verify-full&sslrootcert={site.authority.file}"
    with pytest.raises(StoreError) as caught:
        await open_store(guarded, now_us=lambda: 1, node_id="node")
    if site.is_real:
        assert isinstance(caught.value, UnsupportedStore)
        assert "28000" in str(caught.value)
        assert "pg_hba.conf" in caught.value.next_step
    certificate, key = site.authority.issue("aegis")
    await works(f"{guarded}&sslcert={certificate}&sslkey={key}")
    wrong = f"{guarded}&sslcert={certificate}&sslkey={site.authority.file}"
    await refused(wrong, "no secure connection: ")


async def test_a_link_that_may_be_in_the_clear_is_not_tried() -> None:
    """Without sslmode, and with those that fall back, a password would go to whoever answers."""
    opened: list[str] = []

    async def open_one(url: str, _: float, __: object) -> None:
        opened.append(url)
        raise OSError("nobody there")

    sql = load_statements("postgres")
    for parameters in ("", "?sslmode=prefer", "?sslmode=allow"):
        url = f"postgresql://aegis@127.0.0.1,db.internal/aegis{parameters}"
        with pytest.raises(UnsupportedStore) as caught:
            await Servers(url, sql, open_one).connect({})
        assert "the link to db.internal may be in the clear" in str(caught.value)
        assert "Add sslmode to the URL" in caught.value.next_step
    assert opened == []
    for parameters in ("?sslmode=disable", "?sslmode=require", "?sslmode=verify-full"):
        servers = Servers(f"postgresql://aegis@db.internal/aegis{parameters}", sql, open_one)
        with pytest.raises(StoreUnavailable):
            await servers.connect({})
        warned = bool(servers.warnings())
        assert warned == ("verify" not in parameters), "the operator hears of it at the start"
    assert len(opened) == 3
