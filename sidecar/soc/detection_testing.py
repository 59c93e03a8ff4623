"""The tests of a folder's detections: read, brought together with what they test, run.

Knows: that a test names detections of its folder or of what is read with it, which tools it adds
to the catalogues there, and that a detection nobody tests is told of.
Must not know: files on disk, the command line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sidecar.policy.case_file import is_of_detections
from sidecar.policy.case_set import kinds_of, with_tools
from sidecar.policy.catalogue_building import build_catalogue
from sidecar.policy.catalogue_file import CatalogueFile, ReadFile
from sidecar.policy.fields import Problems, did_you_mean
from sidecar.policy.load import SECRETS, Source, read_files
from sidecar.policy.secret_names import SecretNames
from sidecar.policy.text_places import Texts
from sidecar.soc.detection import Detections
from sidecar.soc.detection_case_runner import (
    DetectionCaseResult,
    DetectionCases,
    Redact,
    run_detection_case,
)
from sidecar.soc.detection_cases import DetectionCaseFile, check_event, read_detection_cases
from sidecar.soc.detection_set import read_detections
from sidecar.yaml_reader import Node


@dataclass(slots=True)
class DetectionTests:
    """The detections of a set of files and their tests. `fired` and `silent` are the detections
    that some case has raise alerts, and that some case has keep still."""

    detections: Detections
    catalogues: Sequence[CatalogueFile]
    files: list[DetectionCaseFile] = field(default_factory=list)
    results: list[DetectionCaseResult] = field(default_factory=list)
    fired: set[str] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)

    @property
    def lacking(self) -> Mapping[str, str]:
        """What is not shown of each detection of which not both is shown."""
        return {
            one.name: "never raised an alert" if one.name not in self.fired else "never kept still"
            for one in self.detections.all
            if one.name not in self.fired or one.name not in self.silent
        }

    def run(
        self,
        problems: Problems,
        redact: Redact,
        only: str | None = None,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        """Runs every test file, or the one that is meant; what it names and is not there is noted,
        and then nothing is run. `tick` is called before each event, and may raise to end it."""
        before = problems.error_count
        meant = [one for one in self.files if only is None or one.position.source == only]
        sets = [self._set(file, problems) for file in meant]
        if problems.error_count > before:
            return
        for cases in sets:
            names = {one.name for one in cases.detections.all}
            for case in cases.file.cases:
                result = run_detection_case(cases, case, redact, tick)
                self.results.append(result)
                if result.passed:
                    raised = {hit.detection for hit in result.alerts}
                    self.fired |= raised
                    self.silent |= names - raised

    def _set(self, file: DetectionCaseFile, problems: Problems) -> DetectionCases:
        names = [one.name for one in self.detections.all]
        for name, position in file.detections:
            if name not in names:
                hint = did_you_mean(name, names) or "detections stand beside their tests"
                problems.error(position, f'there is no detection "{name}" here', hint)
        catalogues = with_tools(self.catalogues, file.tools, problems)
        catalogue = build_catalogue(catalogues, kinds_of(catalogues), problems, needs_routes=False)
        detections = self.detections.only(name for name, _ in file.detections)
        cases = DetectionCases(file, detections, catalogue)
        for case in file.cases:
            for given in case.events:
                check_event(given, cases.kind(given), problems)
        return cases


def read_detection_tests(
    sources: Sequence[Source], read_file: ReadFile, problems: Problems
) -> DetectionTests:
    """The detections and their tests; problems of both are noted, those of other files not."""
    elsewhere = Problems()
    files = read_files(sources, read_file, elsewhere)
    texts = Texts({source.name: source.data for source in sources})
    detections = read_detections(files.detections, texts, SecretNames(SECRETS), problems)
    return detection_tests_of(detections, files.catalogues, files.tests, problems)


def detection_tests_of(
    detections: Detections,
    catalogues: Sequence[CatalogueFile],
    documents: Iterable[Node],
    problems: Problems,
) -> DetectionTests:
    """The tests of detections among documents that begin with `test:`."""
    tests = DetectionTests(detections, catalogues)
    for document in documents:
        if is_of_detections(document):
            further = Problems()
            tests.files.append(read_detection_cases(document, further))
            refused = document.refused_places()
            problems.take(one for one in further.found if one.position not in refused)
    return tests
