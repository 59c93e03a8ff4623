"""What a failed condition says: never a value of the call, since it is recorded; names it may."""

from __future__ import annotations

from typing import Any

import pytest
from policy_setup import judge, policies

CANARY = "kcanary77"
TOOLS = "catalogue: files\ntools: {pay: {}}\n"
ARGS: dict[str, Any] = {
    "t": CANARY,
    "n": 73519,
    "below": {"a": 1},
    "list": [CANARY],
    "url": f"http://u:{CANARY}@h/",
    "address": f"http://{CANARY}.1/",
    "six": f"http://[{CANARY[1:3]}::{CANARY}]/",
    "%": f"%{CANARY}",
}
#: Conditions that fail, with what is said all the same.
FAILING = [
    ("constants.table[args.t] == 1", "Key not found in map"),
    ("args[args.t] == 1", "Key not found in map"),
    ("args.below[args.t] == 1", "Key not found in map"),
    ("constants.numbers[args.n] == 1", "out of range"),
    ("[1, 2][args.n] == 1", "out of range"),
    ("variables.looked == 1", ""),
    ("args.missing == 1", '"missing"'),
    ("args.below.missing == 1", '"missing"'),
    ('args["with blank"] == 1', '"with blank"'),
    ("args.t < 1", "string, int64"),
    ("args.t", "gives string"),
    ("int(args.t) == 1", "string to int"),
    ("double(args.t) > 1.0", "string to double"),
    ("uint(args.t) == 1u", "string to uint"),
    ("bool(args.t)", "'string' to 'bool'"),
    ("timestamp(args.t) > now", "Timestamp"),
    ('duration(args.t) > duration("1s")', "Duration"),
    ('now.getHours("UTC") == args.t.x', ""),
    ("args.list[args.t] == 1", ""),
    ("args.list.exists(x, x.foo == 1)", ""),
    ("args.list.all(x, int(x) == 1)", "string to int"),
    ("args.t.charAt(args.n) == 'x'", ""),
    ("args.t.substring(args.n) == 'x'", ""),
    ('args["%"].format([1]) == "x"', ""),
    ('"%d".format([args.t]) == "x"', ""),
    ("size({args.t: 1, args.list[0]: 2}) == 1", ""),
    ('host(args.t) == "x"', "URL"),
    ('host(args.url) == "x"', "URL"),
    ('host(args.address) == "x"', "not an IP address"),
    ('host(args.six) == "x"', ""),
    ('cidr("10.0.0.0/8").containsIP(args.t)', "not an IP address"),
    ('args.t.containsIP("10.0.0.1")', "not a network"),
    ("cidr(args.t).containsIP(args.t)", "not a network"),
    ('inDomain("a.b", "." + args.t)', "not a domain"),
    ("under(args.t, args.t)", "root"),
    ('run.count("a/*", duration(args.t)) > 0', "Duration"),
]


@pytest.mark.parametrize(("condition", "said"), FAILING)
def test_g5_d1_an_error_tells_no_value_of_the_call(condition: str, said: str) -> None:
    text = (
        "policy: p\nconstants: {table: {a: 1}, numbers: [1]}\n"
        "variables: {looked: 'constants.table[args.t]'}\n"
        "rules:\n  - id: a\n    effect: deny\n    tools: files/pay\n"
        f"    when: |\n      {condition}\n"
    )
    decision = judge(policies(text, TOOLS), "files/pay", ARGS)
    assert decision.code == "condition_error"
    (match,) = decision.matches
    assert match.error
    assert said in match.error
    for value in (CANARY, str(ARGS["n"])):
        assert value not in match.error
        assert value not in decision.reason
