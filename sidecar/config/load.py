"""From sidecar.yaml, AEGIS_* and flags to a Config, or to every problem at once.

Knows: the form of sidecar.yaml and what this version does not carry out (that is refused by
name: a setting that is accepted and ignored would lie). Reads one file and the secrets it refers
to. Must not know: sockets, the store, what a policy says.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from sidecar.config.body_room import with_room
from sidecar.config.bounded import read_bounded
from sidecar.config.callers import read_callers
from sidecar.config.endpoints import (
    default_hosts,
    is_loopback,
    is_unspecified,
    read_listener,
    read_url,
)
from sidecar.config.identity import NAME, read_tenants
from sidecar.config.listener_tls import read_listener_tls
from sidecar.config.merge import Merge, origin_of
from sidecar.config.model import (
    AUTHORIZE,
    Address,
    Approvals,
    Config,
    Limits,
    Listen,
    Record,
    Runs,
    Soc,
    Tenant,
    Upstream,
)
from sidecar.config.other_words import AT_TOP, IN_LISTEN
from sidecar.config.receipts import read_receipts
from sidecar.config.references import References
from sidecar.config.self_test_model import SelfTest, read_run
from sidecar.config.settings import effective, variable_meant
from sidecar.config.sinks import read_sinks
from sidecar.config.store_url import SQLITE, checked_store, store_warning
from sidecar.config.upstreams import read_host_names, read_upstreams
from sidecar.problems import Position, Problem, errors_only
from sidecar.yaml_reader import BYTES_MAX, Node, salvage_yaml
from sidecar.yaml_section import Section

KEYS = (
    "default", "listen", "store", "policies", "self_test", "tenants", "identity", "runs",
    "upstreams", "approvals", "receipts", "soc", "sinks", "record", "limits",
)  # fmt: skip
#: What a problem begins with that commands of this machine do not mind.
_NOT_LOCAL = ("upstreams.", "tenants.", "sinks.")
_STORE = f"{SQLITE}aegis.db"
_PACK = "pack:"
_UPSTREAM = re.compile(r"upstreams\.([a-z0-9-]+)")


@dataclass(slots=True)
class Loaded:
    """What came of loading; `config` is None if a problem is an error.

    `origins` tells of each effective setting: flag, environment, file or default.
    `is_readable` is False where the file could not even be read. With or without a Config there
    is what the policies can be checked by: the usable `entries` of `policies` with their places,
    and the `kinds` of all upstreams that are named.
    `local` is the Config also where the only errors are about upstreams, tenants and sinks: enough
    for commands that ask for the store or the listeners, and need no secret of any of these.
    `upstreams` are those with no error of their own, where the only errors are about upstreams and
    the store: enough for commands that ask one of them, and need no other secret.
    `variables` are those that secrets stand in.
    """

    config: Config | None
    problems: list[Problem]
    origins: dict[str, str] = field(default_factory=dict)
    is_readable: bool = True
    entries: dict[str, Position] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    local: Config | None = None
    upstreams: dict[str, Upstream] = field(default_factory=dict)
    variables: frozenset[str] = frozenset()


def load_config(path: Path, environ: Mapping[str, str], overrides: Sequence[str]) -> Loaded:
    """Loads and checks everything. Never raises for what a user can get wrong."""
    source = str(path)
    try:
        with path.open("rb") as file:
            data = file.read(BYTES_MAX + 1)
    except OSError as error:
        message = f"cannot be read: {error.strerror}"
        hint = "name the configuration with --config, or set AEGIS_CONFIG"
        return Loaded(None, [Problem(Position(source), message, hint)], is_readable=False)
    root, refused = salvage_yaml(source, data)
    problems: list[Problem] = []
    if root is not None and not root.is_mapping:
        problems.append(Problem(root.position, f"must be a mapping, not {root.kind}"))
    merge = Merge(
        root if root is not None and root.is_mapping else Node({}, Position(source, 1, 1)),
        KEYS,
        variable_meant,
    )
    merge.environment(environ)
    merge.flags(overrides)
    problems += merge.problems
    if root is None or not root.is_mapping:
        return Loaded(None, _ordered([*refused, *problems]))
    # The folder as it was named, links kept: ./policies stands beside the file the user sees.
    reader = _Reader(merge.root, problems, environ, Path(os.path.abspath(path.parent)))  # noqa: PTH100
    config = reader.config()
    origins = {key: origin_of(merge.root, key) for key, _ in effective(config)}
    places = root.refused_places()  # nothing more is to be said of what stands there
    problems = [*refused, *(one for one in problems if one.position not in places)]
    errors = errors_only(problems)
    is_local = all(
        error.message.startswith(("upstreams.", "tenants.", "sinks.")) for error in errors
    )
    return Loaded(
        None if errors else config,
        _ordered(problems),
        origins,
        entries=reader.entries,
        kinds=_kinds(merge.root),
        local=config if is_local else None,
        upstreams=_whole_upstreams(config, errors),
        variables=frozenset(reader.references.variables),
    )


def _whole_upstreams(config: Config, errors: Sequence[Problem]) -> dict[str, Upstream]:
    """Those that no error names; each error of an upstream does."""
    named: set[str] = set()
    for error in errors:
        names = _UPSTREAM.findall(error.message)
        if not names and not error.message.startswith("store"):
            return {}
        named.update(names)
    return {name: one for name, one in config.upstreams.items() if name not in named}


def _kinds(root: Node) -> dict[str, str]:
    node = root.value.get("upstreams")
    return {
        name: Section(one, name, []).choice("kind", ("mcp", AUTHORIZE), "rest")
        for name, one in (node.value.items() if node is not None and node.is_mapping else ())
    }


def _ordered(problems: list[Problem]) -> list[Problem]:
    """Those of the file first, from top to bottom; each once."""
    unique = dict.fromkeys(problems)
    return sorted(unique, key=lambda problem: (not problem.position.line, problem.position))


class _Reader:
    """Reads the merged tree; a setting that is wrong counts as unset for the checks to come."""

    def __init__(
        self, root: Node, problems: list[Problem], environ: Mapping[str, str], folder: Path
    ) -> None:
        self.top = Section(root, "", problems, "sidecar.yaml")
        self.folder = folder
        self.references = References(environ, folder)
        self.entries: dict[str, Position] = {}

    def config(self) -> Config:
        """A Config, whole enough to go on finding problems."""
        top = self.top
        top.allow(KEYS, AT_TOP)
        listen = self._listen()
        bounds = top.sub("limits")
        limits = read_bounded(bounds, Limits, {})
        store = self._store()
        written = read_tenants(top, self.references)
        callers = read_callers(top, written, listen.data)
        self._warn_of_keys_in_the_clear(listen.control, written.tenants)
        default = top.choice("default", ("deny", "observe"), "deny")
        config = Config(
            default="observe" if default == "observe" else "deny",
            listen=listen,
            store=store,
            data_dir=self._data_dir(store),
            policies=self._policies(),
            self_test=read_bounded(top.sub("self_test"), SelfTest, {}, {"run": read_run}),
            tenants=written.tenants,
            default_agent=callers.default_agent,
            mtls=callers.mtls,
            issuers=callers.issuers,
            runs=read_bounded(top.sub("runs"), Runs, {}),
            upstreams=read_upstreams(top, listen, limits.request_bytes, self.references),
            receipts=read_receipts(top, self.references, self.folder),
            approvals=self._approvals(listen.control),
            soc=self._soc(),
            sinks=read_sinks(top, self.references, written.tenants, listen),
            record=self._record(),
            limits=limits,
        )
        limits = with_room(bounds, limits, config.upstreams.values())
        return config.model_copy(update={"limits": limits})

    def _listen(self) -> Listen:
        section = self.top.sub("listen")
        section.allow(("data", "control"), IN_LISTEN)
        data = self._address(section, "data", 8080)
        control = self._address(section, "control", 8081)
        if (data.host, data.port) == (control.host, control.port):
            node = section.members.get("control") or section.members.get("data")
            section.report(node, "listen.data and listen.control are one address")
        return Listen(data=data, control=control)

    def _address(self, section: Section, name: str, port: int) -> Address:
        node = section.members.get(name)
        where = ("127.0.0.1", port)
        hosts: tuple[str, ...] = ()
        tls = None
        if node is not None and node.is_mapping:
            long = section.sub(name)
            long.allow(("address", "tls", "hosts"))
            tls = read_listener_tls(long, self.references)
            where = long.read("address", read_listener, where)
            hosts = read_host_names(long, "hosts")
        else:
            where = section.read(name, read_listener, where)
        if is_unspecified(where[0]) and not hosts:
            key = section.key(name)
            section.problems.append(
                Problem(
                    node.position if node is not None else section.position,
                    f"{key} is open to other machines, but only localhost is answered",
                    f"list the names it is called by: {key}: {{address: …, hosts: [name]}}",
                    is_warning=True,
                )
            )
        return Address(host=where[0], port=where[1], hosts=default_hosts(where[0]) + hosts, tls=tls)

    def _warn_of_keys_in_the_clear(self, control: Address, tenants: dict[str, Tenant]) -> None:
        """Whoever reads along there has what people send with every request: their keys, or the
        tokens of their issuer."""
        if control.tls is not None or is_loopback(control.host):
            return
        if not any(tenant.people for tenant in tenants.values()):
            return
        section = self.top.sub("listen")
        node = section.members.get("control")
        self.top.problems.append(
            Problem(
                node.position if node is not None else section.position,
                "listen.control is open to other machines without TLS: keys of people are sent "
                "there in the clear",
                "give it a certificate: control: {address: …, tls: {cert: {file: …}, "
                "key: {file: …}}}; or let nothing but a proxy that speaks TLS reach it",
                is_warning=True,
            )
        )

    def _data_dir(self, store: str) -> Path:
        """Where control.sock and the like stand: beside a file, else beside sidecar.yaml."""
        if store.startswith(SQLITE):
            return Path(store.removeprefix(SQLITE)).parent
        return Path(os.path.normpath(self.folder))

    def _store(self) -> str:
        node = self.top.members.get("store")
        url = _STORE
        if node is not None and node.is_mapping:
            secret = self.references.secret(self.top, "store")
            try:
                url = checked_store(secret.reveal(), is_secret=True) if secret else url
            except ValueError as error:
                self.top.report(node, f"store: {error}")
        else:
            url = self.top.read("store", checked_store, url)
        if warning := store_warning(url):
            at = node.position if node is not None else self.top.position
            self.top.problems.append(Problem(at, f"store: {warning}", is_warning=True))
        if not url.startswith(SQLITE):
            return url
        path = os.path.normpath(self.folder / url.removeprefix(SQLITE))
        return f"{SQLITE}{path}"

    def _policies(self) -> tuple[str, ...]:
        node = self.top.members.get("policies")
        items = [] if node is None else node.value if node.is_list else [node]
        for item in items:
            try:
                entry = _checked_entry(item.value, self.folder)
                if entry in self.entries:
                    raise ValueError(f"{item.value} is here twice")
                self.entries[entry] = item.position
            except ValueError as error:
                self.top.report(item, f"policies: {error}")
        if not items:
            self.top.report(
                node,
                "policies is missing: without any, every call is refused",
                "name folders or packs, e.g. policies: [pack:read-only, ./policies]",
            )
        return tuple(self.entries)

    def _approvals(self, control: Address) -> Approvals:
        section = self.top.sub("approvals")
        return read_bounded(
            section, Approvals, {"url": control.url}, {"url": lambda value: read_url(value).url}
        )

    def _soc(self) -> Soc:
        section = self.top.sub("soc")
        section.allow(("level",))
        usual = Soc()
        levels = get_args(Soc.model_fields["level"].annotation)
        chosen = section.choice("level", levels, usual.level)
        return Soc.model_validate({"level": chosen})

    def _record(self) -> Record:
        section = self.top.sub("record")
        section.allow(("arguments", "secrets"))
        usual = Record()
        arguments = section.choice("arguments", ("redacted", "digest"), usual.arguments)
        return Record(
            arguments="digest" if arguments == "digest" else "redacted",
            secrets=section.texts("secrets", usual.secrets),
        )


def _checked_entry(value: object, folder: Path) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ValueError("the path of a file or folder is expected here, or pack:NAME")
    if value.startswith(_PACK):
        if not NAME.fullmatch(value.removeprefix(_PACK)):
            raise ValueError(f"{value} names no pack: write {_PACK}NAME")
        return value
    return os.path.normpath(folder / value)
