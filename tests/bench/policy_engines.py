"""The engines that decide the same calls by the same rules: the sidecar and its peers.

Each is used as its makers mean it to be used when speed counts: rules parsed once, calls in the
form it takes made beforehand. cedarpy has a parsed `PolicySet` and the context as JSON text,
pycasbin its `FastEnforcer`, which looks rules up by tool, regopy a compiled bundle with one entry
point and inputs that were built before.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol

import policy_rules
from policy_rules import Call

from sidecar.clock import Clock
from sidecar.model import Effect, HttpFacts, Principal, ToolCall
from sidecar.policy.decide import decide


class Engine(Protocol):
    """Rules, loaded. `prepared` makes what `allows` takes of a call."""

    def prepared(self, call: Call) -> Any: ...

    def allows(self, prepared: Any) -> bool: ...


class Sidecar:
    """`decide`, as the proxy calls it."""

    def __init__(self, kind: str, rules: int) -> None:
        loaded = policy_rules.load(policy_rules.sources([kind], rules))
        if loaded.policy_set is None:
            raise RuntimeError("\n".join(map(str, loaded.problems)))
        self._policies = loaded.policy_set
        self._clock = Clock()
        self._now_us = self._clock.now_us()
        self._principals = {name: Principal("default", name) for name in ("agent", "reader")}

    def prepared(self, call: Call) -> tuple[Principal, ToolCall]:
        entry = self._policies.catalogue.mcp_tool("up", f"t{call.tool}")
        made = ToolCall(
            call_id=self._clock.new_id(),
            tool=entry.tool,
            action="tools/call",
            args=call.args,
            http=HttpFacts(call.method, "/", "", "127.0.0.1", {}),
            target="",
            headers=(),
            body=b"",
            dialect="mcp",
        )
        return self._principals[call.agent], made

    def allows(self, prepared: tuple[Principal, ToolCall]) -> bool:
        principal, call = prepared
        return decide(self._policies, principal, call, self._now_us).effect is Effect.ALLOW


class Cedar:
    """https://pypi.org/project/cedarpy"""

    _WHEN: ClassVar = {
        "structured": '(context.agent == "agent" || context.agent like "writer-@-*")'
        ' && ["POST", "PUT"].contains(context.method)',
        "plain": "context.args.number > @"
        ' && ["acme", "umbrella", "team-@"].contains(context.args.owner)'
        ' && context.args.options.path like "/srv/t@/*"'
        ' && !(["admin", "root-@"].contains(context.args.kind))',
        "cel": "context.args.number + context.args.fee > @"
        ' && context.args.labels.contains("ops")'
        ' && context.args.options.path like "/srv/t@/*.csv"',
    }
    _RULE = 'permit(principal, action, resource == Tool::"t@") when {{ {} }};\n'

    def __init__(self, kind: str, rules: int) -> None:
        import cedarpy

        text = "".join(
            _numbered(self._RULE.format(self._WHEN[kind]), n) for n in policy_rules.numbers(rules)
        )
        self._decide = cedarpy.is_authorized
        self._policies = cedarpy.PolicySet.from_str(text)
        self._entities = cedarpy.Entities.from_json_str("[]")

    def prepared(self, call: Call) -> dict[str, str]:
        context = {"agent": call.agent, "method": call.method, "args": call.args}
        return {
            "principal": f'Agent::"{call.agent}"',
            "action": 'Action::"call"',
            "resource": f'Tool::"t{call.tool}"',
            "context": json.dumps(context),
        }

    def allows(self, prepared: dict[str, str]) -> bool:
        return bool(self._decide(prepared, self._policies, self._entities).allowed)


