"""The first catalogue: what is taken from a server's word, what is not, and that it loads."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.cli.tools_catalogue import render_catalogue
from sidecar.model import RiskLevel
from sidecar.policy.load import Source, load_policies
from sidecar.yaml_reader import read_documents


def render(*tools: dict[str, Any]) -> Any:
    return render_catalogue("files", tools, server="demo", revision="2026-07-28")


def load(text: str) -> Any:
    def no_file(source: str, path: str) -> bytes:
        raise FileNotFoundError(path)

    loaded = load_policies(
        [Source("files.yaml", text.encode())],
        upstreams={"files": "mcp"},
        default="deny",
        read_file=no_file,
    )
    errors = [problem for problem in loaded.problems if not problem.is_warning]
    assert errors == [] and loaded.policy_set is not None
    return loaded.policy_set.catalogue


def schema(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)[:1]}


KINDS: list[tuple[Any, str]] = [
    ({"type": "string"}, "string"),
    ({"type": "integer"}, "int"),
    ({"type": "number"}, "number"),
    ({"type": "boolean"}, "bool"),
    ({"type": "object", "properties": {"x": {}}}, "object"),
    ({"type": "array"}, '"[any]"'),
    ({"type": "array", "items": {"type": "string"}}, '"[string]"'),
    ({"type": "array", "items": {"type": "array", "items": {"type": "integer"}}}, '"[any]"'),
    ({"type": ["string", "integer"]}, "any"),
    ({"enum": ["a"]}, "any"),
    ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, "any"),
    ({"$ref": "#/$defs/x"}, "any"),
    ({"type": "tuple"}, "any"),
    (True, "any"),
]


@pytest.mark.parametrize(("member", "kind"), KINDS)
def test_simple_schemas_become_types(member: Any, kind: str) -> None:
    draft = render({"name": "t", "inputSchema": schema(first=member, second=member)})
    optional = f'{kind[:-1]}?"' if kind.startswith('"') else f"{kind}?"
    assert f"      first: {kind}\n      second: {optional}\n" in draft.text
    assert load(draft.text).entry("files", "t").args is not None


NULL = {"type": "null"}


@pytest.mark.parametrize(
    ("member", "optional"),
    [
        ({"type": ["string", "null"]}, "string?"),
        ({"type": ["null", "integer"], "default": None}, "int?"),
        ({"anyOf": [{"type": "boolean"}, NULL], "default": None, "title": "X"}, "bool?"),
        ({"oneOf": [NULL, {"type": "array", "items": {"type": "string"}}]}, '"[string]?"'),
        ({"anyOf": [{"$ref": "#/$defs/x"}, NULL]}, "any?"),
        ({"anyOf": [{"type": "string"}, NULL], "not": {"const": "x"}}, "any?"),
        ({"anyOf": [NULL, NULL]}, "any?"),
        ({"type": ["null", "null"]}, "any?"),
        ({"type": "null"}, "any?"),
    ],
)
def test_null_beside_a_type_is_what_the_question_mark_says(member: Any, optional: str) -> None:
    """So do servers declare what may be left out; required, it can only be anything."""
    draft = render({"name": "t", "inputSchema": schema(first=member, second=member)})
    assert f"      first: any\n      second: {optional}\n" in draft.text
    args = load(draft.text).entry("files", "t").args
    assert args.bind({"first": None, "second": None}, ()) == {"first": None, "second": None}


@pytest.mark.parametrize(
    "input_schema",
    [
        None,
        "x",
        {"type": "string"},
        {"type": "object", "properties": []},
        {"type": "object", "additionalProperties": True},
        {"type": "object", "additionalProperties": {"type": "string"}},
        {"type": "object", "oneOf": []},
        {"$ref": "#/x"},
        {"type": "object", "properties": {"a\nb": {}}},
        {"type": "object", "properties": {"": {}}},
    ],
)
def test_other_schemas_leave_arguments_unchecked_and_say_so(input_schema: Any) -> None:
    draft = render({"name": "t", "inputSchema": input_schema})
    assert "# args are unchecked: " in draft.text
    assert load(draft.text).entry("files", "t").args is None


def test_a_tool_without_arguments_takes_none() -> None:
    draft = render({"name": "t", "inputSchema": {"type": "object"}})
    assert "    args: {}\n" in draft.text
    assert load(draft.text).entry("files", "t").args is not None


@pytest.mark.parametrize(
    ("annotations", "risk"),
    [
        (None, RiskLevel.MEDIUM),
        ({"readOnlyHint": True}, RiskLevel.MEDIUM),
        ({"readOnlyHint": True, "destructiveHint": False}, RiskLevel.MEDIUM),
        ({"destructiveHint": True}, RiskLevel.HIGH),
        ({"destructiveHint": False}, RiskLevel.MEDIUM),
        ({"openWorldHint": True}, RiskLevel.MEDIUM),
        ("nonsense", RiskLevel.MEDIUM),
    ],
)
def test_hints_only_tighten(annotations: Any, risk: RiskLevel) -> None:
    draft = render({"name": "t", "annotations": annotations})
    tool = load(draft.text).entry("files", "t").tool
    assert tool.mutates is True
    assert tool.risk is risk
    says_read_only = "the server says read-only; set mutates: false if you agree" in draft.text
    assert says_read_only is (isinstance(annotations, dict) and "readOnlyHint" in annotations)


@pytest.mark.parametrize("name", ["null", "true", "123", "-x", ".x", "yes", "1.5", "a.b-c_d", "on"])
def test_names_that_yaml_would_read_otherwise_are_kept(name: str) -> None:
    draft = render({"name": name})
    assert load(draft.text).entry("files", name) is not None


@pytest.mark.parametrize(
    "name", ["", "a b", "a\nb", "x" * 129, "ä", "mcp:ping", "unknown", 7, None]
)
def test_names_that_cannot_be_declared_are_noted(name: Any) -> None:
    draft = render({"name": name}, {"name": "good"})
    assert draft.tool_count == 1 and len(draft.notes) == 1
    assert "\n" not in draft.notes[0]
    assert load(draft.text).entry("files", "good") is not None


def test_a_name_listed_twice_is_taken_once() -> None:
    draft = render({"name": "t", "description": "first"}, {"name": "t", "description": "second"})
    assert draft.tool_count == 1 and "first" in draft.text and "second" not in draft.text


def test_no_tools_make_an_empty_catalogue() -> None:
    load(render().text)


@pytest.mark.parametrize(
    "description",
    [
        "x\ntools: {}",
        "x\r\u2028\u0085y",
        "\u001b[31mred",
        "\u202egnp.exe",
        "a" * 500,
        "  ",
        "# x",
        "é",
    ],
)
def test_g8_a_description_stays_one_short_printable_comment(description: str) -> None:
    draft = render({"name": "t", "description": description})
    documents, problems = read_documents("x", draft.text.encode())
    assert problems == [] and len(documents) == 1
    assert all(line.isprintable() and len(line) < 120 for line in draft.text.splitlines())
    assert list(load(draft.text).entry("files", "t").tool.labels) == []


TEXT = st.text(st.sampled_from('ab :#"\\{[\n\x1b\u2028é'), max_size=6)
JUNK = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 3), TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(TEXT, inner, max_size=2)),
    max_leaves=4,
)
TOOLS = st.fixed_dictionaries(
    {"name": st.one_of(st.sampled_from(["a", "b", "null", "0x1"]), TEXT)},
    optional={
        "description": JUNK,
        "annotations": JUNK,
        "inputSchema": st.one_of(
            JUNK,
            st.fixed_dictionaries({"properties": st.dictionaries(TEXT, JUNK, max_size=3)}),
        ),
    },
)


@given(st.lists(TOOLS, max_size=3))
def test_whatever_a_server_lists_the_file_loads_and_loosens_nothing(tools: list[Any]) -> None:
    draft = render(*tools)
    catalogue = load(draft.text)
    for tool in tools:
        entry = catalogue.entry("files", tool["name"])
        if entry is not None:
            assert entry.tool.mutates is True
            assert entry.tool.risk >= RiskLevel.MEDIUM
