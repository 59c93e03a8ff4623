"""Loading: the bytes of policy and catalogue files become one PolicySet, or every problem.

Knows: the kinds of files by their first key, the order of the checks, what the revision covers.
Pure: no I/O but the `read_file` it is given, for documents that catalogues name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from sidecar.policy.catalogue_building import build_catalogue
from sidecar.policy.catalogue_file import CatalogueFile, ReadFile, read_catalogue
from sidecar.policy.compiling import Texts, canonical_hash, compile_rules
from sidecar.policy.fields import Problems, did_you_mean
from sidecar.policy.index import PolicySet
from sidecar.policy.reach import check_reach
from sidecar.policy.rules import PolicyFile, read_policy
from sidecar.problems import Position, Problem
from sidecar.yaml_reader import Node, read_documents

__all__ = ["LoadedPolicies", "Source", "load_policies"]

KINDS = ("catalogue", "policy", "test", "detection")
SECRETS = ("password", "token", "secret", "api_key", "authorization")


@dataclass(frozen=True, slots=True)
class Source:
    """A file: the name problems give it, and its bytes. Packs' names begin with `pack:`."""

    name: str
    data: bytes
    is_pack: bool = False

    def __post_init__(self) -> None:
        if self.name.startswith("pack:"):
            object.__setattr__(self, "is_pack", True)


@dataclass(slots=True)
class LoadedPolicies:
    """The set, None if there are errors; and every problem, sorted by place."""

    policy_set: PolicySet | None
    problems: list[Problem] = field(default_factory=list)


@dataclass(slots=True)
class Files:
    """The files of a set by kind, read but not yet brought together."""

    catalogues: list[CatalogueFile] = field(default_factory=list)
    policies: list[PolicyFile] = field(default_factory=list)
    has_broken_catalogue: bool = False


def load_policies(
    sources: Sequence[Source],
    *,
    upstreams: Mapping[str, str],
    default: Literal["deny", "observe"],
    read_file: ReadFile,
    secrets: Collection[str] = SECRETS,
) -> LoadedPolicies:
    """Loads all files together. `upstreams` gives the kind (rest, mcp) by name, `secrets` the
    names of arguments whose values reasons must not show."""
    problems = Problems()
    files = read_files(sources, read_file, problems)
    before = problems.error_count
    catalogue = build_catalogue(files.catalogues, upstreams, problems)
    has_catalogue = problems.error_count == before and not files.has_broken_catalogue
    texts = Texts({source.name: source.data for source in sources})
    compiled = compile_rules(files.policies, texts, problems)
    if has_catalogue:
        check_reach(compiled, catalogue, problems)
    found = sorted(set(problems.found))
    if problems.error_count:
        return LoadedPolicies(None, found)
    policy_set = PolicySet(
        revision=_revision(files, default),
        catalogue=catalogue,
        rules=[one.rule for one in compiled],
        default=default,
        secrets=frozenset(name.lower() for name in secrets),
    )
    return LoadedPolicies(policy_set, found)


def read_files(sources: Sequence[Source], read_file: ReadFile, problems: Problems) -> Files:
    """Reads every source as what its first key says; tests and detections are passed over."""
    files = Files()
    for source in sorted(sources, key=lambda one: one.name):
        documents, found = read_documents(source.name, source.data)
        problems.take(found)
        if found:
            files.has_broken_catalogue = True  # it may have been one
            continue
        if not documents:
            problems.error(Position(source.name, 1, 1), "the file is empty")
            continue
        kind = _kind(documents[0], problems)
        if kind in ("policy", "catalogue") and len(documents) > 1:
            problems.error(documents[1].position, "a second document in one file")
        elif kind == "catalogue":
            before = problems.error_count
            catalogue = read_catalogue(documents[0], problems, read_file)
            files.catalogues += [catalogue] if catalogue is not None else []
            files.has_broken_catalogue |= problems.error_count > before
        elif kind == "policy":
            policy = read_policy(documents[0], problems, is_pack=source.is_pack)
            files.policies += [policy] if policy is not None else []
    return files


def _kind(node: Node, problems: Problems) -> str | None:
    first = next(iter(node.value), None) if node.is_mapping else None
    if first in KINDS:
        return str(first)
    wanted = f"the first key of a file must be one of {', '.join(KINDS)}"
    if first is None:
        problems.error(node.position, wanted)
    else:
        member = node.value[first]
        place = member.key_position or member.position
        problems.error(place, f'{wanted}, not "{first}"', did_you_mean(str(first), KINDS))
    return None


def _revision(files: Files, default: str) -> str:
    """Covers what catalogues, policies and `default` say, not comments, order or file names."""
    return canonical_hash(
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
