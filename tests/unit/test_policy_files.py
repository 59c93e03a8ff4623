"""Policy files on disk: what is read, when it is loaded, and that nothing broken gets in force."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sidecar import policy_reading
from sidecar.clock import Clock
from sidecar.errors import ConfigurationError
from sidecar.policy.load import LoadedPolicies, Source, load_policies
from sidecar.policy_files import PolicyKeeper, read_sources
from sidecar.problems import Position, Problem

ALLOW = "policy: p\nrules:\n  - {id: r, effect: allow, tools: github/read}\n"
CATALOGUE = "catalogue: github\ntools:\n  read: GET /read\n"


class Loader:
    """Takes a set whose every file ends in its generation, and remembers what it was given."""

    def __init__(self) -> None:
        self.given: list[list[bytes]] = []

    def __call__(
        self, sources: Sequence[Source], *, read_file: Callable[[str, str], bytes]
    ) -> LoadedPolicies:
        contents = [source.data for source in sources if not source.is_missing]
        self.given.append(contents)
        if b"raise" in contents:
            raise RuntimeError("a fault of ours")
        if any(not data.endswith(b".") for data in contents):
            return LoadedPolicies(None, [Problem(Position(sources[0].name, 1, 1), "cut off")])
        for source in sources:
            if source.data.startswith(b"beside:"):
                contents.append(read_file(source.name, "api.json"))
        revision = b"+".join(contents).decode()
        made: Any = SimpleNamespace(
            revision=revision,
            rule_count=len(sources),
            shadow_count=revision.count("shadow"),
            pieces=list,
        )
        return LoadedPolicies(made, [])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "policies"
    folder.mkdir()
    return folder


def keeper_of(folder: Path, load: Any = None) -> PolicyKeeper:
    return PolicyKeeper([str(folder)], folder.parent, load or Loader(), Clock())


def names(entries: Sequence[str], base: Path) -> list[str]:
    return [source.name for source in read_sources(entries, base)[0]]


def messages(entries: Sequence[str], base: Path) -> list[str]:
    return [str(problem) for problem in read_sources(entries, base)[1]]


async def look_twice(keeper: PolicyKeeper) -> bool:
    return await keeper.poll() or await keeper.poll()


# -- what is read --------------------------------------------------------------------------


def test_a_folder_gives_its_yaml_files_in_order(folder: Path) -> None:
    for name in (
        "b.yaml",
        "a.yml",
        "sub/c.yaml",
        "README.md",
        ".hidden.yaml",
        ".#a.yaml",
        "x.json",
    ):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    (folder / ".git").mkdir()
    (folder / ".git" / "d.yaml").write_text("x")
    expected = ["policies/a.yml", "policies/b.yaml", "policies/sub/c.yaml"]
    assert names(["policies"], folder.parent) == expected
    assert messages(["policies"], folder.parent) == []


def test_a_file_named_twice_is_read_once(folder: Path) -> None:
    (folder / "a.yaml").write_text("x")
    entries = ["policies", str(folder / "a.yaml"), "policies/a.yaml"]
    assert names(entries, folder.parent) == ["policies/a.yaml"]


def test_files_elsewhere_keep_their_whole_name(folder: Path, tmp_path: Path) -> None:
    (folder / "a.yaml").write_text("x")
    base = tmp_path / "elsewhere"
    base.mkdir()
    assert names([str(folder)], base) == [str(folder / "a.yaml")]


def test_d3_a_file_whose_name_ends_in_capitals_is_not_passed_over(folder: Path) -> None:
    (folder / "a.yaml").write_text(ALLOW)
    (folder / "deny.YAML").write_text(ALLOW)
    assert messages(["policies"], folder.parent) == [
        f"{folder}/deny.YAML: error: a policy file's name ends in capitals\n"
        "    hint: rename it to .yaml"
    ]
    (folder / "deny.YAML").rename(folder / "deny.YAML.off")
    assert messages(["policies"], folder.parent) == []


def test_what_cannot_be_read_is_said_all_at_once(folder: Path) -> None:
    (folder / "gone.yaml").symlink_to("nowhere")
    (folder / "good.yaml").write_text("x")
    os.mkfifo(folder / "pipe.yaml")
    (folder.parent / "empty").mkdir()
    said = messages(["policies", "missing.yaml", "empty", "pack:nope"], folder.parent)
    assert [line.split("\n")[0] for line in said] == [
        "missing.yaml: error: cannot be read: No such file or directory",
        "empty: error: no policy file in this folder",
        "pack:nope: error: there is no such pack",
        "policies/gone.yaml: error: cannot be read: No such file or directory",
        "policies/pipe.yaml: error: cannot be read: is not a regular file",
    ]


@pytest.mark.parametrize("name", ["pack:../storage", "pack:", "pack:/etc", "pack:Read_Only"])
def test_a_pack_is_a_name_and_no_path(name: str, tmp_path: Path) -> None:
    assert "there is no such pack" in messages([name], tmp_path)[0]


def test_d3_links_in_a_circle_are_refused(folder: Path) -> None:
    (folder / "a.yaml").write_text("x")
    (folder / "again").symlink_to(folder)
    assert "a link leads in a circle" in messages(["policies"], folder.parent)[0]


async def test_d4_a_folder_behind_a_link_that_leads_nowhere_is_not_passed_over(
    folder: Path,
) -> None:
    (folder / "a.yaml").write_text("one.")
    mounted = folder.parent / "mounted"
    mounted.mkdir()
    (mounted / "deny.yaml").write_text("two.")
    (folder / "denies").symlink_to(mounted)
    keeper = keeper_of(folder)
    keeper.load_first()
    mounted.rename(folder.parent / "elsewhere")
    assert not await look_twice(keeper)
    assert keeper.current.revision == "one.+two.", "what refuses is not gone"
    assert not keeper.reload_succeeded
    assert messages(["policies"], folder.parent) == [
        f"{folder}/denies: error: a link that leads nowhere\n    hint: put back what it leads to, "
        "which may be a folder of policies, or remove it"
    ]
    (folder / "denies").rename(folder / ".denies")
    assert await look_twice(keeper)
    assert keeper.current.revision == "one."


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_d4_a_file_without_permission_is_a_problem(folder: Path) -> None:
    (folder / "a.yaml").write_text("x")
    (folder / "a.yaml").chmod(0)
    assert "Permission denied" in messages(["policies"], folder.parent)[0]


# -- when it is loaded ---------------------------------------------------------------------


async def test_the_first_set_is_loaded_at_start(folder: Path) -> None:
    (folder / "a.yaml").write_text("one.")
    keeper = keeper_of(folder)
    assert keeper.load_first().revision == "one."
    assert keeper.current.revision == "one."
    assert keeper.reload_succeeded
    assert keeper.loaded_at_us > 0


async def test_d3_a_broken_first_set_stops_the_start_with_every_problem(folder: Path) -> None:
    (folder / "a.yaml").symlink_to("nowhere")
    (folder / "b.yaml").symlink_to("nowhere")
    with pytest.raises(ConfigurationError, match=r"(?s)policies/a\.yaml.*policies/b\.yaml"):
        keeper_of(folder).load_first()


async def test_d2_an_empty_folder_stops_the_start(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="no policy file"):
        keeper_of(folder).load_first()


async def test_a_change_is_loaded_when_two_looks_saw_the_same(folder: Path) -> None:
    path = folder / "a.yaml"
    path.write_text("one.")
    keeper = keeper_of(folder)
    keeper.load_first()
    assert not await look_twice(keeper)
    path.write_text("two.")
    assert not await keeper.poll()
    assert keeper.current.revision == "one."
    assert await keeper.poll()
    assert keeper.current.revision == "two."
    assert not await look_twice(keeper)


async def test_new_and_removed_files_are_changes(folder: Path) -> None:
    (folder / "a.yaml").write_text("one.")
    keeper = keeper_of(folder)
    keeper.load_first()
    (folder / "b.yaml").write_text("two.")
    assert await look_twice(keeper)
    assert keeper.current.revision == "one.+two."
    (folder / "a.yaml").unlink()
    assert await look_twice(keeper)
    assert keeper.current.revision == "two."


async def test_a_rewrite_of_equal_size_with_the_old_times_is_noticed(folder: Path) -> None:
    path = folder / "a.yaml"
    path.write_text("one.")
    facts = path.stat()
    keeper = keeper_of(folder)
    keeper.load_first()
    await look_twice(keeper)
    path.write_text("two.")
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert await look_twice(keeper)


async def test_a_file_that_a_policy_names_is_watched_too(folder: Path) -> None:
    (folder / "a.yaml").write_text("beside: .")
    (folder / "api.json").write_text("v1")
    keeper = keeper_of(folder)
    keeper.load_first()
    assert keeper.current.revision == "beside: .+v1"
    assert not await look_twice(keeper)
    (folder / "api.json").write_text("v2")
    assert await look_twice(keeper)
    assert keeper.current.revision == "beside: .+v2"


async def test_d4_a_half_written_file_is_never_tried(folder: Path) -> None:
    path = folder / "a.yaml"
    path.write_text("one.")
    loader = Loader()
    keeper = keeper_of(folder, loader)
    keeper.load_first()
    for length in range(1, 9):
        path.write_text("two two."[:length])
        assert not await keeper.poll()
    assert await keeper.poll()
    assert loader.given == [[b"one."], [b"two two."]]


async def test_d3_a_broken_set_never_replaces_a_good_one(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = folder / "a.yaml"
    path.write_text("one.")
    loader = Loader()
    keeper = keeper_of(folder, loader)
    keeper.load_first()
    path.write_text("broken")
    for _ in range(5):
        assert not await keeper.poll()
    assert keeper.current.revision == "one."
    assert (keeper.reload_succeeded, keeper.failures) == (False, 1)
    assert [str(problem) for problem in keeper.problems] == ["policies/a.yaml:1:1: error: cut off"]
    said = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(said) == 1, "said once for one content"
    assert len(loader.given) == 2, "tried once"
    path.write_text("one.")
    assert await look_twice(keeper), "back to the good content"
    assert (keeper.reload_succeeded, keeper.problems) == (True, ())


async def test_d3_the_log_says_what_is_broken_whatever_could_be_better(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = folder / "a.yaml"
    path.write_text("one.")
    loader = Loader()

    def load(sources: Sequence[Source], **how: Any) -> LoadedPolicies:
        loaded = loader(sources, **how)
        better = [Problem(Position("a", n), "better", is_warning=True) for n in range(1, 9)]
        return LoadedPolicies(loaded.policy_set, [*better, *loaded.problems])

    keeper = keeper_of(folder, load)
    keeper.load_first()
    path.write_text("broken")
    await look_twice(keeper)
    (said,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert said.__dict__["problems"] == ["policies/a.yaml:1:1: error: cut off"]


async def test_d8_each_load_says_how_many_rules_are_in_shadow(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def said() -> list[tuple[int, int]]:
        told = [one for one in caplog.records if "shadow" in one.getMessage()]
        caplog.clear()
        assert all(one.levelname == "WARNING" for one in told)
        return [(one.__dict__["count"], one.__dict__["rules"]) for one in told]

    (folder / "a.yaml").write_text("shadow.")
    (folder / "b.yaml").write_text("shadow shadow.")
    keeper = keeper_of(folder)
    keeper.load_first()
    assert said() == [(3, 2)]
    (folder / "a.yaml").write_text("live.")
    assert await look_twice(keeper)
    assert said() == [(2, 2)]
    await keeper.reload()
    assert said() == [(2, 2)]
    (folder / "b.yaml").write_text("live")  # broken: nothing else is in force
    await keeper.reload()
    assert said() == []
    (folder / "b.yaml").write_text("live.")
    assert (await keeper.reload()).succeeded
    assert said() == []


async def test_d4_an_unreadable_file_leaves_the_set_in_force(folder: Path) -> None:
    (folder / "a.yaml").write_text("one.")
    (folder / "b.yaml").write_text("two.")
    loader = Loader()
    keeper = keeper_of(folder, loader)
    keeper.load_first()
    (folder / "b.yaml").unlink()
    (folder / "b.yaml").symlink_to("nowhere")
    assert not await look_twice(keeper)
    assert keeper.current.revision == "one.+two."
    assert not keeper.reload_succeeded
    assert loader.given[1:] == [[b"one."]], "the rest is read for its problems only"


async def test_d4_problems_of_what_was_read_come_with_those_of_what_was_not(folder: Path) -> None:
    (folder / "a.yaml").write_text("broken")
    (folder / "b.yaml").symlink_to("nowhere")
    with pytest.raises(ConfigurationError, match=r"(?s)b\.yaml: error.*a\.yaml:1:1: error"):
        keeper_of(folder).load_first()


async def test_d1_a_fault_while_loading_a_part_does_not_hide_what_is_missing(folder: Path) -> None:
    (folder / "a.yaml").write_text("raise")
    (folder / "b.yaml").symlink_to("nowhere")
    with pytest.raises(ConfigurationError, match=r"(?s)b\.yaml: error.*RuntimeError"):
        keeper_of(folder).load_first()


async def test_d1_a_fault_while_loading_leaves_the_set_in_force(folder: Path) -> None:
    (folder / "a.yaml").write_text("one.")
    keeper = keeper_of(folder)
    keeper.load_first()
    (folder / "a.yaml").write_text("raise")
    assert not await look_twice(keeper)
    assert keeper.current.revision == "one."
    assert "RuntimeError" in str(keeper.problems[0])


async def test_a_forced_reload_answers_in_words(folder: Path) -> None:
    path = folder / "a.yaml"
    path.write_text("one.")
    keeper = keeper_of(folder)
    keeper.load_first()
    same = await keeper.reload()
    assert (same.succeeded, same.text) == (True, "in force already: revision one., 1 rule")
    path.write_text("two.")
    changed = await keeper.reload()
    assert (changed.succeeded, keeper.current.revision) == (True, "two.")
    assert "revision two. with 1 rule is in force, after one." in changed.text
    path.write_text("broken")
    broken = await keeper.reload()
    assert (broken.succeeded, broken.text) == (
        False,
        "1 problem; revision two. stays in force",
    )


async def test_a_forced_reload_tries_the_same_broken_content_again(folder: Path) -> None:
    (folder / "a.yaml").write_text("one.")
    loader = Loader()
    keeper = keeper_of(folder, loader)
    keeper.load_first()
    (folder / "a.yaml").write_text("broken")
    await keeper.reload()
    await keeper.reload()
    assert len(loader.given) == 3


# -- under fire ----------------------------------------------------------------------------


class Mount:
    """A Kubernetes ConfigMap volume: links to `..data/NAME`, and `..data` swapped by rename."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.generation = 0
        self.swap()
        for name in ("a.yaml", "b.yaml"):
            (folder / name).symlink_to(f"..data/{name}")

    def swap(self) -> None:
        self.generation += 1
        version = self.folder / f"..2026_{self.generation}"
        version.mkdir()
        for name in ("a.yaml", "b.yaml"):
            (version / name).write_text(f"{self.generation}.")
        (self.folder / "..data_tmp").symlink_to(version.name)
        (self.folder / "..data_tmp").rename(self.folder / "..data")
        old = self.folder / f"..2026_{self.generation - 1}"
        if old.exists():
            for name in ("a.yaml", "b.yaml"):
                (old / name).unlink()
            old.rmdir()


