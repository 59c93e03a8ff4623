"""`policy replay` and `policy explain --id` over a real store, recorded as the pipeline records."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import storage
from sidecar.cli.main import main
from sidecar.clock import Clock
from sidecar.errors import Refused
from sidecar.ledger.chain import seal
from sidecar.ledger.drafts import call_draft, unread_draft
from sidecar.ledger.recorded_call import recorded_call
from sidecar.model import Decision, Effect, HttpFacts, Principal, ToolCall, TrustLevel
from sidecar.policy.abilities import Abilities
from sidecar.policy.case_runner import entry_of, protocol_decision
from sidecar.policy.decide import decide
from sidecar.policy.hidden import ReadsOfRules
from sidecar.policy.index import PolicySet
from sidecar.policy.load import SECRETS, Source, load_policies
from sidecar.policy.runs import RunState, beginning
from sidecar.policy.verdicts import rule_on
from sidecar.proxy.redaction import Redactor
from storage.records import Entry

CLOCK = Clock()
NOW_US = CLOCK.now_us()
HOUR_US = 3_600_000_000
TOOLS = """catalogue: shop
tools:
  get: GET /orders/{id}
  refund: {route: "POST /orders/{id}/refund", risk: high}
  login: POST /login
"""
POLICY = """policy: p
rules:
  - {id: reads, effect: allow, tools: shop/get}
  - {id: small, effect: allow, tools: shop/refund, when: args.amount <= 50}
  - {id: logins, effect: allow, tools: shop/login, when: has(args.password)}
