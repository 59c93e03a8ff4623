"""The manifests hold together: what one names, another has, and no container may do more than it
must."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from deploy_linters import DEPLOY, has_kustomize, lint_manifest, rendered

from sidecar.config.load import load_config
from sidecar.policy.load import Source, load_policies

FOLDER = DEPLOY / "kubernetes"
BASES = ("gateway", "sidecar", "agents")
WORKLOADS = {"gateway": "deployment.yaml", "sidecar": "stateful-set.yaml"}
Manifest = dict[str, Any]


def manifests(base: str) -> list[Manifest]:
    """What the kustomization of a base lists, in its order."""
    kustomization = yaml.safe_load((FOLDER / base / "kustomization.yaml").read_text("utf-8"))
    return [
        one
        for name in kustomization["resources"]
        for one in yaml.safe_load_all((FOLDER / base / name).read_text("utf-8"))
    ]


def workload(base: str) -> Manifest:
    return yaml.safe_load((FOLDER / base / WORKLOADS[base]).read_text("utf-8"))


def pod(base: str) -> Manifest:
    return workload(base)["spec"]["template"]["spec"]


def containers(spec: Manifest) -> list[Manifest]:
    return [*spec.get("initContainers", []), *spec["containers"]]


def guard(spec: Manifest) -> Manifest:
    (one,) = (c for c in containers(spec) if c["name"] == "aegis-sidecar")
    return one


# -- what is wrong with a container ------------------------------------------------------------


def too_free(spec: Manifest) -> list[str]:
    """A line for each freedom that a container of the pod has and should not have."""
    found = []
    for one in containers(spec):
        name, own = one["name"], one.get("securityContext", {})
        both = {**spec.get("securityContext", {}), **own}
        wanted = {
            "runAsNonRoot": True,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        found += [f"{name}: {key}" for key, value in wanted.items() if both.get(key) != value]
        if not both.get("runAsUser"):
            found.append(f"{name}: runAsUser")
        limits = one.get("resources", {})
        if "memory" not in limits.get("limits", {}) or not limits.get("requests"):
            found.append(f"{name}: resources")
    if spec.get("automountServiceAccountToken") is not False:
        found.append("the pod: automountServiceAccountToken")
    return found


@pytest.mark.parametrize("base", WORKLOADS)
def test_no_container_may_more_than_it_must(base: str) -> None:
    spec = pod(base)
    assert too_free(spec) == []
    guard(spec)["securityContext"]["readOnlyRootFilesystem"] = False
    del guard(spec)["resources"]["limits"]
    assert too_free(spec) == ["aegis-sidecar: readOnlyRootFilesystem", "aegis-sidecar: resources"]


@pytest.mark.parametrize("base", WORKLOADS)
def test_the_sidecar_is_asked_how_it_is_at_the_port_it_has(base: str) -> None:
    one = guard(pod(base))
    ports = {port["name"]: port["containerPort"] for port in one["ports"]}
    assert ports["control"] == 8081
    paths = {
        "startupProbe": "/readyz", "readinessProbe": "/readyz", "livenessProbe": "/healthz"
    }  # fmt: skip
    for probe, path in paths.items():
        assert one[probe]["httpGet"] == {"path": path, "port": "control"}


def test_the_agent_shares_neither_user_nor_volumes_with_the_sidecar() -> None:
    agent, aegis = pod("sidecar")["containers"][0], guard(pod("sidecar"))
    assert agent["securityContext"]["runAsUser"] != aegis["securityContext"]["runAsUser"]
    assert "volumeMounts" not in agent
    assert aegis["restartPolicy"] == "Always", "it is there before the agent, and after it"


# -- what is named is there ---------------------------------------------------------------------


def names_nothing(base: str, all_of_it: list[Manifest]) -> Iterator[str]:
    """A line for each name that leads nowhere within a base."""
    kustomization = yaml.safe_load((FOLDER / base / "kustomization.yaml").read_text("utf-8"))
    for file in [f for g in kustomization.get("configMapGenerator", []) for f in g["files"]]:
        if not (FOLDER / base / file).is_file():
            yield f"{base}: no file {file}"
    maps = {one["name"] for one in kustomization.get("configMapGenerator", [])}
    images = {one["name"] for one in kustomization.get("images", [])}
    pods = [m["spec"]["template"] for m in all_of_it if "template" in m.get("spec", {})]
    ports = {p["name"] for t in pods for c in containers(t["spec"]) for p in c.get("ports", [])}
    services = [m for m in all_of_it if m["kind"] == "Service"]
    for template in pods:
        spec = template["spec"]
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        claims = [c for m in all_of_it for c in m.get("spec", {}).get("volumeClaimTemplates", [])]
        known = {*volumes, *(claim["metadata"]["name"] for claim in claims)}
        for one in containers(spec):
            if one["image"] not in images:
                yield f"{one['name']}: nothing names its image"
            for mount in one.get("volumeMounts", []):
                if mount["name"] not in known:
                    yield f"{one['name']}: no volume {mount['name']}"
        for volume in volumes.values():
            if "configMap" in volume and volume["configMap"]["name"] not in maps:
                yield f"no ConfigMap {volume['configMap']['name']}"
    for one in all_of_it:
        yield from _of_selectors(one, pods, services, ports)


def _of_selectors(
    one: Manifest, pods: list[Manifest], services: list[Manifest], ports: set[str]
) -> Iterator[str]:
    name, spec = f"{one['kind']} {one['metadata']['name']}", one.get("spec", {})
    if one["kind"] in ("Service", "PodDisruptionBudget", "PodMonitor", "Deployment", "StatefulSet"):
        chosen = spec["selector"].get("matchLabels", spec["selector"])
        labels = [template["metadata"]["labels"] for template in pods]
        if not any(chosen and chosen.items() <= each.items() for each in labels):
            yield f"{name}: chooses no pod"
    if one["kind"] == "ServiceMonitor":
        chosen = spec["selector"]["matchLabels"]
        has = [s["metadata"].get("labels", {}) for s in services]
        if not any(chosen.items() <= each.items() for each in has):
            yield f"{name}: chooses no Service"
    asked = [p["targetPort"] for p in spec.get("ports", [])] if one["kind"] == "Service" else []
    asked += [e["port"] for e in spec.get("endpoints", []) + spec.get("podMetricsEndpoints", [])]
    for port in asked:
        if port not in ports:
            yield f"{name}: no port {port}"


@pytest.mark.parametrize("base", BASES)
def test_what_is_named_is_there(base: str) -> None:
    assert list(names_nothing(base, manifests(base))) == []


def test_a_name_that_leads_nowhere_is_found() -> None:
    planted = manifests("gateway")
    for one in planted:
        if one["kind"] == "Service":
            one["spec"]["ports"][0]["targetPort"] = "metrics"
        if one["kind"] == "PodDisruptionBudget":
            one["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"] = "gate"
    assert set(names_nothing("gateway", planted)) == {
        "Service aegis-gateway: no port metrics",
        "Service aegis-control: no port metrics",
        "PodDisruptionBudget aegis-gateway: chooses no pod",
    }


# -- who reaches what ----------------------------------------------------------------------------


def policy(base: str) -> Manifest:
    (one,) = (m for m in manifests(base) if m["kind"] == "NetworkPolicy")
    return one["spec"]


def test_agents_reach_dns_and_the_data_port_of_the_gateway_and_nothing_else() -> None:
    spec = policy("agents")
    assert spec["policyTypes"] == ["Ingress", "Egress"] and spec["ingress"] == []
    dns, gateway = spec["egress"]
    assert {port["port"] for port in dns["ports"]} == {53}
    assert gateway["ports"] == [{"port": "data"}]
    (to,) = gateway["to"]
    labels = workload("gateway")["spec"]["template"]["metadata"]["labels"]
    assert to["podSelector"]["matchLabels"] == labels
    space = to["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
    kustomization = yaml.safe_load((FOLDER / "gateway" / "kustomization.yaml").read_text("utf-8"))
    assert space == kustomization["namespace"]
    # and the gateway lets them in, by the label that this policy chooses
    assert spec["podSelector"] == policy("gateway")["ingress"][0]["from"][0]["podSelector"]


@pytest.mark.parametrize("base", WORKLOADS)
def test_only_prometheus_reaches_the_control_listener_and_no_rule_is_open_to_all(base: str) -> None:
    spec = policy(base)
    for rule in [*spec["ingress"], *spec["egress"]]:
        assert rule.get("from") or rule.get("to"), "a rule without peers is open to everybody"
        for peer in rule.get("from", []) + rule.get("to", []):
            assert "ipBlock" not in peer
            assert peer.get("namespaceSelector") or peer.get("podSelector"), peer
    control = [rule for rule in spec["ingress"] if rule["ports"] == [{"port": "control"}]]
    (rule,) = control
    (peer,) = rule["from"]
    assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "monitoring"}


# -- as the product and kustomize see it ----------------------------------------------------------


@pytest.mark.parametrize("base", WORKLOADS)
def test_the_configuration_and_its_policies_load(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (FOLDER / base / "sidecar.yaml").read_text("utf-8")
    for name in ("coder-token", "operator-key", "tickets-token"):
        (tmp_path / name).write_text(name * 3)
        (tmp_path / name).chmod(0o440)
    (tmp_path / "sidecar.yaml").write_text(text.replace("/run/secrets/aegis", str(tmp_path)))
    database = "postgresql://aegis:secret@db.postgres/aegis?sslmode=verify-full"
    loaded = load_config(tmp_path / "sidecar.yaml", {**os.environ, "AEGIS_DB": database}, ())
    assert loaded.config is not None
    # The gateway's people have keys: README says where the certificate is to be given.
    said = [problem.message for problem in loaded.problems if problem.is_warning]
    assert len(said) == len(loaded.problems) == (1 if base == "gateway" else 0)
    assert all("listen.control" in one and "without TLS: keys of people" in one for one in said)
    assert "/etc/aegis/policies" in loaded.config.policies
    mounts = {mount["mountPath"] for mount in guard(pod(base))["volumeMounts"]}
    assert {"/etc/aegis/policies", "/run/secrets/aegis", "/var/lib/aegis"} <= mounts
    files = sorted((FOLDER / base / "policies").glob("*.yaml"))
    sources = [Source(str(path), path.read_bytes()) for path in files]
    found = load_policies(
        sources, upstreams={"tickets": "rest"}, default="deny", read_file=lambda _: None
    )
    assert found.problems == []


def test_the_overlay_of_the_guide_puts_its_files_in_the_place_of_the_examples(
    tmp_path: Path,
) -> None:
    if not has_kustomize():
        pytest.skip("no kubectl with kustomize 5 here; test_guides checked what it names")
    (tmp_path / "deploy").symlink_to(DEPLOY)
    guide = (DEPLOY / "guides" / "kubernetes.md").read_text("utf-8")
    files = {}
    for block in re.findall(r"^ *```yaml\n(.*?)^ *```$", guide, re.DOTALL | re.MULTILINE):
        text = textwrap.dedent(block)
        path = tmp_path / text.partition("\n")[0].removeprefix("# ")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        files[path.name] = text
    text = rendered(tmp_path / "gate")
    assert lint_manifest(text) == []
    made = list(yaml.safe_load_all(text))
    maps = {m["metadata"]["name"]: m["data"] for m in made if m["kind"] == "ConfigMap"}
    assert maps.pop("aegis-policies") == {
        name: files[name] for name in ("tools.yaml", "rules.yaml")
    }, "under the name it had, and without the examples"
    ((configuration, data),) = maps.items()
    assert data == {"sidecar.yaml": files["sidecar.yaml"]}
    (pods,) = (m["spec"]["template"]["spec"] for m in made if m["kind"] == "Deployment")
    assert guard(pods)["image"] == "registry.example/aegis-sidecar:1"
    assert configuration in {
        one["configMap"]["name"] for one in pods["volumes"] if "configMap" in one
    }
    assert "replace-me" not in text


@pytest.mark.parametrize("base", BASES)
def test_kustomize_renders_what_kubernetes_takes(base: str) -> None:
    if not has_kustomize():
        pytest.skip("no kubectl with kustomize 5 here; the files were checked one by one")
    text = rendered(FOLDER / base)
    assert lint_manifest(text) == []
    kinds = [one["kind"] for one in yaml.safe_load_all(text)]
    assert set(kinds) >= {one["kind"] for one in manifests(base)}
    if base in WORKLOADS:
        assert "name: aegis-policies\n" in text, "a changed policy rolls nothing"
        assert "aegis-configuration-" in text, "a changed configuration does"
        assert "replace-me" in text and "image: aegis-sidecar\n" not in text
