"""Whether detections and tools fit together: what is misspelt there is met by nothing, silently.

Knows: the tools, the labels they carry and those that rules add to a run; which events name their
tool as the catalogue does. All of it is a warning: a detection may wait for what is still to come.
Must not know: how detections are compiled, windows, events at work.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from sidecar.policy.cel_checks import Reading
from sidecar.policy.fields import Problems, did_you_mean
from sidecar.policy.index import PolicySet
from sidecar.policy.matchers import Glob
from sidecar.policy.reach import Reach
from sidecar.policy.text_places import Texts
from sidecar.problems import Position
from sidecar.soc.detection_file import DetectionDraft
from sidecar.soc.model import EventKind
from sidecar.yaml_reader import Node

#: Others tell of tools by the names that their servers give them.
_NAMED_BY_CATALOGUE: Final = (EventKind.DECISION, EventKind.APPROVAL)
_PACK: Final = "pack:"


def check_fit(
    drafts: Sequence[DetectionDraft],
    conditions: Iterable[tuple[Node, Reading]],
    policy_set: PolicySet,
    texts: Texts,
    problems: Problems,
) -> None:
    """Notes what no tool of the set, and no run, can have. `conditions` are those of the drafts,
    with what they read."""
    reach = Reach(policy_set.catalogue)
    carried = {label for tool in reach.all for label in tool.labels}
    gathered = carried | set(_added(policy_set))
    for draft in drafts:
        for label, position in draft.labels:
            _note_label(label, position, carried, problems)
        for label, position in draft.run_labels:
            _note_label(label, position, gathered, problems)
        if draft.event in _NAMED_BY_CATALOGUE and not draft.position.source.startswith(_PACK):
            for pattern, position in draft.tools:
                _note_tool(pattern, position, reach, problems)
    for node, reading in conditions:
        for (held_by, label), offset in reading.literals.labels.items():
            known = carried if held_by == "tool.labels" else gathered
            _note_label(label, texts.place(node, offset), known, problems, "when: ")


def _added(policy_set: PolicySet) -> Iterator[str]:
    for rule in policy_set.rules:
        if rule.obligations is not None:
            yield from rule.obligations.add_labels


def _note_label(
    label: str, position: Position, known: set[str], problems: Problems, where: str = ""
) -> None:
    if label not in known:
        hint = did_you_mean(label, known) or "give it to tools in the catalogue"
        problems.warning(position, f'{where}no tool carries the label "{label}"', hint)


def _note_tool(pattern: str, position: Position, reach: Reach, problems: Problems) -> None:
    glob = Glob(pattern)
    if not any(glob.matches(tool.name) for tool in reach.candidates([glob])):
        problems.warning(position, f'"{pattern}" names no tool', did_you_mean(pattern, reach.names))
