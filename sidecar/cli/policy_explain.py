"""`aegis-sidecar policy explain`: why a call is judged as it is, rule by rule."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from sidecar.cli.chosen_store import finished, store_url, tenant_of
from sidecar.cli.policy_sources import (
    NothingChosen,
    add_source_arguments,
    load_chosen,
    route_for,
    show_problems,
    use_usual_config,
)
from sidecar.cli.terminal_text import fit
from sidecar.kept_id import kept_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sidecar.cli.policy_sources import Chosen
    from sidecar.errors import Refused
    from sidecar.ledger.recorded_call import RecordedCall
    from sidecar.model import Principal, Tool
    from sidecar.policy.case_file import Case
    from sidecar.policy.explain import Explanation
    from sidecar.policy.hidden import Hidden
    from sidecar.policy.index import PolicySet
    from sidecar.problems import Position, Problem
    from storage.records import CallFactsRow, ReceiptRow
    from storage.sql_store import SqlReader

NAME = "explain"
HELP = "why a call is judged as it is: every rule that names its tool, with values"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which policies, and which call."""
    add_source_arguments(parser)
    call = parser.add_mutually_exclusive_group(required=True)
    call.add_argument(
        "--call",
        metavar="FILE",
        help="a call as JSON (or YAML), - for standard input: {call, args, agent, http, claims, "
        "now, after}; `call` is a tool, or {method, path, body}",
    )
    call.add_argument(
        "--id", metavar="ID", help="a recorded call, by its Aegis-Call-Id or decision_id"
    )
    parser.add_argument("--store", help="store URL, instead of the configuration's (with --id)")
    parser.add_argument("--tenant", help="of which tenant (default: the only one there is)")
    parser.add_argument("--json", action="store_true", help="as one JSON object")


def run(args: argparse.Namespace) -> int:
    """0 explained, 1 no such call or store trouble, 2 unusable policies, call or usage."""
    use_usual_config(args)
    try:
        chosen = load_chosen(args)
    except NothingChosen as error:
        show_problems(error.problems)
        if error.message:
            print(error.message, file=sys.stderr)
        return 2
    errors = [problem for problem in chosen.problems if not problem.is_warning]
    if chosen.policy_set is None:
        show_problems(errors)
        return 2
    if args.id is not None:
        return finished(_explain_recorded(args, chosen, chosen.policy_set))
    return _explain_given(args, chosen, chosen.policy_set)


# -- a call that is given --------------------------------------------------------------------


def _explain_given(args: argparse.Namespace, chosen: Chosen, policy_set: PolicySet) -> int:
    from sidecar.errors import Refused
    from sidecar.policy.case_runner import explain_call

    case, problems = _read_call(args.call, chosen.agents)
    if case is None:
        show_problems(problems)
        return 2
    try:
        found = explain_call(policy_set, chosen.kinds, case, route_for(chosen.root))
    except Refused as refused:
        _show_refused(refused, args.json, {})
        return 0
    show_problems(_undeclared(case, found.call.tool, policy_set, args.call))
    _show(found, chosen.where, args.json, {})
    return 0


def _undeclared(case: Case, tool: Tool, policy_set: PolicySet, path: str) -> list[Problem]:
    """A word on a tool that no catalogue declares: its name may be a slip."""
    from sidecar.policy.fields import did_you_mean
    from sidecar.problems import Position, Problem

    if tool.declared or not isinstance(case.call, str):
        return []
    catalogue = policy_set.catalogue
    message = f'no catalogue declares "{case.call}"'
    if catalogue.upstreams and tool.upstream not in catalogue.upstreams:
        message = f'there is no upstream "{tool.upstream}"'
    hint = did_you_mean(case.call, [one.name for one in catalogue.tools])
    name = "standard input" if path == "-" else path
    return [Problem(Position(name), message, hint, is_warning=True)]


def _read_call(path: str, agents: Sequence[Principal] | None) -> tuple[Case | None, list[Problem]]:
    """The call in a file, or why there is none in it."""
    from pathlib import Path

    from sidecar.policy.case_file import read_call
    from sidecar.policy.fields import Problems
    from sidecar.problems import Position, Problem
    from sidecar.yaml_reader import BYTES_MAX, read_yaml

    name = "standard input" if path == "-" else path
    try:
        with sys.stdin.buffer if path == "-" else Path(path).open("rb") as handle:
            data = handle.read(BYTES_MAX + 1)
    except OSError as error:
        return None, [Problem(Position(name), f"cannot be read: {error.strerror}")]
    if data.lstrip()[:1] == b"{":
        node, found = _read_json(name, data)
    else:
        node, found = read_yaml(name, data)
    if node is None:
        return None, found
    problems = Problems()
    case = read_call(node, problems, agents)
    return case, problems.found


