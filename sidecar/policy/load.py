"""Loading: the bytes of policy and catalogue files become one PolicySet, or every problem.

Knows: the kinds of files by their first key, the order of the checks, what the revision covers.
Pure: no I/O but the `read_file` it is given, for documents that catalogues name.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from sidecar.policy.abilities import ABILITIES, Abilities
from sidecar.policy.canonical import canonical_hash_of_much
from sidecar.policy.catalogue_building import build_catalogue
from sidecar.policy.catalogue_file import CatalogueFile, ReadFile, read_catalogue
from sidecar.policy.compiling import CompiledRule, compile_rules
from sidecar.policy.fields import Problems, did_you_mean
from sidecar.policy.index import PolicySet
from sidecar.policy.reach import check_reach
from sidecar.policy.rules import PolicyFile, read_policy
from sidecar.policy.secret_counts import check_counts
from sidecar.policy.secret_names import SecretNames
from sidecar.policy.text_places import Texts
from sidecar.problems import Position, Problem, errors_only
from sidecar.yaml_reader import Node, read_documents

__all__ = ["LoadedPolicies", "Source", "load_policies"]

KINDS = ("catalogue", "policy", "test", "detection")
_OF_A_SIDECAR = frozenset({"policies", "upstreams"})
_OWN_FILE = "give it a file of its own"
_UNKNOWN_NAME = re.compile(r'there is no "((?:constants|variables)\.\w+)"$')
SECRETS = ("password", "token", "secret", "api_key", "authorization")


@dataclass(frozen=True, slots=True)
class Source:
    """A file: the name problems give it, and its bytes. Packs' names begin with `pack:`.

    `is_missing` tells of something that could not be read, which has been reported: then a set is
    not complete, and what seems to be wrong only for the want of it is not reported.
    """

    name: str
    data: bytes
    is_pack: bool = False
    is_missing: bool = False

    def __post_init__(self) -> None:
        if self.name.startswith("pack:"):
            object.__setattr__(self, "is_pack", True)


class Watching(Protocol):
    """The detections beside a set, as far as who only carries them knows them."""

    @property
    def revision(self) -> str:
        """Another one tells of other detections; "" of none."""
        ...


@dataclass(slots=True)
class LoadedPolicies:
    """The set, None if there are errors or a source is missing; every problem, sorted; and where
    rules and tools stand, by name. `detection_documents` are files that begin with `detection:`,
    read by whoever knows what they mean, who puts what they are in `detections`. `material` is
    what the set was made of, for whoever tests it; it is as large as the set."""

    policy_set: PolicySet | None
    problems: list[Problem] = field(default_factory=list)
    places: dict[str, Position] = field(default_factory=dict)
    detection_documents: tuple[Node, ...] = ()
    detections: Watching | None = None
    material: Material | None = None


@dataclass(slots=True)
class Material:
    """The files of a set and its rules as they were compiled; `kinds` are those of the upstreams
    by name."""

    files: Files
    rules: list[CompiledRule]
    kinds: Mapping[str, str]


@dataclass(slots=True)
class Files:
    """The files of a set by kind, read but not yet brought together; of tests and detections, the
    documents as they are."""

    catalogues: list[CatalogueFile] = field(default_factory=list)
    policies: list[PolicyFile] = field(default_factory=list)
    detections: list[Node] = field(default_factory=list)
    tests: list[Node] = field(default_factory=list)
    has_broken_catalogue: bool = False
    lacks_catalogues: bool = False
    lacks_policies: bool = False

    def lacks_all(self) -> None:
        """Notes that something could not be read: whatever it was, it is not here."""
        self.lacks_catalogues = self.lacks_policies = True


def load_policies(
    sources: Sequence[Source],
    *,
    upstreams: Mapping[str, str],
    default: Literal["deny", "observe"],
    read_file: ReadFile,
    secrets: Iterable[str] = SECRETS,
    has: Abilities = ABILITIES,
) -> LoadedPolicies:
    """Loads all files together. `upstreams` gives the kind (rest, mcp) by name, `secrets` the
    names of arguments whose values are neither stored nor shown, `has` what rules may rest on."""
    problems = Problems()
    files = read_files(sources, read_file, problems)
    before = problems.error_count
    catalogue = build_catalogue(files.catalogues, upstreams, problems)
    has_catalogue = problems.error_count == before and not files.has_broken_catalogue
    if files.lacks_catalogues:
        has_catalogue &= {file.upstream for file in files.catalogues} >= set(upstreams)
    compiled = _compiled(files, sources, problems, has)
    if has_catalogue:
        check_reach(compiled, catalogue, problems)
    names = SecretNames(secrets)
    check_counts(compiled, names, catalogue.tools, problems)
    found = sorted(set(problems.found))
    if problems.error_count or _is_partial(sources):
        return LoadedPolicies(None, found, detection_documents=tuple(files.detections))
    policy_set = PolicySet(
        revision=_revision(files, default),
        catalogue=catalogue,
        rules=[one.rule for one in compiled],
        default=default,
        secrets=names,
    )
    places = places_of(compiled, files.catalogues)
    detections = tuple(files.detections)
    material = Material(files, compiled, upstreams)
    return LoadedPolicies(policy_set, found, places, detections, material=material)


def places_of(
    rules: Sequence[CompiledRule], catalogues: Sequence[CatalogueFile]
) -> dict[str, Position]:
    """Where rules and tools stand, by name."""
    found = {one.rule.rule_id: one.draft.position for one in rules}
    for file in catalogues:
        found |= {f"{file.upstream}/{one.name}": file.position for one in file.operations}
        found |= {f"{file.upstream}/{one.operation}": one.position for one in file.drafts}
    return found


def read_files(sources: Sequence[Source], read_file: ReadFile, problems: Problems) -> Files:
    """Reads every source as what its first key says; tests and detections are kept as they are. A
    file that a catalogue names as its OpenAPI document is that, and nothing else."""
    files = Files()
    ordered = sorted(sources, key=lambda one: one.name)
    read = [
        (source, *read_documents(source.name, source.data))
        for source in ordered
        if not source.is_missing
    ]
    if len(read) < len(ordered):
        files.lacks_all()
    described = _described(documents[0] for _, documents, _ in read if documents)
    for source, documents, found in read:
        is_described = posixpath.normpath(source.name) in described
        if is_described and not (documents and _begins_as_ours(documents[0])):
            continue
        problems.take(found)
        if not documents:
            files.lacks_all()
            if not found:
                problems.error(Position(source.name, 1, 1), "the file is empty")
            continue
        further = Problems()
        _read_document(documents, source, read_file, files, further)
        files.has_broken_catalogue |= bool(found) and "catalogue" in _keys(documents[0])
        refused = documents[0].refused_places() if found else ()
        problems.take(one for one in further.found if one.position not in refused)
    return files


def _described(documents: Iterable[Node]) -> frozenset[str]:
    """The files that catalogues name beside them, as sources are named."""
    found = set()
    for node in documents:
        named = node.value.get("openapi") if _keys(node)[:1] == ["catalogue"] else None
        if named is not None and isinstance(named.value, str):
            folder = posixpath.dirname(node.position.source)
            found.add(posixpath.normpath(posixpath.join(folder, named.value)))
    return frozenset(found)


def _begins_as_ours(node: Node) -> bool:
    """Whether it is a file of ours by its first key: no catalogue takes a policy out of force."""
    return next(iter(_keys(node)), "") in KINDS


def _read_document(
    documents: Sequence[Node],
    source: Source,
    read_file: ReadFile,
    files: Files,
    problems: Problems,
) -> None:
    """Reads the first document as what it is; tests may have several, other files have one."""
    kind = _kind(documents[0], problems)
    if kind in ("policy", "catalogue", "detection") and len(documents) > 1:
        problems.error(documents[1].position, "a second document in one file", _OWN_FILE)
    for document in documents if kind == "test" else ():
        if next(iter(_keys(document)), "") == "test":
            files.tests.append(document)
        elif document is not documents[0]:
            problems.error(document.position, "a document of a test file begins with `test:`")
    if kind is None:
        files.lacks_all()
    elif kind == "catalogue":
        catalogue = read_catalogue(documents[0], problems, read_file)
        files.catalogues += [catalogue] if catalogue is not None else []
        files.has_broken_catalogue |= bool(problems.error_count)
    elif kind == "detection":
        files.detections.append(documents[0])
    elif kind == "policy":
        policy = read_policy(documents[0], problems, is_pack=source.is_pack)
        files.policies.append(policy)
        files.lacks_policies |= not policy.is_named


def _keys(node: Node) -> list[str]:
    return list(node.value) if node.is_mapping else []


def _kind(node: Node, problems: Problems) -> str | None:
    """What the first key says; of a file that has the key elsewhere, what that one says."""
    keys = _keys(node)
    if keys and keys[0] in KINDS:
        return keys[0]
    wanted = f"the first key of a file must be one of {', '.join(KINDS)}"
    if not keys:
        problems.error(node.position, wanted)
        return None
    member = node.value[keys[0]]
    place = member.key_position or member.position
    kind = next((kind for kind in KINDS if kind in keys), None)
    hint = f"put `{kind}:` first" if kind is not None else did_you_mean(keys[0], KINDS)
    if keys[0] == "openapi":
        hint = "a catalogue names its document: `openapi: ./FILE`"
    elif _OF_A_SIDECAR.issubset(keys):
        hint = "a sidecar.yaml stands outside of the folder of policies that it names"
    elif kind is None and keys[0] in ("rules", "rule"):
        hint = "put the policy's name first: `policy: NAME`"
    problems.error(place, f'{wanted}, not "{keys[0]}"', hint)
    return kind


def _compiled(
    files: Files, sources: Sequence[Source], problems: Problems, has: Abilities
) -> list[CompiledRule]:
    """The rules. That a condition reads an unknown name is not noted if the name has a problem
    of its own, or may stand in a file that could not be read."""
    found = Problems()
    texts = Texts({source.name: source.data for source in sources})
    compiled = compile_rules(files.policies, texts, found, has)
    by_source = {file.position.source: file for file in files.policies}
    own = [one for one in found.found if not _follows(one, by_source, files.lacks_policies)]
    # What only follows is left out beside what it may follow from, never alone.
    has_cause = _is_partial(sources) or problems.error_count or errors_only(own)
    problems.take(own if has_cause else found.found)
    return compiled


def _is_partial(sources: Sequence[Source]) -> bool:
    return any(source.is_missing for source in sources)


def _follows(problem: Problem, by_source: Mapping[str, PolicyFile], lacks_policies: bool) -> bool:
    """Whether a problem may be there only because something else could not be read."""
    file = by_source[problem.position.source]
    name = _UNKNOWN_NAME.search(problem.message)
    if name is not None:
        is_said = name[1] in file.declared or name[1].partition(".")[0] in file.declared
        return is_said or (lacks_policies and bool(file.imports))
    return lacks_policies and any(
        problem.position == position and not problem.hint for _, position in file.imports
    )


def _revision(files: Files, default: str) -> str:
    """Covers what catalogues, policies and `default` say, not comments, order or file names."""
    return canonical_hash_of_much(
        {
            "default": default,
            "catalogues": {
                file.upstream: [
                    file.plain,
                    hashlib.sha256(file.document).hexdigest() if file.document else "",
                ]
                for file in files.catalogues
            },
            "policies": {file.name: file.plain for file in files.policies},
        }
    )
