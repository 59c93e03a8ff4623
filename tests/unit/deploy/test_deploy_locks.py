"""The locks name what the package asks for, at the same versions, each with its hashes."""

from __future__ import annotations

import configparser
import re

from deploy_linters import DEPLOY, ROOT

_PIN = re.compile(r"^([a-z0-9-]+)==([^ ;\\]+)", re.MULTILINE)


def pins(name: str) -> dict[str, str]:
    return dict(_PIN.findall((DEPLOY / name).read_text("utf-8")))


def asked(text: str) -> set[str]:
    lines = (line.strip() for line in text.splitlines())
    return {line for line in lines if line and not line.startswith(("#", "-r"))}


def test_what_is_asked_for_stands_the_same_in_the_package_and_in_the_input_of_the_locks() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    runtime = asked(setup["options"]["install_requires"])
    assert asked((DEPLOY / "requirements.in").read_text("utf-8")) == runtime
    traces = asked(setup["options.extras_require"]["otel"])
    assert asked((DEPLOY / "requirements-otel.in").read_text("utf-8")) == traces
    assert {re.split(r"[<>=]", one)[0] for one in runtime} <= set(pins("requirements.lock"))


def test_the_locks_agree_where_they_name_the_same() -> None:
    runtime, tests = pins("requirements.lock"), pins("requirements-test.lock")
    traces, build = pins("requirements-otel.lock"), pins("requirements-build.lock")
    assert runtime.items() <= traces.items() <= tests.items()
    assert build.items() <= tests.items()
    assert len(runtime) > 20 and set(traces) > set(runtime)
    for name in ("requirements", "requirements-otel", "requirements-build"):
        text = (DEPLOY / f"{name}.lock").read_text("utf-8")
        assert len(_PIN.findall(text)) <= text.count("--hash=sha256:")
