"""A board: power, disk, network cable, containerd and agent, each of which can be taken away on its own.

Decides what lasts through a power cut (`disk/`) and what does not (/run, every process, mount and interface), and
gives the agent a world of its own: /run, /var/lib/cni, boot id, hostname, control groups. Knows no agent: its argv and
configuration come from the caller.
"""

from __future__ import annotations

import subprocess
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import cgroups, containerd, evidence
from .cri import Cri
from .evidence import Container
from .images import Image, hello, pause
from .namespaces import Namespace
from .process import Process, RigError, until

if TYPE_CHECKING:
    from .site import Site

ROOT = Path(__file__).resolve().parents[2]
CONTAINERD_TIMEOUT_S = 120.0
AGENT_STOP_TIMEOUT_S = 60.0
SETTLE_S = 10.0  # the kernel takes mounts and loop devices away some time after their last process
RUN_DIR = Path("/run/skerry")


class Device:
    """`agent_argv` and `agent_config` are called with the board, at each start of the agent, when it is known in full.

    `images` are imported at the first boot. `journal_bytes` puts `journal_path` on a filesystem of that size (≥ 1 MiB).
    """

    def __init__(
        self,
        site: Site,
        name: str,
        images: Sequence[Image] | None = None,
        agent_argv: Callable[[Device], list[str]] | None = None,
        agent_config: Callable[[Device], str] | None = None,
        journal_bytes: int | None = None,
        containerd_env: dict[str, str] | None = None,
        oci_runtime: str = "crun",
    ) -> None:
        self.site = site
        self.name = name
        self.index = len(site.devices) + 2
        self.address = f"10.77.{self.index // 256}.{self.index % 256}"
        self.folder = site.folder / name
        self.disk = self.folder / "disk"
        self.journal_path = self.disk / "journal"
        self.config_path = self.disk / "etc" / "agent.toml"
        self.run_dir = RUN_DIR
        self.pods_dir = RUN_DIR / "pods"
        self.cri_socket = Path(containerd.SOCKET)
        self.cgroup = f"{site.run_.cgroup}/{name}"
        self.images = list(images) if images is not None else [hello()]
        self.agent_argv = agent_argv or skerry_run
        self.agent_config = agent_config
        self.journal_bytes = journal_bytes
        self.oci_runtime = oci_runtime
        self.containerd_env = containerd_env or {}
        self.agent: Process | None = None
        self.containerd: Process | None = None
        self.connected = False
        self._remains = evidence.Remains()
        self._prepare_disk()
        self.ns = Namespace(name, self.cgroup, self.folder / "logs", self._script())
        site.devices.append(self)

    # ---- power -----------------------------------------------------------------------------------------------------

    @property
    def on(self) -> bool:
        return self.ns.running

    def boot(self, network: bool = False, runtime: bool = True) -> None:
        """Power on: a fresh kernel's view with no interface but lo, then containerd; with `network`, the cable too."""
        if self.on:
            raise RigError(f"{self.name} is on already")
        # A new kernel has a new boot id, and forgets nothing it never knew: the agent may compare it.
        (self.folder / "boot_id").write_text(f"{uuid.uuid4()}\n")
        self.ns.start()
        if network:
            self.connect()
        if runtime:
            self.start_containerd()

    def power_off(self) -> None:
        """Cut the power: every process at once, /run, mounts, interfaces, control groups. Only `disk/` lasts."""
        if not self.on:
            return
        self._remains = evidence.before_power_off(self)
        self.ns.cut_power()
        for process in (self.agent, self.containerd):
            if process is not None:
                process.wait()
        self.agent = self.containerd = None
        if self.connected:
            # The kernel ends a network namespace some time after its last process: a port would still be there.
            self.site.ns.run_ip_quiet("link", "delete", self.port)
        self.connected = False
        cgroups.remove(self.cgroup)

    def reboot(self, network: bool | None = None, agent: bool | None = None) -> None:
        """Power off and on; the cable and the agent as they were, unless said otherwise."""
        network = self.connected if network is None else network
        agent = self.agent is not None if agent is None else agent
        self.power_off()
        self.boot(network)
        if agent:
            self.start_agent()

    # ---- network ---------------------------------------------------------------------------------------------------

    @property
    def port(self) -> str:
        """The board's port on the site's bridge."""
        return f"dev{self.index}"

    def connect(self) -> None:
        """Plug the cable in: eth0 with the board's address and a default route to the site."""
        site = self.site.ns
        site.run_ip("link", "add", self.port, "type", "veth", "peer", "name", "eth0", "netns", str(self.ns.init_pid))
        site.run_ip("link", "set", self.port, "master", "site0", "up")
        self.ns.run_ip("address", "add", f"{self.address}/16", "dev", "eth0")
        self.ns.run_ip("link", "set", "eth0", "up")
        self.ns.run_ip("route", "add", "default", "via", self.site.address)
        self.connected = True

    def cut(self) -> None:
        """Pull the cable out: eth0 is gone, and with it address and routes."""
        self.site.ns.run_ip("link", "delete", self.port)
        self.connected = False

    def blackhole(self, on: bool) -> None:
        """Let every packet vanish in both directions while link and connections look up, or end that."""
        # 0 = disabled, 3 = forwarding: the bridge port drops all, and neither end hears of it.
        self.site.ns.run(["bridge", "link", "set", "dev", self.port, "state", "0" if on else "3"])

    def shape(self, mbit: int) -> None:
        """Let the cable carry `mbit` Mbit/s each way, as a network card would, until it is pulled out; 0: all there is.
        What waits is dropped after 20 ms."""
        burst = max(32_000, mbit * 1_000_000 // 8 // 200)  # bytes: what passes in 5 ms
        how = ["tbf", "rate", f"{mbit}mbit", "burst", str(burst), "latency", "20ms"]
        for end, port in ((self.site.ns, self.port), (self.ns, "eth0")):
            if mbit:
                end.run(["tc", "qdisc", "replace", "dev", port, "root", *how])
            else:
                end.run(["tc", "qdisc", "del", "dev", port, "root"], check=False)

    # ---- containerd ------------------------------------------------------------------------------------------------

    def start_containerd(self) -> None:
        """Start containerd and wait until its CRI answers; the first time on this disk, import the images."""
        self.containerd = self.spawn(self._layout.argv, "containerd", self.containerd_env)
        until(self._cri_ready, "containerd's CRI", CONTAINERD_TIMEOUT_S, self.containerd.log)
        imported = self.disk / "imported"
        have = imported.read_text().split() if imported.exists() else []
        for image in [pause(), *self.images]:
            if image.manifest_digest not in have:
                self.import_image(image)
                with imported.open("a") as file:
                    file.write(f"{image.manifest_digest}\n")

    def kill_containerd(self) -> None:
        """SIGKILL containerd alone: shims and containers live on."""
        if self.containerd is not None:
            self.containerd.kill()
            self.containerd = None

    def import_image(self, image: Image) -> None:
        """Import an image and wait until the CRI side of containerd has taken note of it."""
        self.ctr("images", "import", str(image.write(self.site.folder)))
        # CRI learns of it by an event, and then labels it.
        until(lambda: "io.cri-containerd.image=managed" in self._image_line(image.name), f"CRI to see {image.name}")

    def ctr(self, *args: str, check: bool = True) -> str:
        """`ctr -n k8s.io ARGS` on this board; its output."""
        return self.nsenter(containerd.ctr(*args), check=check).stdout

    # ---- agent -----------------------------------------------------------------------------------------------------

    def start_agent(self) -> Process:
        """Write the agent's configuration and start it."""
        if self.agent is not None and self.agent.running:
            raise RigError(f"the agent of {self.name} runs already")
        if self.agent_config is not None:
            self.config_path.write_text(self.agent_config(self))
        self.agent = self.spawn(self.agent_argv(self), "agent")
        return self.agent

    def stop_agent(self, timeout_s: float = AGENT_STOP_TIMEOUT_S) -> int:
        """SIGTERM the agent and wait; its exit status."""
        assert self.agent is not None, "no agent was started"
        status = self.agent.stop(timeout_s)
        self.agent = None
        return status

    def kill_agent(self) -> None:
        """SIGKILL the agent alone."""
        assert self.agent is not None, "no agent was started"
        self.agent.kill()
        self.agent = None

    # ---- inside and outside ----------------------------------------------------------------------------------------

    def spawn(self, argv: list[str], name: str, env: dict[str, str] | None = None) -> Process:
        """Start a process on the board; its output is in `FOLDER/logs/NAME.log`."""
        return self.ns.spawn(argv, name, env)

    def nsenter(
        self, argv: list[str], timeout_s: float = 60.0, stdin: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the board to its end; RigError with its stderr when it fails and `check` is set."""
        return self.ns.run(argv, timeout_s, stdin=stdin, check=check)

    def outside(self, path: str | Path) -> Path:
        """Where a path of the board (its /run, a socket) is reachable from here, while it is on."""
        return self.ns.outside(path)

    def containers(self) -> list[Container]:
        """The running containers that are not sandboxes, as containerd and /proc tell."""
        return [c for c in evidence.containers(self) if not c.sandbox]

    def sandboxes(self) -> list[Container]:
        """The running sandboxes (pause containers)."""
        return [c for c in evidence.containers(self) if c.sandbox]

    def leftovers(self) -> list[str]:
        """What the board has left on this machine after power_off, one line each; empty is right."""
        end = time.monotonic() + SETTLE_S
        while (left := evidence.leftovers(self, self._remains)) and time.monotonic() < end:
            time.sleep(0.1)
        return left

    # ---- private ---------------------------------------------------------------------------------------------------

    def _prepare_disk(self) -> None:
        for folder in ("etc", "cni", "containerd", "journal"):
            (self.disk / folder).mkdir(parents=True)
        (self.disk / "etc" / "machine-id").write_text(f"{uuid.uuid4().hex}\n")
        self._layout = containerd.Layout(
            root=self.disk / "containerd",
            etc=self.disk / "etc",
            subnet=f"10.{128 + self.index % 100}.0.0/16",
            snapshotter=containerd.snapshotter(self.folder),
            runtime=self.oci_runtime,
        )
        containerd.write(self._layout)
        if self.journal_bytes is not None:
            image = self.disk / "journal.img"
            with image.open("wb") as file:
                file.truncate(self.journal_bytes)
            # No journal of its own: it would take 1 MiB, and what the kernel holds is never lost here.
            command = ["mkfs.ext4", "-q", "-F", "-m0", "-b1024", "-O", "^has_journal,^resize_inode", str(image)]
            subprocess.run(command, check=True, capture_output=True)

    def _script(self) -> str:
        """What makes the namespaces a board. /etc/resolv.conf may point into /run, which is the board's own."""
        journal = ""
        if self.journal_bytes is not None:
            journal = f"mount -o loop,noatime '{self.disk}/journal.img' '{self.journal_path}'\n"
        return f"""
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p {RUN_DIR} /run/lock /run/netns
mkdir -p /var/lib/cni
mount --bind '{self.disk}/cni' /var/lib/cni
mount --bind '{self.folder}/boot_id' /proc/sys/kernel/random/boot_id
[ ! -e /etc/machine-id ] || mount --bind '{self.disk}/etc/machine-id' /etc/machine-id
if [ -L /etc/resolv.conf ] && [ ! -e /etc/resolv.conf ]; then
    mkdir -p "$(dirname "$(readlink -m /etc/resolv.conf)")" && : > "$(readlink -m /etc/resolv.conf)"
fi
{journal}"""

    def _cri_ready(self) -> bool:
        process = self.containerd
        assert process is not None
        if not process.running:
            raise RigError(f"containerd of {self.name} ended ({process.returncode}):\n{process.log()[-4000:]}")
        if "containerd successfully booted" not in process.log():
            return False
        with Cri(self.outside(self.cri_socket)) as cri:
            return cri.ready()

    def _image_line(self, name: str) -> str:
        return self.ctr("images", "list", f"name=={name}")


def skerry_run(device: Device) -> list[str]:
    """The agent as installed in the virtual environment."""
    return [str(ROOT / ".venv" / "bin" / "skerry"), "run", "--config", str(device.config_path)]
