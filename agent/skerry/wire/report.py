"""Bodies of reports as CBOR maps with integer keys, on the wire and in the journal: PodStatus, Event, NodeFacts and
LocalPods.

A field that holds its default is left out; keys that this version does not know are passed over, so that an older hub
still shows what it understands. Contract: docs/wire-protocol.cddl.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from enum import Enum
from typing import Any

from skerry.errors import Malformed
from skerry.limits import CONTAINERS_MAX, LOCAL_PODS_MAX
from skerry.model.report import (
    ContainerStatus,
    Event,
    Life,
    LocalPod,
    LocalPods,
    NodeFacts,
    Phase,
    PodStatus,
    ReportKind,
)
from skerry.wire.codec import decode, encode
from skerry.wire.fields import DETAIL as TEXT
from skerry.wire.fields import FLAG, ID, NAME, UID, UINT, Coder, data

ADDRESSES_MAX = 16
INT_MAX = 1 << 31


def _choice(of: type[Enum]) -> Coder:
    """An enum member as its position; members are only ever added at the end."""
    members = list(of)

    def read(value: Any, name: str) -> Enum:
        if type(value) is not int or not 0 <= value < len(members):
            raise Malformed(f"{name}: a number below {len(members)} expected")
        return members[value]

    return members.index, read


def _signed(value: Any, name: str) -> int:
    if type(value) is not int or not -INT_MAX <= value < INT_MAX:
        raise Malformed(f"{name}: an integer of 32 bits expected")
    return value


def _list(of: Coder, count_max: int) -> Coder:
    def read(value: Any, name: str) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) > count_max:
            raise Malformed(f"{name}: a list of at most {count_max} expected")
        return tuple(of[1](item, name) for item in value)

    return (lambda values: [of[0](v) for v in values]), read


INT: Coder = (int, _signed)


@dataclass(frozen=True, slots=True)
class Table:
    """How one class travels: key → (field, coder)."""

    cls: type[Any]
    rows: Mapping[int, tuple[str, Coder]]

    def write(self, value: Any) -> dict[int, Any]:
        defaults = {f.name: f.default for f in fields(self.cls) if f.default is not MISSING}
        said = ((key, getattr(value, name), name, coder[0]) for key, (name, coder) in self.rows.items())
        return {key: put(v) for key, v, name, put in said if name not in defaults or v != defaults[name]}

    def read(self, value: Any, where: str) -> Any:
        """Raises Malformed with the field's name."""
        if not isinstance(value, dict):
            raise Malformed(f"{where}: a map expected")
        got = {name: get(value[key], f"{where}.{name}") for key, (name, (_, get)) in self.rows.items() if key in value}
        for f in fields(self.cls):
            if f.default is MISSING and f.name not in got:
                raise Malformed(f"{where}.{f.name} is missing")
        return self.cls(**got)


CONTAINER = Table(
    ContainerStatus,
    {
        1: ("name", NAME),
        2: ("life", _choice(Life)),
        3: ("image", TEXT),
        4: ("image_id", TEXT),
        5: ("container_id", NAME),
        6: ("restarts", UINT),
        7: ("reason", NAME),
        8: ("message", TEXT),
        9: ("exit_code", INT),
        10: ("started_at", UINT),
        11: ("finished_at", UINT),
        12: ("failures", UINT),
        13: ("mark", NAME),
        14: ("last_container_id", NAME),
        15: ("last_exit_code", INT),
        16: ("last_reason", NAME),
        17: ("last_started_at", UINT),
        18: ("last_finished_at", UINT),
    },
)
CONTAINERS: Coder = _list((CONTAINER.write, CONTAINER.read), CONTAINERS_MAX)
LOCAL_POD = Table(
    LocalPod, {1: ("uid", UID), 2: ("namespace", NAME), 3: ("name", NAME), 4: ("file", TEXT), 5: ("body", data())}
)
TABLES = {
    ReportKind.POD_STATUS: Table(
        PodStatus,
        {
            1: ("uid", ID),
            2: ("namespace", NAME),
            3: ("name", NAME),
            4: ("phase", _choice(Phase)),
            5: ("containers", CONTAINERS),
            6: ("reason", NAME),
            7: ("message", TEXT),
            8: ("pod_ip", NAME),
            9: ("started_at", UINT),
            10: ("gone", FLAG),
        },
    ),
    ReportKind.EVENT: Table(
        Event,
        {
            1: ("pod_uid", ID),
            2: ("namespace", NAME),
            3: ("name", NAME),
            4: ("reason", NAME),
            5: ("message", TEXT),
            6: ("warning", FLAG),
            7: ("at", UINT),
            8: ("id", NAME),
        },
    ),
    ReportKind.NODE: Table(
        NodeFacts,
        {
            1: ("cpu_millis", UINT),
            2: ("memory_bytes", UINT),
            3: ("pods_max", UINT),
            4: ("architecture", NAME),
            5: ("operating_system", NAME),
            6: ("os_image", NAME),
            7: ("kernel", NAME),
            8: ("boot_id", ID),
            9: ("machine_id", NAME),
            10: ("runtime", NAME),
            11: ("agent", NAME),
            12: ("addresses", _list(NAME, ADDRESSES_MAX)),
            13: ("problem", TEXT),
        },
    ),
    ReportKind.LOCAL_PODS: Table(
        LocalPods, {1: ("pods", _list((LOCAL_POD.write, LOCAL_POD.read), LOCAL_PODS_MAX))}
    ),
}
KIND_OF = {table.cls: kind for kind, table in TABLES.items()}
Reported = PodStatus | Event | NodeFacts | LocalPods


def encode_report(value: Reported) -> bytes:
    """The body of an outbox item; its kind is KIND_OF[type(value)]."""
    return encode(TABLES[KIND_OF[type(value)]].write(value))


def decode_report(kind: ReportKind, body: bytes) -> Reported:
    """Raises Malformed with the field's name."""
    table = TABLES[kind]
    value: Reported = table.read(decode(body), table.cls.__name__)
    return value
