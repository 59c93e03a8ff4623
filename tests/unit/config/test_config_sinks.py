"""`sinks:` of sidecar.yaml: what is read, and that nothing of it is shown that is a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.config.load import Loaded, load_config
from sidecar.config.show import show_json, show_text
from sidecar.config.sinks import SINKS_MAX, sink_place
from sidecar.rooms import secrets_of

HOOK = "https://hooks.acme.io/T0/B0/hunter2?x=1"
ENVIRON = {
    "HOOK": HOOK,
    "KEY": "k" * 16,
    "LOGS": "syslog://10.0.0.5",
    "ANA": "An4-s-key-of-many-words-81",
}


def loaded(folder: Path, sinks: str) -> Loaded:
    (folder / "sidecar.yaml").write_text(
        "policies: ./policies\n"
        "upstreams: {shop: {url: 'http://127.0.0.1:9'}}\n"
        "tenants: {acme: {agents: {coder: {}}, people: {ana: "
        "{roles: [approver], key: {env: ANA}}}}}\n"
        f"{sinks}\n"
    )
    return load_config(folder / "sidecar.yaml", ENVIRON, [])


def test_each_kind_with_what_it_needs(tmp_path: Path) -> None:
    found = loaded(
        tmp_path,
        """
sinks:
  ops: {kind: webhook, url: {env: HOOK}, secret: {env: KEY}, min_severity: high}
  chat: {kind: slack, url: {env: HOOK}, approver: ana}
  siem: {kind: syslog, url: {env: LOGS}, min_severity: info}
  here: {kind: stdout}
""",
    ).config
    assert found is not None
    ops, chat, siem, here = found.sinks.values()
    assert (ops.name, ops.kind, ops.min_severity) == ("ops", "webhook", "high")
    assert ops.url is not None and ops.url.reveal() == HOOK
    assert ops.secret is not None and ops.secret.reveal() == "k" * 16
    assert (chat.approver, chat.min_severity, chat.private) == ("ana", "low", False)
    assert siem.private, "a literal address says itself where it leads"
    assert (here.kind, here.url, here.min_severity) == ("stdout", None, "low")
    assert loaded(tmp_path, "").config.sinks == {}  # type: ignore[union-attr]


def test_g12_neither_url_nor_secret_is_shown_or_logged(tmp_path: Path) -> None:
    found = loaded(tmp_path, "sinks: {ops: {kind: webhook, url: {env: HOOK}, secret: {env: KEY}}}")
    assert found.config is not None
    for text in (
        show_text(found.config, found.origins),
        show_json(found.config, found.origins),
        repr(found.config),
    ):
        assert "hunter2" not in text and "kkkk" not in text
        assert "ops" in text, "positive control"
    assert {HOOK, "k" * 16} <= set(secrets_of(found.config))


def test_there_may_be_so_many_and_no_more(tmp_path: Path) -> None:
    def named(count: int) -> Loaded:
        each = ", ".join(f"s{number}: {{kind: stdout}}" for number in range(count))
        return loaded(tmp_path, f"sinks: {{{each}}}")

    assert named(SINKS_MAX).config is not None
    said = [problem.message for problem in named(SINKS_MAX + 1).problems]
    assert said == [f"sinks: more than {SINKS_MAX} of them"]


@pytest.mark.parametrize(
    ("kind", "url", "place"),
    [
        ("webhook", "https://h.io/a/", ("https://h.io/a/", "https", "h.io", 443)),
        ("webhook", "https://H.io:8443?k=v", ("https://h.io:8443?k=v", "https", "h.io", 8443)),
        ("slack", "http://127.0.0.1:9/x", ("http://127.0.0.1:9/x", "http", "127.0.0.1", 9)),
        ("syslog", "syslog://logs", ("syslog://logs", "syslog", "logs", 514)),
        ("syslog", "syslog+tcp://logs", ("syslog+tcp://logs", "syslog+tcp", "logs", 601)),
        ("syslog", "syslog+tls://[::1]", ("syslog+tls://[::1]", "syslog+tls", "::1", 6514)),
        ("syslog", "syslog://[::1]:5/", ("syslog://[::1]:5/", "syslog", "::1", 5)),
    ],
)
def test_where_a_sink_is(kind: str, url: str, place: tuple[object, ...]) -> None:
    assert sink_place(kind, url)[:4] == place


@pytest.mark.parametrize(
    ("kind", "url"),
    [
        ("webhook", "https://h.io/a#b"),
        ("webhook", "https://h.io/a?b=\n"),
        ("webhook", "https://h.io/../a"),
        ("webhook", "https://0x7f.1/a"),
        ("webhook", "ftp://h.io/a"),
        ("webhook", f"https://h.io/{'a' * 2048}"),
        ("webhook", "https://[::1/a"),
        ("syslog", "syslog://logs/path"),
        ("syslog", "syslog+udp://logs"),
        ("syslog", "syslog://logs:99999"),
        ("syslog", "syslog://a@logs"),
    ],
)
def test_where_no_sink_can_be(kind: str, url: str) -> None:
    with pytest.raises(ValueError) as caught:
        sink_place(kind, url)
    assert "h.io" not in str(caught.value)
