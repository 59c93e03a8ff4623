"""The shipped packs pass their own tests, which show every rule matching and not matching."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from policy_setup import PACKS

from sidecar.cli.main import main
from sidecar.policy_reading import pack_folders


def test_the_packs_pass_their_tests(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "test", str(PACKS), "--coverage", "100"]) == 0
    assert "(100 %)" in capsys.readouterr().out


@pytest.mark.parametrize("name", list(pack_folders()))
def test_each_pack_is_tested_as_it_is_loaded(name: str) -> None:
    assert main(["policy", "test", f"pack:{name}", "--coverage", "100"]) == 0


def test_the_readme_of_the_packs_tells_of_each_and_of_no_other() -> None:
    told = re.findall(r"^\| `([a-z-]+)` \|", (PACKS / "README.md").read_text(), re.MULTILINE)
    assert sorted(told) == sorted(pack_folders())


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("read-only/policy.yaml", "mutates: false", "mutates: true"),
        ("baseline/no-secrets.yaml", "    - .ssh\n", ""),
        ("baseline/no-internal-addresses.yaml", "    - 169.254.0.0/16\n", ""),
        ("select-only/policy.yaml", "(into|", "("),
        ("working-hours/policy.yaml", "outside:", "during:"),
        ("known-hosts/policy.yaml", "inDomain(host(u), d)", "u.contains(d)"),
        ("work-folder/policy.yaml", "under(p, constants.folder)", "p.startsWith(constants.folder)"),
        ("confused-deputy/policy.yaml", "{trust: untrusted_external}", "{trust: unknown}"),
        ("lethal-trifecta/policy.yaml", '"reads-private" in tool.labels || ', ""),
        ("payments/policy.yaml", "max: 2000000,", "max: 2050000,"),
        ("personal-data/policy.yaml", "iban, email", "email"),
        ("shell/policy.yaml", "\\.gnupg|\\.env(rc)?|", ""),
        ("github/policy.yaml", 'own: "agent/*"', 'own: "agent*"'),
        ("egress/policy.yaml", "gh[pousr]_[A-Za-z0-9]{36}|", ""),
        ("soc/deny-storm.yaml", "at_least: 5", "at_least: 6"),
        ("soc/runaway.yaml", "within: 10s", "within: 9s"),
        ("soc/confused-deputy.yaml", "  mutates: true\n", ""),
        ("soc/exfiltration.yaml", "by: agent", "by: tenant"),
        ("soc/trust-escalation.yaml", "by: [agent, tool]", "by: agent"),
        ("soc/replay-or-tamper.yaml", "    - approval_spent\n", ""),
        ("soc/first-use.yaml", "by: agent", "by: tenant"),
        ("soc/unusual-rate.yaml", "buckets: 24", "buckets: 6"),
        ("soc/credential-in-arguments.yaml", 'text.contains("***") &&', "false &&"),
    ],
)
def test_a_pack_that_protects_less_fails_its_tests(
    tmp_path: Path, file: str, old: str, new: str
) -> None:
    pack = Path(file).parent
    shutil.copytree(PACKS / pack, tmp_path / pack)
    text = (tmp_path / file).read_text()
    assert old in text
    (tmp_path / file).write_text(text.replace(old, new))
    assert main(["policy", "test", str(tmp_path / pack)]) == 1