async def test_d4_a_configmap_swap_is_noticed(folder: Path) -> None:
    mount = Mount(folder)
    keeper = keeper_of(folder)
    keeper.load_first()
    assert keeper.current.revision == "1.+1."
    mount.swap()
    assert await look_twice(keeper)
    assert keeper.current.revision == "2.+2."
    assert names(["policies"], folder.parent) == ["policies/a.yaml", "policies/b.yaml"]


async def test_d4_going_back_after_a_forced_reload_is_noticed(folder: Path) -> None:
    """To files that look as they did at the last look: a link leads back to them."""
    for generation in ("1.", "2."):
        (folder / f"..{generation}").mkdir()
        (folder / f"..{generation}" / "a.yaml").write_text(generation)
    (folder / "a.yaml").symlink_to("..data/a.yaml")

    def lead_to(generation: str) -> None:
        (folder / "..data_tmp").symlink_to(f"..{generation}")
        (folder / "..data_tmp").rename(folder / "..data")

    lead_to("1.")
    keeper = keeper_of(folder)
    keeper.load_first()
    await keeper.poll()
    lead_to("2.")
    await keeper.reload()
    assert keeper.current.revision == "2."
    lead_to("1.")
    assert await look_twice(keeper)
    assert keeper.current.revision == "1."


