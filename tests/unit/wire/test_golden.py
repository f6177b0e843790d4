"""What travels and what decides about restarts, as bytes in files: a later release must read and write the same.

`SKERRY_UPDATE_GOLDEN=1` writes the files of a new message or pod; a changed line of an old one is a new protocol
version (wire-v1), or restarts every such container in the field (fingerprints).
"""

from __future__ import annotations

import json
import os
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from golden.wirecheck import validate
from skerry.model.desired import Kind, object_of
from skerry.model.manifest import read_pod
from skerry.model.pod import Pod, fingerprint
from skerry.wire import frame, message, streams
from skerry.wire.dictionary import DICTIONARY
from unit.wire.examples import MESSAGES, STREAMS

GOLDEN = Path(__file__).parents[2] / "golden"
UPDATE = bool(os.environ.get("SKERRY_UPDATE_GOLDEN"))


def golden(path: Path, text: str) -> str:
    if UPDATE:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return path.read_text()


ALL: dict[str, tuple[Any, Any]] = {  # name → the message, and the module that reads it
    **{name: (said, message) for name, said in MESSAGES.items()},
    **{name: (said, streams) for name, said in STREAMS.items()},
}


@pytest.mark.parametrize("name", ALL)
def test_a_message_is_read_from_and_written_to_the_bytes_of_version_1(name: str) -> None:
    """The deflated frame is only read: another zlib may deflate the same bytes differently."""
    said_now, module = ALL[name]
    written = module.encode(said_now)
    lines = (f"value {said_now!r}", f"cbor {frame.inner(written).hex()}", f"frame {written.hex()}")
    known = golden(GOLDEN / "wire-v1" / f"{name}.cbor.txt", "\n".join(lines) + "\n")
    said = dict(line.split(" ", 1) for line in known.splitlines())
    assert said["value"] == repr(said_now)
    assert said["cbor"] == frame.inner(written).hex()
    assert frame.inner(bytes.fromhex(said["frame"])).hex() == said["cbor"]
    assert module.decode(validate(bytes.fromhex(said["frame"]))) == said_now


def test_every_kind_of_message_has_a_golden_file_and_no_file_is_left_over() -> None:
    assert {type(m) for m in MESSAGES.values()} == set(message.TYPE_OF)
    assert {type(m) for m in STREAMS.values()} == set(streams.TYPE_OF)
    files = {p.name.removesuffix(".cbor.txt") for p in (GOLDEN / "wire-v1").glob("*.cbor.txt")}
    assert files == set(ALL)


def test_the_dictionary_is_frozen() -> None:
    known = golden(GOLDEN / "wire-v1" / "dictionary.sha256", sha256(DICTIONARY).hexdigest() + "\n")
    assert sha256(DICTIONARY).hexdigest() == known.strip(), "a changed dictionary is a new frame.VERSION"


def manifests() -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = json.loads((GOLDEN / "pods.json").read_text())
    return found


def prints(manifest: dict[str, object]) -> dict[str, str]:
    pod = read_pod(object_of(Kind.POD, "uid-1", b""), manifest, secret_env=True)
    assert isinstance(pod, Pod), getattr(pod, "refused", None)
    return {c.name: fingerprint(c, pod.volumes) for c in pod.containers}


def test_no_pod_in_the_field_is_restarted_by_a_release() -> None:
    now = {name: prints(manifest) for name, manifest in manifests().items()}
    known = json.loads(golden(GOLDEN / "fingerprints.json", json.dumps(now, indent=1) + "\n"))
    assert now == known, "these containers would be replaced on every device"
    everyone = [p for pod in now.values() for p in pod.values()]
    assert len(set(everyone)) == len(everyone), "two golden containers that differ have one fingerprint"


@pytest.mark.parametrize("name", ["usual", "everything"])
def test_what_the_api_server_adds_by_default_changes_no_fingerprint(name: str) -> None:
    manifest = json.loads((GOLDEN / "pods.json").read_text())[name]
    before = prints(manifest)
    manifest["metadata"] |= {"resourceVersion": "77", "labels": {"new": "label"}, "annotations": {"a": "b"}}
    manifest["status"] = {"phase": "Running"}
    manifest["spec"] |= {"restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler"}
    manifest["spec"] |= {"tolerations": [{"key": "x", "operator": "Exists"}], "nodeName": "pi-7", "priority": 0}
    for container in manifest["spec"]["containers"]:
        container |= {"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}
        container |= {"imagePullPolicy": "Always"}
        for port in container.get("ports", []):
            port.setdefault("protocol", "TCP")
    for volume in manifest["spec"].get("volumes", []):
        for kind in ("configMap", "secret"):
            if kind in volume:
                volume[kind].setdefault("defaultMode", 0o644)
    assert prints(manifest) == before
