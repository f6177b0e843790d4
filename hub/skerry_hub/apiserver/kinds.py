"""The table of kinds that this server serves, and what is particular about each. A new kind is a new row."""

from __future__ import annotations

import base64
from typing import Any

from . import defaults, pod_status, pod_updates, rows, signing_requests, validate, validate_pods
from .resources import Column, Resource, Subresource, index
from .rows import AGE, NAME
from .status import Cause, forbidden_value, invalid_value

Obj = dict[str, Any]
_STATUS = ("get", "patch", "update")
_CONFIG_BYTES_MAX = 1024 * 1024
_REFERENCE = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
_NOT_READY = "node.kubernetes.io/not-ready"


def _pod_validate(obj: Obj) -> list[Cause]:
    return validate_pods.spec(obj["spec"])


PODS = Resource(
    "", "v1", "pods", "pod", "Pod", True,
    columns=(
        NAME, Column("Ready"), Column("Status"), Column("Restarts"), AGE, Column("IP", priority=1),
        Column("Node", priority=1), Column("Nominated Node", priority=1), Column("Readiness Gates", priority=1),
    ),
    cells=rows.pod,
    row_conditions=rows.pod_conditions,
    short_names=("po",),
    categories=("all",),
    subresources=(
        Subresource("attach", "PodAttachOptions", ("create", "get")),
        Subresource("binding", "Binding", ("create",)),
        Subresource("exec", "PodExecOptions", ("create", "get")),
        Subresource("log", "Pod", ("get",)),
        Subresource("portforward", "PodPortForwardOptions", ("create", "get")),
        Subresource("status", "Pod", _STATUS),
    ),
    selectable={
        "spec.nodeName": "", "spec.restartPolicy": "", "spec.schedulerName": "", "spec.serviceAccountName": "",
        "spec.hostNetwork": "false", "status.phase": "", "status.podIP": "", "status.nominatedNodeName": "",
    },
    generation=True,
    graceful=True,
    defaults=defaults.pod,
    prepare_create=defaults.pod_created,
    prepare_update=defaults.pod_updated,
    validate=_pod_validate,
    validate_update=pod_updates.causes,
    validate_path=pod_status.change,
)  # fmt: skip


def _node_create(obj: Obj) -> None:
    """A node is not ready until the node lifecycle says so."""
    taints = obj["spec"].setdefault("taints", [])
    if not any(t["key"] == _NOT_READY and t["effect"] == "NoSchedule" for t in taints):
        taints.append({"key": _NOT_READY, "effect": "NoSchedule"})


def _node_validate(obj: Obj) -> list[Cause]:
    out = []
    for i, taint in enumerate(obj["spec"].get("taints", [])):
        path = f"metadata.taints[{i}]"
        out += [invalid_value(f"{path}.key", taint["key"], why) for why in validate.qualified_name(taint["key"])]
        if taint.get("effect") not in ("NoSchedule", "PreferNoSchedule", "NoExecute"):
            out.append(validate_pods.choice(f"{path}.effect", taint.get("effect", ""), validate_pods.EFFECTS))
    return out


NODES = Resource(
    "", "v1", "nodes", "node", "Node", False,
    columns=(
        NAME, Column("Status"), Column("Roles"), AGE, Column("Version"), Column("Internal-IP", priority=1),
        Column("External-IP", priority=1), Column("OS-Image", priority=1), Column("Kernel-Version", priority=1),
        Column("Container-Runtime", priority=1),
    ),
    cells=rows.node,
    short_names=("no",),
    subresources=(Subresource("status", "Node", _STATUS),),
    selectable={"spec.unschedulable": "false"},
    prepare_create=_node_create,
    validate=_node_validate,
)  # fmt: skip


def _namespace_create(obj: Obj) -> None:
    obj["status"] = {"phase": "Active"}
    finalizers = obj["spec"].setdefault("finalizers", [])
    if "kubernetes" not in finalizers:
        finalizers.append("kubernetes")


