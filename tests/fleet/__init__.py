"""A whole skerry on one machine: the rig's site and boards, with the hub and the agents on them.

Used by the demo, the end-to-end tests and the bench. Decides how the parts of skerry are started and how a test asks
for their view; everything it says of containers comes from the rig, not from skerry.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from rig import Device, Process, Site, until
from skerry_hub import mosquitto, pki_files
from skerry_hub.enrolment.authority import NAME, STEM

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
API_PORT, MQTT_PORT, MQTTS_PORT, ENROLL_PORT = 6443, 1883, 8883, 10_443
READY_TIMEOUT_S, POD_TIMEOUT_S = 90.0, 120.0


class Fleet:
    """One hub and any number of boards. Leaving the context ends everything.

    As in the field: boards are enrolled with a token each, everything is over mutual TLS, frames are protected. With
    `secure=False` the broker is in clear, and boards say that this is on purpose. `seen_as`: the address by which
    boards come to the hub's loopback, where something forwards that."""

    def __init__(self, secure: bool = True, seen_as: str = "") -> None:
        self.site, self.secure = Site(), secure
        self.address, self.enrolling = seen_as or self.site.address, "127.0.0.1" if seen_as else self.site.address
        self.trust = self.site.folder / "trust"
        self.data = self.site.folder / "hub"
        self.status_socket = self.site.folder / "hub.sock"
        self.broker: Process | None = None
        self.api: Process | None = None
        self.hub: Process | None = None

    def __enter__(self) -> Fleet:
        self.site.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.site.__exit__(kind, error, trace)

    # --- the hub's side -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Broker, API and hub, each ready."""
        self.start_broker()
        self.start_api()
        self.start_hub()

    def start_broker(self) -> None:
        if not self.secure:
            self.broker = self.site.mosquitto()
            return
        self.trust.mkdir(exist_ok=True)
        authority = pki_files.authority(self.trust, STEM, NAME)
        names = ("127.0.0.1", "localhost", self.address)
        pki_files.pair(self.trust, "broker", authority, "mosquitto", (), names)
        (self.trust / "rules").write_text(mosquitto.rules(mosquitto.hub_names()))
        files = (f"{STEM}.crt", "broker.crt", "broker.key", "rules")
        config = mosquitto.configuration(
            ["127.0.0.1", self.site.address], MQTTS_PORT, mosquitto.Files(*(str(self.trust / name) for name in files))
        )
        # The rig's files are the rig's own: see Site.mosquitto_config.
        self.broker = self.site.mosquitto(f"user root\n{config}", MQTTS_PORT)

    def start_api(self, data: Path | None = None) -> None:
        folder = data or self.data
        argv = [str(BIN / "skerry-hub"), "api", "--data", str(folder), "--listen", f"127.0.0.1:{API_PORT}"]
        self.api = self.site.spawn(argv, name="api", cwd=ROOT)
        kubeconfig = folder / "admin.kubeconfig"
        self.api.wait_log("ready|serv", READY_TIMEOUT_S)
        until(kubeconfig.exists, "the admin kubeconfig", READY_TIMEOUT_S)
        self.site.kubeconfig.write_bytes(kubeconfig.read_bytes())

    def start_hub(self) -> None:
        argv = [
            *self.hub_argv(), "run", "--kubeconfig", str(self.site.kubeconfig),
            *self.hub_broker(), "--status-socket", str(self.status_socket),
        ]  # fmt: skip
        keys = self.data  # of the API: it signs the endpoint's certificate, and its own client's
        if (keys / "kubelet.crt").exists():
            argv += ["--kubelet-cert", str(keys / "kubelet.crt"), "--kubelet-key", str(keys / "kubelet.key")]
            argv += ["--kubelet-client-ca", str(keys / "ca.crt")]
        self.hub = self.site.spawn(argv, name="hub", cwd=ROOT)
        self.hub.wait_log("ready", READY_TIMEOUT_S)

    def hub_argv(self) -> list[str]:
        """What is started as `skerry-hub`."""
        return [str(BIN / "skerry-hub")]

    def hub_broker(self) -> list[str]:
        """What tells `skerry-hub run` of its broker, and what devices are told."""
        if not self.secure:
            return ["--broker", f"mqtt://127.0.0.1:{MQTT_PORT}"]
        return [
            "--broker", f"mqtts://127.0.0.1:{MQTTS_PORT}", "--device-broker", f"mqtts://{self.address}:{MQTTS_PORT}",
            "--device-ca-cert", str(self.trust / f"{STEM}.crt"), "--device-ca-key", str(self.trust / f"{STEM}.key"),
            "--enroll-listen", f"{self.enrolling}:{ENROLL_PORT}", "--enroll-address", self.address,
        ]  # fmt: skip

    def stop_hub_side(self) -> None:
        """Hub, API and broker are gone at once."""
        for process in (self.hub, self.api, self.broker):
            if process is not None and process.running:
                process.kill()
        self.hub = self.api = self.broker = None

    def reachable(self) -> dict[str, bool]:
        """Whether broker and API accept a connection at this moment."""
        return {
            "broker": self.site.listens(MQTTS_PORT if self.secure else MQTT_PORT),
            "api": self.site.listens(API_PORT),
        }

    def sessions(self) -> dict[str, Any]:
        """What `skerry-hub status` says of each device: queue, drops and the rest."""
        argv = [str(BIN / "skerry-hub"), "status", "--socket", str(self.status_socket), "--output", "json"]
        devices: dict[str, Any] = json.loads(self.site.run(argv).stdout)["devices"]
        return devices

    def kubectl(self, *args: str, stdin: str | None = None, check: bool = True) -> str:
        return self.site.kubectl(*args, stdin=stdin, check=check)

    def get(self, kind: str, *args: str) -> dict[str, Any]:
        """`kubectl get KIND … -o json`."""
        value = json.loads(self.kubectl("get", kind, *args, "-o", "json"))
        assert isinstance(value, dict)
        return value

    def apply(self, *objects: dict[str, Any]) -> None:
        """`kubectl apply` of these objects."""
        whole = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "-f", "-", stdin=json.dumps(whole))

    def wait_phase(self, pod: str, phase: str = "Running", timeout_s: float = POD_TIMEOUT_S) -> None:
        """Until the hub shows the pod in this phase."""
        wait = ["wait", f"pod/{pod}", f"--for=jsonpath={{.status.phase}}={phase}", f"--timeout={int(timeout_s)}s"]
        self.site.kubectl(*wait, timeout_s=timeout_s + 30)

    def clear(self) -> None:
        """No pod and no ConfigMap, at the hub and on every board that is on: a test starts with what it makes itself.
        After a test that failed, what was stopped or cut is there again."""
        if not all(process is not None and process.running for process in (self.broker, self.api, self.hub)):
            self.stop_hub_side()
            self.start()
        on = [device for device in self.site.devices if device.on]
        for device in on:
            if device.containerd is None:
                device.start_containerd()
            if not device.connected:
                device.connect()
            if device.agent is None:
                device.start_agent()
        self.kubectl("delete", "pod,configmap", "--all", "--force", "--grace-period=0", "--timeout=90s")
        until(lambda: not any(truth(device) for device in on), "every board to run nothing", POD_TIMEOUT_S)

    # --- boards -------------------------------------------------------------------------------------------------------

    def join(self, name: str, **options: Any) -> Device:
        """Create the node at the hub and a board for it; it is not booted yet. Its agent enrols by itself, with the
        token that lies in its data folder."""
        if self.secure:
            token = self.token(name)
            return self.site.device(name, agent_config=lambda board: enrolled_config(board, token), **options)
        argv = [
            str(BIN / "skerry-hub"), "join", name, "--kubeconfig", str(self.site.kubeconfig),
            "--broker", f"mqtt://{self.site.address}:{MQTT_PORT}",
        ]  # fmt: skip
        config = self.site.run(argv).stdout
        device: Device = self.site.device(name, agent_config=lambda board: agent_config(board, config), **options)
        return device

    def token(self, name: str, *more: str) -> str:
        """A new one, as an operator types it."""
        argv = [str(BIN / "skerry-hub"), "token", "create", "--node", name, *more]
        return self.site.run([*argv, "--kubeconfig", str(self.site.kubeconfig)]).stdout.strip()

    def view(self, device: Device) -> dict[str, str]:
        """Pod → uid of the container that the hub shows running on this device, straight from the API."""
        shown = {}
        for pod in self.get("pods", "-A")["items"]:
            if pod["spec"].get("nodeName") == device.name:
                for status in pod.get("status", {}).get("containerStatuses", []):
                    if "running" in status.get("state", {}):
                        name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}/{status['name']}"
                        shown[name] = status["containerID"].rpartition("//")[2]
        return shown


