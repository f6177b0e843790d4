"""Any bytes are an object or a typed refusal; what kubectl sends comes out as its JSON would."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry_hub.apiserver import decode, kinds, openapi, protobuf, schema
from skerry_hub.apiserver.normalize import WrongType, normalise
from skerry_hub.apiserver.status import ApiError
from vectors import replay

VECTORS = Path(replay.__file__).parent / "kubernetes" / "protobuf.json"
BODIES = [
    base64.b64decode(step["request"]["body64"])
    for scenario in json.loads(VECTORS.read_text())["scenarios"]
    for step in scenario["steps"]
    if "body64" in step.get("request", {})
]


def field(number: int, value: bytes | int) -> bytes:
    """One protobuf field, by the writer that OpenAPI uses."""
    return openapi._pb(number, value)


def test_a_whole_pod_comes_out_as_json_would_hold_it() -> None:
    port = field(1, b"web") + field(3, 8080)
    probe = field(1, field(2, field(2, field(1, 1) + field(3, b"web")))) + field(4, 5)
    limits = field(1, field(1, b"cpu") + field(2, field(1, b"500m")))
    source = field(1, field(2, b"spec.nodeName"))
    env = field(1, b"NODE") + field(3, source)
    container = field(1, b"a") + field(2, b"i") + field(3, b"sh") + field(3, b"-c") + field(6, port)
    container += field(7, env) + field(8, limits) + field(10, probe)
    volume = field(1, b"v") + field(2, field(19, field(1, field(1, b"cfg")) + field(3, 420)))
    spec = field(1, volume) + field(2, container) + field(4, 30) + field(11, 1)
    created = field(8, field(1, 1_600_000_000))
    raw = field(1, field(1, b"p") + created) + field(2, spec)
    obj, unknown = normalise("Pod", protobuf.decode("Pod", raw))
    assert unknown == []
    assert obj["metadata"] == {"name": "p", "creationTimestamp": "2020-09-13T12:26:40Z"}
    assert obj["spec"] == {
        "volumes": [{"name": "v", "configMap": {"name": "cfg", "defaultMode": 420}}],
        "containers": [
            {
                "name": "a",
                "image": "i",
                "command": ["sh", "-c"],
                "ports": [{"name": "web", "containerPort": 8080}],
                "env": [{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
                "resources": {"limits": {"cpu": "500m"}},
                "livenessProbe": {"httpGet": {"port": "web"}, "periodSeconds": 5},
            }
        ],
        "terminationGracePeriodSeconds": 30,
        "hostNetwork": True,
    }


def test_negative_numbers_and_packed_lists_are_read() -> None:
    minus_one = field(4, 2**64 - 1)
    assert protobuf.decode("PodSpec", minus_one) == {"terminationGracePeriodSeconds": -1}
    assert protobuf.decode("PodSecurityContext", field(4, b"\x01\x02\xac\x02")) == {"supplementalGroups": [1, 2, 300]}


@pytest.mark.parametrize("raw", [b"", b"k8s", b"json{}", b"k8s\x01abc"])
def test_a_body_without_the_prefix_is_refused(raw: bytes) -> None:
    with pytest.raises(protobuf.BadProtobuf):
        protobuf.envelope(raw)


def any_object(body: bytes, kind: str) -> None:
    """Decodes and normalises; only typed refusals may come out."""
    try:
        obj: dict[str, Any] = decode.decode_object(body, decode.PROTOBUF, kind, kind).obj
        normalise(kind, obj)
    except (ApiError, WrongType):
        pass


@given(st.binary(max_size=400), st.sampled_from([r.kind for r in kinds.ALL]))
def test_any_bytes_are_an_object_or_refused(raw: bytes, kind: str) -> None:
    any_object(raw, kind)
    any_object(protobuf.MAGIC + raw, kind)
    any_object(protobuf.MAGIC + field(1, field(1, b"v1") + field(2, kind.encode())) + field(2, raw), kind)


@given(st.sampled_from(BODIES), st.integers(0, 10**6), st.integers(0, 255), st.booleans())
def test_a_damaged_body_is_an_object_or_refused(body: bytes, at: int, byte: int, cut: bool) -> None:
    at %= max(len(body), 1)
    damaged = body[:at] if cut else body[:at] + bytes([byte]) + body[at + 1 :]
    for kind in ("ConfigMap", "Secret", "Namespace", "ServiceAccount", "Pod"):
        any_object(damaged, kind)


def test_endless_nesting_is_refused() -> None:
    raw = b""
    for _ in range(300):  # Affinity nests no further than its types: an inlined selector would
        raw = field(2, raw)[:60_000]
    any_object(protobuf.MAGIC + field(2, raw), "Pod")


def test_every_type_of_the_table_is_complete() -> None:
    for name in schema.names():
        for one in schema.message(name).fields.values():
            inner: schema.Type | None = one.type
            while inner is not None and inner.shape in ("list", "map"):
                inner = inner.element
            assert inner is not None
            if inner.shape == "message":
                schema.message(inner.name)
            assert one.number > 0
