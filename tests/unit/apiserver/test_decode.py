"""JSON and YAML bodies: any bytes are an object or a Status; duplicates are found; depth and aliases are bounded."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry_hub.apiserver import decode, kinds, objects, patches
from skerry_hub.apiserver.decode import decode_object
from skerry_hub.apiserver.normalize import WrongType, normalise, parse_time
from skerry_hub.apiserver.resources import Resource
from skerry_hub.apiserver.status import ApiError

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
POD_KEYS = [
    "metadata",
    "spec",
    "containers",
    "name",
    "image",
    "volumes",
    "labels",
    "ports",
    "env",
    "status",
    "resources",
]
POD_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 70000) | st.sampled_from(["a", "", "-1", "1Gi", "x y"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(POD_KEYS), inner, max_size=5),
    max_leaves=25,
)


def refusal(body: bytes, kind: str = "application/json") -> ApiError:
    with pytest.raises(ApiError) as why:
        decode_object(body, kind, "ConfigMap", "ConfigMap")
    return why.value


def expect(why: ApiError, *codes: int) -> None:
    """A refusal must be the client's fault."""
    assert why.code in codes


def test_duplicates_are_named_by_their_path() -> None:
    body = b'{"a":1,"b":[{"c":1,"c":2}],"a":{"d":1,"d":2}}'
    assert sorted(decode_object(body, "", "X", "ConfigMap").duplicates) == ["a", "a.d", "b[0].c"]


def test_yaml_is_read_as_json_would_be() -> None:
    body = b"metadata: {name: x}\ndata: {t: 2020-01-01T00:00:00Z}\n"
    assert decode_object(body, "application/yaml", "ConfigMap", "ConfigMap").obj["data"] == {
        "t": "2020-01-01T00:00:00Z"
    }


@pytest.mark.parametrize("body", [b"", b"[]", b"1", b"{", b"\xff\xfe", b'{"a":1}x', b"[" * 100_000])
def test_bodies_that_are_no_object_are_bad_requests(body: bytes) -> None:
    assert refusal(body).code == 400
    assert refusal(body, "application/yaml").code == 400


def test_numbers_that_json_does_not_have_are_refused() -> None:
    assert refusal(b'{"a":NaN}').code == 400
    assert refusal(b'{"a":-Infinity}').code == 400
    assert refusal(b"a: .nan", "application/yaml").code == 400


def test_depth_aliases_and_foreign_types_are_refused() -> None:
    assert refusal(b'{"a":' * 150 + b"1" + b"}" * 150).code == 400
    assert refusal(b"a: &x {b: c}\nd: *x\n", "application/yaml").code == 400
    assert refusal(b"a: !!python/object/apply:os.system [x]", "application/yaml").code == 400
    assert refusal(b"{}", "text/html").code == 415


@given(st.binary(max_size=200))
def test_any_bytes_are_an_object_or_a_status(body: bytes) -> None:
    for kind in (decode.JSON, decode.YAML):
        try:
            decode_object(body, kind, "ConfigMap", "ConfigMap")
        except ApiError as why:
            expect(why, 400)


@given(POD_LIKE, st.sampled_from(kinds.ALL))
def test_any_json_is_stored_or_refused_by_name(value: object, resource: Resource) -> None:
    if not isinstance(value, dict):
        return
    try:
        obj, _ = objects.normal(resource, value)
        objects.check(resource, objects.created(resource, obj, parse_time("2020-01-01T00:00:00Z")), None)
        again, unknown = normalise(resource.type, json.loads(json.dumps(obj)))
        assert unknown == []
        assert again == obj, "the stored form is stable"
        resource.cells(obj)
    except ApiError as why:
        expect(why, 400, 422)


@given(JSON_VALUES, st.sampled_from(patches.SERVED))
def test_any_patch_is_applied_or_refused(value: object, kind: str) -> None:
    original = {"metadata": {"name": "a"}, "data": {"a": "b"}, "spec": {"containers": [{"name": "x"}]}}
    try:
        out = patches.apply(kind, json.dumps(value, allow_nan=False).encode(), "Pod", original)
    except ValueError:  # NaN
        return
    except ApiError as why:
        expect(why, 400, 422)
        return
    assert isinstance(out, dict)
    assert original == {"metadata": {"name": "a"}, "data": {"a": "b"}, "spec": {"containers": [{"name": "x"}]}}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("terminationGracePeriodSeconds", 2**70),
        ("terminationGracePeriodSeconds", 1.5),
        ("hostNetwork", "yes"),
        ("hostname", 1),
    ],
)
def test_a_wrong_type_is_named(field: str, value: object) -> None:
    with pytest.raises(WrongType, match=f"PodSpec.spec.{field}"):
        normalise("Pod", {"spec": {field: value}})


def test_a_json_patch_cannot_grow_or_nest_without_bound() -> None:
    original = {"metadata": {"name": "a"}, "data": {"a": "x" * 1000}}
    grow = [{"op": "copy", "from": "/data", "path": f"/data/c{i}"} for i in range(40)]
    nest = [{"op": "add", "path": "/data" + "/n" * i, "value": {}} for i in range(1, 3000)]
    many = [{"op": "copy", "from": "/metadata", "path": "/x"}] * 100
    for patch in (grow, nest, many):
        with pytest.raises(ApiError) as why:
            patches.apply(patches.JSON_PATCH, json.dumps(patch).encode(), "ConfigMap", original)
        expect(why.value, 400, 422)
