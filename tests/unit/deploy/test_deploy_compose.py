"""compose.yaml holds together: what a service names is there, nothing is open to other machines,
and who is in no network with another does not reach it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml
from deploy_linters import DEPLOY

Compose = dict[str, Any]


def compose() -> Compose:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))


def wrong(file: Compose) -> Iterator[str]:
    """A line for each thing that is not there, or too open."""
    services = file["services"]
    for name, service in services.items():
        for port in service.get("ports", []):
            if not port.startswith("127.0.0.1:"):
                yield f"{name}: {port} is open to other machines"
        for volume in service.get("volumes", []):
            if isinstance(volume, dict):
                if volume["source"] not in file["volumes"]:
                    yield f"{name}: no volume {volume['source']}"
                continue
            source, _, mode = volume.split(":")
            if not (DEPLOY / source).exists():
                yield f"{name}: no file {source}"
            if mode != "ro":
                yield f"{name}: {source} can be written"
        networks = service["networks"]
        yield from (f"{name}: no network {one}" for one in networks if one not in file["networks"])
        if service["image"].startswith("aegis-sidecar") and "build" not in service:
            yield f"{name}: its image would be looked for in a registry"
        if name != "postgres" and not (
            service.get("read_only")
            and service.get("cap_drop") == ["ALL"]
            and service.get("security_opt") == ["no-new-privileges:true"]
        ):
            yield f"{name}: may more than it must"
        if not service.get("profiles"):
            yield f"{name}: is of no profile"
        for other in service.get("depends_on", {}):
            if not set(service["profiles"]) & set(services[other]["profiles"]):
                yield f"{name}: waits for {other}, which is of another profile"
        image, _, version = service["image"].partition(":")
        if version in ("", "latest"):
            yield f"{name}: {image} is of no version"


def test_what_a_service_names_is_there_and_nothing_is_open() -> None:
    assert list(wrong(compose())) == []


def test_what_is_missing_or_open_is_found() -> None:
    file = compose()
    services = file["services"]
    services["grafana"]["ports"] = ["3000:3000"]
    services["prometheus"]["image"] = "prom/prometheus"
    del services["demo"]["build"], services["sidecar"]["read_only"], file["volumes"]["postgres"]
    assert set(wrong(file)) == {
        "grafana: 3000:3000 is open to other machines",
        "prometheus: prom/prometheus is of no version",
        "demo: its image would be looked for in a registry",
        "sidecar: may more than it must",
        "postgres: no volume postgres",
    }


def test_only_sidecars_reach_the_tools_and_postgres() -> None:
    file = compose()

    def within(network: str) -> set[str]:
        return {n for n, s in file["services"].items() if network in s["networks"]}

    assert within("store") == {"postgres", "sidecar-1", "sidecar-2"}
    assert within("tools") == {"sidecar", "sidecar-1", "sidecar-2", "demo", "demo-postgres"}
    assert all(file["networks"][one]["internal"] for one in ("store", "tools", "watch"))
    found = {n for n, s in file["services"].items() if "default" in s["profiles"]}
    assert found == {"sidecar", "demo", "prometheus", "grafana"}
