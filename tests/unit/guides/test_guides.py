"""What the guides say is so: their files load, their commands parse, their names and links exist.

The same for the commands, names and links of every README.
"""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import guide_checks
import pytest
from guide_checks import ROOT
from guide_reading import blocks, links

GUIDES = sorted((ROOT / "deploy/guides").glob("*.md"))
ENVIRONMENT = {
    "AEGIS_DB": "postgresql://aegis:PASSWORD@db1,db2/aegis?sslmode=verify-full",
    "GITHUB_TOKEN": "not-a-token-of-anybody",
    "ON_CALL_URL": "https://hooks.slack.example/services/x",
}
#: The driver of tests/clients whose function a guide shows.
SHOWN = {"langchain.md": "driver_langchain.py", "openai-agents.md": "driver_agents.py"}
#: Guides that go on in the folder of another one.
BEFORE = {
    "langchain.md": "mcp.md", "openai-agents.md": "mcp.md", "postgresql.md": "mcp.md",
}  # fmt: skip


def pages() -> list[Path]:
    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [ROOT / name for name in tracked.splitlines() if name != "CHANGELOG.md"]


@pytest.mark.parametrize("path", pages(), ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_names_and_links_of_a_page_exist(path: Path) -> None:
    page = path.read_text()
    assert guide_checks.of_page(path, page) == []
    if path in GUIDES:
        assert guide_checks.of_guide(page) == []


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.name)
def test_the_files_of_a_guide_load_and_their_tests_pass(path: Path, tmp_path: Path) -> None:
    if path.name in BEFORE:
        first = (path.parent / BEFORE[path.name]).read_text()
        assert guide_checks.of_files(first, tmp_path, ENVIRONMENT) == []
    assert guide_checks.of_files(path.read_text(), tmp_path, ENVIRONMENT) == []


@pytest.mark.parametrize("name", SHOWN)
def test_a_guide_shows_the_code_that_the_unmodified_client_is_driven_with(name: str) -> None:
    shown = [one.text for one in blocks((ROOT / "deploy/guides" / name).read_text())
             if one.language == "python"]  # fmt: skip
    driver = (ROOT / "tests/clients" / SHOWN[name]).read_text()
    functions = {
        node.name: ast.get_source_segment(driver, node)
        for node in ast.parse(driver).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert len(shown) == 1
    called = ast.parse(shown[0]).body[0]
    assert isinstance(called, ast.FunctionDef | ast.AsyncFunctionDef)
    assert functions[called.name] == shown[0].rstrip("\n")
    assert f"{called.name}(url, " in (functions["main"] or ""), "the driver does not use it"


def test_the_index_and_the_readme_lead_to_every_guide() -> None:
    wanted = {path.name for path in GUIDES} - {"README.md"}
    assert set(links((ROOT / "deploy/guides/README.md").read_text())) == wanted
    assert wanted <= {Path(one).name for one in links((ROOT / "README.md").read_text())}


#: A page that says something that is not so, and what is found.
PLANTED = {
    "`aegis-sidecar store mend`": "there is no mend",
    "`receipts verify --no-check`": "has no --no-check",
    "`--no-such-option`": "no command has --no-such-option",
    "`soc.lvel: notify`": "there is no setting soc.lvel",
    "`aegis_stores_healthy`": "there is no metric aegis_stores_healthy",
    "`AegisStoreHappy`": "there is no alert AegisStoreHappy",
    "`polici_deny`": "nothing is called polici_deny",
    "`/v1/incidentes`": "there is no route /v1/incidentes",
    "`pack:confused-diputy`": "there is no pack pack:confused-diputy",
    "`block-tol mail/send`": "there is no action block-tol",
    "[so](no-such.md)": "a link leads nowhere: no-such.md",
    "[so](policy.md#nothing)": "there is no such heading: policy.md#nothing",
    "```sh\naegis-sidecar receipts verify x --chekpoint y\n```": "--chekpoint",
    "```sh\naegis-sidecar receipts prove first\n```": "invalid int value: 'first'",
    "```sh\naegis-sidecar serv\n```": "serv",
    "```sh\ntrue && pip install x\n```": "an unknown program: true",
    "```sh\nkubectl -n aegis exec x -- aegis-sidecar stats\n```": "stats",
    "```sh\nkubectl apply -k deploy/kubernetes/gate\n```": "no deploy/kubernetes/gate",
    "```sh\nbash deploy/no.sh\n```": "there is no script deploy/no.sh",
    "```yaml\n# gate/policies/x.yaml\npolicy: x\n```": "nothing makes gate/policies",
    "```sh\ncurl http://127.0.0.1:8080/v1/authorise\n```": "there is no route /v1/authorise",
}


@pytest.mark.parametrize("page", PLANTED)
def test_what_is_not_so_is_found(page: str) -> None:
    page, fault = f"# X\n\n{page}\n", PLANTED[page]
    faults = guide_checks.of_page(ROOT / "deploy/guides/x.md", page)
    faults += guide_checks.of_guide(page)
    assert [one for one in faults if fault in one] != []


@pytest.mark.parametrize(
    ("guide", "before", "after", "fault"),
    [
        ("policy.md", "kind: authorize}", "kind: authorise}", "authorise"),
        ("policy.md", "when: args.amount_cents <= 5000", "when: args.amount <= 5000", "amount"),
        ("policy.md", "expect: deny\n", "expect: allow\n", "its tests do not pass"),
        ("policy.md", "# gate/policies/refunds.yaml\n", "", "a file without its name"),
        ("kubernetes.md", "/kubernetes/gateway]", "/kubernetes/gate]", "there is no base"),
        ("kubernetes.md", "policies/rules.yaml]", "policies/more.yaml]", "no block writes"),
        ("kubernetes.md", "roles: [viewer,", "roles: [looker,", "looker"),
        ("incident.md", "soc: {level: notify}", "soc: {levle: notify}", "levle"),
        ("incident.md", "      writer: {team", "      author: {team", "has no agent writer"),
        ("incident.md", "at_least: 10\n", "at_last: 10\n", "at_last"),
        ("incident.md", "./policies]\n", "pack:trust]\n", "nothing loads many-mails.yaml"),
        ("kubernetes.md", "`listen.control.tls`", "`tls`", "open to other machines without TLS"),
    ],
)
def test_a_fault_in_a_file_of_a_guide_is_found(
    guide: str, before: str, after: str, fault: str, tmp_path: Path
) -> None:
    page = (ROOT / "deploy/guides" / guide).read_text()
    assert before in page
    faults = guide_checks.of_files(page.replace(before, after, 1), tmp_path, ENVIRONMENT)
    assert [one for one in faults if fault in one] != []
