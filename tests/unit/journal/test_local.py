"""The folder of manifests → the journal: uids, names, what is refused with which path, and who waits for whom."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from skerry.errors import Refused
from skerry.journal import local as local_module
from skerry.journal.local import Step, deleting, name_of, next_step, objects_in
from skerry.journal.record import LocalObject
from skerry.limits import LOCAL_PODS_MAX
from skerry.model.desired import Key, Kind, Object
from skerry.model.manifest import read_config, read_pod
from skerry.model.pod import Pod
from skerry.wire.codec import decode

POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web", "labels": {"app": "web"}},
    "spec": {"containers": [{"name": "main", "image": "rock:1"}], "terminationGracePeriodSeconds": 7},
}
CONFIG = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "conf"}, "data": {"key": "value"}}
SECRET = {
    "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "creds"}, "type": "Opaque",
    "data": {"a": "eA=="}, "stringData": {"b": "y"},
}  # fmt: skip


def pod(name: str = "web", **spec: Any) -> dict[str, Any]:
    made = copy.deepcopy(POD)
    made["metadata"]["name"] = name
    made["spec"] |= spec
    return made


def read(*documents: object, node: str = "pi", file: str = "web.yaml") -> tuple[Object, ...]:
    return objects_in(node, file, documents, False)


def refused(*documents: object) -> Refused:
    with pytest.raises(Refused) as why:
        read(*documents)
    return why.value


class Held:
    """A journal's local part, as steps are made."""

    def __init__(self) -> None:
        self.local: dict[Key, LocalObject] = {}

    def step(self, **files: tuple[Object, ...] | None) -> Step:
        step = next_step(self.local, files)
        self.local |= {o.obj.key: o for o in step.puts}
        for key in step.deletes:
            del self.local[key]
        return step

    def gone(self) -> None:
        """The runtime has ended what is being deleted."""
        self.local = {key: o for key, o in self.local.items() if not deleting(o.obj)}

    @property
    def names(self) -> list[tuple[str, bool]]:
        return sorted((name_of(o.obj)[1], deleting(o.obj)) for o in self.local.values())


# --- what a file holds ------------------------------------------------------------------------------------------------


def test_a_pull_secret_has_its_type_and_a_pod_its_pull_secrets() -> None:
    """So that a private image is pulled before there is a hub."""
    kind = "kubernetes.io/dockerconfigjson"
    keys = {**SECRET, "type": kind, "data": {".dockerconfigjson": "e30="}, "stringData": None}
    secret, one = read(keys, pod(imagePullSecrets=[{"name": "creds"}]))
    found, made = read_config(secret, decode(secret.body)), read_pod(one, decode(one.body), False)
    assert (found.type, found.data) == (kind, ((".dockerconfigjson", b"{}"),))
    assert isinstance(made, Pod)
    assert made.pull_secrets == ("creds",)


def test_a_pod_is_one_that_the_device_runs_under_its_name_and_the_nodes() -> None:
    (obj,) = read(POD)
    seen = read_pod(obj, decode(obj.body), False)
    assert isinstance(seen, Pod)
    assert (seen.full_name, seen.uid, seen.grace_s) == ("default/web-pi", obj.uid, 7)
    assert dict(seen.labels) == {"app": "web"}


def test_the_same_file_gives_the_same_uid_and_any_change_of_what_counts_another() -> None:
    (first,) = read(POD)
    shown = copy.deepcopy(POD)  # as `kubectl get -o yaml` prints it
    shown["metadata"] |= {"uid": "x", "resourceVersion": "7", "creationTimestamp": None, "namespace": "default"}
    shown["status"] = {"phase": "Running"}
    assert read(json.loads(json.dumps(shown, sort_keys=True)))[0].uid == first.uid
    others = [
        read(pod("other"))[0],
        read(pod(restartPolicy="Never"))[0],
        read(POD, node="pa")[0],
        read(POD, file="b.yaml")[0],
    ]
    assert len({first.uid, *(o.uid for o in others)}) == 5


def test_a_config_map_and_a_secret_keep_their_uid_when_their_data_changes() -> None:
    conf, creds = read(CONFIG, SECRET)
    assert read_config(conf, decode(conf.body)).data == (("key", b"value"),)
    assert read_config(creds, decode(creds.body)).data == (("a", b"x"), ("b", b"y"))
    (changed,) = read({**CONFIG, "data": {"key": "other"}}, file="elsewhere.yaml")
    assert (changed.uid, changed.digest != conf.digest) == (conf.uid, True)


def test_a_list_holds_objects() -> None:
    both = {"apiVersion": "v1", "kind": "List", "items": [POD, CONFIG]}
    assert [o.kind for o in read(both)] == [Kind.POD, Kind.CONFIG_MAP]
    assert refused({**both, "items": [POD, {**CONFIG, "kind": "Job"}]}).path == "items[1].kind"


