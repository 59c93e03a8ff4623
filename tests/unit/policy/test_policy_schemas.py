"""The schemas for editors say what the loaders do: the same keys, and the same files pass."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from compile_cases import CompileCase, all_cases
from policy_setup import CASES, PACKS, UPSTREAMS, WHOLE

from sidecar.config import load as config_load
from sidecar.config import settings, upstreams
from sidecar.config.load import load_config
from sidecar.policy import (
    case_file,
    case_values,
    catalogue_file,
    obligation_terms,
    rule_terms,
    rules,
)
from sidecar.policy.case_set import case_set, read_context
from sidecar.policy.fields import Field, Problems
from sidecar.policy.load import Source, load_policies
from sidecar.problems import Problem
from sidecar.soc import detection_cases, detection_file, detection_values
from sidecar.yaml_reader import read_documents

ROOT = Path(__file__).parents[3]
SCHEMAS = {
    kind: json.loads((ROOT / f"sidecar/schemas/{kind}.schema.json").read_text())
    for kind in ("policy", "catalogue", "test", "detection", "sidecar")
}
VALIDATORS = {kind: jsonschema.Draft202012Validator(schema) for kind, schema in SCHEMAS.items()}
LATER = "not carried out by this version"


def follow(schema: Mapping[str, Any], found: Any) -> Any:
    while isinstance(found, dict) and "$ref" in found:
        found = schema["$defs"][found["$ref"].rpartition("/")[2]]
    return found


TABLES: list[tuple[str, tuple[str, ...], Mapping[str, Field]]] = [
    ("policy", (), rules._FILE_FIELDS),
    ("policy", ("$defs", "rule"), rules._RULE_FIELDS),
    ("policy", ("$defs", "rule", "run"), rule_terms._RUN_FIELDS),
    ("policy", ("$defs", "rule", "approval"), rule_terms._APPROVAL_FIELDS),
    ("policy", ("$defs", "rule", "limits", "anyOf", "0"), rule_terms._LIMIT_FIELDS),
    ("policy", ("$defs", "obligations"), obligation_terms._FIELDS),
    ("policy", ("$defs", "obligations", "redact"), obligation_terms._REDACT_FIELDS),
    ("policy", ("$defs", "obligations", "headers"), obligation_terms._HEADERS_FIELDS),
    ("test", ("$defs", "obligations"), obligation_terms._FIELDS),
    ("catalogue", (), catalogue_file._FILE_FIELDS),
    ("catalogue", ("$defs", "tool", "anyOf", "1"), catalogue_file._TOOL_FIELDS),
    ("catalogue", ("$defs", "defaults"), catalogue_file._FACT_FIELDS),
    ("test", (), case_file.FILE_FIELDS),
    ("test", ("$defs", "tool", "anyOf", "1"), catalogue_file._TOOL_FIELDS),
    ("test", ("$defs", "case"), case_file._CASE_FIELDS),
    ("test", ("$defs", "agent"), case_file._AGENT_FIELDS),
    ("test", ("$defs", "request"), case_values._REQUEST_FIELDS),
    ("test", ("$defs", "case", "http"), case_values._HTTP_FIELDS),
    ("test", ("$defs", "detectionCase"), detection_cases.CASE_FIELDS),
    ("test", ("$defs", "event"), detection_cases.EVENT_FIELDS),
    ("test", ("$defs", "event", "run"), detection_cases.RUN_FIELDS),
    ("detection", (), detection_file.FILE_FIELDS),
    ("detection", ("$defs", "where"), detection_file.WHERE_FIELDS),
    ("detection", ("unusual",), detection_values.UNUSUAL_FIELDS),
    ("detection", ("respond",), detection_values.RESPOND_FIELDS),
]


@pytest.mark.parametrize(
    ("kind", "way", "fields"), TABLES, ids=["-".join((kind, *way)) for kind, way, _ in TABLES]
)
def test_the_keys_are_those_of_the_loader(
    kind: str, way: tuple[str, ...], fields: Mapping[str, Field]
) -> None:
    found: Any = SCHEMAS[kind]
    for step in way:
        found = follow(SCHEMAS[kind], found)
        if isinstance(found, list):
            found = found[int(step)]
        else:
            below = found.get("properties", {})
            found = below[step] if step in below else found[step]
    found = follow(SCHEMAS[kind], found)
    assert set(found["properties"]) == set(fields)
    assert found["additionalProperties"] is False
    required = {name for name, field in fields.items() if field.is_required}
    assert set(found.get("required", ())) == required
    for name in fields:
        assert LATER not in found["properties"][name].get("description", "").lower(), name


def test_the_keys_of_sidecar_yaml_are_those_of_the_loader() -> None:
    schema = SCHEMAS["sidecar"]
    assert set(schema["properties"]) == set(config_load.KEYS)
    upstream = schema["properties"]["upstreams"]["additionalProperties"]
    assert set(upstream["properties"]) == set(upstreams.KEYS)
    written = {re.sub(r"\.(env|file)$", "", key) for key in leaves(schema, schema, "")}
    written = {re.sub(r"^(listen\..*\.tls)\..*", r"\1", key) for key in written}
    written = {re.sub(r"^(identity\.jwt)\..*", r"\1", key) for key in written}
    written = {key for key in written if ".auth." not in key}
    declared = {setting.key for setting in settings.declared()}
    forms = {"listen.data.address", "listen.control.address"}
    assert written - forms == declared | {"upstreams.NAME.auth"}


def leaves(schema: Mapping[str, Any], node: Any, prefix: str) -> Iterator[str]:
    """Dotted keys of settings; where names are chosen, as the settings' table writes them."""
    node = follow(schema, node)
    chosen = {"tenants": "TENANT", "agents": "AGENT", "people": "PERSON", "upstreams": "NAME"}
    chosen["sinks"] = "NAME"
    forms = node.get("anyOf", node.get("oneOf", [node]))
    groups = [form for one in forms for form in follow(schema, one).get("oneOf", [one])]
    groups = [follow(schema, one) for one in groups]
    below = [one for one in groups if "properties" in one]
    is_setting = prefix and (len(below) < len(groups) or prefix.endswith(".auth"))
    if is_setting:
        yield prefix
    for group in below:
        for key, member in group["properties"].items():
            name = f"{prefix}.{key}" if prefix else key
            if key in chosen and "additionalProperties" in follow(schema, member):
                named = follow(schema, member)["additionalProperties"]
                yield from leaves(schema, named, f"{name}.{chosen[key]}")
            else:
                yield from leaves(schema, member, name)


