"""`self_test:` of sidecar.yaml: whether and how far policies are tested before they are in force.

Must not know: what a test is.
"""

from __future__ import annotations

from sidecar.config.settable import Group, setting


class SelfTest(Group):
    """The tests that stand beside policies, at start and at each reload."""

    run: bool = setting(
        "run the test files among the policies before a set is put in force; a set whose own tests "
        "fail is not",
        True,
    )
    cases: int = setting("cases that a set may bring; with more it is refused", 10_000, low=1,
                         high=1_000_000)  # fmt: skip
    time_s: float = setting(
        "time for all of them together; a set that takes longer is refused",
        30.0,
        low=0.001,
        high=3600.0,
    )


def read_run(value: object) -> bool:
    """Raises ValueError for anything but true and false."""
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value
