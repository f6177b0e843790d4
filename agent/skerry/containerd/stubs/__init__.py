"""Message classes out of serialised file descriptors. Written by hand; the modules beside it are made by tools/proto.

A pool of our own, so that another library's `runtime.v1` in this process cannot clash with ours.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pool, message_factory

_POOL = descriptor_pool.DescriptorPool()


def load(data: bytes, names: dict[str, Any]) -> None:
    """Put a file's messages and enum values into a module's names. `data` is a serialised FileDescriptorProto."""
    _POOL.AddSerializedFile(data)
    file = _POOL.FindFileByName(_file_name(data))
    for name, message in file.message_types_by_name.items():
        names[name] = message_factory.GetMessageClass(message)
    for enum in file.enum_types_by_name.values():
        for value in enum.values:
            names[value.name] = value.number


def _file_name(data: bytes) -> str:
    """The first field of a FileDescriptorProto is the file's name, which is short here."""
    assert data[0] == 0x0A
    assert data[1] < 0x80
    return data[2 : 2 + data[1]].decode()
