"""All tests of a set of files, of policies and of detections, run before it is put in force.

Knows: that there are bounds, and that a set whose tests do not keep them is no better than one
whose tests fail. Must not know: files on disk, what becomes of the set.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sidecar.policy.case_file import is_of_detections
from sidecar.policy.case_runner import Route
from sidecar.policy.case_set import case_set
from sidecar.policy.catalogue_file import CatalogueFile
from sidecar.policy.fields import Problems
from sidecar.policy.load import LoadedPolicies, Material
from sidecar.policy.self_test import (
    Allowance,
    OutOfTime,
    cases_of,
    catalogues_seen_from,
    failed,
    pack_of,
    run_cases,
    seen_from,
)
from sidecar.problems import Problem, errors_only
from sidecar.soc.detection import Detections
from sidecar.soc.detection_case_runner import DetectionCaseResult, Redact
from sidecar.soc.detection_testing import detection_tests_of
from sidecar.soc.loading import detections_of
from sidecar.yaml_reader import Node

_HINT: Final = (
    "raise self_test.{setting}, or test elsewhere with `aegis-sidecar policy test` and set "
    "self_test.run: false"
)


def self_test(
    loaded: LoadedPolicies,
    route: Route,
    redact: Redact,
    allowance: Allowance,
) -> list[Problem]:
    """Why a set that was loaded is not to be put in force by its own tests: each test that cannot
    be used, each case that fails, or that they are too many or take too long. None if all pass."""
    material = loaded.material
    tests = material.files.tests if material is not None else []
    if material is None or not tests:
        return []
    beyond = _beyond(tests, allowance.cases)
    if beyond is not None:
        return [beyond]
    problems = Problems()
    try:
        _run(material, detections_of(loaded), route, redact, allowance, problems)
    except OutOfTime:
        total = sum(map(cases_of, tests))
        late = Problem(
            allowance.at,
            f"the tests take longer than the {allowance.time_s:g} s of self_test.time: "
            f"{allowance.done} of {total} cases are through",
            _HINT.format(setting="time"),
        )
        problems.take([late])
    return sorted(set(problems.found))


def unusable_tests(loaded: LoadedPolicies) -> list[Problem]:
    """Why tests of a set that was loaded cannot be used, and so would keep it from coming in force;
    none of them is run."""
    material, problems = loaded.material, Problems()
    if material is None:
        return []
    for pack, tests in sorted(_by_pack(material).items()):
        context = seen_from(material, pack, tests, problems)
        for file in context.tests:
            case_set(context, file, problems)
        of_detections = [one for one in tests if is_of_detections(one)]
        if of_detections:
            catalogues = catalogues_seen_from(material, pack)
            detection_tests_of(detections_of(loaded), catalogues, of_detections, problems)
    return errors_only(problems.found)


def _by_pack(material: Material) -> dict[str, list[Node]]:
    found: dict[str, list[Node]] = {}
    for document in material.files.tests:
        found.setdefault(pack_of(document.position.source), []).append(document)
    return found


def _beyond(tests: Sequence[Node], cases_max: int) -> Problem | None:
    """That there are more cases than there may be, where the first of them stands."""
    counted = 0
    for document in tests:
        counted += cases_of(document)
        if counted > cases_max:
            total = sum(map(cases_of, tests))
            message = f"{total} cases of tests, and self_test.cases is {cases_max}"
            return Problem(document.position, message, _HINT.format(setting="cases"))
    return None


def _run(
    material: Material,
    detections: Detections,
    route: Route,
    redact: Redact,
    allowance: Allowance,
    problems: Problems,
) -> None:
    for pack, tests in sorted(_by_pack(material).items()):
        allowance.at = tests[0].position
        allowance.tick()
        run_cases(material, pack, tests, route, allowance, problems)
        of_detections = [one for one in tests if is_of_detections(one)]
        if of_detections:
            catalogues = catalogues_seen_from(material, pack)
            _run_of_detections(catalogues, detections, of_detections, redact, allowance, problems)


def _run_of_detections(
    catalogues: Sequence[CatalogueFile],
    detections: Detections,
    documents: Sequence[Node],
    redact: Redact,
    allowance: Allowance,
    problems: Problems,
) -> None:
    allowance.at = documents[0].position
    unusable = Problems()
    tests = detection_tests_of(detections, catalogues, documents, unusable)
    if not unusable.error_count:
        tests.run(unusable, redact, tick=allowance.tick)
    problems.take(errors_only(unusable.found))
    for result in tests.results:
        allowance.done += 1
        if not result.passed:
            case = result.case
            problems.take([failed(case.position, case.name, _words(result))])


def _words(result: DetectionCaseResult) -> str:
    if result.refused:
        return f"its call is refused before it is judged: {result.refused}"
    if result.failed:
        return f"the condition of {', '.join(sorted(result.failed))} could not be evaluated"
    return f"alerts: expected {result.case.expect}, came {len(result.alerts)}"
