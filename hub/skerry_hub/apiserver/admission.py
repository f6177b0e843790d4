"""The rules that look at other objects: the namespace of everything, the service account of a pod.

Reads the store, decides, and names what must be written along. Refuses to know HTTP.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from . import kinds, objects
from .resources import Resource
from .status import forbidden, not_found
from .store import Store, Write

Obj = dict[str, Any]
IMMORTAL = ("default", "kube-system", "kube-public")
_TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 a mount path
_TOKEN_S = 3607
_PRIORITIES = {"system-node-critical": 2_000_001_000, "system-cluster-critical": 2_000_000_000}
_MIRROR = "kubernetes.io/config.mirror"


def namespace_open(store: Store, resource: Resource, namespace: str, name: str) -> None:
    """Raises ApiError 404 when the namespace is missing, 403 when it is being deleted."""
    if not resource.namespaced:
        return
    found = store.latest((kinds.NAMESPACES.id, "", namespace))
    if found is None:
        raise not_found("namespaces", "", namespace)
    if found.fields.get("status.phase") == "Terminating":
        why = f"unable to create new content in namespace {namespace} because it is being terminated"
        cause = {"reason": "NamespaceTerminating", "message": f"namespace {namespace} is being terminated"}
        cause["field"] = "metadata.namespace"
        raise forbidden(resource.plural, resource.group, name, why, [cause])


def namespace_may_go(name: str) -> None:
    """Raises ApiError 403 for the namespaces that the cluster stands on."""
    if name in IMMORTAL:
        raise forbidden("namespaces", "", name, "this namespace may not be deleted")


def create(store: Store, resource: Resource, obj: Obj) -> None:
    """Completes a new object by what others say. Raises ApiError 403. `obj` is changed."""
    if resource is kinds.PODS:
        _priority(obj)
        if _MIRROR in obj["metadata"].get("annotations", {}):
            _mirror(obj)
        else:
            _service_account(store, obj)


def _priority(pod: Obj) -> None:
    spec, pod_name = pod["spec"], pod["metadata"].get("name", "")
    name, said = spec.get("priorityClassName"), spec.get("priority", 0)
    if name and name not in _PRIORITIES:
        raise forbidden("pods", "", pod_name, f"no PriorityClass with name {name} was found")
    computed = _PRIORITIES[name] if name else 0
    if said not in (0, computed):  # 0 is what nobody has said
        why = f"the integer value of priority ({said}) must not be provided in pod spec"
        text = f"{why}; priority admission controller computed {computed} from the given PriorityClass name"
        raise forbidden("pods", "", pod_name, text)
    spec["priority"] = computed


def _mirror(pod: Obj) -> None:
    """A node's picture of its own pod names nothing that only the API could give. Source: the admission plugin
    ServiceAccount."""
    spec, name = pod["spec"], pod["metadata"].get("name", "")
    if spec.get("serviceAccountName"):
        raise forbidden("pods", "", name, "a mirror pod may not reference service accounts")
    if spec.get("imagePullSecrets") or _names_secret(spec):
        raise forbidden("pods", "", name, "a mirror pod may not reference secrets")
    if any("serviceAccountToken" in source for source in _projected(spec)):
        raise forbidden("pods", "", name, "a mirror pod may not use ServiceAccountToken volume projections")


def _names_secret(spec: Obj) -> bool:
    containers = spec.get("containers", []) + spec.get("initContainers", [])
    variables = [e.get("valueFrom") or {} for c in containers for e in c.get("env", [])]
    return (
        any("secret" in volume for volume in spec.get("volumes", []))
        or any("secret" in source for source in _projected(spec))
        or any("secretKeyRef" in source for source in variables)
        or any("secretRef" in source for c in containers for source in c.get("envFrom", []))
    )


def _projected(spec: Obj) -> list[Obj]:
    return [s for volume in spec.get("volumes", []) for s in (volume.get("projected") or {}).get("sources", [])]


def _service_account(store: Store, pod: Obj) -> None:
    spec = pod["spec"]
    name = spec.get("serviceAccountName") or "default"
    spec["serviceAccountName"] = spec["serviceAccount"] = name
    namespace = pod["metadata"]["namespace"]
    found = store.latest((kinds.SERVICE_ACCOUNTS.id, namespace, name))
    if found is None:
        pod_name = pod["metadata"].get("name", "") or pod["metadata"].get("generateName", "")
        why = f'error looking up service account {namespace}/{name}: serviceaccount "{name}" not found'
        raise forbidden("pods", "", pod_name, why)
    account = found.obj()
    if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
        spec["imagePullSecrets"] = account["imagePullSecrets"]
    wanted = spec.get("automountServiceAccountToken", account.get("automountServiceAccountToken", True))
    if wanted:
        _token_volume(spec)


def _token_volume(spec: Obj) -> None:
    """Mounts the service account's token where no container has anything of its own there."""
    containers = spec.get("containers", []) + spec.get("initContainers", [])
    bare = [c for c in containers if all(m.get("mountPath") != _TOKEN_PATH for m in c.get("volumeMounts", []))]
    if not bare:
        return
    name = objects.generated("kube-api-access-")
    for c in bare:
        c.setdefault("volumeMounts", []).append({"name": name, "readOnly": True, "mountPath": _TOKEN_PATH})
    sources = [
        {"serviceAccountToken": {"expirationSeconds": _TOKEN_S, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {
            "downwardAPI": {
                "items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]
            }
        },
    ]
    volume = {"name": name, "projected": {"sources": sources, "defaultMode": 0o644}}
    spec.setdefault("volumes", []).append(volume)


def along(store: Store, resource: Resource, obj: Obj, now: datetime) -> list[Write]:
    """What is written together with a new object: a namespace brings its default service account."""
    if resource is not kinds.NAMESPACES:
        return []
    name = obj["metadata"]["name"]
    account: Obj = {"metadata": {"name": "default", "namespace": name}}
    key = (kinds.SERVICE_ACCOUNTS.id, name, "default")
    if store.latest(key) is not None:
        return []
    return [Write(key, None, objects.created(kinds.SERVICE_ACCOUNTS, account, now))]


def may_go(obj: Obj) -> bool:
    """Whether an object whose finalizers are gone may be removed: a namespace first has to be empty."""
    return not (obj.get("spec") or {}).get("finalizers")
