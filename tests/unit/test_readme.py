"""README's tables are what the code says, and its examples load.

To write them anew after a change: AEGIS_WRITE_README=1 python -m pytest tests/unit/test_readme.py
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from sidecar.config.load import load_config
from sidecar.config.reference import settings_table
from sidecar.errors import REFUSALS
from sidecar.policy.load import Source, load_policies
from sidecar.policy.rules import _RULE_FIELDS
from sidecar.telemetry.reference import metrics_table

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"


def refusals_table() -> str:
    rows = ["| code | status | meaning | what to do |", "| --- | ---: | --- | --- |"]
    for kind in REFUSALS.values():
        rows.append(f"| `{kind.code}` | {kind.status} | {kind.title} | {kind.next_step} |")
    return "\n".join(rows)


def bench_table() -> str:
    figures = json.loads((ROOT / "tests/results/bench.json").read_text())
    measured = figures["proxies"]
    machine = figures["machine"]
    rows = [
        f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}, "
        f"{machine['system']}; commit {figures['commit']}. One core for the proxy, one for the "
        f"load and the upstream; a 300-byte call, a 1 kB answer; fdatasync p50 "
        f"{measured['fdatasync_p50_ms']} ms.",
        "",
        "| proxy | at once | requests/s | p50 ms | p99 ms | CPU µs a request |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    names = {
        "nginx": "nginx",
        "bare": "bare aiohttp pass-through",
        "sidecar": "aegis-sidecar",
        "envoy": "Envoy, RBAC on the tool's name",
        "mitmproxy": "mitmproxy, the same in an addon",
    }
    for target, levels in measured["targets"].items():
        for level, row in levels.items():
            rows.append(
                f"| {names[target]} | {level[1:]} | {row['requests_per_s']:,.0f} | "
                f"{row['p50_ms']:.2f} | {row['p99_ms']:.2f} | {row['cpu_us']:.0f} |"
            )
    policy, store, overload = figures["policy"], figures["store"], figures["overload"]
    rows += [
        "",
        f"At 32 connections the sidecar carries {measured['ratio_to_bare_aiohttp_c32']} × what the "
        "bare pass-through carries, which judges and records nothing. One connection: "
        f"{measured['added_p50_beyond_fdatasync_ms_c1']} ms beyond the pass-through and one "
        f"fdatasync. {_beside_peers(measured)}A decision takes "
        f"{policy['decision_us_100_rules']} µs at 100 rules, "
        f"{policy['decision_us_100_rules_plain']} µs with a condition of comparisons, "
        f"{policy['decision_us_100_rules_cel']} µs with one that only CEL can evaluate. "
        "The store API commits "
        f"{store['api_calls_per_s_256']:,} calls/s for 256 waiting callers, "
        f"{store['ratio_to_raw_loop_256']} × a raw sqlite3 loop writing the same rows.",
        "",
        f"Offered {overload['offered_to_capacity']} × what it carries (24 kB calls, open loop), it "
        f"goes on carrying {overload['kept_ratio']} × that; a refusal takes "
        f"{overload['refused_p50_ms']} ms (median), {overload['refused_p99_ms']} ms (p99).",
        "",
        _of_streams(figures["streams"]),
    ]
    return "\n".join(rows)


def _beside_peers(measured: dict[str, Any]) -> str:
    half = measured["half_load"]
    return (
        f"At half of what the sidecar carries, it adds {half['added_p50_ms']} ms (median) and "
        f"{half['added_p99_ms']} ms (99th percentile) to the pass-through's time. It carries "
        f"{measured['ratio_to_mitmproxy_c32']} × what mitmproxy does, for "
        f"{measured['cpu_to_envoy_c32']} × the CPU of Envoy; neither of them records anything. "
    )


def _of_streams(streams: dict[str, Any]) -> str:
    return (
        f"The first byte of a streamed reply comes {streams['first_byte_added_p50_ms']} ms later "
        f"(median, the record's fdatasync within); a download of {streams['download_mib']:,} MiB "
        f"grows the sidecar by {streams['download_grows_mib']} MiB, "
        f"{streams['idle_streams']:,} idle event streams by {streams['idle_streams_mib']} MiB, "
        f"{streams['aborted']:,} calls that are broken off by {streams['aborted_grow_mib']} MiB."
    )


def policy_bench_table() -> str:
    figures = json.loads((ROOT / "tests/results/policy.json").read_text())
    machine, decisions, late = figures["machine"], figures["decisions"], figures["lateness"]
    engines = ("sidecar", *decisions["peers"])
    kinds = {
        "structured": "who calls, and how",
        "plain": "comparisons of arguments",
        "cel": "what only CEL can evaluate",
    }
    rows = [
        f"{machine['cpu']}, Python {machine['python']}; commit {decisions['commit']}. µs a "
        "decision (medians; the same rules and calls for every engine, which give the same "
        "answers):",
        "",
        f"| a rule asks | rules | aegis-sidecar | {' | '.join(engines[1:])} |",
        "| --- | ---: |" + " ---: |" * len(engines),
    ]
    for kind, said in kinds.items():
        for size in ("1", "1000", "10000"):
            row = decisions[kind][size]
            cells = " | ".join(f"{row[f'{name}_us']:,.1f}" for name in engines)
            rows.append(f"| {said} | {int(size):,} | {cells} |")
    rows += [
        "",
        f"Loading {late['rules']:,} rules takes {figures['loading']['cpu_s']} s; calls that are "
        f"judged meanwhile come {late['extra_p99_ms']} ms later (99th percentile), "
        f"{late['extra_max_ms']} ms at most. On this machine an empty step of a Python loop takes "
        f"{machine['loop_ns']} ns.",
    ]
    return "\n".join(rows)


TABLES = {
    "refusals": refusals_table,
    "settings": settings_table,
    "metrics": metrics_table,
    "bench": bench_table,
    "policy-bench": policy_bench_table,
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_of_the_readme_is_what_the_code_says(name: str) -> None:
    text = README.read_text()
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    assert text.count(start) == text.count(end) == 1
    before, rest = text.split(start)
    found, after = rest.split(end)
    wanted = TABLES[name]().rstrip("\n") + "\n"
    if os.environ.get("AEGIS_WRITE_README"):
        README.write_text(before + start + wanted + end + after)
        return
    assert found == wanted


def test_commands_named_in_the_readme_exist() -> None:
    from sidecar.cli.main import COMMANDS

    named = set(re.findall(r"aegis-sidecar ([a-z]+)", README.read_text()))
    known = {str(command).rsplit(".", 1)[-1] for command in COMMANDS}
    assert named <= known, named - known
    assert named, "positive control"


def test_every_verb_of_the_store_is_in_the_readme_and_no_other() -> None:
    from sidecar.cli.store import VERBS

    named = set(re.findall(r"aegis-sidecar store ([a-z-]+)", README.read_text()))
    assert named == {verb.NAME for verb in VERBS}


def files() -> dict[str, str]:
    """The YAML examples by the path that each names in its first line."""
    blocks = re.findall(r"```yaml\n(.*?)```", README.read_text(), re.DOTALL)
    return {block.split("\n", 1)[0].removeprefix("# "): block for block in blocks}


def test_the_readmes_configuration_loads(tmp_path: Path) -> None:
    path = tmp_path / "sidecar.yaml"
    path.write_text(files()["gate/sidecar.yaml"])
    loaded = load_config(path, {"GITHUB_TOKEN": "x"}, [])
    assert loaded.problems == []
    assert loaded.config is not None
    assert set(loaded.config.upstreams) == {"github", "files"}


def test_the_readmes_sinks_load_beside_its_configuration(tmp_path: Path) -> None:
    path = tmp_path / "sidecar.yaml"
    ana = "{ana: {roles: [approver], key: {env: ANA}}}"
    people = f"tenants: {{default: {{agents: {{agent: {{}}}}, people: {ana}}}}}\n"
    path.write_text(files()["gate/sidecar.yaml"] + files()["gate/sinks.yaml"] + people)
    environment = {
        "GITHUB_TOKEN": "x", "ANA": "a key of ana, long enough", "HOOK_KEY": "a key of the hook's",
        "HOOK_URL": "https://ops.example/", "CHAT_URL": "https://chat.example/",
        "SYSLOG_URL": "syslog+tls://logs.internal:6514",
    }  # fmt: skip
    loaded = load_config(path, environment, [])
    assert loaded.problems == []
    assert loaded.config is not None
    assert set(loaded.config.sinks) == {"ops", "chat", "siem", "here"}


def test_the_readmes_catalogue_and_policy_load_and_decide() -> None:
    named = files()
    loaded = load_policies(
        [
            Source("tools.yaml", named["gate/policies/github.yaml"].encode()),
            Source("policy.yaml", named["gate/policies/rules.yaml"].encode()),
        ],
        upstreams={"github": "rest"},
        default="deny",
        read_file=lambda source, path: b"",
    )
    assert loaded.problems == []
    assert loaded.policy_set is not None
    assert loaded.policy_set.rule_count == 2


def keys_of_a_rule() -> set[str]:
    """Those of the README's table, first column."""
    table = README.read_text().split("| key of a rule |")[1].split("\n\n")[0]
    return set(re.findall(r"`(\w+)", "".join(row.split("|")[0] for row in table.split("\n|")[2:])))


def test_the_readme_names_keys_of_a_rule_that_there_are_and_misses_none() -> None:
    assert keys_of_a_rule() == set(_RULE_FIELDS)


def test_no_paragraph_stands_twice() -> None:
    paragraphs = [one for one in README.read_text().split("\n\n") if len(one) > 100]
    assert len(paragraphs) > 20, "positive control"
    assert len(paragraphs) == len(set(paragraphs))
