"""The units' options: what must be there, what must not, the score that the docs state, and that the agent works so."""

from __future__ import annotations

import ctypes.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from contract.broker import MOSQUITTO
from unit.packaging.confined import HANDLED, command, options

ROOT = Path(__file__).parents[3]
AGENT = ROOT / "agent/packaging/skerry.service"
HUB = ROOT / "hub/packaging/skerry-hub.service"
PAGE = (ROOT / "docs/operating.md").read_text()
SYSTEMD = "252"  # whose score the docs state

# systemd 257's exec_needs_mount_namespace(), and what implies such an option (systemd.exec(5)).
MOUNT_NAMESPACE = {
    "BindPaths", "BindReadOnlyPaths", "DynamicUser", "ExecPaths", "ExtensionDirectories", "ExtensionImages",
    "InaccessiblePaths", "LoadCredential", "LoadCredentialEncrypted", "LogNamespace", "MountAPIVFS", "MountFlags",
    "MountImages", "NoExecPaths", "PrivateDevices", "PrivateIPC", "PrivateMounts", "PrivateNetwork", "PrivatePIDs",
    "PrivateTmp", "PrivateUsers", "ProcSubset", "ProtectControlGroups", "ProtectHome", "ProtectHostname",
    "ProtectKernelLogs", "ProtectKernelModules", "ProtectKernelTunables", "ProtectProc", "ProtectSystem",
    "ReadOnlyPaths", "ReadWritePaths", "RootDirectory", "RootHash", "RootImage", "RuntimeDirectory", "SetCredential",
    "TemporaryFileSystem", "IPCNamespacePath", "NetworkNamespacePath", "BPFDelegateCommands",
}  # fmt: skip
FORBIDDEN = MOUNT_NAMESPACE | {
    "NoNewPrivileges", "User", "Group",  # a filter of a service that is not root's implies it
    "DeviceAllow", "DevicePolicy", "ProtectClock",  # would hold for every container below
    "MemoryMax", "MemoryHigh", "TasksMax", "CPUQuota",
    "StartLimitBurst", "RestartPreventExitStatus", "RequiresMountsFor", "Requires", "BindsTo", "PartOf", "Requisite",
    "AmbientCapabilities",
}  # fmt: skip
NETWORK = re.compile(r"\b(network-online|network|nss-lookup|time-sync)\.target")


def test_the_agents_unit_has_what_its_promises_need() -> None:
    said = options(AGENT)
    for name, value in {
        "Type": "notify", "WatchdogSec": "90s", "Restart": "always", "StartLimitIntervalSec": "0",
        "KillMode": "process", "Delegate": "yes", "ExecStart": "/usr/bin/skerry run", "UMask": "0022",
        "Wants": "containerd.service", "After": "containerd.service", "WantedBy": "multi-user.target",
    }.items():  # fmt: skip
        assert said[name] == [value], name
    assert any("%" in line and "SERVICE_RESULT" in line for line in said["ExecStopPost"])  # the jitter


def test_the_agents_unit_has_nothing_that_would_harm_containers_or_latch() -> None:
    assert not set(options(AGENT)) & FORBIDDEN
    assert not NETWORK.search(AGENT.read_text().replace("# Not after the network", ""))


def test_the_hubs_unit_never_latches_and_is_nobody_in_particular() -> None:
    said = options(HUB)
    assert said["User"] == ["skerry-hub"]
    assert said["CapabilityBoundingSet"] == [""]
    assert said["NoNewPrivileges"] == ["yes"]
    assert (said["Restart"], said["StartLimitIntervalSec"]) == (["always"], ["0"])


def _systemd() -> str:
    if shutil.which("systemd-analyze") is None:
        return ""
    said = subprocess.run(["systemd-analyze", "--version"], capture_output=True, text=True, check=False).stdout
    return said.split()[1] if said else ""


analyzed = pytest.mark.skipif(_systemd() != SYSTEMD, reason=f"the score is that of systemd {SYSTEMD}")


def analyze(unit: Path, *options: str) -> str:
    argv = ["systemd-analyze", "security", "--offline=yes", "--no-pager", *options, str(unit)]
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout


@analyzed
@pytest.mark.parametrize("unit", [AGENT, HUB], ids=lambda unit: unit.name)
def test_the_stated_score_is_the_computed_one(unit: Path) -> None:
    score = re.search(r"Overall exposure level for \S+: ([\d.]+)", analyze(unit))
    assert score is not None
    stated = re.search(rf"{re.escape(unit.name)}[^|]*?\*\*([\d.]+)\*\*", PAGE[PAGE.index("### The unit's sandbox") :])
    assert stated is not None
    assert stated[1] == score[1]


@analyzed
@pytest.mark.parametrize("unit", [AGENT, HUB], ids=lambda unit: unit.name)
def test_every_exception_is_explained(unit: Path) -> None:
    rows = json.loads(analyze(unit, "--json=short"))
    section = PAGE[PAGE.index("### The unit's sandbox") :].replace("\\|", "|")
    about = section.partition("skerry-hub.service runs")[0 if unit is AGENT else 2]
    for row in rows:
        if float(row["exposure"] or 0) > 0:
            name = row["name"] if unit is AGENT else re.sub(r"~AF.*", "", row["name"])
            assert f"`{name}`" in about, row["name"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("unit", [AGENT, HUB], ids=lambda unit: unit.name)
def test_systemd_understands_every_line(unit: Path) -> None:
    said = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False).stderr
    strange = [line for line in said.splitlines() if unit.name in line and "not executable" not in line]
    assert [line for line in strange if "Command 'man " not in line] == []