# -- files -----------------------------------------------------------------------------------


def documents_of(data: bytes) -> list[tuple[str, Any]]:
    """(kind, plain value) of every document whose kind its first key tells."""
    documents, _ = read_documents("x", data)
    found = []
    for node in documents:
        kind = next(iter(node.value), "") if node.is_mapping else ""
        if kind in SCHEMAS:
            found.append((kind, node.plain()))
    return found


SHIPPED = sorted(path for path in PACKS.rglob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(PACKS)))
def test_every_file_that_is_shipped_is_valid(path: Path) -> None:
    documents = documents_of(path.read_bytes())
    assert documents
    for kind, plain in documents:
        VALIDATORS[kind].validate(plain)


#: Problems a schema sees as well; it may see others, and is not asked about what lies between
#: files, inside CEL, or in YAML itself.
TOLD_BY_SCHEMA = re.compile(
    r"is not a key of|needs \"|is none of |must be text|must be true or false|is not a name$"
    r"|must be a mapping|must be a list|effect is |is not an HTTP method|is not an argument type"
    r"|mode is enforce or shadow|cannot be read as (constants|variables)|is not a rule$"
    r"|times is an integer|args must be a mapping|a path begins with|must be a duration"
    r"|quorum is|is nothing to count by|cases is empty|there is no agent \"\""
)


def told(problem: Problem) -> bool:
    return bool(TOLD_BY_SCHEMA.search(problem.message)) and not problem.is_warning


def agree(kind: str, plain: Any, problems: list[Problem]) -> None:
    """What a loader accepts the schema accepts; what it refuses for a reason a schema can tell
    the schema refuses."""
    errors = [problem for problem in problems if not problem.is_warning]
    is_valid = VALIDATORS[kind].is_valid(plain)
    if not errors:
        assert is_valid, [error.message for error in VALIDATORS[kind].iter_errors(plain)]
    if any(told(problem) for problem in errors):
        assert not is_valid, [str(problem) for problem in errors if told(problem)]


def parts_of(folder: str) -> list[Any]:
    return [
        pytest.param(path, id=f"{folder}-{path.stem}")
        for path in sorted((CASES / folder).glob("*.yaml"))
    ]


