"""How every long harness tells what it found: one JSON object, printed and kept.

Knows: which commit is checked out. Must not know: what a harness does.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def checked_out() -> str:
    """The commit of the clone, short."""
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT
    )
    return done.stdout.strip()


def tell(figures: dict[str, Any], results: Path | None) -> int:
    """Prints and keeps the figures; the exit code: 1 if there are violations, else 0."""
    text = json.dumps(figures, indent=2)
    if results is not None:
        results.write_text(text + "\n")
    print(text)
    return 1 if figures["violations"] else 0
