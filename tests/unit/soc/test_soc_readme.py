"""README's way to check a webhook's signature, run on what a sink really sends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from soc_receivers import Receiver
from test_soc_sink_forms import made
from test_soc_sinks import KEY, NOW_US, sink_at

README = Path(__file__).parents[3] / "README.md"
NOW_S = NOW_US // 1_000_000


@pytest.fixture(scope="module")
def is_ours() -> Any:
    text = README.read_text()
    code = text[text.index("<!-- verify -->\n```python\n") : text.index("```\n<!-- /verify -->")]
    found: dict[str, Any] = {}
    exec(code.partition("```python\n")[2], found)
    return found["is_ours"]


async def test_the_readme_knows_ours_from_what_was_forged_changed_or_is_old(is_ours: Any) -> None:
    async with Receiver().serving() as receiver:
        sink = sink_at(receiver.url)
        await sink.send(made("hostile"))
        await sink.close()
    (got,) = receiver.got
    assert is_ours(got.headers, got.body, KEY, NOW_S)
    assert is_ours(got.headers, got.body, KEY, NOW_S + 299)
    assert not is_ours(got.headers, got.body, KEY, NOW_S + 301)
    assert not is_ours(got.headers, got.body, "another key of 16", NOW_S)
    assert not is_ours(got.headers, got.body.replace(b"pending", b"decided"), KEY, NOW_S)
    later = {**got.headers, "Aegis-Timestamp": str(NOW_S + 300)}
    assert not is_ours(later, got.body, KEY, NOW_S + 300)
    forged = {**got.headers, "Aegis-Signature": "v1="}
    assert not is_ours(forged, got.body, KEY, NOW_S)
    assert json.loads(got.body)["kind"] == "approval.requested"
