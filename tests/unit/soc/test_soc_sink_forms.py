"""What each kind of sink is sent, as golden texts in tests/cases/sinks.

To write them anew after a change, and read the difference: AEGIS_WRITE_CASES=1 with this file.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

import sidecar
from sidecar.soc.deliveries import Ids, Kind, Told, deliveries_of
from sidecar.soc.delivering import outgoing
from sidecar.soc.model import SEVERITIES, Severity
from sidecar.soc.sinks import cef, slack
from sidecar.soc.sinks.seam import Outgoing
from sidecar.soc.sinks.shown import HEADLINES
from sidecar.telemetry.lines import json_line

CASES = Path(__file__).parents[2] / "cases" / "sinks"
NAMES = [path.stem for path in sorted(CASES.glob("*.yaml")) if path.stem != "backoff"]
AT_US = 1_790_000_000_123_456


def made(name: str, **changes: Any) -> Outgoing:
    case = {**yaml.safe_load((CASES / f"{name}.yaml").read_text()), **changes}
    severity = SEVERITIES[case["severity"]]
    ids = Ids(case.get("tenant", "acme"), "a1")
    (row,) = deliveries_of(
        Kind(case["kind"]), case["body"], severity, [Told("ops", Severity.INFO)], ids, AT_US
    )
    return outgoing(row, {})


FORMS = {
    "json": lambda one: json.dumps(one.said, sort_keys=True, indent=1),
    "slack": lambda one: json.dumps(slack.message(one), sort_keys=True, indent=1),
    "cef": lambda one: cef.message(one, "node 1", cef.DATAGRAM_BYTES_MAX).decode(),
    "line": lambda one: json_line(one.said),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NAMES)
def test_what_is_sent_is_what_the_golden_text_says(name: str, form: str) -> None:
    text = FORMS[form](made(name)).replace(f"|{sidecar.__version__}|", "|VERSION|") + "\n"
    golden = CASES / f"{name}.{form}"
    if os.environ.get("AEGIS_WRITE_CASES"):
        golden.write_text(text)
    assert text == golden.read_text()


def test_there_are_cases_of_something_hostile() -> None:
    assert {"alert", "hostile", "test"} <= set(NAMES)
    assert set(HEADLINES) == set(Kind)


def test_in_a_message_of_slack_nobody_but_us_links_mentions_or_formats() -> None:
    message = slack.message(made("hostile"))
    text = str(message["text"])
    assert text.count("<") == 2, "our own two links"
    assert "<https://aegis.acme.io/approvals/link/abc.def|Decide>" in text
    for line in text.split("\n")[3:]:
        name, _, value = line.partition(": ")
        assert value[0] == value[-1] == "`" and value.count("`") == 2, line
        assert name.replace(" ", "").isalpha()
    assert "&lt;!channel&gt;" in text and "\\u202e" in text
    assert (message["parse"], message["link_names"], message["unfurl_links"]) == (
        "none", False, False,
    )  # fmt: skip
    assert message["blocks"][0]["text"]["verbatim"] is True


def test_a_link_of_ours_that_could_end_itself_is_left_out() -> None:
    case = yaml.safe_load((CASES / "hostile.yaml").read_text())["body"]
    text = slack.message(made("hostile", body={**case, "decision_url": "https://x|y>z"}))["text"]
    assert "Decide" not in text and "Look at it" in text


def test_in_cef_no_value_ends_its_field_or_the_message() -> None:
    message = cef.message(made("hostile"), "node 1", cef.DATAGRAM_BYTES_MAX).decode()
    assert "\n" not in message and "\r" not in message
    assert message.startswith("<107>1 2026-09-21T14:13:20.123456Z node_1 aegis-sidecar - "), message
    event = message[message.index("CEF:0|") :]
    assert len([1 for at in range(len(event)) if event[at] == "|" and event[at - 1] != "\\"]) >= 7
    assert "suser=coder|\\=\\\\ " in event
    names = [part.split("=")[0] for part in event.split("|", 7)[7].replace("\\=", "").split(" ")]
    assert names[:2] == ["rt", "externalId"]


@pytest.mark.parametrize("size", [300, 480, cef.DATAGRAM_BYTES_MAX])
def test_a_message_of_syslog_has_the_size_that_receivers_take(size: int) -> None:
    names = ("reason", "agent", "title", "tool", "subject", "path")
    body = dict.fromkeys(names, "\u00e9=\\" * 300)
    whole = cef.message(made("hostile", body=body), "n" * 300, size)
    assert len(whole) <= max(size, 420)
    assert not whole.decode().rstrip().endswith("\\")


def test_a_line_is_one_line_of_ascii() -> None:
    line = json_line(made("hostile").said)
    assert line.isascii() and line.isprintable()
    assert json.loads(line)["approval"]["arguments"]["what"] == "a\r\n<34>1 forged"
