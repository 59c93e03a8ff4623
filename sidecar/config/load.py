"""From sidecar.yaml, AEGIS_* and flags to a Config, or to every problem at once.

Knows: the form of sidecar.yaml, its defaults and what this version does not carry out yet (it is
refused by name: a setting that is accepted and ignored would lie). Reads one file and the
secrets it refers to; no sockets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sidecar.config.identity import read_identity
from sidecar.config.merge import merge
from sidecar.config.model import Address, Config, Limits, Listen, Record, Secret
from sidecar.config.references import resolve
from sidecar.yaml_section import Section
from sidecar.config.units import duration_s, host_port, is_loopback, size_bytes
from sidecar.config.upstreams import read_upstreams
from sidecar.problems import Position, Problem, errors_only
from sidecar.yaml_reader import Node, read_yaml

NOT_YET = {
    "runs": "runs of an agent are not gathered yet",
    "approvals": "nothing can be approved yet",
    "receipts": "checkpoints are not signed yet",
    "soc": "there are no detections yet",
    "sinks": "there are no notifications yet",
}
KEYS = (
    "default", "listen", "store", "policies", "tenants", "identity", "upstreams", "record",
    "limits",
)  # fmt: skip

_LOOPBACK_NAMES = ("127.0.0.1", "localhost", "::1")
_KIB, _GIB = 1024, 1024**3


@dataclass(slots=True)
class Loaded:
    """What came of loading; `config` is None if a problem is an error."""

    config: Config | None
    problems: list[Problem]
    origins: dict[str, str] = field(default_factory=dict)
    root: Node | None = None


def load_config(path: Path, environ: Mapping[str, str], overrides: Sequence[str]) -> Loaded:
    """Loads and checks everything. Never raises for what a user can get wrong."""
    source = str(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        hint = "name it with --config, or set AEGIS_CONFIG"
        return Loaded(None, [Problem(Position(source), f"{error.strerror}", hint)])
    root, problems = read_yaml(source, data)
    if root is None:
        return Loaded(None, problems)
    root, origins, found = merge(root, environ, overrides)
    problems += found
    reader = _Reader(root, problems, environ, path.resolve().parent)
    config = reader.config()
    usable = config if not errors_only(problems) else None
    return Loaded(usable, sorted(problems), origins, root)


class _Reader:
    def __init__(
        self, root: Node, problems: list[Problem], environ: Mapping[str, str], base: Path
    ) -> None:
        self.top = Section(root, "", problems)
        self.problems = problems
        self.environ = environ
        self.base = base

    def config(self) -> Config:
        """A Config, whole enough to go on finding problems."""
        top = self.top
        top.allow(KEYS, NOT_YET)
        listen = self._listen()
        limits = self._limits()
        store = self._store()
        tenants, default_agent = read_identity(top, is_loopback(listen.data.host))
        upstreams = read_upstreams(top, listen, limits.request_bytes, self._secret)
        default = top.choice("default", ("deny", "observe"), "deny")
        return Config(
            default="observe" if default == "observe" else "deny",
            listen=listen,
            store=store,
            data_dir=Path(store.removeprefix("sqlite:///")).parent,
            policies=self._policies(),
            tenants=tenants,
            default_agent=default_agent,
            upstreams=upstreams,
            record=self._record(),
            limits=limits,
        )

    def _listen(self) -> Listen:
        section = self.top.sub("listen")
        section.allow(("data", "control"))
        return Listen(
            data=self._address(section, "data", 8080),
            control=self._address(section, "control", 8081),
        )

    def _address(self, section: Section, name: str, port: int) -> Address:
        node = section.members.get(name)
        hosts: tuple[str, ...] = ()
        where = ("127.0.0.1", port)
        if node is not None and node.is_mapping:
            long = section.sub(name)
            long.allow(("address", "hosts"), {"tls": "listeners do not speak TLS yet"})
            where = long.read("address", host_port, where)
            hosts = tuple(host.lower() for host in long.texts("hosts"))
            if "address" not in long.members:
                long.report(node, f"{long.path} needs an address")
        else:
            where = section.read(name, host_port, where)
        own = _LOOPBACK_NAMES if is_loopback(where[0]) else (where[0].lower(),)
        return Address(host=where[0], port=where[1], hosts=(*own, *hosts))

    def _store(self) -> str:
        node = self.top.members.get("store")
        url = "sqlite:///aegis.db"
        if node is not None and node.is_mapping:
            secret = self._secret(self.top.sub("store"))
            url = secret.reveal() if secret else url
        else:
            url = self.top.text("store", url)
        if not url.startswith("sqlite:///") or url == "sqlite:///":
            scheme = url.split(":", 1)[0][:20]
            self.top.report(
                node,
                "store: postgresql is not carried out by this version"
                if scheme in ("postgresql", "postgres")
                else f"store: {scheme!r} is not a kind of store",
                "use sqlite:///path",
            )
            return "sqlite:///aegis.db"
        path = (self.base / url.removeprefix("sqlite:///")).resolve()
        return f"sqlite:///{path}"

    def _policies(self) -> tuple[str, ...]:
        entries = self.top.texts("policies")
        node = self.top.members.get("policies")
        if not entries:
            self.top.report(
                node,
                "policies is missing: without it every call is refused",
                "name folders or packs, e.g. policies: [pack:read-only, ./policies]",
            )
        return tuple(
            entry if entry.startswith("pack:") else str(self.base / entry) for entry in entries
        )

    def _record(self) -> Record:
        section = self.top.sub("record")
        section.allow(("arguments", "secrets"))
        arguments = section.choice("arguments", ("redacted", "digest"), "redacted")
        return Record(
            arguments="digest" if arguments == "digest" else "redacted",
            secrets=section.texts("secrets", Record().secrets),
        )

    def _limits(self) -> Limits:
        section = self.top.sub("limits")
        usual = Limits()
        section.allow(
            ("request", "depth", "query", "headers", "connections", "per_address",
             "header_wait", "body_wait", "queue", "queue_wait", "drain")
        )  # fmt: skip
        return Limits(
            request_bytes=section.measure("request", size_bytes, usual.request_bytes, _KIB, _GIB),
            depth=section.number("depth", usual.depth, 1, 64),
            query=section.number("query", usual.query, 1, 10_000),
            headers=section.number("headers", usual.headers, 8, 256),
            connections=section.number("connections", usual.connections, 1, 65_535),
            per_address=section.number("per_address", usual.per_address, 1, 65_535),
            header_wait_s=section.measure(
                "header_wait", duration_s, usual.header_wait_s, 0.1, 600.0
            ),
            body_wait_s=section.measure("body_wait", duration_s, usual.body_wait_s, 0.1, 3600.0),
            queue=section.number("queue", usual.queue, 1, 1_000_000),
            queue_wait_s=section.measure("queue_wait", duration_s, usual.queue_wait_s, 0.01, 600.0),
            drain_s=section.measure("drain", duration_s, usual.drain_s, 0.0, 3600.0),
        )

    def _secret(self, section: Section) -> Secret | None:
        """The secret a `{env:}` or `{file:}` mapping refers to; None if there is a problem."""
        section.allow(("env", "file"))
        given: dict[str, str] = {}
        for name in ("env", "file"):
            if name in section.members:
                given[name] = section.text(name, "")
        if len(given) != 1:
            section.report(section.node, f"{section.path}: write {{env: NAME}} or {{file: PATH}}")
            return None
        try:
            return resolve(given, self.environ, self.base)
        except ValueError as error:
            section.report(section.node, f"{section.path}: {error}")
            return None
