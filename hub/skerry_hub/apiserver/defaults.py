"""The values that the API fills in for what a pod's author left out.

Pure functions on a normalised pod. Source: the defaults documented in the Pod API reference.
"""

from __future__ import annotations

from typing import Any

from . import quantity

Obj = dict[str, Any]
_FILE_MODE = 0o644
_NO_TIME = 300  # seconds that a pod stays on a node that is not ready or unreachable
_TAINTS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_UNTAGGED = ("", "latest")


def pod(obj: Obj) -> None:
    """Fills a pod, as decoding does: nothing here looks at other objects."""
    spec = obj["spec"]
    pod_spec(spec)
    spec.setdefault("enableServiceLinks", True)
    for name in ("initContainers", "containers"):
        for container in spec.get(name, []):
            _requests(container)


def pod_spec(spec: Obj) -> None:
    """Fills what is filled in a pod's spec and in a template's alike."""
    for name in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(name, []):
            _container(container)
    for volume in spec.get("volumes", []):
        _volume(volume)
    for key, value in (
        ("restartPolicy", "Always"),
        ("terminationGracePeriodSeconds", 30),
        ("dnsPolicy", "ClusterFirst"),
        ("schedulerName", "default-scheduler"),
    ):
        spec.setdefault(key, value)
    spec.setdefault("securityContext", {})
    if spec.get("hostNetwork"):
        _host_ports(spec)
    account = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if account:
        spec["serviceAccountName"] = spec["serviceAccount"] = account
    for constraint in spec.get("topologySpreadConstraints", []):
        constraint.setdefault("whenUnsatisfiable", "DoNotSchedule")


def _host_ports(spec: Obj) -> None:
    for name in ("initContainers", "containers"):
        for container in spec.get(name, []):
            for port in container.get("ports", []):
                if not port.get("hostPort") and port.get("containerPort"):
                    port["hostPort"] = port["containerPort"]


def _requests(container: Obj) -> None:
    """What is limited and not requested is requested up to the limit."""
    resources = container["resources"]
    if resources.get("limits"):
        requests = resources.setdefault("requests", {})
        for name, amount in resources["limits"].items():
            requests.setdefault(name, amount)


def _container(c: Obj) -> None:
    for port in c.get("ports", []):
        port.setdefault("protocol", "TCP")
    for variable in c.get("env", []):
        _field_ref((variable.get("valueFrom") or {}).get("fieldRef"))
        _divisor((variable.get("valueFrom") or {}).get("resourceFieldRef"))
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        _probe(c.get(name))
    for hook in (c.get("lifecycle") or {}).values():
        if isinstance(hook, dict):
            _http(hook.get("httpGet"))
    c.setdefault("terminationMessagePath", "/dev/termination-log")
    c.setdefault("terminationMessagePolicy", "File")
    c.setdefault("imagePullPolicy", "Always" if _tag(c.get("image", "")) in _UNTAGGED else "IfNotPresent")
    c.setdefault("resources", {})


def _tag(image: str) -> str:
    """An image's tag; a digest counts as one of its own."""
    if "@" in image:
        return "@"
    return image.rpartition("/")[2].partition(":")[2]


def _probe(probe: Obj | None) -> None:
    if probe is None:
        return
    _http(probe.get("httpGet"))
    if probe.get("grpc") is not None:
        probe["grpc"].setdefault("service", "")
    for key, value in (("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)):
        probe.setdefault(key, value)


def _http(get: Obj | None) -> None:
    if get is not None:
        get["path"] = get.get("path") or "/"
        get.setdefault("scheme", "HTTP")


def _field_ref(ref: Obj | None) -> None:
    if ref is not None:
        ref.setdefault("apiVersion", "v1")


def _divisor(ref: Obj | None) -> None:
    if ref is not None:
        ref.setdefault("divisor", "0")


def _volume(volume: Obj) -> None:
    sources = [key for key in volume if key != "name"]
    if not sources:
        volume["emptyDir"] = {}
    for name in ("configMap", "secret", "downwardAPI", "projected"):
        if volume.get(name) is not None:
            volume[name].setdefault("defaultMode", _FILE_MODE)
    if volume.get("hostPath") is not None:
        volume["hostPath"].setdefault("type", "")
    for item in (volume.get("downwardAPI") or {}).get("items", []):
        _field_ref(item.get("fieldRef"))
        _divisor(item.get("resourceFieldRef"))
    for source in (volume.get("projected") or {}).get("sources", []):
        if source.get("serviceAccountToken") is not None:
            source["serviceAccountToken"].setdefault("expirationSeconds", 3600)
        for item in (source.get("downwardAPI") or {}).get("items", []):
            _field_ref(item.get("fieldRef"))
            _divisor(item.get("resourceFieldRef"))


def pod_created(obj: Obj) -> None:
    """What the server sets on a new pod: status, priority and the tolerations of a node that goes away."""
    spec = obj["spec"]
    obj["status"] = {"phase": "Pending", "qosClass": qos(spec)}
    spec.setdefault("priority", 0)
    spec.setdefault("preemptionPolicy", "PreemptLowerPriority")
    _tolerate(spec)


def pod_updated(new: Obj, old: Obj) -> None:
    """What the server keeps or adds when a pod is updated."""
    new["status"].setdefault("qosClass", old["status"].get("qosClass", "BestEffort"))
    for key in ("priority", "preemptionPolicy"):
        if key in old["spec"]:
            new["spec"].setdefault(key, old["spec"][key])
    _tolerate(new["spec"])


def _tolerate(spec: Obj) -> None:
    tolerations = spec.setdefault("tolerations", [])
    for key in _TAINTS:
        if not any(_tolerates(t, key) for t in tolerations):
            tolerations.append({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": _NO_TIME})


def _tolerates(toleration: Obj, key: str) -> bool:
    return toleration.get("key", "") in ("", key) and toleration.get("effect", "") in ("", "NoExecute")


def qos(spec: Obj) -> str:
    """The quality-of-service class: Guaranteed, Burstable or BestEffort."""
    containers = spec.get("containers", []) + spec.get("initContainers", [])
    asked, complete = False, True
    for c in containers:
        resources = c.get("resources") or {}
        limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
        mine = [name for name in ("cpu", "memory") if quantity.value(str(limits.get(name, "0"))) > 0]
        asked = asked or any(quantity.value(str(v)) > 0 for k, v in requests.items() if k in ("cpu", "memory"))
        asked = asked or bool(mine)
        same = all(quantity.value(str(requests.get(n, "0"))) == quantity.value(str(limits[n])) for n in mine)
        complete = complete and len(mine) == 2 and same
    return "Guaranteed" if asked and complete else "Burstable" if asked else "BestEffort"
