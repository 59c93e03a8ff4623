"""One run of a real sidecar with canaries in all that comes in, and all that comes out of it.

Knows: how it is configured, how each source is sent, and every output there is: files, tables,
logs, both listeners, the command line, what agents and upstreams were sent.
Must not know: which output may hold which canary.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import io
import json
import os
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from canaries import Canary, card_number, iban, word
from canary_policies import CATALOGUES, OBLIGATIONS, RULES
from canary_sources import HERE, Keeper, Source
from canary_tables import tables_of
from canary_upstream import Upstream, serving
from running import Process, free_port

from sidecar.cli.main import main

SECRETS = ["password", "token", "secret", "api_key", "authorization", "ssn", "card_holder"]
_SERVE = Path(__file__).with_name("canary_serve.py")


class TalkativeProcess(Process):
    """A sidecar that logs whatever it can."""

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, str(_SERVE), *arguments]


@dataclass
class Seen:
    """What came of a run. `outputs` are bytes by name; `replies` what the agent got for each
    source; `received` what each upstream got; `planted` the canary of each source."""

    planted: dict[str, Canary]
    credentials: dict[str, Canary]
    held: dict[str, Canary]
    outputs: dict[str, bytes] = field(default_factory=dict)
    replies: dict[str, bytes] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    received: dict[str, bytes] = field(default_factory=dict)


def plant(sources: Iterable[Source]) -> Seen:
    """New canaries for every source, for the configuration, and for what upstreams answer."""
    held = {
        "tax": word(),
        "card": card_number(),
        "iban": iban(),
        "key": f"sk_live_{word()}",
        "pem": f"-----BEGIN PRIVATE KEY-----{word()}-----END PRIVATE KEY-----",
        "mail": f"{word()}@{word()}.example",
    }
    return Seen(
        {one.name: Canary(one.name, one.value()) for one in sources},
        {name: Canary(name, word()) for name in ("shop", "bank", "keyed")}
        | {name: Canary(name, f"{word()}-{word()}") for name in ("agent", "person")},
        {name: Canary(f"answered {name}", value) for name, value in held.items()},
    )


class Stage:
    """The sidecar between the agent and the upstream, with the secrets of one run."""

    def __init__(self, folder: Path, seen: Seen, sources: Iterable[Source], store: str) -> None:
        self.seen = seen
        self.sources = tuple(sources)
        self.store = store
        folder.mkdir(exist_ok=True)
        environment = {"SHOP": seen.credentials["shop"].value, "AEGIS_DB": store}
        environment["PYTHONASYNCIODEBUG"] = "1"
        self.process = TalkativeProcess(folder, environment=environment, store="{env: AEGIS_DB}")
        for name in ("bank", "keyed", "agent", "person"):
            path = folder / f"{name}.secret"
            path.write_text(seen.credentials[name].value)
            path.chmod(0o600)

    def configure(self, upstream: Upstream, secrets: list[str], rules: str) -> None:
        url, folder = upstream.url, self.process.folder
        self.process.write(
            f"  open: {{url: '{url}/open'}}\n"
            f"  shop: {{url: '{url}/shop', auth: {{bearer: {{env: SHOP}}}}}}\n"
            f"  bank: {{url: '{url}/bank', "
            f"auth: {{basic: {{user: us, password: {{file: {folder}/bank.secret}}}}}}}}\n"
            f"  keyed: {{url: '{url}/keyed', "
            f"auth: {{header: {{name: X-Key, value: {{file: {folder}/keyed.secret}}}}}}}}\n"
            f"  tools: {{url: '{url}/tools', kind: mcp}}\n"
            "  asks: {kind: authorize}\n"
            f"  gone: {{url: 'http://127.0.0.1:{free_port()}'}}\n",
            {**CATALOGUES, "rules.yaml": rules},
            f"record: {{secrets: {json.dumps(secrets)}}}\n"
            "identity: {default_agent: default/agent}\n"
            "tenants: {default: {"
            f"agents: {{agent: {{}}, other: {{token: {{file: {folder}/agent.secret}}}}}}, "
            f"people: {{ana: {{key: {{file: {folder}/person.secret}}}}}}}}}}",
        )

    # -- in --------------------------------------------------------------------------------

    def send_all(self) -> None:
        """Every source."""
        connection = http.client.HTTPConnection("127.0.0.1", self.process.data_port, timeout=20)
        for source in self.sources:
            canary = self.seen.planted[source.name].value
            if source.status == 429:
                self._send(connection, source, "warm")
            if source.is_raw:
                said = self._send_raw(source, canary)
            else:
                said = self._send(connection, source, canary)
            self.seen.statuses[source.name], self.seen.replies[source.name] = said
        connection.close()

    def introduce(self) -> None:
        """Agents and keys, made while it runs; each secret is shown once, and used."""
        config = f"--config={self.process.config}"
        for name, words in (
            ("made for an agent", ("agents", "register", "helper")),
            ("made for an agent again", ("agents", "rotate-token", "helper")),
            ("made for a person", ("keys", "create", "bob", "--role", "viewer")),
        ):
            told = json.loads(self._run(*words, "--json", config, is_kept=False))
            secret = told.get("token") or told["key"]
            self.seen.credentials[name] = Canary(name, secret.rpartition(".")[2])
            self._call_with(name, secret)
        self._call_with("agent", self.seen.credentials["agent"].value)
        self._call_with("person", self.seen.credentials["person"].value)
        for words in (
            ("agents", "list"), ("agents", "show", "helper"), ("agents", "freeze", "helper"),
            ("agents", "list", "--json"), ("keys", "list"), ("keys", "list", "--json"),
        ):  # fmt: skip
            self._run(*words, config)

    def _call_with(self, name: str, secret: str) -> None:
        """In each place where a credential may come, and in one where none may."""
        connection = http.client.HTTPConnection("127.0.0.1", self.process.data_port, timeout=20)
        for place, fields in (
            ("token", {"Aegis-Token": secret}),
            ("bearer", {"Authorization": f"Bearer {secret}"}),
            ("token, wrongly", {"Aegis-Token": f"{secret}x"}),
        ):
            asked = Source(f"{name} as {place}", Keeper.HEADER, "GET /shop/items", headers=fields)
            said = self._send(connection, asked, "")
            self.seen.statuses[asked.name], self.seen.replies[asked.name] = said
        connection.close()

    def send_for_answers(self) -> None:
        """Every answer of every upstream."""
        connection = http.client.HTTPConnection("127.0.0.1", self.process.data_port, timeout=20)
        for upstream in ("shop", "bank", "keyed", "open"):
            for kind in (
                "echo",
                "broken",
                "cut-off",
                "elsewhere",
                "masked",
                "masked-text",
                "binary",
            ):
                name = f"{upstream} answers {kind}"
                asked = Source(name, Keeper.NOTHING, f"GET /{upstream}/answer/{kind}")
                said = self._send(connection, asked, "")
                self.seen.statuses[name], self.seen.replies[name] = said
        connection.close()

    def _send(
        self, connection: http.client.HTTPConnection, source: Source, canary: str
    ) -> tuple[int, bytes]:
        method, _, target = source.request.replace(HERE, canary).partition(" ")
        fields = {name: value.replace(HERE, canary) for name, value in source.headers.items()}
        body = source.body.replace(HERE, canary).encode() or None
        try:
            connection.request(method, target, body, fields)
            reply = connection.getresponse()
            head = f"{reply.status} {reply.reason} {reply.getheaders()}".encode()
            return reply.status, head + reply.read()
        except (http.client.HTTPException, ConnectionError) as error:
            connection.close()
            return 0, repr(error).encode()

    def _send_raw(self, source: Source, canary: str) -> tuple[int, bytes]:
        with socket.create_connection(("127.0.0.1", self.process.data_port), 5) as client:
            client.sendall(source.request.replace(HERE, canary).encode())
            client.shutdown(socket.SHUT_WR)
            answer = b""
            while piece := client.recv(65536):
                answer += piece
        return int(answer.split(b" ", 2)[1]) if answer else 0, answer

    # -- out -------------------------------------------------------------------------------

    def collect_running(self) -> None:
        """What can be had of a sidecar that runs."""
        outputs, config = self.seen.outputs, f"--config={self.process.config}"
        for path in ("/metrics", "/healthz", "/readyz", "/nothing"):
            outputs[path] = self._control(path)
        for words in (
            ("status", config), ("status", "--json", config), ("store", "status", config),
            ("runs", "show", "agent", config), ("runs", "show", "agent", "--json", config),
            ("health", config), ("reload", config), ("store", "info", config),
            ("receipts", "export", config), ("receipts", "export", "--facts", config),
            ("config", "show", config), ("config", "show", "--json", config),
            ("config", "check", config), ("policy", "check", config),
            ("policy", "replay", "--with", f"{self.process.folder}/policies", config),
            ("policy", "replay", "--json", "--with", f"{self.process.folder}/policies", config),
        ):  # fmt: skip
            self._run(*words)
        self._collect_explanations(config)
        self._collect_broken_configurations()
        self._collect_files("while it runs")

    def _control(self, path: str) -> bytes:
        try:
            with urllib.request.urlopen(f"{self.process.control_url}{path}", timeout=5) as reply:
                return reply.read() + str(reply.headers).encode()  # type: ignore[no-any-return]
        except urllib.error.HTTPError as error:
            with error:
                return error.read() + str(error.headers).encode()

    def _run(self, *words: str, is_kept: bool = True) -> str:
        """A command of this process's own; the output goes by the words without paths."""
        said, gone_wrong = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
        kept = dict(os.environ)
        os.environ.update(self.process.environment)
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(gone_wrong):
                code = main(words)
        finally:
            os.environ.clear()
            os.environ.update(kept)
        said.flush()
        text = said.buffer.getvalue().decode() + gone_wrong.getvalue()  # type: ignore[attr-defined]
        if not is_kept:
            return text
        name = " ".join(word for word in words if "/" not in word and len(word) < 24)
        self.seen.outputs[name] = self.seen.outputs.get(name, b"") + f"{code}\n{text}".encode()
        return text

    def _collect_explanations(self, config: str) -> None:
        """Of what was refused by each rule and tool, and of what a file of the operator's holds."""
        lines = self.seen.outputs["receipts export"].splitlines()
        receipts = [json.loads(line) for line in lines if line.startswith(b"{")]
        judged = [one for one in receipts if one["policy_revision"]]
        ids = {
            (one["rule_id"], one["tool"]): one["call_id"]
            for one in judged
            if one["decision"] == "deny"
        }
        if not self.store.startswith("sqlite:"):  # the words are the same on every engine
            ids = {key: one for key, one in ids.items() if key[1] == "open/told"}
        for number, one in enumerate(ids.values()):
            form = ("--json",) if number % 2 else ()
            self._run("policy", "explain", *form, "--id", one, config)
        for source in self.sources:
            if source.request in ("POST /open/told", "POST /open/lookup") and "{" in source.body:
                self._explain_given(source, config)

    def _explain_given(self, source: Source, config: str) -> None:
        canary = self.seen.planted[source.name].value
        args = json.loads(source.body.replace(HERE, canary))
        path = self.process.folder / "call.json"
        path.write_text(json.dumps({"call": source.request.removeprefix("POST /"), "args": args}))
        self._run("policy", "explain", "--call", str(path), config)
        path.unlink()

    def _collect_broken_configurations(self) -> None:
        """Secrets that were written where only a reference may stand."""
        text = self.process.config.read_text()
        canary = self.seen.credentials["shop"].value
        broken = self.process.folder / "broken.yaml"
        for was, now in (
            ("{bearer: {env: SHOP}}", canary),
            ("{bearer: {env: SHOP}}", f"{{bearer: {canary}}}"),
            ("{bearer: {env: SHOP}}", f"{{bearer: {{env: {canary}-}}}}"),
            ("{bearer: {env: SHOP}}", f"{{barer: {canary}}}"),
            ("store: {env: AEGIS_DB}", f"store: postgresql://u:{canary}@127.0.0.1/d"),
            ("store: {env: AEGIS_DB}", f"store: postgresql://u:{canary}@127.0.0.1:x/d?a=b"),
            ("store: {env: AEGIS_DB}", f"store: 'sqlite:///a?password={canary}'"),
        ):
            assert was in text
            broken.write_text(text.replace(was, now))
            self._run("config", "check", f"--config={broken}")
            self._run("config", "show", f"--config={broken}")
        broken.unlink()

    def _collect_files(self, when: str) -> None:
        for path in sorted(self.process.folder.rglob("*")):
            if path.is_file() and path.suffix not in (".secret", ".yaml"):
                name = f"file {path.relative_to(self.process.folder)} {when}"
                self.seen.outputs[name] = path.read_bytes()

    def collect_stopped(self) -> None:
        """What is left when it has ended: its files, what it logged, what care makes of them."""
        folder, config = self.process.folder, f"--config={self.process.config}"
        if self.store.startswith("sqlite:"):
            self._run("store", "backup", str(folder / "backup.db"), config)
        archive = ("--archive", str(folder / "archive.jsonl"))
        self._run("store", "prune", "receipts", "--older-than=0s", "--facts", *archive, config)
        self._collect_files("at the end")


def perform(
    folder: Path,
    sources: Iterable[Source],
    *,
    store: str = "",
    secrets: list[str] = SECRETS,
    rules: str = RULES + OBLIGATIONS,
    asks: bool = True,
) -> Seen:
    """A run from start to stop; unless `asks`, only files are looked at, when it has ended."""
    sources = tuple(sources)
    seen = plant(sources)
    stage = Stage(folder, seen, sources, store or f"sqlite:///{folder}/aegis.db")
    with serving({name: one.value for name, one in seen.held.items()}) as upstream:
        stage.configure(upstream, secrets, rules)
        stage.process.start()
        try:
            stage.send_all()
            if asks:
                stage.send_for_answers()
                stage.introduce()
                stage.collect_running()
            if store:
                seen.outputs |= asyncio.run(tables_of(store))
        finally:
            stage.process.stop()
        stage.collect_stopped()
        seen.received = dict(upstream.received)
    return seen