async def test_d4_swaps_while_reading_never_give_a_mix(folder: Path) -> None:
    mount = Mount(folder)
    loader = Loader()
    keeper = keeper_of(folder, loader)
    keeper.load_first()
    is_over = threading.Event()

    def swap_for_ever() -> None:
        while not is_over.is_set():
            mount.swap()
            is_over.wait(0.001)

    swapper = threading.Thread(target=swap_for_ever)
    swapper.start()
    try:
        for _ in range(60):
            await keeper.poll()
            await keeper.reload()
    finally:
        is_over.set()
        swapper.join()
    assert mount.generation > 5
    assert all(len(set(given)) == 1 for given in loader.given)
    await keeper.reload()
    assert keeper.current.revision == f"{mount.generation}.+{mount.generation}."


class SwapsWhileReading:
    """Swaps the mount right after its first file was read, `times` times."""

    def __init__(self, mount: Mount, times: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.mount = mount
        self.left = times
        self._read = policy_reading._read
        monkeypatch.setattr(policy_reading, "_read", self)

    def __call__(self, path: Path, bytes_max: int) -> bytes:
        data = self._read(path, bytes_max)
        if path.name == "a.yaml" and self.left:
            self.left -= 1
            self.mount.swap()
        return data


async def test_d4_a_swap_between_two_files_is_not_loaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount = Mount(folder)
    loader = Loader()
    keeper = keeper_of(folder, loader)
    keeper.load_first()
    swaps = SwapsWhileReading(mount, 1, monkeypatch)
    mixed = [source.data for source in read_sources(["policies"], folder.parent)[0]]
    assert mixed == [b"1.", b"2."], "one reading alone can be a mix"
    swaps.left = 2
    assert (await keeper.reload()).succeeded
    swaps.left = 1
    assert not await keeper.poll()
    assert await look_twice(keeper)
    assert loader.given == [[b"1."] * 2, [b"4."] * 2, [b"5."] * 2]


async def test_d4_files_that_never_stand_still_are_not_loaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount = Mount(folder)
    loader = Loader()
    keeper = keeper_of(folder, loader)
    keeper.load_first()
    SwapsWhileReading(mount, 1000, monkeypatch)
    assert not (await keeper.reload()).succeeded
    assert keeper.current.revision == "1.+1."
    (problem,) = keeper.problems
    assert "keep changing" in str(problem)
    assert loader.given == [[b"1."] * 2], "not even for the problems of files of several moments"


async def test_d4_each_decision_sees_one_revision_through_many_reloads(folder: Path) -> None:
    (folder / "a.yaml").write_text("0.")
    (folder / "b.yaml").write_text("0.")
    keeper = keeper_of(folder)
    keeper.load_first()
    seen: set[str] = set()
    is_over = False

    async def decide_for_ever() -> None:
        while not is_over:
            taken = keeper.current
            seen.add(taken.revision)
            await asyncio.sleep(0)
            assert len(set(taken.revision.split("+"))) == 1

    deciding = asyncio.create_task(decide_for_ever())
    for number in range(1, 301):
        for name in ("a.yaml", "b.yaml"):
            (folder / name).write_text(f"{number}.")
        assert (await keeper.reload()).succeeded
    is_over = True
    await deciding
    assert len(seen) > 100
    assert keeper.current.revision == "300.+300."


async def test_polling_runs_beside_reloads(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.policy_files.POLL_S", 0.001)
    (folder / "a.yaml").write_text("one.")
    keeper = keeper_of(folder)
    keeper.load_first()
    polling = asyncio.create_task(keeper.run())
    (folder / "a.yaml").write_text("two.")
    async with asyncio.timeout(5):
        while keeper.current.revision != "two.":
            await asyncio.sleep(0.001)
    polling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await polling


# -- with the real loader ------------------------------------------------------------------


async def test_real_policies_are_loaded_and_broken_ones_are_not(folder: Path) -> None:
    load = partial(load_policies, upstreams={"github": "rest"}, default="deny")
    (folder / "tools.yaml").write_text(CATALOGUE)
    (folder / "p.yaml").write_text(ALLOW)
    keeper = keeper_of(folder, load)
    first = keeper.load_first()
    assert first.rule_count == 1
    (folder / "p.yaml").write_text(ALLOW.replace("allow", "permit"))
    assert not await look_twice(keeper)
    assert keeper.current is first
    assert str(keeper.problems[0]).startswith("policies/p.yaml:3:")
    (folder / "p.yaml").write_text(ALLOW.replace("allow", "deny"))
    assert await look_twice(keeper)
    assert keeper.current.revision != first.revision