# --- it works so ------------------------------------------------------------------------------------------------------

confining = pytest.mark.skipif(
    os.geteuid() != 0
    or not all(map(shutil.which, ("setpriv", "systemd-analyze")))
    or ctypes.util.find_library("seccomp") is None,
    reason="needs root, setpriv, libseccomp and systemd's groups of system calls",
)
EMPTY = """
import asyncio, sys
from pathlib import Path
from skerry.errors import VolumeFailed
from skerry.model.pod import EmptyDir
from skerry.ports import FilesVolume, VolumeFile
from skerry.world.volumes import Volumes
volumes = Volumes(Path(sys.argv[1]) / "disk", Path(sys.argv[1]) / "memory", 1 << 20)
try:
    if sys.argv[2] == "mount":
        asyncio.run(volumes.mount_volume("uid", FilesVolume("settings", (VolumeFile("key", b"value", 0o644),))))
        asyncio.run(volumes.mount_volume("uid", EmptyDir("scratch", True, 1 << 20)))
    else:
        asyncio.run(volumes.remove_volumes("uid"))
except VolumeFailed as why:
    sys.exit(f"VolumeFailed: {why}")
"""


def confined(argv: list[str], edit: Callable[[list[str]], list[str]] = lambda argv: argv) -> Any:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(edit(command(AGENT, argv)), env=env, cwd=ROOT, capture_output=True, text=True, check=False)


@confining
def test_the_filters_are_on_and_privileges_may_still_be_gained() -> None:
    story = "grep -E '^(CapBnd|NoNewPrivs|Seccomp):' /proc/self/status; unshare --mount true && echo escaped"
    said = confined(["sh", "-c", story])
    assert said.stdout.split() == ["CapBnd:", "000000000020002a", "NoNewPrivs:", "0", "Seccomp:", "2"]
    assert set(options(AGENT)) >= HANDLED


@confining
def test_the_agent_lives_under_its_unit() -> None:
    """It opens its journal (which forks), dials, is fed and stops."""
    said = confined([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/faults/test_notify.py"])
    assert said.returncode == 0, said.stdout


@confining
@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
def test_the_agent_enrols_under_its_unit() -> None:
    """Its child, openssl and files in memory are allowed."""
    story = "tests/faults/test_enrolment.py::test_a_token_in_data_dir_is_all_that_a_new_device_needs"
    said = confined([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", story])
    assert said.returncode == 0, said.stdout
    assert "1 passed" in said.stdout


@confining
@pytest.mark.parametrize("lacking", ["", "dac_override", "fowner"])
def test_volumes_need_each_of_its_capabilities(tmp_path: Path, lacking: str) -> None:
    """CAP_SYS_ADMIN too, without which nothing can be mounted and no filter be set here."""
    folder = tmp_path / "disk/uid/scratch/mine"
    folder.mkdir(parents=True)
    (folder / "file").write_text("of another user")
    for path in (folder / "file", folder):
        os.chown(path, 1000, 1000)
    folder.chmod(0o1700 if lacking != "fowner" else 0o1777)

    def less(argv: list[str]) -> list[str]:
        return [word.replace(f",+{lacking}", "") if lacking and word.startswith("-all") else word for word in argv]

    made = confined([sys.executable, "-c", EMPTY, str(tmp_path), "mount"], less)
    gone = confined([sys.executable, "-c", EMPTY, str(tmp_path), "remove"], less)
    try:
        assert made.returncode == 0, made.stderr
        assert (gone.returncode == 0) == (not lacking), gone.stderr
        assert folder.exists() == bool(lacking)
    finally:
        clean = confined([sys.executable, "-c", EMPTY, str(tmp_path), "remove"])
        subprocess.run(["umount", "-l", str(tmp_path / "memory/files")], capture_output=True, check=False)
    assert clean.returncode == 0, clean.stderr


STREAMS = """
import asyncio, ctypes, os, socket, subprocess, sys
from pathlib import Path
from skerry.containerd.netns import socket_in
from skerry.world.inotify import Folder

async def story(namespace, folder, victim):
    sock = await socket_in(namespace, socket.AF_INET)
    made = asyncio.ensure_future(asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", 9)))
    try:
        await asyncio.wait_for(made, 5)
    except OSError as why:
        print(why.errno)  # its loopback is down, unlike the one here
    watch = Folder(Path(folder))
    os.mkfifo(f"{folder}/pipe")
    print(bool(await watch.changed(5)))
    os.kill(int(victim), 9)
    libc = ctypes.CDLL(None, use_errno=True)
    for kind in ("mnt", "uts"):
        file = os.open(f"/proc/self/ns/{kind}", os.O_RDONLY)
        print(libc.setns(file, 0), ctypes.get_errno())

asyncio.run(story(*sys.argv[1:]))
"""


@confining
def test_streams_work_and_no_namespace_but_a_network_is_entered(tmp_path: Path) -> None:
    """A port of a pod, the pipes of a command, its end whoever it runs as, a log that is followed."""
    name = f"skerry-sandbox-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    victim = subprocess.Popen(["sleep", "600"], user=1000)
    try:
        argv = [sys.executable, "-c", STREAMS, f"/run/netns/{name}", str(tmp_path), str(victim.pid)]
        said = confined(argv)
        assert said.stdout.split() == ["101", "True", "-1", "1", "-1", "1"], said.stderr
        assert victim.wait(30) == -9
    finally:
        victim.kill()
        subprocess.run(["ip", "netns", "delete", name], check=True)
