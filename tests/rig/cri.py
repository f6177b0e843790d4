"""The few CRI v1 calls with which a test runs a pod without the agent (runtime/v1 api.proto, fields by number).

Decides nothing; it exists so that an agent's pods can be compared with pods made by hand, through no code of skerry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import grpc  # type: ignore[import-untyped]

Value = str | int | bytes | Sequence["Fields"] | Mapping[str, str] | Sequence[str]
Fields = Mapping[int, "Value | Fields"]

CALL_TIMEOUT_S = 60.0
RUNTIME = "/runtime.v1.RuntimeService/"


class Cri:
    """A connection to a CRI socket as it is reachable from here (`device.outside(device.cri_socket)`)."""

    def __init__(self, socket: Path) -> None:
        self._channel = grpc.insecure_channel(f"unix://{socket}", options=[("grpc.default_authority", "localhost")])

    def __enter__(self) -> Cri:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def run_pod(
        self, name: str, image: str, env: Mapping[str, str] | None = None, cgroup_parent: str = "/rig", logs: str = ""
    ) -> tuple[str, str]:
        """RunPodSandbox, CreateContainer, StartContainer: (sandbox id, container id)."""
        pod = {"name": name, "namespace": "rig", "uid": f"uid-{name}"}
        labels = {f"io.kubernetes.pod.{key}": value for key, value in pod.items()}
        sandbox: Fields = {
            1: {1: name, 2: f"uid-{name}", 3: "rig", 4: 0},
            2: name,
            3: logs,
            6: labels,
            8: {1: cgroup_parent},
        }
        sandbox_id = self._call("RunPodSandbox", {1: sandbox})[1].decode()
        container: Fields = {
            1: {1: "main", 2: 0},
            2: {1: image},
            6: [{1: key, 2: value} for key, value in (env or {}).items()],
            9: {**labels, "io.kubernetes.container.name": "main"},
            11: "main.log" if logs else "",
        }
        container_id = self._call("CreateContainer", {1: sandbox_id, 2: container, 3: sandbox})[1].decode()
        self._call("StartContainer", {1: container_id})
        return sandbox_id, container_id

    def ready(self) -> bool:
        """Whether it answers: containerd listens for some time before its CRI is initialised."""
        try:
            self._call("ListPodSandbox", {})
        except grpc.RpcError:
            return False
        return True

    def pod_ip(self, sandbox_id: str) -> str:
        """The sandbox's address, from PodSandboxStatus."""
        status = decode(self._call("PodSandboxStatus", {1: sandbox_id})[1])
        return decode(status[5])[1].decode()

    def remove_pod(self, sandbox_id: str) -> None:
        self._call("StopPodSandbox", {1: sandbox_id})
        self._call("RemovePodSandbox", {1: sandbox_id})

    def _call(self, method: str, fields: Fields) -> dict[int, bytes]:
        send = self._channel.unary_unary(RUNTIME + method)
        return decode(send(encode(fields), timeout=CALL_TIMEOUT_S, wait_for_ready=True))


def encode(fields: Fields) -> bytes:
    """Protobuf of {field number: value}; a mapping with numbers is a message, with strings a map."""
    return b"".join(_field(number, value) for number, value in fields.items())


def decode(data: bytes) -> dict[int, bytes]:
    """The last value of each length-delimited field; varints are skipped."""
    found: dict[int, bytes] = {}
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        value, at = _read_varint(data, at)
        if tag & 7 == 2:
            found[tag >> 3] = data[at : at + value]
            at += value
    return found


def _field(number: int, value: Value | Fields) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    if isinstance(value, str | bytes):
        data = value.encode() if isinstance(value, str) else value
        return _varint(number << 3 | 2) + _varint(len(data)) + data
    if isinstance(value, Mapping):
        if any(isinstance(key, str) for key in value):
            return b"".join(_field(number, {1: str(key), 2: str(text)}) for key, text in value.items())
        return _field(number, encode(value))  # type: ignore[arg-type]
    return b"".join(_field(number, item) for item in value)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
