"""The stubs are what tools/proto makes of the .proto files, load on both kinds of protobuf, and go no further."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from skerry.containerd.stubs import cri

ROOT = Path(__file__).resolve().parents[3]
STUBS = ROOT / "agent" / "skerry" / "containerd" / "stubs"


@pytest.mark.skipif(importlib.util.find_spec("grpc_tools") is None, reason="grpcio-tools is not installed")
def test_tools_proto_makes_these_stubs(tmp_path: Path) -> None:
    subprocess.run([ROOT / "tools" / "proto", tmp_path], env={**os.environ, "PYTHON": sys.executable}, check=True)
    made = sorted(path.name for path in tmp_path.iterdir())
    assert made == ["cri.py", "cri.pyi", "events.py", "events.pyi", "tasks.py", "tasks.pyi"]
    assert {name: (tmp_path / name).read_text() for name in made} == {name: (STUBS / name).read_text() for name in made}


def test_the_pure_python_protobuf_of_32_bit_boards_makes_the_same_bytes() -> None:
    story = """
from google.protobuf.internal import api_implementation
from skerry.containerd.stubs import cri, events
assert api_implementation.Type() == "python"
metadata = cri.PodSandboxMetadata(name="n", uid="u", attempt=3)
config = cri.PodSandboxConfig(metadata=metadata, labels={"a": "b"}, port_mappings=[cri.PortMapping(protocol=cri.UDP)])
print(config.SerializeToString().hex(), events.Envelope(topic="/t").SerializeToString().hex())
"""
    env = {**os.environ, "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"}
    done = subprocess.run([sys.executable, "-c", story], env=env, capture_output=True, text=True, check=True)
    metadata = cri.PodSandboxMetadata(name="n", uid="u", attempt=3)
    ports = [cri.PortMapping(protocol=cri.UDP)]
    config = cri.PodSandboxConfig(metadata=metadata, labels={"a": "b"}, port_mappings=ports)
    assert done.stdout.split() == [config.SerializeToString().hex(), "1a022f74"]


def test_another_librarys_cri_in_the_same_process_does_not_clash() -> None:
    story = """
from google.protobuf import descriptor_pb2, descriptor_pool
other = descriptor_pb2.FileDescriptorProto(name="cri.proto", package="runtime.v1", syntax="proto3")
other.message_type.add(name="VersionRequest").field.add(name="else", number=1, type=5, label=1)
descriptor_pool.Default().Add(other) if hasattr(descriptor_pool.Default(), "Add") else (
    descriptor_pool.Default().AddSerializedFile(other.SerializeToString()))
from skerry.containerd.stubs import cri
print(cri.VersionRequest(version="1").SerializeToString().hex())
"""
    done = subprocess.run([sys.executable, "-c", story], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0a0131"


def test_nobody_outside_the_package_imports_them() -> None:
    """boot and commands of their own know the room; nobody else knows even that."""
    allowed = {ROOT / "agent" / "skerry" / part for part in ("boot.py", "doctor/facts.py", "by_hand/streams.py")}
    names = re.compile(r"skerry\.containerd|google\.protobuf|grpclib")
    for path in (ROOT / "agent" / "skerry").rglob("*.py"):
        if STUBS.parent not in path.parents and path not in allowed:
            assert not names.search(path.read_text()), path
    boot = (ROOT / "agent" / "skerry" / "boot.py").read_text()
    assert not re.search(r"^(from|import) skerry\.containerd", boot, re.MULTILINE), "boot imports it late"
