"""What the cases of a test file are judged by: the policies it names, the folder's catalogues, and
the tools it adds.

Knows: that policies which are not named stay out, that a tool of the file takes the place of the
catalogue's entry, and which names in a case must exist.
Must not know: how a case is judged, where files are.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from sidecar.policy.abilities import WHOLE, Abilities
from sidecar.policy.canonical import canonical_hash
from sidecar.policy.case_file import Case, CaseFile, is_of_detections, read_case_file
from sidecar.policy.catalogue import Catalogue
from sidecar.policy.catalogue_building import build_catalogue
from sidecar.policy.catalogue_file import CatalogueFile, ReadFile, ToolDraft, read_tool
from sidecar.policy.compiling import CompiledRule, compile_rules
from sidecar.policy.fields import Problems, did_you_mean
from sidecar.policy.index import PolicySet
from sidecar.policy.load import SECRETS, Files, Source, places_of, read_files
from sidecar.policy.matchers import MCP_PREFIX
from sidecar.policy.secret_names import SecretNames
from sidecar.policy.text_places import Texts
from sidecar.problems import Position
from sidecar.yaml_reader import Node

_NEARLY_THE_SAME: Final = 0.85
_AUTHORIZE: Final = "authorize"


@dataclass(slots=True)
class Context:
    """Everything that stands in one folder, read once: policies and catalogues, and the test
    files among them. `kinds` are those of upstreams of a configuration, as far as one is known."""

    files: Files
    rules: list[CompiledRule]
    tests: list[CaseFile] = field(default_factory=list)
    kinds: Mapping[str, str] = field(default_factory=dict)

    @property
    def places(self) -> dict[str, Position]:
        """Where rules and tools stand, by name."""
        return places_of(self.rules, self.files.catalogues)


@dataclass(frozen=True, slots=True)
class CaseSet:
    """A test file with the set its cases are judged by, and the kinds of its upstreams."""

    file: CaseFile
    policy_set: PolicySet
    kinds: Mapping[str, str]


def read_context(
    sources: Sequence[Source],
    read_file: ReadFile,
    problems: Problems,
    has: Abilities = WHOLE,
) -> Context:
    """All files of a folder. That rules and tools do not fit together is no problem here: a test
    may bring the tools. `has` is what rules may rest on."""
    files = read_files(sources, read_file, problems)
    texts = Texts({source.name: source.data for source in sources})
    build_catalogue(files.catalogues, kinds_of(files.catalogues), problems)
    rules = compile_rules(files.policies, texts, problems, has)
    return Context(files, rules, tests_of(files.tests, problems))


def kinds_of(
    catalogues: Sequence[CatalogueFile], known: Mapping[str, str] | None = None
) -> dict[str, str]:
    """An upstream is taken to be REST if its catalogue has a route, and else to speak MCP, unless
    it is `known` that it only asks."""
    found = {one.upstream: "rest" if one.has_routes else "mcp" for one in catalogues}
    asks = {name for name, kind in (known or {}).items() if kind == _AUTHORIZE}
    return {
        name: _AUTHORIZE if kind == "mcp" and name in asks else kind for name, kind in found.items()
    }


def tests_of(documents: Iterable[Node], problems: Problems) -> list[CaseFile]:
    """The tests of policies among documents that begin with `test:`; what is wrong with their YAML
    was noted with the other files. Those of detections are read by whoever knows them."""
    found = []
    for document in documents:
        if not is_of_detections(document):
            further = Problems()
            found.append(read_case_file(document, further))
            refused = document.refused_places()
            problems.take(one for one in further.found if one.position not in refused)
    return found


def case_set(context: Context, file: CaseFile, problems: Problems) -> CaseSet | None:
    """The set for one test file; None after noting what it names and is not there."""
    before = problems.error_count
    named = {one.name: one for one in context.files.policies}
    for policy, position in file.policies:
        if policy not in named:
            hint = did_you_mean(policy, named) or "policies stand beside their tests"
            problems.error(position, f'there is no policy "{policy}" here', hint)
    wanted = [one for one, _ in file.policies if one in named]
    rules = [one.rule for one in context.rules if one.rule.order[0] in wanted]
    catalogues = with_tools(context.files.catalogues, file.tools, problems)
    kinds = kinds_of(catalogues, context.kinds)
    catalogue = build_catalogue(catalogues, kinds, problems, needs_routes=False)
    _check_names(file.cases, [rule.rule_id for rule in rules], catalogue, problems)
    if problems.error_count > before:
        return None
    policy_set = PolicySet(
        revision=canonical_hash([named[one].plain for one in sorted(set(wanted))]),
        catalogue=catalogue,
        rules=rules,
        default="deny",
        secrets=SecretNames(SECRETS),
    )
    return CaseSet(file, policy_set, kinds)


def with_tools(
    catalogues: Sequence[CatalogueFile], tools: Mapping[str, Node], problems: Problems
) -> list[CatalogueFile]:
    """The catalogues with a test's tools added, or in the place of entries."""
    by_upstream = {one.upstream: one for one in catalogues}
    for tool, node in tools.items():
        place = node.key_position or node.position
        upstream, slash, operation = tool.partition("/")
        if not slash or "*" in tool or not upstream:
            hint = "write <upstream>/<operation>, without *"
            problems.error(place, f'"{tool}" is not a tool', hint)
            continue
        drafts: list[ToolDraft] = []
        read_tool(operation, node, drafts, problems)
        file = by_upstream.get(upstream)
        if file is None:
            file = CatalogueFile(upstream, place, (), (), (), b"", {})
        others = tuple(one for one in file.drafts if one.operation != operation)
        operations = tuple(one for one in file.operations if one.name != operation)
        by_upstream[upstream] = replace(file, drafts=(*others, *drafts), operations=operations)
    return list(by_upstream.values())


def _check_names(
    cases: Sequence[Case], rule_ids: Sequence[str], catalogue: Catalogue, problems: Problems
) -> None:
    """A rule that is not under test decides nothing; a tool that is not declared is judged as
    unknown, which is worth a word where a declared one is nearly called the same."""
    tools = [tool.name for tool in catalogue.tools]
    for case in cases:
        if case.by is not None and case.by_position is not None and case.by not in rule_ids:
            hint = did_you_mean(case.by, rule_ids)
            problems.error(case.by_position, f'there is no rule "{case.by}" under test', hint)
        named = [*case.after, *([case.call] if isinstance(case.call, str) else [])]
        for tool in dict.fromkeys(named):
            upstream, _, operation = tool.partition("/")
            if operation.startswith(MCP_PREFIX) or catalogue.entry(upstream, operation) is not None:
                continue
            near = difflib.get_close_matches(tool, tools, n=1, cutoff=_NEARLY_THE_SAME)
            if near:
                hint = f'did you mean "{near[0]}"?'
                problems.warning(case.position, f'no catalogue declares "{tool}"', hint)