"""
#: Refunds up to 20 only, and reading by nobody called `reader`.
TIGHTER = POLICY.replace("<= 50", "<= 20") + (
    "  - {id: not-reader, effect: deny, tools: shop/get, agents: reader}\n"
)
CHECKS_PASSWORDS = POLICY.replace("has(args.password)", "size(args.password) > 3")


def policy_set(*texts: str) -> PolicySet:
    loaded = load_policies(
        [Source(f"f{n}.yaml", text.encode()) for n, text in enumerate(texts)],
        upstreams={"shop": "rest"},
        default="deny",
        read_file=lambda source, path: b"",
    )
    assert loaded.policy_set is not None, loaded.problems
    return loaded.policy_set


class Recording:
    """Calls judged and recorded as intents or refusals, in a store of their own."""

    def __init__(self, path: Path) -> None:
        self.url = f"sqlite:///{path}"
        self.path = path
        self.entries: list[Entry] = []
        self.rules = policy_set(TOOLS, POLICY)

    def call(
        self,
        number: int,
        name: str,
        args: Mapping[str, Any],
        *,
        agent: str = "coder",
        keeps_arguments: bool = True,
        age_us: int = HOUR_US,
        query: str = "",
        run: RunState | None = None,
    ) -> str:
        tool = entry_of(self.rules.catalogue, name).tool
        method, path = {
            "shop/get": ("GET", f"/orders/{args.get('id')}"), "shop/login": ("POST", "/login")
        }.get(name, ("POST", "/orders/7/refund"))  # fmt: skip
        http = HttpFacts(method, path, query, "127.0.0.1", {"x": "y"})
        call_id = f"{number:032x}"
        call = ToolCall(call_id, tool, method, dict(args), http, "", (), b"{}", "rest")
        at_us = NOW_US - age_us
        principal = Principal("acme", agent, team="platform")
        decision = decide(self.rules, principal, call, at_us, run)
        self.record(principal, call, decision, at_us, keeps_arguments, run)
        return call_id

    def record(
        self,
        principal: Principal,
        call: ToolCall,
        decision: Decision,
        at_us: int,
        keeps_arguments: bool = True,
        run: RunState | None = None,
    ) -> None:
        goes_ahead = decision.effect is Effect.ALLOW
        refused = None if goes_ahead else Refused(decision.code, decision.reason)
        receipt, facts = call_draft(
            "intent" if goes_ahead else "refusal",
            principal,
            call,
            decision,
            refused,
            ts_us=at_us,
            nonce=bytes(16),
            arguments=Redactor(SECRETS).arguments(call.args),
            keeps_arguments=keeps_arguments,
            run=run,
        )
        self.entries.append(Entry(receipt, facts))

    def write(self) -> None:
        async def fill() -> None:
            store = await storage.open_store(self.url, now_us=CLOCK.now_us, node_id="node")
            for start in range(0, len(self.entries), 100):
                await store.record(self.entries[start : start + 100], seal)
            await store.close()

        asyncio.run(fill())


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    """300 calls: 100 reads by two agents, 100 refunds of 1 to 100, 100 logins."""
    found = Recording(tmp_path / "aegis.db")
    for n in range(100):
        found.call(n, "shop/get", {"id": str(n)}, agent="reader" if n % 4 == 0 else "coder")
        found.call(1000 + n, "shop/refund", {"amount": n + 1, "id": "7"})
        found.call(2000 + n, "shop/login", {"password": "hunter2", "user": "ann"})
    return found


def policies(folder: Path, *texts: str) -> str:
    folder.mkdir(exist_ok=True)
    for number, text in enumerate(texts):
        (folder / f"f{number}.yaml").write_text(text)
    return str(folder)


def replay(recording: Recording, folder: str, *more: str) -> int:
    return main(["policy", "replay", "--store", recording.url, "--with", folder, *more])


def as_json(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_same_policies_change_nothing(
    recording: Recording, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording.write()
    assert replay(recording, policies(tmp_path / "p", TOOLS, POLICY), "--json") == 0
    found = as_json(capsys)
    assert (found["same"], found["different"], found["not_judged"]) == (300, 0, 0)


def test_the_same_rules_in_other_words_change_nothing(
    recording: Recording, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording.write()
    other = POLICY.replace("<= 50", "< 51").replace("policy: p", "policy: q")
    assert replay(recording, policies(tmp_path / "p", TOOLS, other), "--json") == 0
    found = as_json(capsys)
    assert (found["same"], found["different"], found["not_judged"]) == (300, 0, 0)
    assert found["decided_by_another_rule"] == 250  # allowed by q/… where p/… allowed


def test_differences_are_counted_by_rule_and_agent(
    recording: Recording, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording.write()
    folder = policies(tmp_path / "p", TOOLS, TIGHTER)
    assert replay(recording, folder, "--json") == 1
    found = as_json(capsys)
    assert (found["same"], found["different"], found["not_judged"]) == (245, 55, 0)
    changes = {
        (one["then"]["by"], one["now"]["by"], one["agent"]): one["calls"]
        for one in found["differences"]
    }
    assert changes == {
        ("p/small", "default_deny", "acme/coder"): 30,
        ("p/reads", "p/not-reader", "acme/reader"): 25,
    }
    assert len(found["differences"][0]["examples"]) == 3
    assert replay(recording, folder) == 1
    text = capsys.readouterr().out
    assert "300 calls judged, 245 the same, 55 different; 0 cannot be told" in text
    assert "by rule:  p/small 30, p/not-reader 25" in text
    assert "by agent: acme/coder 30, acme/reader 25" in text
    assert "allow → deny  p/small → default_deny  agent acme/coder  e.g. " in text


def test_what_redaction_kept_is_said_and_not_guessed(
    recording: Recording, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording.write()
    folder = policies(tmp_path / "p", TOOLS, CHECKS_PASSWORDS)
    assert replay(recording, folder, "--json") == 0
    found = as_json(capsys)
    assert (found["same"], found["different"], found["not_judged"]) == (200, 0, 100)
    [kept] = found["kept_from_judging"]
    assert (kept["rules"], kept["not_recorded"]) == (["p/logins"], ["args.password"])
    assert replay(recording, folder) == 0
    out = capsys.readouterr().out
    assert "100 × cannot be told: p/logins reads args.password, which was not recorded" in out
    assert "hunter2" not in out and "hunter2" not in recording.path.read_bytes().decode("latin-1")


def test_digests_hide_all_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recording = Recording(tmp_path / "aegis.db")
    recording.call(1, "shop/refund", {"amount": 30}, keeps_arguments=False)
    recording.call(2, "shop/get", {"id": "1"}, keeps_arguments=False)
    recording.write()
    assert replay(recording, policies(tmp_path / "p", TOOLS, TIGHTER), "--json") == 0
    found = as_json(capsys)
    assert (found["same"], found["not_judged"]) == (1, 1)
    assert found["kept_from_judging"][0]["not_recorded"] == ["args.amount"]


def test_records_without_a_judged_call_are_passed_over_by_cause(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = Recording(tmp_path / "aegis.db")
    recording.call(1, "shop/get", {"id": "1"})
    recording.call(2, "shop/get", {"id": "2"})
    refused = Refused("ambiguous_path")
    who = Principal("acme", "coder")
    unread = unread_draft(
        who, call_id="f" * 32, upstream="shop", tool=None, action="GET", refused=refused,
        ts_us=NOW_US,
    )  # fmt: skip
    recording.entries.append(Entry(unread))
    http = HttpFacts("POST", "/", "", "", {})
    unknown = recording.rules.catalogue.unknown("shop").tool
    ping = ToolCall("e" * 32, unknown, "ping", {}, http, "", (), b"", "mcp")
    recording.record(who, ping, protocol_decision(recording.rules), NOW_US)
    over = Decision(Effect.DENY, "rate_limited", "2 of 2", "r", "p/pace", "h")
    keyless = Decision(Effect.DENY, "idempotency_key_required", "no key", "r", "p/all", "h")
    framed = Decision(Effect.DENY, "frames_unchecked", "no frames", "r", "p/all", "h")
    stale = Decision(Effect.DENY, "stale_decision", "kept changing", "r", "p/all", "h")
    for number, decision in enumerate((over, keyless, framed, stale)):
        call = ToolCall(f"{number}" * 32, unknown, "GET", {}, http, "", (), b"", "rest")
        recording.record(who, call, decision, NOW_US)
    recording.write()
    raw = sqlite3.connect(recording.path)
    raw.execute("DELETE FROM call_facts WHERE seq = 2")
    raw.commit()
    raw.close()
    assert replay(recording, policies(tmp_path / "p", TOOLS, TIGHTER), "--json") == 0
    found = as_json(capsys)
    assert found["same"] == 1
    assert found["passed_over"] == {
        "erased": 1, "limit": 1, "obligation": 2, "protocol": 1, "stale": 1, "unread": 1,
    }  # fmt: skip
    folder = policies(tmp_path / "p", TOOLS, TIGHTER)
    assert explain(recording, folder, "3" * 32) == 0
    out = capsys.readouterr().out
    assert "then: deny by p/all, under other policies, r (receipt 8)\n" in out
    assert "refused, whatever the rules say: what that rested on kept changing" in out


def test_only_calls_since_a_time_and_of_a_tenant(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = Recording(tmp_path / "aegis.db")
    for number, age_h in enumerate((100, 50, 2, 1)):
        recording.call(number, "shop/refund", {"amount": 30}, age_us=age_h * HOUR_US)
    recording.write()
    folder = policies(tmp_path / "p", TOOLS, TIGHTER)
    for since, count in (("3h", 2), ("3d", 3), ("30d", 4), ("2020-01-01T00:00:00Z", 4)):
        assert replay(recording, folder, "--since", since, "--json") == 1
        assert as_json(capsys)["different"] == count
    assert replay(recording, folder, "--since", "10m", "--json") == 0
    assert replay(recording, folder, "--since", "soon") == 2
    assert replay(recording, folder, "--tenant", "other") == 2


def test_a_tool_that_is_declared_now_is_judged_as_declared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = Recording(tmp_path / "aegis.db")
    recording.call(1, "shop/unheard-of", {"x": 1})
    recording.write()
    rule = "  - {id: new, effect: allow, tools: shop/refund, when: args.id == '7'}\n"
    text = f"policy: p\nrules:\n{rule}"
    assert replay(recording, policies(tmp_path / "p", TOOLS, text), "--json") == 1
    [change] = as_json(capsys)["differences"]
    assert change["then"] == {"effect": "deny", "by": "default_deny"}
    assert change["now"] == {"effect": "allow", "by": "p/new"}


TYPED = """catalogue: shop
tools:
  refund: {route: "POST /orders/{id}/refund", args: {id: int, amount: int, note: string?}}
