"""Numbers and words agree, wherever one of something is told of."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sidecar.counted import counted

ROOT = Path(__file__).resolve().parents[2]
#: A number in a text of ours, right before what there may be one of.
_FIXED = re.compile(
    r"\{(?!counted|command\}|[A-Z_]+\})[^{}!:]+\} (?:more |signed |open )?"
    r"(?:receipt|call|alert|approval|rule|tool|head|fact|file|difference|tenant|checkpoint)s\b"
)
#: Where there are always several, or the number is one of a whole.
SEVERAL = {
    "SHADOW: {some} rules", "{found.unsaid_count} calls",
    "{place.batch_calls_max} calls", "{useful} calls",
}  # fmt: skip


@pytest.mark.parametrize(
    ("count", "words", "said"),
    [(0, ("receipt",), "0 receipts"), (1, ("receipt",), "1 receipt"), (2, ("call",), "2 calls"),
     (1, ("head agrees", "heads agree"), "1 head agrees"),
     (3, ("head agrees", "heads agree"), "3 heads agree")],
)  # fmt: skip
def test_a_number_and_its_word_agree(count: int, words: tuple[str, ...], said: str) -> None:
    assert counted(count, *words) == said


def test_no_text_of_a_command_or_page_has_one_receipts() -> None:
    found = []
    folders = (ROOT / "sidecar" / one for one in ("cli", "ledger", "soc", "control"))
    for path in sorted(one for folder in folders for one in folder.rglob("*")):
        if path.suffix not in (".py", ".html"):
            continue
        for line in path.read_text().splitlines():
            for text in _FIXED.findall(line):
                if not any(one in line for one in SEVERAL):
                    found.append(f"{path.relative_to(ROOT)}: {text}")
    assert not found
    assert _FIXED.search('f"{seen} receipts"'), "positive control"