def _read_json(name: str, data: bytes) -> Any:
    """Strict JSON as nodes: unlike YAML it has null, and its escapes. Places are lost."""
    from sidecar.errors import Refused
    from sidecar.json_nodes import node_of
    from sidecar.problems import Position, Problem
    from sidecar.proxy.strict_json import parse
    from sidecar.yaml_reader import DEPTH_MAX

    try:
        return node_of(parse(data.strip(), DEPTH_MAX), Position(name)), []
    except Refused as refused:
        detail = f": {refused.detail}" if refused.detail else ""
        return None, [Problem(Position(name), f"{refused.reason}{detail}")]


# -- a call that is recorded -----------------------------------------------------------------


async def _explain_recorded(args: argparse.Namespace, chosen: Chosen, policy_set: PolicySet) -> int:
    import storage
    from sidecar.errors import Refused
    from sidecar.ledger.recorded_call import NotReplayable, recorded_call
    from sidecar.policy.explain import explain
    from sidecar.policy.replay import under_set

    reader = await storage.open_reader(store_url(args))
    try:
        tenant_id = await tenant_of(reader, args.tenant)
        receipts = await reader.receipts_of_call(tenant_id, kept_id(args.id))
        if not receipts:
            print(f"no call {args.id!a} of tenant {tenant_id!a} is recorded", file=sys.stderr)
            return 1
        beside = await reader.call_facts(tenant_id, receipts[0].seq)
        belongs = await _belongs(reader, receipts[0], beside)
    finally:
        await reader.close()
    try:
        recorded = recorded_call(receipts[0], beside)
    except NotReplayable as error:
        print(f"call {args.id!a} cannot be judged again: {error}", file=sys.stderr)
        return 1
    then = {
        "effect": recorded.effect,
        "code": recorded.code,
        "rule": recorded.rule_id,
        "revision": recorded.revision,
        "receipt": recorded.seq,
        **belongs,
    }
    hidden = recorded.hidden
    try:
        call, hidden = under_set(policy_set, recorded.call, hidden)
    except Refused as refused:
        _show_refused(refused, args.json, then)
    else:
        found = explain(
            policy_set, recorded.principal, call, recorded.at_us, run=recorded.run, hidden=hidden
        )
        _show(found, chosen.where, args.json, then)
    if not args.json:
        print(_then_text(recorded, policy_set.revision))
        for line in _belongs_lines(belongs):
            print(f"      {fit(line)}")
        print(f"      not recorded of it: {fit(_hidden_text(hidden))}")
    return 0


async def _belongs(
    reader: SqlReader, receipt: ReceiptRow, beside: CallFactsRow | None
) -> dict[str, Any]:
    """To which other calls this one belongs, as its facts and the record tell."""
    from sidecar.ledger.continued import call_answered_with

    try:
        facts = json.loads(beside.facts) if beside is not None else {}
    except ValueError:
        return {}
    belongs = dict(facts.get("mcp") or {})
    if "continues" in belongs:
        digest = str(belongs["continues"])
        belongs["continues_call"] = await call_answered_with(
            reader, receipt.tenant_id, digest, receipt.seq
        )
    return belongs


def _belongs_lines(belongs: Mapping[str, Any]) -> Iterator[str]:
    if "asked_by" in belongs:
        within = f", in the answer to call {belongs['within']}" if "within" in belongs else ""
        yield f"asked by the {belongs['asked_by']}{within}"
    if "continues" in belongs:
        state = f"by the request state {belongs['continues'][:16]}…"
        call_id = belongs["continues_call"]
        named = f"call {call_id}" if call_id else "a call that is not on record any more"
        yield f"continues {named}, {state}"


def _then_text(recorded: RecordedCall, revision: str) -> str:
    from sidecar.policy.contained import RULE_PREFIX
    from sidecar.policy.replay import STALE

    named = recorded.rule_id or recorded.code
    is_same = recorded.revision == revision
    under = "the same policies" if is_same else f"other policies, {recorded.revision[:8]}"
    then = f"      then: {recorded.effect} by {named}, under {under} (receipt {recorded.seq})"
    if named.startswith(RULE_PREFIX):
        then += "\n      a containment decided, whatever the rules say: see `containments show`"
    if recorded.code == STALE:
        then += "\n      refused, whatever the rules say: what that rested on kept changing"
    return then


def _hidden_text(hidden: Hidden) -> str:
    names = sorted(hidden.facts)
    names += [".".join(("args", *path)) for path in sorted(hidden.arguments)]
    return ", ".join(names)


def _show_refused(refused: Refused, as_json: bool, then: dict[str, Any]) -> None:
    if as_json:
        said = {"effect": "deny", "code": refused.code, "reason": refused.reason}
        data = {"decision": said, "rules": []}
        print(json.dumps({**data, "recorded": then} if then else data))
        return
    print(f'deny  "{refused.reason}"  [{refused.code}]')
    print(f"      refused before any rule is asked. {refused.kind.next_step}")


def _show(
    found: Explanation, places: Mapping[str, Position], as_json: bool, then: dict[str, Any]
) -> None:
    from sidecar.policy.explain_text import explanation_data, explanation_lines

    if as_json:
        data = explanation_data(found, places)
        print(json.dumps({**data, "recorded": then} if then else data, ensure_ascii=False))
        return
    for line in explanation_lines(found, places):
        print(fit(line))