class Casbin:
    """https://pypi.org/project/casbin, called pycasbin"""

    _WHEN: ClassVar = {
        "structured": "(r.agent == 'agent' || keyMatch(r.agent, 'writer-@-*'))"
        " && r.method in ('POST', 'PUT')",
        "plain": "r.number > @ && r.owner in ('acme', 'umbrella', 'team-@')"
        " && keyMatch(r.path, '/srv/t@/*') && not (r.kind in ('admin', 'root-@'))",
        "cel": "r.number + r.fee > @ && 'ops' in r.labels"
        " && regexMatch(r.path, '^/srv/t@/.*[.]csv$')",
    }
    _MODEL = """
[request_definition]
r = tool, action, agent, method, number, fee, owner, kind, labels, path
[policy_definition]
p = tool, action, rule
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = r.tool == p.tool && r.action == p.action && eval(p.rule)
"""
    #: Rules are looked up by these columns.
    _KEYS = (0, 1)

    def __init__(self, kind: str, rules: int) -> None:
        import casbin
        from casbin.model import FastModel
        from casbin.persist import Adapter

        class Rules(Adapter):  # type: ignore[misc]
            """Hands the rules over as they are: a file of them would be read by commas."""

            def load_policy(self, model: Any) -> None:
                policy = model.model["p"]["p"].policy
                for n in policy_rules.numbers(rules):
                    policy.append([f"t{n}", "call", _numbered(Casbin._WHEN[kind], n)])

        model = FastModel(self._KEYS)
        model.load_model_from_text(self._MODEL)
        self._enforcer = casbin.FastEnforcer(model, Rules(), cache_key_order=self._KEYS)

    def prepared(self, call: Call) -> tuple[Any, ...]:
        args = call.args
        return (
            f"t{call.tool}", "call", call.agent, call.method, args["number"], args["fee"],
            args["owner"], args["kind"], args["labels"], args["options"]["path"],
        )  # fmt: skip

    def allows(self, prepared: tuple[Any, ...]) -> bool:
        return bool(self._enforcer.enforce(*prepared))


class Rego:
    """https://pypi.org/project/regopy"""

    _WHEN: ClassVar = {
        "structured": 'agent_fits_@; input.method in {"POST", "PUT"}',
        "plain": 'input.args.number > @; input.args.owner in {"acme", "umbrella", "team-@"}; '
        'startswith(input.args.options.path, "/srv/t@/"); '
        'not input.args.kind in {"admin", "root-@"}',
        "cel": 'input.args.number + input.args.fee > @; "ops" in input.args.labels; '
        'startswith(input.args.options.path, "/srv/t@/"); '
        'endswith(input.args.options.path, ".csv")',
    }
    _HELPERS: ClassVar = {
        "structured": 'agent_fits_@ if input.agent == "agent"\n'
        'agent_fits_@ if startswith(input.agent, "writer-@-")\n'
    }
    _ENTRY = "speed/allow"

    def __init__(self, kind: str, rules: int) -> None:
        import regopy

        rule = f'allow if {{ input.tool == "t@"; {self._WHEN[kind]} }}\n'
        rule += self._HELPERS.get(kind, "")
        text = "package speed\ndefault allow := false\n"
        text += "".join(_numbered(rule, n) for n in policy_rules.numbers(rules))
        self._input = regopy.Input
        self._interpreter = regopy.Interpreter()
        self._interpreter.add_module("speed.rego", text)
        self._bundle = self._interpreter.build(None, [self._ENTRY])

    def prepared(self, call: Call) -> Any:
        return self._input(
            {
                "tool": f"t{call.tool}",
                "agent": call.agent,
                "method": call.method,
                "args": call.args,
            }
        )

    def allows(self, prepared: Any) -> bool:
        self._interpreter.set_input(prepared)
        found = self._interpreter.query_bundle_entrypoint(self._bundle, self._ENTRY)
        return str(found.expressions()) == "[true]"


def _numbered(text: str, number: int) -> str:
    return text.replace("@", str(number))


ENGINES: dict[str, Callable[[str, int], Engine]] = {
    "sidecar": Sidecar,
    "cedarpy": Cedar,
    "pycasbin": Casbin,
    "regopy": Rego,
}
_MODULES = {"cedarpy": "cedarpy", "pycasbin": "casbin", "regopy": "regopy"}
#: Not every machine can have every one of them (requirements-test.in).
PEERS: tuple[str, ...] = tuple(
    name for name, module in _MODULES.items() if importlib.util.find_spec(module) is not None
)


def answers(engine: Engine, calls: Sequence[Any]) -> list[bool]:
    """What it says of prepared calls."""
    return [engine.allows(call) for call in calls]