"""


def test_arguments_are_read_as_they_are_declared_now(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = Recording(tmp_path / "aegis.db")
    recording.call(1, "shop/unheard-of", {"amount": 5})
    recording.call(2, "shop/unheard-of", {"amount": "5"})  # of JSON, or of a form
    recording.call(3, "shop/unheard-of", {"amount": "much"})
    recording.call(4, "shop/refund", {"id": "7", "amount": 5})  # allowed then
    recording.call(5, "shop/refund", {"id": "seven", "amount": 5})
    recording.write()
    rule = "  - {id: new, effect: allow, tools: shop/refund, when: args.id < 9 && args.amount < 9}"
    folder = policies(tmp_path / "p", TYPED, f"policy: p\nrules:\n{rule}\n")
    assert replay(recording, folder, "--json") == 1
    found = as_json(capsys)
    told = [(one["now"], one["examples"]) for one in found["differences"]]
    assert told == [
        ({"effect": "deny", "by": "invalid_argument"}, [f"{5:032x}"]),
        ({"effect": "allow", "by": "p/new"}, [f"{1:032x}"]),
    ]
    assert (found["same"], found["kept_from_judging"][0]["examples"]) == (2, [f"{2:032x}"])
    reads_nothing = "policy: p\nrules:\n  - {id: new, effect: allow, tools: shop/refund}\n"
    replay(recording, policies(tmp_path / "q", TYPED, reads_nothing))
    said = capsys.readouterr().out
    assert "whether args.amount came as JSON or as text, which was not recorded" in said
    explained = ["policy", "explain", "--store", recording.url, folder, "--id"]
    assert main([*explained, f"{5:032x}"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("deny  \"argument 'id' must be int\"  [invalid_argument]")
    assert "then: allow by p/small" in said
    assert main([*explained, f"{5:032x}", "--json"]) == 0
    assert as_json(capsys)["recorded"]["rule"] == "p/small"
    assert main([*explained, f"{2:032x}"]) == 0
    assert "args.amount" in capsys.readouterr().out.rpartition("not recorded of it:")[2]


@pytest.mark.parametrize("broken", ["policy: p\nrules: []\n", "nonsense: 1\n"])
def test_unusable_policies_and_stores_are_2(
    recording: Recording, tmp_path: Path, broken: str
) -> None:
    recording.write()
    assert replay(recording, policies(tmp_path / "p", broken)) == 2
    assert replay(recording, str(tmp_path / "nowhere")) == 2
    recording.url = f"sqlite:///{tmp_path}/none.db"
    assert replay(recording, policies(tmp_path / "q", TOOLS, POLICY)) == 2


RUN_RULES = """policy: p
rules:
  - {id: reads, effect: allow, tools: shop/get}
  - {id: tainted, effect: deny, tools: shop/get, run: {trust: untrusted_external}}