def _namespace_defaults(obj: Obj) -> None:
    if obj["metadata"].get("name"):
        obj["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = obj["metadata"]["name"]


def _namespace_update(new: Obj, old: Obj) -> None:
    new["spec"]["finalizers"] = old["spec"].get("finalizers", [])


NAMESPACES = Resource(
    "", "v1", "namespaces", "namespace", "Namespace", False,
    columns=(NAME, Column("Status"), AGE),
    cells=rows.namespace,
    short_names=("ns",),
    verbs=("create", "delete", "get", "list", "patch", "update", "watch"),
    subresources=(Subresource("finalize", "Namespace", ("update",)), Subresource("status", "Namespace", _STATUS)),
    selectable={"status.phase": ""},
    defaults=_namespace_defaults,
    prepare_create=_namespace_create,
    prepare_update=_namespace_update,
    validate_name=validate.dns_label,
)  # fmt: skip


def _data_validate(obj: Obj) -> list[Cause]:
    out = []
    size = 0
    for part in ("data", "binaryData"):
        for key, value in obj.get(part, {}).items():
            out += [invalid_value(f"{part}[{key}]", key, why) for why in validate.config_key(key)]
            base64 = part == "binaryData" or obj.get("kind") == "Secret"
            size += len(value) * 3 // 4 - value.count("=") if base64 else len(value.encode("utf-8", "replace"))
    both = set(obj.get("data", {})) & set(obj.get("binaryData", {}))
    out += [invalid_value(f"data[{key}]", key, "duplicate of key present in binaryData") for key in sorted(both)]
    if size > _CONFIG_BYTES_MAX:
        out.append(Cause("TooLong", "", f"Too long: may not be more than {_CONFIG_BYTES_MAX} bytes"))
    return out


def _immutable(new: Obj, old: Obj) -> list[Cause]:
    if not old.get("immutable"):
        return []
    why = "field is immutable when `immutable` is set"
    out = [] if new.get("immutable") else [forbidden_value("immutable", why)]
    return out + [forbidden_value(part, why) for part in ("data", "binaryData") if new.get(part) != old.get(part)]


CONFIG_MAPS = Resource(
    "", "v1", "configmaps", "configmap", "ConfigMap", True,
    columns=(NAME, Column("Data"), AGE),
    cells=rows.config_map,
    short_names=("cm",),
    validate=_data_validate,
    validate_update=_immutable,
)  # fmt: skip


def _secret_defaults(obj: Obj) -> None:
    for key, value in obj.pop("stringData", {}).items():
        obj.setdefault("data", {})[key] = base64.b64encode(value.encode("utf-8", "surrogatepass")).decode()
    kind = obj.pop("type", "")
    obj["type"] = kind or "Opaque"


_SECRET_KEYS = {
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}


def _secret_validate(obj: Obj) -> list[Cause]:
    out = _data_validate(obj)
    for key in _SECRET_KEYS.get(obj.get("type", ""), ()):
        if key not in obj.get("data", {}):
            out.append(Cause("Required", f"data[{key}]", "Required value"))
    return out


def _secret_update(new: Obj, old: Obj) -> list[Cause]:
    out = []
    if new.get("type") != old.get("type"):
        out.append(invalid_value("type", new.get("type", ""), "field is immutable"))
    return out + _immutable(new, old)


SECRETS = Resource(
    "", "v1", "secrets", "secret", "Secret", True,
    columns=(NAME, Column("Type"), Column("Data"), AGE),
    cells=rows.secret,
    selectable={"type": ""},
    defaults=_secret_defaults,
    validate=_secret_validate,
    validate_update=_secret_update,
)  # fmt: skip

SERVICE_ACCOUNTS = Resource(
    "", "v1", "serviceaccounts", "serviceaccount", "ServiceAccount", True,
    columns=(NAME, Column("Secrets"), AGE),
    cells=rows.service_account,
    short_names=("sa",),
)  # fmt: skip


_EVENT_FIELDS = (
    *(f"involvedObject.{key}" for key in _REFERENCE),
    *("reason", "reportingComponent", "source", "type"),
)


def _event_validate(obj: Obj) -> list[Cause]:
    involved = obj["involvedObject"].get("namespace", "") or "default"
    if involved != obj["metadata"].get("namespace"):
        given = obj["involvedObject"].get("namespace", "")
        return [invalid_value("involvedObject.namespace", given, "does not match event.namespace")]
    return []


EVENTS = Resource(
    "", "v1", "events", "event", "Event", True,
    columns=(
        Column("Last Seen"), Column("Type"), Column("Reason"), Column("Object"), Column("Subobject", priority=1),
        Column("Source", priority=1), Column("Message"), Column("First Seen", priority=1),
        Column("Count", priority=1), Column("Name", format="name", priority=1),
    ),
    cells=rows.event,
    short_names=("ev",),
    selectable=dict.fromkeys(_EVENT_FIELDS, ""),
    create_on_update=True,
    validate=_event_validate,
)  # fmt: skip


def _lease_validate(obj: Obj) -> list[Cause]:
    out = []
    spec = obj["spec"]
    if spec.get("leaseDurationSeconds") is not None and spec["leaseDurationSeconds"] <= 0:
        out.append(invalid_value("spec.leaseDurationSeconds", spec["leaseDurationSeconds"], "must be greater than 0"))
    if spec.get("leaseTransitions") is not None and spec["leaseTransitions"] < 0:
        why = "must be greater than or equal to 0"
        out.append(invalid_value("spec.leaseTransitions", spec["leaseTransitions"], why))
    return out


LEASES = Resource(
    "coordination.k8s.io", "v1", "leases", "lease", "Lease", True,
    columns=(NAME, Column("Holder"), AGE),
    cells=rows.lease,
    create_on_update=True,
    unconditional_update=False,
    validate=_lease_validate,
)  # fmt: skip

CERTIFICATE_SIGNING_REQUESTS = Resource(
    "certificates.k8s.io", "v1", "certificatesigningrequests", "certificatesigningrequest",
    "CertificateSigningRequest", False,
    columns=(
        NAME, AGE, Column("SignerName"), Column("Requestor"), Column("RequestedDuration"), Column("Condition"),
    ),
    cells=rows.signing_request,
    short_names=("csr",),
    subresources=(
        Subresource("approval", "CertificateSigningRequest", _STATUS),
        Subresource("status", "CertificateSigningRequest", _STATUS),
    ),
    selectable={"spec.signerName": ""},
    requested_by=signing_requests.requested_by,
    prepare_update=signing_requests.keep_spec,
    validate=signing_requests.causes,
    validate_path=signing_requests.change,
    validate_name=signing_requests.name_rule,
)  # fmt: skip

# Not stored: top.py makes them when they are asked for.
NODE_METRICS = Resource(
    "metrics.k8s.io", "v1beta1", "nodes", "", "NodeMetrics", False,
    columns=(NAME, AGE), cells=rows.generic, verbs=("get", "list"),
)  # fmt: skip
POD_METRICS = Resource(
    "metrics.k8s.io", "v1beta1", "pods", "", "PodMetrics", True,
    columns=(NAME, AGE), cells=rows.generic, verbs=("get", "list"),
)  # fmt: skip

STORED = (CONFIG_MAPS, EVENTS, NAMESPACES, NODES, PODS, SECRETS, SERVICE_ACCOUNTS, LEASES, CERTIFICATE_SIGNING_REQUESTS)
ALL = (*STORED, NODE_METRICS, POD_METRICS)
BY_ID = {resource.id: resource for resource in ALL}
GROUPS = {(resource.group, resource.version) for resource in ALL}


def find(group: str, version: str, plural: str) -> Resource | None:
    """The row for a path's group, version and resource."""
    found = BY_ID.get(f"{plural}.{group}" if group else plural)
    return found if found is not None and found.version == version else None


def index_of(resource_id: str, obj: Obj) -> tuple[dict[str, str], dict[str, str]]:
    """Labels and selectable fields of an object in the store."""
    resource = BY_ID.get(resource_id)
    if resource is None:  # a kind of another version of skerry: kept, not served
        return {}, {}
    return index(resource, obj)
