"""The guides of deploy/ name what is there, and commands that exist; what can be run here is run by
the tests that are named."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from deploy_linters import DEPLOY, ROOT

from sidecar.cli.main import _parser, main
from sidecar.proxy.server import KEEPALIVE_S

#: Folders that hold nothing to deploy.
NO_GUIDES = ("__pycache__", "screenshots")
GUIDES = sorted(DEPLOY.rglob("README.md"))
#: First words of a command that no test runs, and why.
NOT_RUN = {
    "docker": "there is no engine here; test_deploy_linters reads its files, test_e2e_compose "
    "starts what they start",
    "kubectl": "there is no cluster; test_deploy_kubernetes renders each base",
    "sudo": "it is for a machine with systemd; test_e2e_service installs and starts the same",
    "journalctl": "there is no journal",
    "pip": "the extra is in the lock of the tests",
}
#: Commands that are run, and where.
RUN = {
    "bash deploy/compose/secrets.sh": "test_e2e_compose",
    "python3 deploy/grafana/make_dashboards.py": "test_telemetry_dashboards",
    ". deploy/.env": "test_e2e_compose",
    "curl": "test_e2e_compose",
    "aegis-sidecar serve": "test_e2e_traces",
    "export OTEL_EXPORTER_OTLP_ENDPOINT=": "test_e2e_traces",
}


def commands(text: str) -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [
        line.strip()
        for block in blocks
        for line in block.replace("\\\n", " ").splitlines()
        if line.strip()
    ]


def wrong(guide: Path, text: str) -> Iterator[str]:
    """A line for each thing that a guide names and that is not there."""
    for link in re.findall(r"\]\(([^)#]+)", text):
        if not link.startswith("http") and not (guide.parent / link).exists():
            yield f"no {link}"
    for path in re.findall(r"\bdeploy/[\w./-]*[\w/]", text):
        if path != "deploy/.env" and not (ROOT / path).exists():
            yield f"no {path}"
    for command in commands(text):
        first = command.split()[0]
        if first not in NOT_RUN and not any(command.startswith(one) for one in RUN):
            yield f"nothing runs {command}"
        yield from _unknown_to_the_parser(command)


def _unknown_to_the_parser(command: str) -> Iterator[str]:
    words = shlex.split(command)
    place = next((n for n, word in enumerate(words) if word.endswith("aegis-sidecar")), None)
    # `systemctl reload aegis-sidecar` and the like name the unit: nothing follows.
    if place is None or place + 1 == len(words) or words[place].startswith(("type=", "--")):
        return
    arguments = words[place + 1 :]
    try:
        _parser(arguments[0]).parse_args(arguments)
    except SystemExit:
        yield f"aegis-sidecar does not know: {shlex.join(arguments)}"


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.parent.name)
def test_a_guide_names_what_is_there(guide: Path) -> None:
    assert list(wrong(guide, guide.read_text("utf-8"))) == []


def test_a_guide_that_names_something_else_is_found() -> None:
    guide = DEPLOY / "systemd" / "README.md"
    text = guide.read_text("utf-8")
    for right, other, said in (
        ("deploy/systemd/sidecar.yaml", "deploy/systemd/side.yaml", "no deploy/systemd/side.yaml"),
        ("approvals list --data-dir", "approvals list --folder", "aegis-sidecar does not know: "),
        ("journalctl -u", "unheard -u", "nothing runs unheard -u aegis-sidecar"),
    ):
        assert right in text
        found = list(wrong(guide, text.replace(right, other)))
        assert any(line.startswith(said) for line in found), found


def test_what_the_guide_for_systemd_installs_is_enough_to_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (DEPLOY / "systemd" / "README.md").read_text("utf-8")
    etc = "/etc/aegis-sidecar"
    installed = re.findall(rf"install -m 0644 (deploy/\S+\.yaml) {etc}/(\S+)", text)
    assert len(installed) == 2
    (tmp_path / "policies").mkdir()
    for source, target in installed:
        data = (ROOT / source).read_text("utf-8").replace(f"{etc}/", f"{tmp_path}/")
        (tmp_path / target).write_text(data, "utf-8")
    assert main(["config", "check", "--config", str(tmp_path / "sidecar.yaml")]) == 0
    assert "sidecar.yaml: fine." in capsys.readouterr().out
    (tmp_path / "policies" / "files.yaml").unlink()
    assert main(["config", "check", "--config", str(tmp_path / "sidecar.yaml")]) == 1


def test_what_the_unit_names_as_its_documentation_is_installed() -> None:
    unit = (DEPLOY / "systemd" / "aegis-sidecar.service").read_text("utf-8")
    (path,) = re.findall(r"^Documentation=file:(\S+)$", unit, re.MULTILINE)
    lines = commands((DEPLOY / "systemd" / "README.md").read_text("utf-8"))
    assert f"sudo install -D -m 0644 README.md {path}" in lines


def test_every_folder_has_its_guide_and_the_first_one_leads_to_it() -> None:
    first = (DEPLOY / "README.md").read_text("utf-8")
    folders = [p for p in DEPLOY.iterdir() if p.is_dir() and p.name not in NO_GUIDES]
    assert len(folders) >= 5
    for folder in folders:
        assert (folder / "README.md").is_file(), folder.name
        assert f"({folder.name}/README.md)" in first, folder.name


def test_the_tests_that_are_named_are_there() -> None:
    tests = {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    named = set(RUN.values()) | set(re.findall(r"test_\w+", " ".join(NOT_RUN.values())))
    assert named <= tests


def test_what_a_load_balancer_has_to_know_is_so() -> None:
    text = (DEPLOY / "README.md").read_text()
    assert f"closes one after {KEEPALIVE_S:g} s" in text
    assert KEEPALIVE_S > 25
