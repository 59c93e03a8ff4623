"""Policies and detections of one set of files, loaded together: both are good, or neither counts.

Knows: that detections have a revision of their own, for they decide nothing: that of the policies
stays what it is when only detections change. What they read of a run is counted all the same.
Must not know: files on disk, when a set is loaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from sidecar.policy.abilities import ABILITIES, Abilities
from sidecar.policy.catalogue_file import ReadFile
from sidecar.policy.fields import Problems
from sidecar.policy.load import SECRETS, LoadedPolicies, Source, load_policies
from sidecar.policy.secret_names import SecretNames
from sidecar.policy.text_places import Texts
from sidecar.soc.detection import NO_DETECTIONS, Detections
from sidecar.soc.detection_set import read_detections


def load_all(
    sources: Sequence[Source],
    *,
    upstreams: Mapping[str, str],
    default: Literal["deny", "observe"],
    read_file: ReadFile,
    secrets: Iterable[str] = SECRETS,
    has: Abilities = ABILITIES,
) -> LoadedPolicies:
    """What `load_policies` gives, with `detections` beside the set, and their problems."""
    names = tuple(secrets)
    loaded = load_policies(
        sources,
        upstreams=upstreams,
        default=default,
        read_file=read_file,
        secrets=names,
        has=has,
    )
    if not loaded.detection_documents:
        return replace(loaded, detections=NO_DETECTIONS)
    problems = Problems()
    detections = read_detections(
        loaded.detection_documents,
        Texts({source.name: source.data for source in sources}),
        SecretNames(names),
        problems,
        loaded.policy_set,
    )
    found = sorted({*loaded.problems, *problems.found})
    if problems.error_count or loaded.policy_set is None:
        return LoadedPolicies(None, found)
    loaded.policy_set.count_for(detections.run_names)
    return replace(loaded, problems=found, detections=detections)


def detections_of(held: object) -> Detections:
    """The detections that a loaded set, or whoever keeps one, carries in `detections` without
    knowing what they are; none where it carries nothing."""
    found = getattr(held, "detections", None)
    return found if isinstance(found, Detections) else NO_DETECTIONS
