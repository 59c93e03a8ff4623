"""What is deployed passes its linters, and each linter finds a fault that is planted."""

from __future__ import annotations

from pathlib import Path

import pytest
from deploy_linters import (
    DEPLOY,
    ROOT,
    lint_compose,
    lint_dockerfile,
    lint_manifest,
    lint_shell,
    lint_unit,
    ran,
    tool,
)

DOCKERFILE = (DEPLOY / "Dockerfile").read_text("utf-8")
COMPOSE = (DEPLOY / "compose.yaml").read_text("utf-8")
UNIT = (DEPLOY / "systemd" / "aegis-sidecar.service").read_text("utf-8")
MANIFESTS = sorted(
    path
    for path in (DEPLOY / "kubernetes").rglob("*.yaml")
    if path.name not in ("kustomization.yaml", "sidecar.yaml") and path.parent.name != "policies"
)
SCRIPTS = sorted(DEPLOY.rglob("*.sh"))


def planted(text: str, right: str, wrong: str) -> str:
    assert right in text, "the plant has its place"
    return text.replace(right, wrong, 1)


def test_hadolint_has_nothing_to_say_and_finds_a_plant() -> None:
    assert lint_dockerfile(DOCKERFILE) == []
    assert any("DL3006" in line for line in lint_dockerfile("FROM debian\nRUN true\n"))
    unsafe = planted(DOCKERFILE, "    && useradd", "    && cd /tmp && useradd")
    assert any("DL3003" in line for line in lint_dockerfile(unsafe))


def test_compose_fits_its_schema_and_a_plant_does_not() -> None:
    assert lint_compose(COMPOSE) == []
    (said,) = lint_compose(planted(COMPOSE, 'ports: ["127.0.0.1:9090', 'portz: ["127.0.0.1:9090'))
    assert "portz" in said and said.startswith("services.prometheus")


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_manifests_fit_the_schemas_of_kubernetes(path: Path) -> None:
    assert lint_manifest(path.read_text("utf-8")) == []


def test_a_manifest_with_a_fault_does_not() -> None:
    text = (DEPLOY / "kubernetes" / "gateway" / "deployment.yaml").read_text("utf-8")
    assert lint_manifest(planted(text, "replicas: 2", 'replicas: "two"'))
    assert lint_manifest(planted(text, "readOnlyRootFilesystem", "readOnlyRootFileSystem"))


def test_systemd_knows_every_word_of_the_unit_and_finds_it_hardly_exposed(tmp_path: Path) -> None:
    assert lint_unit(UNIT, tmp_path) == []
    (said,) = lint_unit(planted(UNIT, "ProtectSystem=", "ProtectSytem="), tmp_path)
    assert "ProtectSytem" in said
    (said,) = lint_unit(planted(UNIT, "CapabilityBoundingSet=\n", ""), tmp_path)
    assert "exposure level" in said


def test_a_start_that_is_refused_is_tried_again_for_as_long_as_it_takes() -> None:
    """A sidecar does not wait for its database at a start, and others come up minutes later."""
    said = dict(line.split("=", 1) for line in UNIT.splitlines() if "=" in line and line[0] != "#")
    assert said["Restart"] == "on-failure" and 1 <= int(said["RestartSec"]) <= 30
    assert said["StartLimitIntervalSec"] == "0" and "StartLimitBurst" not in said


def test_systemd_makes_the_user_that_the_unit_names(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    sysusers = tool("systemd-sysusers", "Debian's package systemd")
    done = ran(
        sysusers, f"--root={tmp_path}", str(DEPLOY / "systemd" / "aegis-sidecar.sysusers")
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    name, _, uid, _, _, home, shell = (tmp_path / "etc" / "passwd").read_text().strip().split(":")
    assert f"User={name}\n" in UNIT and uid != "0"
    assert (home, shell) == ("/var/lib/aegis-sidecar", "/usr/sbin/nologin")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.stem)
def test_shellcheck_has_nothing_to_say(path: Path) -> None:
    assert lint_shell(path.read_text("utf-8")) == []


def test_shellcheck_finds_a_plant() -> None:
    text = (DEPLOY / "compose" / "secrets.sh").read_text("utf-8")
    assert any("SC2086" in line for line in lint_shell(planted(text, '>"$file.new"', ">$file.new")))


# -- what no linter knows of the image --------------------------------------------------------


def copied() -> list[str]:
    """What the Dockerfile copies out of the clone."""
    lines = DOCKERFILE.replace("\\\n", " ").splitlines()
    return [
        source
        for line in lines
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    ]


def test_the_image_is_made_of_what_is_there_and_of_nothing_else() -> None:
    sources = copied()
    assert {"sidecar", "storage", "policies", "setup.cfg"} <= set(sources)
    assert [source for source in sources if not (ROOT / source).exists()] == []
    kept = (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    assert kept[1] == "*", "all is left out that is not named"
    named = {line.removeprefix("!") for line in kept if line.startswith("!")}
    assert named == {s if not s.endswith(".lock") else "deploy/*.lock" for s in sources}


def test_the_image_installs_by_hash_runs_as_a_number_and_is_asked_how_it_is() -> None:
    whole = DOCKERFILE.replace("\\\n", " ")
    stages = whole.split("FROM ${PYTHON_IMAGE}")
    assert len(stages) == 3, "two stages"
    installs = [part for part in whole.replace("&&", "\n").splitlines() if "pip install" in part]
    installs += [part for part in whole.replace("&&", "\n").splitlines() if " install --no" in part]
    assert installs
    for install in installs:
        assert "--require-hashes" in install or "--no-index" in install, install
    last = stages[-1]
    assert "USER 10001:10001" in last and "pip" not in last
    assert "HEALTHCHECK" in last and '"aegis-sidecar", "health"' in last
