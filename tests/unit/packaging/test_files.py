"""What the packages install: sources are there, the example is a configuration, pages and completions know every
command, and the maintainer scripts do what Debian's policy says, in a root of their own."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from skerry import cli
from skerry.config import KEYS, _toml, load, parse
from skerry.doctor import facts
from skerry.identity import IDENTITY, NEW, PENDING, TOKEN
from skerry_hub import cli as hub_cli

ROOT = Path(__file__).parents[3]
TOML = _toml()
AGENT, HUB = ROOT / "agent/packaging", ROOT / "hub/packaging"
BOTH = pytest.mark.parametrize("folder", [AGENT, HUB], ids=["skerry", "skerry-hub"])
NAMES = {AGENT: "skerry", HUB: "skerry-hub"}
PARSERS = {AGENT: cli._arguments(), HUB: hub_cli._arguments()}
SCRIPTS = ("postinst", "prerm", "postrm")


def listed(folder: Path) -> list[dict[str, str]]:
    files: list[dict[str, str]] = TOML.loads((folder / "files.toml").read_text())["file"]
    return files


@BOTH
def test_every_listed_file_is_there_and_every_file_is_listed(folder: Path) -> None:
    sources = [file["source"] for file in listed(folder)]
    assert sorted([*sources, "files.toml", "debian"]) == sorted(path.name for path in folder.iterdir())
    paths = [file["path"] for file in listed(folder)]
    assert len(set(paths)) == len(paths)
    assert all(set(file) <= {"source", "path", "mode"} and file["path"].startswith("/") for file in listed(folder))


# --- the configuration ------------------------------------------------------------------------------------------------


def test_the_default_configuration_is_one_of_a_device_that_has_not_joined() -> None:
    config = load(AGENT / "config.toml")
    assert config.broker_host == ""


def test_the_default_configuration_shows_keys_as_they_are() -> None:
    text = "\n".join(re.findall(r"^#(\w+ = .*)$", (AGENT / "config.toml").read_text(), re.MULTILINE))
    shown = TOML.loads(text)
    parse(shown)
    defaults = {key.name: key.default for key in KEYS}
    assert set(shown) >= {"node", "broker", "data_dir"}
    for name, value in shown.items():
        assert name in ("node", "broker") or value == defaults[name]


def test_the_pods_network_is_one_that_doctor_reads(tmp_path: Path) -> None:
    path = next(file["path"] for file in listed(AGENT) if file["source"] == "cni.conflist")
    place = tmp_path / path.lstrip("/")
    place.parent.mkdir(parents=True)
    shutil.copy(AGENT / "cni.conflist", place)
    assert facts.look(parse({"node": "pi"}), tmp_path).runtime.network == "99-skerry.conflist"
    assert json.loads(place.read_text())["plugins"][0]["ipam"]["type"] == "host-local"


def test_what_holds_the_devices_key_is_open_to_root_alone() -> None:
    """Of each folder: type, path, mode, user, group."""
    lines = [line.split() for line in (AGENT / "tmpfiles.conf").read_text().splitlines() if line.startswith("d ")]
    assert ["/var/lib/skerry", "0700", "root", "root"] in [line[1:5] for line in lines]


def test_the_package_brings_what_makes_keys() -> None:
    assert re.search(r"^Depends: .*\bopenssl\b", (AGENT / "debian/control").read_text(), re.MULTILINE)
    assert "openssl" in (ROOT / "firmware-configs/base/packages").read_text().split()


# --- man pages and completions ----------------------------------------------------------------------------------------


def commands(folder: Path) -> Mapping[str, argparse.ArgumentParser]:
    (action,) = (a for a in PARSERS[folder]._actions if isinstance(a, argparse._SubParsersAction))
    choices: Mapping[str, argparse.ArgumentParser] = action.choices
    return choices


def verbs(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    """Of a command that has commands of its own."""
    choices = [a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    return choices[0] if choices else {}


def long_options(parser: argparse.ArgumentParser) -> set[str]:
    return {word for action in parser._actions for word in action.option_strings if word.startswith("--")}


def completed(folder: Path, *words: str) -> set[str]:
    name = NAMES[folder]
    script = (
        f"source {folder}/completion.bash; COMP_WORDS=({name} {' '.join(words)} '--'); COMP_CWORD={len(words) + 1}; "
        f"_{name.replace('-', '_')}; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    ) if words else (
        f"source {folder}/completion.bash; COMP_WORDS=({name} ''); COMP_CWORD=1; "
        f"_{name.replace('-', '_')}; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )  # fmt: skip
    done = subprocess.run(["bash", "-uc", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@BOTH
def test_the_completion_knows_every_command_and_option(folder: Path) -> None:
    assert completed(folder) == set(commands(folder)) | long_options(PARSERS[folder])
    for command, parser in commands(folder).items():
        assert completed(folder, command) == long_options(parser), command
        for verb, below in verbs(parser).items():
            assert completed(folder, command, verb) == long_options(below), (command, verb)
    assert completed(folder, "nonsense") == set()


@BOTH
def test_the_man_page_knows_every_command_option_and_key(folder: Path) -> None:
    page = (folder / f"{NAMES[folder]}.1").read_text().replace("\\-", "-")
    for command, parser in commands(folder).items():
        assert re.search(rf"^\.B[I]? {command}\b", page, re.MULTILINE), command
        for option in long_options(parser):
            assert option in page, (command, option)
        for verb, below in verbs(parser).items():
            assert re.search(rf"^\.B[I]? \"?{command} {verb}\b", page, re.MULTILINE), (command, verb)
            assert all(option in page for option in long_options(below)), (command, verb)
    for key in KEYS if folder == AGENT else ():
        assert f".B {key.name}\n" in page, key.name
        for number in (key.low, key.high, key.default) if key.kind is int else ():
            assert str(number) in page, key.name


@BOTH
@pytest.mark.parametrize("lint", [("groff", "-man", "-ww", "-z", "-Tutf8"), ("mandoc", "-Tlint", "-Wwarning")])
def test_the_man_page_is_well_formed(folder: Path, lint: tuple[str, ...]) -> None:
    if shutil.which(lint[0]) is None:
        pytest.skip(f"{lint[0]} is not installed")
    done = subprocess.run([*lint, str(folder / f"{NAMES[folder]}.1")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


# --- maintainer scripts -----------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_plain_sh_that_stops_at_errors(folder: Path, name: str) -> None:
    script = folder / "debian" / name
    lines = script.read_text().splitlines()
    assert lines[:2] == ["#!/bin/sh", "set -e"]
    assert "#DEBHELPER#" in lines
    subprocess.run(["sh", "-n", str(script)], check=True)
    if shutil.which("shellcheck"):
        done = subprocess.run(["shellcheck", "-s", "sh", str(script)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


@BOTH
def test_the_control_file_has_what_dpkg_asks_for(folder: Path) -> None:
    text = (folder / "debian/control").read_text()
    said = dict(re.findall(r"^([A-Za-z-]+): (.*)$", text, re.MULTILINE))
    assert said["Package"] == NAMES[folder]
    assert {said[name] for name in ("Version", "Architecture", "Installed-Size")} == {
        "${Version}", "${Architecture}", "${Installed-Size}",
    }  # fmt: skip
    assert said["Depends"].startswith("${python3:Depends}, ")
    assert len(said["Description"]) <= 80
    assert all(len(line) <= 80 for line in text.splitlines() if line.startswith(" "))


class Root:
    """A root of its own for the scripts: mount namespace, fake helpers that write down how they were called."""

    def __init__(self, folder: Path, at: Path) -> None:
        self.folder, self.at = folder, at
        self.calls = at / "calls"
        self.bin = at / "bin"
        self.bin.mkdir()
        for name in ("deb-systemd-helper", "deb-systemd-invoke", "systemctl", "systemd-tmpfiles", "systemd-sysusers"):
            fake = self.bin / name
            fake.write_text(f'#!/bin/sh\necho {name} "$@" >>{self.calls}\n')
            fake.chmod(fake.stat().st_mode | stat.S_IXUSR)

    def run(self, script: str, *args: str, booted: bool = True, proc: bool = True) -> list[str]:
        """The helpers' calls. /var/lib, /run and /etc are this root's."""
        self.calls.write_text("")
        for name in ("var/lib", "run", "etc"):
            (self.at / name).mkdir(parents=True, exist_ok=True)
        system = self.at / "run/systemd/system"
        system.mkdir(parents=True, exist_ok=True) if booted else shutil.rmtree(system.parent, ignore_errors=True)
        binds = "; ".join(f"mount --bind {self.at}/{name} /{name}" for name in ("var/lib", "run", "etc"))
        binds += "" if proc else f"; mount --bind {self.at}/etc /proc"
        inner = f"{binds}; exec sh {self.folder}/debian/{script} {' '.join(args)}"
        env = {**os.environ, "PATH": f"{self.bin}:{os.environ['PATH']}"}
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-ec", inner], env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return self.calls.read_text().splitlines()


@pytest.fixture
def agent(tmp_path: Path) -> Root:
    if os.geteuid() != 0:
        pytest.skip("needs root for a mount namespace")
    return Root(AGENT, tmp_path)


def journal(root: Root) -> Path:
    file = root.at / "var/lib/skerry/journal/env/data.mdb"
    file.parent.mkdir(parents=True)
    file.write_text("precious")
    (root.at / "var/lib/skerry/volumes/u1").mkdir(parents=True)
    (root.at / "etc/skerry").mkdir(parents=True)
    return file


def test_an_installation_enables_and_starts_an_upgrade_restarts(agent: Root) -> None:
    calls = agent.run("postinst", "configure", "''")
    assert "systemd-tmpfiles --create skerry.conf" in calls
    assert "deb-systemd-helper enable skerry.service" in calls
    assert calls[-2:] == ["systemctl --system daemon-reload", "deb-systemd-invoke start skerry.service"]
    assert agent.run("postinst", "configure", "0.1.0")[-1] == "deb-systemd-invoke restart skerry.service"


def test_without_systemd_nothing_is_started_and_it_is_enabled_all_the_same(agent: Root) -> None:
    calls = agent.run("postinst", "configure", "''", booted=False)
    assert not any(call.startswith(("deb-systemd-invoke", "systemctl")) for call in calls)
    assert "deb-systemd-helper enable skerry.service" in calls
    assert agent.run("prerm", "remove", booted=False) == []
    assert agent.run("postrm", "remove", booted=False) == []


def test_an_upgrade_or_downgrade_stops_nothing_and_keeps_the_journal(agent: Root) -> None:
    file = journal(agent)
    assert agent.run("prerm", "upgrade", "0.2.0") == []
    assert agent.run("postrm", "upgrade", "0.2.0") == []
    agent.run("postinst", "configure", "0.2.0")
    assert file.read_text() == "precious"


def test_a_removal_stops_the_agent_and_keeps_the_journal(agent: Root) -> None:
    file = journal(agent)
    assert agent.run("prerm", "remove") == ["deb-systemd-invoke stop skerry.service"]
    agent.run("postrm", "remove")
    assert file.read_text() == "precious"
    assert (agent.at / "etc/skerry").is_dir()


def test_a_purge_removes_journal_and_folders_but_nothing_else(agent: Root) -> None:
    journal(agent)
    for name in (IDENTITY, PENDING, TOKEN):
        for made in (name, NEW.format(name)):
            (agent.at / "var/lib/skerry" / made).write_text("secret")
    (agent.at / "run/skerry/files/volumes").mkdir(parents=True)
    other = agent.at / "var/lib/other"
    other.mkdir()
    calls = agent.run("postrm", "purge")
    assert "deb-systemd-helper purge skerry.service" in calls
    assert not (agent.at / "var/lib/skerry").exists()
    assert not (agent.at / "run/skerry").exists()
    assert not (agent.at / "etc/skerry").exists()
    assert other.is_dir()


def test_a_purge_in_an_image_that_has_no_proc(agent: Root) -> None:
    journal(agent)
    agent.run("postrm", "purge", booted=False, proc=False)
    assert not (agent.at / "var/lib/skerry").exists()


def test_a_purge_leaves_what_a_person_put_there(agent: Root) -> None:
    journal(agent)
    mine = agent.at / "var/lib/skerry/notes.txt"
    mine.write_text("mine")
    (agent.at / "etc/skerry/old.toml").write_text("mine")
    agent.run("postrm", "purge")
    assert mine.read_text() == "mine"
    assert (agent.at / "etc/skerry/old.toml").exists()
    assert not (agent.at / "var/lib/skerry/journal").exists()


def test_the_hubs_purge_removes_its_data(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root for a mount namespace")
    root = Root(HUB, tmp_path)
    calls = root.run("postinst", "configure", "''")
    assert calls[0] == "systemd-sysusers skerry-hub.conf"
    assert calls[-1] == "deb-systemd-invoke start skerry-hub.service"
    data = tmp_path / "var/lib/skerry-hub/api"
    data.mkdir(parents=True)
    root.run("postrm", "remove")
    assert data.is_dir()
    root.run("postrm", "purge")
    assert not data.parent.exists()