def agent_config(board: Device, joined: str) -> str:
    """What `skerry-hub join` printed, and where this board's parts lie."""
    return f"{joined}\ninsecure = true\n{places(board)}"


def enrolled_config(board: Device, token: str) -> str:
    """Where this board's parts lie: who it is and where its hub is, the token says, which is put there."""
    folder = board.journal_path.parent
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (folder / "identity.json").exists():
        (folder / "token").write_text(f"{token}\n")
        (folder / "token").chmod(0o600)
    return places(board)


def places(board: Device) -> str:
    return (
        f'data_dir = "{board.journal_path.parent}"\n'
        f'run_dir = "{board.run_dir}"\n'
        f'log_dir = "{board.disk / "log"}"\n'
        f'containerd_socket = "{board.cri_socket}"\n'
    )


def truth(device: Device) -> dict[str, str]:
    """Pod → id of the container that really runs there, from containerd itself."""
    return {f"{c.namespace}/{c.pod}/{c.name}": c.id for c in device.containers() if not c.sandbox}


def identities(device: Device) -> dict[str, tuple[str, int, int]]:
    """Pod → (container id, pid, start time): equal before and after means never restarted."""
    return {f"{c.namespace}/{c.pod}/{c.name}": c.identity for c in device.containers() if not c.sandbox}


def status(device: Device) -> dict[str, Any]:
    """`skerry status --output json` on the board."""
    out = device.nsenter([str(BIN / "skerry"), "status", "--config", str(device.config_path), "--output", "json"])
    value = json.loads(out.stdout)
    assert isinstance(value, dict)
    return value


def kill(device: Device, container_id: str) -> None:
    """SIGKILL a container's process from inside the board."""
    for line in device.ctr("tasks", "list").splitlines()[1:]:
        if line.split()[0] == container_id:
            device.nsenter(["kill", "-9", line.split()[1]])
            return
    raise AssertionError(f"no container {container_id} runs on {device.name}")


def pod(name: str, node: str, **spec: Any) -> dict[str, Any]:
    """A small Pod manifest; `spec` overrides."""
    container = {"name": "main", "image": "rig.local/hello:1", "env": [{"name": "PORT", "value": "0"}]}
    body = {"nodeName": node, "terminationGracePeriodSeconds": 1, "containers": [container], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": body}
