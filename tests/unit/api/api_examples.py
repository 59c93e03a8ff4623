"""What each route is asked with, so that it is answered: made from the table, with a word only
where a route needs one. A new route without what it needs fails the matrix.
"""

from __future__ import annotations

from typing import Any

from api_setup import CATALOGUE, POLICY, Served, ids_of

from sidecar.control.api.route import Route

_FILES = {"files": {"shop.yaml": POLICY, "catalogue.yaml": CATALOGUE}}

#: Rules in shadow; the last cannot be judged of every call.
TRIAL = """policy: trial
mode: shadow
rules:
  - {id: no-reads, effect: deny, tools: shop/get, when: args.id == "7"}
  - {id: large, effect: allow, tools: shop/refund, when: args.amount > 60}
  - {id: fails, effect: allow, tools: shop/get, when: args.none == "x"}
"""
LIVE = """policy: live
rules:
  - {id: asks, effect: require_approval, tools: shop/login, mode: shadow}
  - {id: no-one, effect: deny, tools: shop/login, when: "!has(args.password)"}
"""

#: Bodies of routes that want one, by name; "{tenant}" is whose key asks.
BODIES: dict[str, Any] = {
    "register_agent": {"agent_key": "newcomer", "name": "N", "owner_team": "t"},
    "make_key": {"name": "bob", "roles": ["viewer"], "days": 30},
    "check_policies": _FILES,
    "replay_calls": _FILES,
    "explain_policies": {"call": {"call": "shop/get", "args": {"id": "1"}}},
    "accept_tools": {"upstream": "mail", "tools": []},
    "forget_tools": {"upstream": "mail", "tools": []},
    "contain": {"action": "block-tool", "subject": "shop/refund", "agent": "coder-{tenant}"},
    "note_incident": {"text": "seen by {tenant}"},
    "test_sink": {"sink": "ops"},
    "retry_sink": {"sink": "ops"},
    "verify_chain": {"receipts": [{"seq": 1}]},
}
QUERIES = {"get_consistency_proof": "first=1"}
#: The receipt of a change of state.
AUDITED_SEQ = 8


def path_of(route: Route, tenant: str, ids: dict[str, str] | None = None) -> str:
    """The path and query by which a route is asked for what a tenant has."""
    seq = AUDITED_SEQ if route.name == "get_audit_event" else 1
    values = {**ids_of(tenant), "seq": str(seq)}
    if route.name == "reject":  # of the first one everybody has said yes by now
        values["approval_id"] = f"second-{values['approval_id']}"
    values |= ids or {}
    path = route.path
    for parameter in route.parameters:
        if parameter.place == "path":
            path = path.replace(f"{{{parameter.name}}}", values[parameter.name])
    query = QUERIES.get(route.name, "")
    return f"{path}?{query}" if query else path


def body_of(route: Route, tenant: str) -> Any:
    """The body a route is asked with; None where none is needed."""
    if route.body is None or route.is_body_optional:
        return None
    body = BODIES[route.name]
    return {
        name: value.replace("{tenant}", tenant) if isinstance(value, str) else value
        for name, value in body.items()
    }


async def in_shadow(served: Served) -> None:
    """Rules in shadow beside those there are, all but the last."""
    folder = served.policies._base / "policies"
    (folder / "trial.yaml").write_text(TRIAL.replace("  - {id: fails", "  #"))
    (folder / "live.yaml").write_text(LIVE)
    result = await served.policies.reload()
    assert result.succeeded, served.policies.problems
