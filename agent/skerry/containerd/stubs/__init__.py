"""Message classes out of serialised file descriptors. Written by hand; the modules beside it are made by tools/proto.

A pool of our own, so that another library's `runtime.v1` in this process cannot clash with ours.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from google.protobuf.internal import api_implementation

# The pool imports the pure implementation and, with it, text format and pickle: 1.2 MiB that nobody uses when the
# compiled one is there. It is kept out for the time of this import only.
_UNUSED = "google.protobuf.internal.python_message"
_kept_out = api_implementation.Type() == "upb" and _UNUSED not in sys.modules
if _kept_out:
    sys.modules[_UNUSED] = ModuleType(_UNUSED)
from google.protobuf import descriptor_pool, message_factory  # noqa: E402

if _kept_out:
    del sys.modules[_UNUSED]

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