"""


def test_rules_about_runs_are_judged_where_the_run_was_recorded(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "aegis.db")
    recording.call(1, "shop/get", {"id": "1"})
    [entry] = recording.entries
    assert entry.facts is not None
    loaded = load_policies(
        [Source("t.yaml", TOOLS.encode()), Source("p.yaml", RUN_RULES.encode())],
        upstreams={"shop": "rest"},
        default="deny",
        read_file=lambda source, path: b"",
        has=Abilities(keeps_runs=True),
    )
    assert loaded.policy_set is not None
    outcomes = []
    for trust in (None, "untrusted_external", "trusted_internal_signed"):
        facts = json.loads(entry.facts.facts)
        if trust is not None:
            facts["run"] = {"trust": trust, "labels": [], "calls": 1, "started_us": 0}
        recorded = recorded_call(entry.receipt, entry.facts._replace(facts=json.dumps(facts)))
        ruling = rule_on(
            loaded.policy_set,
            recorded.principal,
            recorded.call,
            recorded.at_us,
            run=recorded.run,
            hidden=recorded.hidden,
            reads=ReadsOfRules(),
        )
        outcomes.append(ruling.decision.effect.value if ruling.is_certain else "?")
    assert outcomes == ["?", "deny", "allow"]


# -- explain --id ----------------------------------------------------------------------------


def explain(recording: Recording, folder: str, call_id: str, *more: str) -> int:
    return main(["policy", "explain", "--store", recording.url, "--id", call_id, folder, *more])


def test_a_recorded_call_is_explained(
    recording: Recording, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording.write()
    folder = policies(tmp_path / "p", TOOLS, TIGHTER)
    assert explain(recording, folder, f"{1000 + 29:032x}") == 0
    out = capsys.readouterr().out
    assert out.startswith('deny  "no rule allows shop/refund"  [default_deny]')
    assert "allow  p/small  no  when false: args.amount 30" in out
    assert "then: allow by p/small, under other policies, " in out
    assert "not recorded of it: agent.claims, http.headers" in out


def test_the_run_of_a_recorded_call_is_told_as_it_was(
    recording: Recording, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunState(
        TrustLevel.UNTRUSTED_EXTERNAL, frozenset({"reads-private"}), 3, NOW_US, "",
        "shop/get", f"{7:032x}", 36_131_000_000,
    )  # fmt: skip
    call_id = recording.call(5000, "shop/get", {"id": "1"}, run=run)
    entry = recording.entries[-1]
    assert recorded_call(entry.receipt, entry.facts).run == run
    fresh = recording.call(5001, "shop/get", {"id": "1"}, run=beginning(TrustLevel.UNKNOWN))
    recording.write()
    folder = policies(tmp_path / "p", TOOLS, RUN_RULES)
    assert explain(recording, folder, call_id) == 0
    said = "trust untrusted_external since shop/get at 10:02:11; labels reads-private; 3 calls"
    assert said in capsys.readouterr().out
    assert explain(recording, folder, call_id, "--json") == 0
    found = as_json(capsys)["run"]
    assert (found["lowered_in"], found["lowered_at"][11:19]) == (f"{7:032x}", "10:02:11")
    assert explain(recording, folder, fresh) == 0
    assert "; labels none; no calls" in (out := capsys.readouterr().out) and " since " not in out


def test_a_recorded_call_whose_secret_matters_is_not_guessed(
    recording: Recording, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording.write()
    folder = policies(tmp_path / "p", TOOLS, CHECKS_PASSWORDS)
    assert explain(recording, folder, f"{2000:032x}", "--json") == 0
    found = as_json(capsys)
    assert found["decision"]["is_certain"] is False
    assert "args.password" in found["hidden"]
    assert found["recorded"]["effect"] == "allow"
    verdicts = {one["rule"]: one["verdict"] for one in found["rules"]}
    assert verdicts["p/logins"] == "unknown"


def test_a_call_that_is_not_there(recording: Recording, tmp_path: Path) -> None:
    recording.write()
    folder = policies(tmp_path / "p", TOOLS, POLICY)
    assert explain(recording, folder, "0" * 31 + "x") == 1
    assert explain(recording, folder, f"{1:032x}") == 0
