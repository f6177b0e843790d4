"""The containerd of a board: its configuration, its CNI network, and `ctr`, which is how the rig looks into it.

Every path is the board's own, so it shares nothing with a containerd that this machine may run. Works with the
configuration version 2 of containerd 1.6, 1.7 and 2.x.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

SOCKET = "/run/containerd/containerd.sock"
STATE = "/run/containerd"
CNI_BIN_FOLDERS = ("/usr/lib/cni", "/opt/cni/bin")
PAUSE_IMAGE = "rig.local/pause:1"


@dataclass(frozen=True)
class Layout:
    """Where the parts lie: `root` and `etc` last through a power cut; `subnet` is the pods' network, as a CIDR."""

    root: Path
    etc: Path
    subnet: str
    snapshotter: str
    runtime: str = "crun"

    @property
    def config(self) -> Path:
        return self.etc / "containerd.toml"

    @property
    def argv(self) -> list[str]:
        return ["containerd", "--config", str(self.config)]


def write(layout: Layout) -> None:
    """Write containerd.toml and the CNI network; the same content each time."""
    cni = layout.etc / "cni"
    cni.mkdir(parents=True, exist_ok=True)
    (cni / "10-board.conflist").write_text(json.dumps(_conflist(layout.subnet), indent=2) + "\n")
    layout.config.write_text(_config(layout, cni))


def ctr(*args: str) -> list[str]:
    return ["ctr", "--address", SOCKET, "--namespace", "k8s.io", *args]


def snapshotter(folder: Path) -> str:
    """`overlayfs` when an overlay can be mounted in `folder`, else `native` (a root that is an overlay itself)."""
    probe = folder / "overlay-probe"
    for part in ("lower", "upper", "work", "merged"):
        (probe / part).mkdir(parents=True)
    script = 'cd "$1" && mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work merged'
    argv = ["unshare", "--mount", "sh", "-c", script, "sh", str(probe)]
    done = subprocess.run(argv, capture_output=True, check=False)
    shutil.rmtree(probe, ignore_errors=True)
    if done.returncode == 0:
        return "overlayfs"
    print(f"rig: no overlay can be mounted in {folder}, containerd copies layers instead", file=sys.stderr)
    return "native"


def _conflist(subnet: str) -> dict[str, object]:
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": {"type": "host-local", "ranges": [[{"subnet": subnet}]], "routes": [{"dst": "0.0.0.0/0"}]},
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    # The newest version that the plugins of Ubuntu 22.04 (0.9.1) know; those of Debian 12 and 13 know it as well.
    return {"cniVersion": "0.4.0", "name": "board", "plugins": [bridge, portmap]}


def _config(layout: Layout, cni: Path) -> str:
    """restrict_oom_score_adj and oom_score: not every machine lets root lower it (CAP_SYS_RESOURCE)."""
    cni_bin = next((folder for folder in CNI_BIN_FOLDERS if Path(folder).is_dir()), CNI_BIN_FOLDERS[0])
    runtimes = "".join(
        f"""
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{name}]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{name}.options]
BinaryName = "{shutil.which(name) or name}"
Root = "/run/{name}"
SystemdCgroup = false
"""
        for name in ("crun", "runc")
    )
    return f"""version = 2
root = "{layout.root}"
state = "{STATE}"
oom_score = 0
disabled_plugins = [
  "io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.nri.v1.nri",
]

[grpc]
address = "{SOCKET}"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE_IMAGE}"
stream_server_address = "127.0.0.1"
stream_server_port = "0"
enable_selinux = false
disable_apparmor = true
restrict_oom_score_adj = true
stats_collect_period = 10

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{cni_bin}"
conf_dir = "{cni}"

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "{layout.snapshotter}"
default_runtime_name = "{layout.runtime}"
{runtimes}"""