@pytest.mark.parametrize("case", all_cases(), ids=lambda case: case.name)
def test_schema_and_loader_agree_on_broken_files(case: CompileCase) -> None:
    parts = {name: part.data for name, part in case.parts.items() if not part.is_beside}
    sources = [Source(name, data) for name, data in parts.items()]
    problems = Problems()
    context = read_context(sources, lambda source, name: b"", problems, WHOLE)
    for file in context.tests:
        case_set(context, file, problems)
    loaded = load_policies(
        sources,
        upstreams={**UPSTREAMS, "payments": "rest"},
        default="deny",
        read_file=lambda source, name: b"",
        has=WHOLE,
    )
    found = [*problems.found, *loaded.problems]
    for name, data in parts.items():
        documents = documents_of(data)
        if len(documents) == 1:
            kind, plain = documents[0]
            own = [problem for problem in found if problem.position.source == name]
            agree(kind, plain, own)


@pytest.mark.parametrize("path", parts_of("decisions"))
def test_schema_and_loader_agree_on_good_files(path: Path) -> None:
    files = yaml.safe_load(path.read_text())["files"]
    checked = 0
    for text in files.values():
        for kind, plain in documents_of(text.encode()):
            VALIDATORS[kind].validate(plain)
            checked += 1
    assert checked


@pytest.mark.parametrize("path", parts_of("language"))
def test_the_policies_of_the_language_are_valid(path: Path) -> None:
    for kind, plain in documents_of(path.read_bytes()):
        VALIDATORS[kind].validate(plain)


CONFIGS = sorted((CASES.parent / "config" / "bad").glob("*.yaml"))
#: Of a configuration a schema tells unknown keys, missing ones, and wrong words.
TOLD_OF_CONFIG = re.compile(
    r"is not a key of|is not one of|^(policies|upstreams|upstreams\.[a-z]+\.url) is missing"
    r"|is not carried out|must be true or false|not a duration|not a size"
)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_schema_and_loader_agree_on_bad_configurations(path: Path) -> None:
    documents, problems = read_documents(path.name, path.read_bytes())
    if problems or len(documents) != 1:
        return  # the YAML itself is wrong
    found = load_config(path, {}, ()).problems
    said = [one for one in found if not one.is_warning and TOLD_OF_CONFIG.search(one.message)]
    if said:
        assert not VALIDATORS["sidecar"].is_valid(documents[0].plain()), said


def test_a_good_configuration_is_valid() -> None:
    text = b"""default: observe
listen: {data: 127.0.0.1:8080, control: {address: "127.0.0.1:9", hosts: a.example}}
store: {env: AEGIS_DB}
policies: pack:read-only
tenants: {acme: {agents: {coder: {team: x, risk: high}}}}
identity: {default_agent: acme/coder}
upstreams:
  github:
    url: https://api.github.com
    auth: {bearer: {env: GITHUB_TOKEN}}
    timeouts: {connect: 5s}
    limits: {request: 1MiB, calls: 3}
  gitlab: {url: "https://gitlab.acme.io/api", private: true, redirects: [cdn.acme.io]}
receipts: {key: {env: KEY}, checkpoint: {every: 1s, receipts: 9, to: ["file:x", "https://w/add"]}}
record: {arguments: digest}
soc: {level: respond}
sinks:
  ops: {kind: webhook, url: {env: HOOK}, secret: {env: KEY}, tls: {ca: {file: ca.pem}}}
  out: {kind: stdout}
limits: {queue: 10, drain: 0s}
"""
    documents, problems = read_documents("sidecar.yaml", text)
    assert not problems
    VALIDATORS["sidecar"].validate(documents[0].plain())


@pytest.mark.parametrize(
    ("kind", "plain"),
    [
        ("policy", {"policy": "p", "rules": [{"id": "a", "tool": "x", "effect": "allow"}]}),
        ("policy", {"policy": "p", "rules": [{"id": "a", "tools": "x"}]}),
        ("policy", {"policy": "P", "rules": []}),
        ("catalogue", {"catalogue": "c", "tools": {"a": {"mutates": "yes"}}}),
        ("catalogue", {"catalogue": "c", "tools": {"a*": {"route": "GET /a"}}}),
        ("test", {"test": "p", "cases": [{"name": "a", "call": "read", "expect": "allow"}]}),
        ("sidecar", {"policies": "p", "upstreams": {}}),
    ],
)
def test_a_schema_refuses_what_is_wrong(kind: str, plain: dict[str, Any]) -> None:
    assert not VALIDATORS[kind].is_valid(plain)


def test_the_schemas_are_schemas() -> None:
    for schema in SCHEMAS.values():
        jsonschema.Draft202012Validator.check_schema(schema)
