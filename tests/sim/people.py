"""The people at the API: they create, change and delete pods, ConfigMaps and Secrets, and adopt restored hubs.

Each container carries, in an annotation of its pod, a mark that grows exactly when its spec changes in a way that needs
another container: what promise 3 is checked against, without asking `plan/`.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from random import Random
from typing import Any

from sim.etcd import Etcd, copy
from sim.world import World
from skerry_hub.edgecontroller import identity
from skerry_hub.edgecontroller.mirrors import is_mirror
from skerry_hub.ports import CONFIG_MAPS, NODES, PODS, SECRETS, NotFound, Obj, PatchForm, Resource

IMAGES = ("tide:1", "tide:2", "rock:1", "rock:latest")
LOST_IMAGE = "nowhere:1"
NAMESPACE = "default"
PODS_MAX = 5  # of one device at a time
MARK = "sim/mark."
CANARY = "nobody-may-read-this-"  # what every Secret holds
PRIVATE_IMAGE, KEYS = "rock:latest", "keys"  # what is pulled with the Secret


class Operator:
    def __init__(self, world: World, etcd: Etcd, nodes: list[str]) -> None:
        self.world, self.etcd, self.nodes = world, etcd, nodes
        self.random: Random = world.rng("operator")
        self._names = 0
        self._marks = 0

    def register(self, node: str) -> None:
        labels = {"skerry.dev/device": "true"}
        self.etcd.create(NODES, "", {"metadata": {"name": node, "labels": labels}, "spec": {}, "status": {}})

    # --- wishes -------------------------------------------------------------------------------------------------------

    def wish(self) -> None:
        """Do one thing at random."""
        deeds: list[tuple[int, Callable[[], str]]] = [
            (6, self.create_pod), (4, self.change_pod), (4, self.delete_pod), (1, self.force_delete),
            (2, self.change_config), (1, self.toggle_config), (2, self.relabel), (1, self.recreate),
        ]  # fmt: skip
        deed = self.random.choices([d for _, d in deeds], [w for w, _ in deeds])[0]
        said = deed()
        if said:
            self.world.tell("wish", said)

    def create_pod(self) -> str:
        node = self.random.choice(self.nodes)
        if len(self._pods(node)) >= PODS_MAX:
            return ""
        self._names += 1
        return self._create(f"pod{self._names}", node)

    def change_pod(self) -> str:
        pod = self._some_pod()
        if pod is None:
            return ""
        kind = self.random.choice(["image", "image", "env", "resources", "policy", "toleration", "default"])
        self._edit(pod, lambda p: self._change(p, kind))
        return f"change {kind} of {pod['metadata']['name']}"

    def relabel(self) -> str:
        """Back and forth, so that sets repeat."""
        pod = self._some_pod()
        if pod is None:
            return ""
        color = self.random.choice(["red", "blue"])
        self._edit(pod, lambda p: p["metadata"].setdefault("labels", {}).update(color=color))
        return f"label {pod['metadata']['name']} {color}"

    def delete_pod(self) -> str:
        pod = self._some_pod(mirrors=True)
        if pod is None:
            return ""
        grace = self.random.choice([None, None, 0 if self.random.random() < 0.2 else 5, 60])
        self.etcd.delete(PODS, NAMESPACE, pod["metadata"]["name"], grace)
        return f"delete {pod['metadata']['name']} grace {grace}"

    def force_delete(self) -> str:
        pod = self._some_pod(mirrors=True)
        if pod is None:
            return ""
        self.etcd.delete(PODS, NAMESPACE, pod["metadata"]["name"], 0)
        return f"force delete {pod['metadata']['name']}"

    def recreate(self) -> str:
        """The same name, another uid."""
        pod = self._some_pod()
        if pod is None:
            return ""
        name, node = pod["metadata"]["name"], pod["spec"]["nodeName"]
        self.etcd.delete(PODS, NAMESPACE, name, 0)
        return "again: " + self._create(name, node)

    def change_config(self) -> str:
        kind, name = self.random.choice([(CONFIG_MAPS, "conf"), (SECRETS, "creds")])
        value = self.random.choice(["MQ==", "Mg==", "Mw=="])
        try:
            self.etcd.change(kind, NAMESPACE, name, lambda o: o["data"].update(key=_value(kind, value)))
            if kind is SECRETS:
                self.etcd.change(kind, NAMESPACE, KEYS, lambda o: o.update(data=_keys(value)))
        except NotFound:
            return ""
        return f"change {name}"

    def toggle_config(self) -> str:
        """A ConfigMap that some pods wait for, and the pull secret."""
        try:
            self.etcd.delete(CONFIG_MAPS, NAMESPACE, "late")
            self.etcd.delete(SECRETS, NAMESPACE, KEYS)
            return "delete ConfigMap late"
        except NotFound:
            self.etcd.create(CONFIG_MAPS, NAMESPACE, {"metadata": {"name": "late"}, "data": {"key": "1"}})
            self._make_keys()
            return "create ConfigMap late"

    def make_configs(self) -> None:
        """What must be there in calm."""
        for kind, name in ((CONFIG_MAPS, "conf"), (SECRETS, "creds"), (CONFIG_MAPS, "late")):
            if self.etcd.find(kind, NAMESPACE, name) is None:
                self.etcd.create(kind, NAMESPACE, {"metadata": {"name": name}, "data": {"key": _value(kind, "MQ==")}})
        self._make_keys()

    # --- at the end of a storm ----------------------------------------------------------------------------------------

    def adopt(self) -> bool:
        """`skerry-hub adopt --all`: let this store and epoch replace the devices' sets."""
        found = self.etcd.find(CONFIG_MAPS, identity.NAMESPACE, identity.NAME)
        epoch = identity.epoch_of(found) if found is not None else ""
        adopted = False
        for node in self.nodes:
            shown = self.etcd.find(NODES, "", node)
            conditions = ((shown or {}).get("status") or {}).get("conditions") or ()
            held = any(c.get("type") == "RestoredHub" and c.get("status") == "True" for c in conditions)
            known = (((shown or {}).get("metadata") or {}).get("annotations") or {}).get(identity.ADOPT)
            if epoch and held and known != epoch:
                self.world.tell("wish", f"adopt {node} into {epoch}")
                self._annotate(node, {identity.ADOPT: epoch})
                adopted = True
        return adopted

    def register_all(self) -> None:
        for node in self.nodes:
            if self.etcd.find(NODES, "", node) is None:
                self.register(node)

    def end_restless(self) -> None:
        """Delete the pods that never come to rest, so that a quiet hour can be one."""
        for pod in [p for p in self.etcd.all(PODS).values() if not is_mirror(p)]:
            words = [a for c in pod["spec"]["containers"] for a in c.get("args", [])]
            images = [c["image"] for c in pod["spec"]["containers"]]
            restless = any(w.startswith("exit:") for w in words) and pod["spec"].get("restartPolicy") != "Never"
            if (restless or LOST_IMAGE in images) and not pod["metadata"].get("deletionTimestamp"):
                self.etcd.delete(PODS, NAMESPACE, pod["metadata"]["name"])

    # --- private ------------------------------------------------------------------------------------------------------

    def _make_keys(self) -> None:
        if self.etcd.find(SECRETS, NAMESPACE, KEYS) is None:
            secret = {"metadata": {"name": KEYS}, "type": "kubernetes.io/dockerconfigjson", "data": _keys("MQ==")}
            self.etcd.create(SECRETS, NAMESPACE, secret)

    def _annotate(self, node: str, marks: dict[str, str]) -> None:
        self.etcd.change(NODES, "", node, lambda n: n["metadata"].setdefault("annotations", {}).update(marks))

    def _pods(self, node: str) -> list[Obj]:
        return [p for p in self.etcd.all(PODS).values() if p["spec"]["nodeName"] == node and not is_mirror(p)]

    def _some_pod(self, mirrors: bool = False) -> Obj | None:
        """A mirror pod only where `mirrors`."""
        pods = [p for _, p in sorted(self.etcd.all(PODS).items()) if not p["metadata"].get("deletionTimestamp")]
        pods = [p for p in pods if mirrors or not is_mirror(p)]
        return self.random.choice(pods) if pods else None

    def _edit(self, pod: Obj, edit: Callable[[Obj], Any]) -> None:
        self.etcd.change(PODS, NAMESPACE, pod["metadata"]["name"], edit)

    def _create(self, name: str, node: str) -> str:
        random = self.random
        policy = random.choice(["Always", "Always", "Always", "OnFailure", "Never"])
        containers = [self._container(f"c{i}", policy) for i in range(1 if random.random() < 0.7 else 2)]
        if len(containers) == 1 and random.random() < 0.07:
            containers[0]["image"] = LOST_IMAGE  # beside another container it would keep that from starting
        volumes: list[Obj] = []
        spec: Obj = {"nodeName": node, "restartPolicy": policy, "containers": containers}
        spec["imagePullSecrets"] = [{"name": KEYS}]
        if random.random() < 0.4:
            volumes.append(self._volume(random))
            containers[0]["volumeMounts"] = [{"name": v["name"], "mountPath": f"/{v['name']}"} for v in volumes]
            spec["volumes"] = volumes
        if random.random() < 0.3:
            spec["terminationGracePeriodSeconds"] = random.choice([0, 1, 90])
        if random.random() < 0.06:
            spec["hostIPC"] = True  # not supported: refused with its path
        annotations = {MARK + c["name"]: "0" for c in containers}
        self.etcd.create(PODS, NAMESPACE, {"metadata": {"name": name, "annotations": annotations}, "spec": spec})
        words = " ".join(f"{c['image']}:{c['args'][0]}" for c in containers)
        return f"create {name} on {node}: {policy} {words} volumes {[v['name'] for v in volumes]}"

    def _volume(self, random: Random) -> Obj:
        return copy(
            random.choice(
                [
                    {"name": "scratch", "emptyDir": {}},
                    {"name": "conf", "configMap": {"name": "conf"}},
                    {"name": "creds", "secret": {"secretName": "creds"}},
                    {"name": "late", "configMap": {"name": "late"}},
                    {"name": "maybe", "configMap": {"name": "never-there", "optional": True}},
                ]
            )
        )

    def _container(self, name: str, policy: str) -> Obj:
        random = self.random
        word = random.choice(["run", "run", "run", "stubborn", "exit"])
        if word == "exit":
            word = f"exit:{random.choice([0, 1])}:{random.choice([1, 30, 700])}"
        out: Obj = {"name": name, "image": random.choice(IMAGES), "args": [word], "imagePullPolicy": "IfNotPresent"}
        if random.random() < 0.2:
            out["env"] = [{"name": "KEY", "valueFrom": {"configMapKeyRef": {"name": "conf", "key": "key"}}}]
        return out

    def _change(self, pod: Obj, kind: str) -> None:
        container = pod["spec"]["containers"][0]
        random = self.random
        before = copy(container)
        if kind == "image":
            container["image"] = random.choice([i for i in IMAGES if i != container["image"]])
        elif kind == "env":
            literal = [e for e in container.get("env", []) if e["name"] != "N"]
            container["env"] = [*literal, {"name": "N", "value": str(random.randrange(1000))}]
        elif kind == "resources":
            container["resources"] = {"limits": {"memory": f"{random.randint(16, 64)}Mi"}}
        elif kind == "policy":
            container["imagePullPolicy"] = random.choice(["Always", "IfNotPresent"])
        elif kind == "toleration":
            toleration = {"key": f"k{random.randrange(9)}", "operator": "Exists"}
            pod["spec"].setdefault("tolerations", []).append(toleration)
        elif kind == "default":  # what is absent and what is the default are the same
            container["terminationMessagePath"] = "/dev/termination-log"
            pod["spec"]["dnsPolicy"] = "ClusterFirst"
        if kind in ("image", "env") and container != before:
            self._marks += 1  # never used twice, whatever past the API is restored to
            pod["metadata"]["annotations"][MARK + container["name"]] = str(self._marks)


def _value(kind: Resource, value: str) -> str:
    return b64encode(CANARY.encode()).decode() + value if kind is SECRETS else value  # its length is divisible by 3


def _keys(value: str) -> Obj:
    """The same credentials, in other bytes for another value."""
    auths = {"docker.io": {"username": "sim", "password": CANARY}, f"{value[:2].lower()}.example": {}}
    return {".dockerconfigjson": b64encode(json.dumps({"auths": auths}).encode()).decode()}


__all__ = ["CANARY", "Operator", "PatchForm"]