@pytest.mark.parametrize(
    ("documents", "path"),
    [
        ((), "file"),
        (("text",), "document 1"),
        (([POD],), "document 1"),
        (({**POD, "apiVersion": "apps/v1"},), "apiVersion"),
        (({**POD, "kind": "Deployment"},), "kind"),
        (({**POD, "spce": {}, "speck": 1},), "speck"),
        (({**POD, "metadata": {}},), "metadata.name"),
        (({**POD, "metadata": {"name": "Web"}},), "metadata.name"),
        (({**POD, "metadata": {"name": "x" * 252}},), "metadata.name"),
        (({**POD, "metadata": {"name": "web", "namespace": "a.b"}},), "metadata.namespace"),
        (({**POD, "metadata": {"name": "web", "ownerReferences": [{}]}},), "metadata.ownerReferences"),
        (({**POD, "metadata": {"name": "web", "labels": {"a": 1}}},), "metadata.labels.a"),
        ((pod(hostPID=True),), "spec.hostPID"),
        ((pod(containers=[]),), "spec.containers"),
        ((pod(containers=[{"name": "../x", "image": "i"}]),), "spec.containers[0].name"),
        ((POD, POD), "document 2: metadata.name"),
        ((CONFIG, {**CONFIG, "data": {"a": 1}}), "document 2: data.a"),
        (({**SECRET, "data": {"a": "?"}},), "data.a"),
        ((pod(hostname=float("nan")),), "document 1.spec.hostname"),
        ((pod(hostname=1 << 70),), "document 1.spec.hostname"),
        ((pod(hostname=b"x"),), "document 1.spec.hostname"),
        ((pod(containers=[{1: 2}]),), "document 1.spec.containers[0]"),
    ],
)
def test_what_is_wrong_is_refused_with_its_path(documents: tuple[object, ...], path: str) -> None:
    assert refused(*documents).path == path


def test_aliases_that_multiply_and_deep_nesting_end_at_a_bound() -> None:
    level: list[Any] = ["x"] * 10
    for _ in range(9):
        level = [level] * 10
    assert refused({**POD, "spec": level}).path == "file"
    deep: Any = "x"
    for _ in range(200):
        deep = [deep]
    assert refused({**POD, "spec": deep}).path == "file"


# --- from what the journal holds to what the folder shows -------------------------------------------------------------


def test_a_folder_that_did_not_change_asks_for_nothing() -> None:
    held = Held()
    assert len(held.step(a=read(POD, CONFIG)).puts) == 2
    assert held.step(a=read(POD, CONFIG)) == Step()
    assert held.step(a=None) == Step()


def test_a_file_that_went_takes_its_pod_gracefully_and_its_config_map_at_once() -> None:
    held = Held()
    held.step(a=read(POD, CONFIG))
    step = held.step()
    (mark,) = step.puts
    seen = read_pod(mark.obj, decode(mark.obj.body), False)
    assert isinstance(seen, Pod)
    assert (seen.deleting_grace_s, {kind for kind, _ in step.deletes}) == (7, {Kind.CONFIG_MAP})
    assert held.step() == Step(), "a deletion is asked for once"


def test_a_changed_pod_waits_until_the_one_before_is_gone() -> None:
    held = Held()
    held.step(a=read(POD))
    step = held.step(a=read(pod(restartPolicy="Never")))
    assert (held.names, sorted(step.waits)) == ([("default/web-pi", True)], ["a"])
    assert held.step(a=read(pod(restartPolicy="Never"))).waits == {"a"}
    held.gone()
    assert held.step(a=read(pod(restartPolicy="Never"))).waits == frozenset()
    assert held.names == [("default/web-pi", False)]


def test_a_file_that_comes_back_while_its_pod_ends_begins_anew() -> None:
    held = Held()
    held.step(a=read(POD))
    held.step()
    assert held.step(a=read(POD)).waits == {"a"}
    held.gone()
    held.step(a=read(POD))
    assert held.names == [("default/web-pi", False)]


def test_of_two_files_with_one_name_the_one_that_has_it_keeps_it() -> None:
    held = Held()
    held.step(b=read(POD, file="b"))
    step = held.step(a=read(POD, file="a"), b=read(POD, file="b"))
    assert (step.puts, step.problems) == ((), {"a": "POD default/web-pi is in b already"})
    held.step(a=read(POD, file="a"))
    held.gone()
    held.step(a=read(POD, file="a"))
    assert [o.file for o in held.local.values()] == ["a"]


def test_a_broken_file_keeps_its_name_from_another() -> None:
    held = Held()
    held.step(b=read(POD, file="b"))
    step = held.step(a=read(POD, file="a"), b=None)
    assert (step.puts, list(step.problems)) == ((), ["a"])


def test_beyond_the_bounds_the_first_files_count_and_the_others_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    many = tuple(o for n in range(LOCAL_PODS_MAX) for o in read(pod(f"p{n}")))
    step = Held().step(a=many, b=read(POD, file="b"))
    assert len(step.puts) == LOCAL_PODS_MAX
    assert "LOCAL_PODS_MAX" in step.problems["b"]
    monkeypatch.setattr(local_module, "LOCAL_BYTES_MAX", len(read(POD)[0].body) + 10)
    step = Held().step(a=read(POD), b=read(pod("w2"), file="b"))
    assert (len(step.puts), "LOCAL_BYTES_MAX" in step.problems["b"]) == (1, True)
