"""Drafts become detections: conditions compiled, and what the record never tells is refused.

Knows: where a problem inside a text stands in its file, that names are unique in a set, what the
revision covers (what detections say, not comments or order).
Must not know: files on disk, windows at work.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from sidecar.policy.canonical import canonical_hash
from sidecar.policy.cel_checks import COUNT, BadExpression, Finding, Reading
from sidecar.policy.fields import Problems
from sidecar.policy.hidden import reads_of_condition
from sidecar.policy.index import PolicySet
from sidecar.policy.text_places import Texts
from sidecar.problems import Position
from sidecar.soc.detection import Detection, Detections, Looked, Wanted
from sidecar.soc.detection_file import DetectionDraft, WantedDraft, read_detection
from sidecar.soc.detection_fit import check_fit
from sidecar.yaml_reader import Node

if TYPE_CHECKING:
    from sidecar.policy.conditions import Condition, Scope

#: What conditions of rules read and no record tells.
_NEVER_RECORDED: Final = ("http.headers", "agent.claims", "run.id", COUNT)


def read_detections(
    documents: Iterable[Node],
    texts: Texts,
    secrets: Container[str],
    problems: Problems,
    policy_set: PolicySet | None = None,
) -> Detections:
    """The detections of a set of files, every problem noted; those with problems are left out.
    With the set they stand beside, if its catalogue declares any tool, what fits none of them is
    pointed out."""
    drafts: list[DetectionDraft] = []
    for node in documents:
        further = Problems()
        draft = read_detection(node, further)
        refused = node.refused_places()
        problems.take(one for one in further.found if one.position not in refused)
        if draft is not None:
            drafts.append(draft)
    _refuse_twice(drafts, problems)
    compiler = _Compiler(texts, secrets, problems)
    found = [one for draft in drafts if (one := compiler.compiled(draft)) is not None]
    if policy_set is not None and policy_set.catalogue.entries:
        check_fit(drafts, compiler.conditions, policy_set, texts, problems)
    revision = canonical_hash({draft.name: draft.plain for draft in drafts}) if drafts else ""
    return Detections(found, revision, secrets)


def _refuse_twice(drafts: Sequence[DetectionDraft], problems: Problems) -> None:
    first: dict[str, Position] = {}
    for draft in drafts:
        if draft.name in first:
            problems.error(
                draft.position,
                f'there are two detections "{draft.name}"',
                f"first at {first[draft.name]}",
            )
        first.setdefault(draft.name, draft.position)


class _Compiler:
    """Compiles conditions, all in one scope: a detection has no constants and no variables."""

    def __init__(self, texts: Texts, secrets: Container[str], problems: Problems) -> None:
        self._texts = texts
        self._secrets = secrets
        self._problems = problems
        self._scope: Scope | None = None
        #: Every condition that could be compiled, where it is written, with what it reads.
        self.conditions: list[tuple[Node, Reading]] = []

    def compiled(self, draft: DetectionDraft) -> Detection | None:
        """The detection; None of one that cannot be used, which has been noted."""
        before = self._problems.error_count
        wanted = tuple(self._wanted(one) for one in draft.wanted)
        self._check_secret(draft)
        if not draft.is_sound or self._problems.error_count > before:
            return None
        first = draft.first
        return Detection(
            draft.name,
            draft.severity,
            draft.event,
            wanted,
            draft.by,
            draft.reason,
            draft.quiet_us,
            draft.at_least,
            draft.within_us,
            draft.distinct.value(is_kept=False) if draft.distinct is not None else None,
            draft.is_sequence,
            first.value(is_kept=True) if first is not None else None,
            first.name if first is not None else "",
            draft.unusual,
            draft.respond,
            canonical_hash(draft.plain),
        )

    def _check_secret(self, draft: DetectionDraft) -> None:
        """The values of secret names are never recorded, so they cannot be told apart."""
        for named in (draft.distinct, draft.first):
            if named is None or not named.name.startswith("args."):
                continue
            if any(part in self._secrets for part in named.name.split(".")[1:]):
                self._problems.error(
                    named.position,
                    f'"{named.name}" is never recorded',
                    "its name is one of `record.secrets`",
                )

    def _wanted(self, draft: WantedDraft) -> Wanted:
        condition = self._condition(draft.when) if draft.when is not None else None
        if condition is None or self._scope is None:
            return Wanted(draft.heard, draft.looked)
        from sidecar.policy.evaluation import BoundScope

        looked = replace(
            draft.looked or Looked(),
            condition=condition,
            scope=BoundScope(self._scope, [condition]),
            reads=reads_of_condition(condition),
        )
        return Wanted(draft.heard, looked)

    def _condition(self, node: Node) -> Condition | None:
        # The CEL library is only for those who have conditions.
        from sidecar.policy.conditions import Scope

        self._scope = self._scope or Scope({})
        try:
            condition = self._scope.condition(node.value)
        except BadExpression as error:
            self._note(node, error.findings)
            return None
        self._note(node, condition.reading.findings)
        self.conditions.append((node, condition.reading))
        never = [one for one in _NEVER_RECORDED if one in condition.facts | condition.run]
        for one in never:
            place = self._texts.place(node, max(0, node.value.find(one)))
            hint = "a detection reads what was recorded of a call"
            self._problems.error(place, f'when: "{one}" is not in the record', hint)
        return condition if not never else None

    def _note(self, node: Node, findings: Sequence[Finding]) -> None:
        for finding in findings:
            if finding.only_in_allow:
                continue
            self._problems.note(
                self._texts.place(node, finding.offset),
                f"when: {finding.message}",
                finding.hint,
                is_warning=finding.is_warning,
            )
