"""What came of the tests of detections, for commands that run them.

Knows: how a failed case is shown. Must not know: which command asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sidecar.counted import counted

if TYPE_CHECKING:
    from sidecar.policy.fields import Problems
    from sidecar.policy_reading import Reading
    from sidecar.soc.detection_case_runner import DetectionCaseResult
    from sidecar.soc.detection_testing import DetectionTests


class DetectionOutcome:
    """The results of all detection tests that were run. `detections` counts those of folders whose
    tests were all run; `lacking` says of which of them too little is shown."""

    def __init__(self) -> None:
        self.results: list[DetectionCaseResult] = []
        self.lacking: dict[str, str] = {}
        self.detections = 0

    @property
    def failed(self) -> int:
        """How many cases failed."""
        return sum(not result.passed for result in self.results)

    def read(self, reading: Reading, problems: Problems) -> DetectionTests:
        """The detections of a reading and their tests; their problems are noted."""
        from sidecar.soc.detection_testing import read_detection_tests

        return read_detection_tests(reading.sources, reading.read_file, problems)

    def run(self, tests: DetectionTests, problems: Problems, only: str | None) -> None:
        """Runs them, or those of one file, if nothing they need is missing."""
        from sidecar.policy.load import SECRETS
        from sidecar.proxy.redaction import Redactor

        tests.run(problems, Redactor(SECRETS).arguments, only)
        self.results += tests.results
        if only is None:
            self.detections += len(tests.detections.all)
            self.lacking |= tests.lacking

    def show_failures(self) -> None:
        """Of each failed case what was expected, and what came."""
        for result in self.results:
            if not result.passed:
                _show(result)

    def show_lacking(self) -> None:
        """Detections of which a test shows too little."""
        for name, what in sorted(self.lacking.items()):
            print(f"{name}  {what}")

    def summary(self) -> str:
        """One line."""
        count, failed = len(self.results), self.failed
        passed = f"{counted(count, 'case')} of detections passed" if not failed else (
            f"{failed} of {counted(count, 'case')} of detections FAILED"
        )  # fmt: skip
        if not self.detections:
            return passed
        covered = self.detections - len(self.lacking)
        return (
            f"{passed}; {covered} of {counted(self.detections, 'detection')} shown "
            "to raise alerts and to keep still"
        )

    def data(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "cases": len(self.results),
            "failed": self.failed,
            "failures": [_failure(one) for one in self.results if not one.passed],
            "detections": self.detections,
            "lacking": dict(sorted(self.lacking.items())),
        }


def _failure(result: DetectionCaseResult) -> dict[str, Any]:
    return {
        "case": result.case.name,
        "place": str(result.case.position),
        "expected": result.case.expect,
        "came": len(result.alerts),
        "alerts": [{"detection": hit.detection, "reason": hit.reason} for hit in result.alerts],
        "failed_conditions": dict(result.failed),
        "refused": result.refused,
    }


def _show(result: DetectionCaseResult) -> None:
    case = result.case
    print(f"{case.position}: FAILED: {case.name}")
    if result.refused:
        print(f"    its call is refused before it is judged: {result.refused}")
        return
    print(f"    alerts: expected {case.expect}")
    print(f"            came     {len(result.alerts)}")
    for hit in result.alerts:
        after_s = (hit.at_us - case.now_us) / 1_000_000
        print(f"    after {after_s:g} s  {hit.detection}: {hit.reason}")
    for name, count in result.failed.items():
        print(f"    the condition of {name} could not be evaluated on {counted(count, 'event')}")
