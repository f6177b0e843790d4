"""What a pod may say: the checks of the API server on PodSpec, in its words. Pure; answers causes, raises nothing.

Source: Pod API reference; messages as recorded in tests/vectors. What the API server leaves to the node stays there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from . import quantity
from .status import Cause, duplicate, forbidden_value, invalid_value, missing, required, unsupported
from .validate import config_key, dns_label, labels, qualified_name, subdomain

Obj = dict[str, Any]
_RESTART = ("Always", "OnFailure", "Never")
_DNS = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")
_PULL = ("Always", "IfNotPresent", "Never")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc", "sleep")
_ENV_NAME = re.compile(r"[ -<>-~]+")
_FIELD_PATHS = frozenset(
    ["spec.nodeName", "spec.serviceAccountName"]
    + [f"metadata.{key}" for key in ("name", "namespace", "uid", "labels", "annotations")]
    + [f"status.{key}" for key in ("hostIP", "hostIPs", "podIP", "podIPs")]
)
_KEYED_PATH = re.compile(r"metadata\.(labels|annotations)\['(.+)'\]")
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def spec(spec: Obj, path: str = "spec") -> list[Cause]:
    """Everything that is wrong with a PodSpec at `path`."""
    names, out = _volumes(spec.get("volumes", []), f"{path}.volumes")
    if not spec.get("containers"):
        out.append(required(f"{path}.containers"))
    seen: set[str] = set()
    for kind in ("containers", "initContainers"):
        for i, c in enumerate(spec.get(kind, [])):
            out += _container(c, f"{path}.{kind}[{i}]", names, seen)
    if spec.get("restartPolicy") not in _RESTART:
        out.append(choice(f"{path}.restartPolicy", spec.get("restartPolicy", ""), _RESTART))
    if spec.get("dnsPolicy") not in _DNS:
        out.append(choice(f"{path}.dnsPolicy", spec.get("dnsPolicy", ""), _DNS))
    for key, least in (("terminationGracePeriodSeconds", 0), ("activeDeadlineSeconds", 1)):
        out += _at_least(spec, key, path, least)
    out += labels(spec.get("nodeSelector", {}), f"{path}.nodeSelector")
    for key in ("serviceAccountName", "nodeName", "priorityClassName"):
        if spec.get(key):
            out += [invalid_value(f"{path}.{key}", spec[key], why) for why in subdomain(spec[key])]
    for key in ("hostname", "subdomain"):
        if spec.get(key):
            out += [invalid_value(f"{path}.{key}", spec[key], why) for why in dns_label(spec[key])]
    for i, toleration in enumerate(spec.get("tolerations", [])):
        out += _toleration(toleration, f"{path}.tolerations[{i}]")
    return out


def choice(path: str, value: Any, allowed: tuple[str, ...]) -> Cause:
    """The cause for a value that is missing or none of `allowed`."""
    return unsupported(path, value, allowed) if value else required(path)


def _at_least(obj: Obj, key: str, path: str, least: int) -> list[Cause]:
    value = obj.get(key)
    if value is None or value >= least:
        return []
    why = "must be greater than or equal to 0" if least == 0 else f"must be between {least} and 2147483647, inclusive"
    return [invalid_value(f"{path}.{key}", value, why)]


def _volumes(volumes: list[Obj], path: str) -> tuple[set[str], list[Cause]]:
    names: set[str] = set()
    out = []
    for i, volume in enumerate(volumes):
        here = f"{path}[{i}]"
        name = volume.get("name", "")
        if not name:
            out.append(required(f"{here}.name"))
        else:
            out += [invalid_value(f"{here}.name", name, why) for why in dns_label(name)]
        if name in names:
            out.append(duplicate(f"{here}.name", name))
        names.add(name)
        sources = [key for key in _SOURCE_ORDER if volume.get(key) is not None]
        sources += [key for key in volume if key not in _SOURCE_ORDER and key != "name"]
        out += [forbidden_value(f"{here}.{key}", "may not specify more than 1 volume type") for key in sources[1:]]
        out += _source(volume, here)
    return names, out


_SOURCE_ORDER = (
    "emptyDir",
    "hostPath",
    "gitRepo",
    "secret",
    "nfs",
    "persistentVolumeClaim",
    "downwardAPI",
    "configMap",
)


def _source(volume: Obj, path: str) -> list[Cause]:
    out = []
    if volume.get("hostPath") is not None and not volume["hostPath"].get("path"):
        out.append(required(f"{path}.hostPath.path"))
    if volume.get("secret") is not None and not volume["secret"].get("secretName"):
        out.append(required(f"{path}.secret.secretName"))
    if volume.get("configMap") is not None and not volume["configMap"].get("name"):
        out.append(required(f"{path}.configMap.name"))
    claim = volume.get("persistentVolumeClaim")
    if claim is not None and not claim.get("claimName"):
        out.append(required(f"{path}.persistentVolumeClaim.claimName"))
    for kind in ("secret", "configMap"):
        for i, item in enumerate((volume.get(kind) or {}).get("items", [])):
            out += [required(f"{path}.{kind}.items[{i}].{key}") for key in ("key", "path") if not item.get(key)]
            if ".." in item.get("path", "").split("/"):
                out.append(invalid_value(f"{path}.{kind}.items[{i}].path", item["path"], "must not contain '..'"))
    return out


def _container(c: Obj, path: str, volumes: set[str], seen: set[str]) -> list[Cause]:
    out = []
    name = c.get("name", "")
    if not name:
        out.append(required(f"{path}.name"))
    else:
        out += [invalid_value(f"{path}.name", name, why) for why in dns_label(name)]
        if name in seen:
            out.append(duplicate(f"{path}.name", name))
        seen.add(name)
    image = c.get("image", "")
    if not image:
        out.append(required(f"{path}.image"))
    elif image != image.strip():
        out.append(invalid_value(f"{path}.image", image, "must not have leading or trailing whitespace"))
    for key in ("livenessProbe", "readinessProbe", "startupProbe"):
        out += _probe(c.get(key), f"{path}.{key}", liveness=key != "readinessProbe")
    for key, hook in (c.get("lifecycle") or {}).items():
        if isinstance(hook, dict):
            out += _handler(hook, f"{path}.lifecycle.{key}")
    out += _ports(c.get("ports", []), f"{path}.ports")
    out += _env(c.get("env", []), f"{path}.env")
    out += _env_from(c.get("envFrom", []), f"{path}.envFrom")
    out += _mounts(c.get("volumeMounts", []), f"{path}.volumeMounts", volumes)
    if c.get("imagePullPolicy") not in _PULL:
        out.append(choice(f"{path}.imagePullPolicy", c.get("imagePullPolicy", ""), _PULL))
    out += _resources(c.get("resources") or {}, f"{path}.resources")
    return out


def _ports(ports: list[Obj], path: str) -> list[Cause]:
    out = []
    names: set[str] = set()
    for i, port in enumerate(ports):
        here = f"{path}[{i}]"
        name = port.get("name", "")
        if name:
            out += [invalid_value(f"{here}.name", name, why) for why in _port_name(name)]
            if name in names:
                out.append(duplicate(f"{here}.name", name))
            names.add(name)
        number = port.get("containerPort", 0)
        if not number:
            out.append(required(f"{here}.containerPort"))
        elif not 1 <= number <= 65535:
            out.append(invalid_value(f"{here}.containerPort", number, "must be between 1 and 65535, inclusive"))
        host = port.get("hostPort", 0)
        if host and not 1 <= host <= 65535:
            out.append(invalid_value(f"{here}.hostPort", host, "must be between 1 and 65535, inclusive"))
        if port.get("protocol") not in _PROTOCOLS:
            out.append(choice(f"{here}.protocol", port.get("protocol", ""), _PROTOCOLS))
    return out


def _port_name(name: str) -> Iterable[str]:
    if len(name) > 15:
        yield "must be no more than 15 characters"
    if not re.fullmatch(r"[-a-z0-9]+", name):
        yield "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"
    if not re.search(r"[a-z]", name):
        yield "must contain at least one letter (a-z)"
    if "--" in name:
        yield "must not contain consecutive hyphens"
    if name[0] == "-" or name[-1] == "-":
        yield "must not begin or end with a hyphen"


def _env(env: list[Obj], path: str) -> list[Cause]:
    out = []
    for i, variable in enumerate(env):
        here = f"{path}[{i}]"
        name = variable.get("name", "")
        if not name:
            out.append(required(f"{here}.name"))
        elif not _ENV_NAME.fullmatch(name):
            why = "a valid environment variable name must consist only of printable ASCII characters other than '='"
            out.append(invalid_value(f"{here}.name", name, why))
        if variable.get("valueFrom") is not None:
            out += _value_from(variable, f"{here}.valueFrom")
    return out


def _value_from(variable: Obj, path: str) -> list[Cause]:
    source = variable["valueFrom"]
    out = []
    if variable.get("value"):
        out.append(invalid_value(path, "", "may not be specified when `value` is not empty"))
    elif not source:
        kinds = "`fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        out.append(invalid_value(path, "", f"must specify one of: {kinds}"))
    elif len(source) > 1:
        out.append(invalid_value(path, "", "may not have more than one field specified at a time"))
    ref = source.get("fieldRef")
    if ref is not None:
        where = ref.get("fieldPath", "")
        keyed = _KEYED_PATH.fullmatch(where)
        if not where:
            out.append(required(f"{path}.fieldRef.fieldPath"))
        elif where not in _FIELD_PATHS and not (keyed and not qualified_name(keyed[2])):
            why = f"error converting fieldPath: field label not supported: {where}"
            out.append(invalid_value(f"{path}.fieldRef.fieldPath", where, why))
    for kind in ("configMapKeyRef", "secretKeyRef"):
        if source.get(kind) is not None:
            key = source[kind].get("key", "")
            if not key:
                out.append(required(f"{path}.{kind}.key"))
            else:
                out += [invalid_value(f"{path}.{kind}.key", key, why) for why in config_key(key)]
    return out


def _env_from(sources: list[Obj], path: str) -> list[Cause]:
    out = []
    for i, source in enumerate(sources):
        kinds = [k for k in ("configMapRef", "secretRef") if source.get(k) is not None]
        if not kinds:
            out.append(invalid_value(f"{path}[{i}]", "", "must specify one of: `configMapRef` or `secretRef`"))
        if len(kinds) > 1:
            out.append(invalid_value(f"{path}[{i}]", "", "may not have more than one field specified at a time"))
        out += [required(f"{path}[{i}].{k}.name") for k in kinds if not source[k].get("name")]
    return out


def _mounts(mounts: list[Obj], path: str, volumes: set[str]) -> list[Cause]:
    out = []
    points: set[str] = set()
    for i, mount in enumerate(mounts):
        here = f"{path}[{i}]"
        if not mount.get("name"):
            out.append(required(f"{here}.name"))
        elif mount["name"] not in volumes:
            out.append(missing(f"{here}.name", mount["name"]))
        point = mount.get("mountPath", "")
        if not point:
            out.append(required(f"{here}.mountPath"))
        if point in points:
            out.append(invalid_value(f"{here}.mountPath", point, "must be unique"))
        points.add(point)
        for key in ("subPath", "subPathExpr"):
            value = mount.get(key, "")
            if value.startswith("/"):
                out.append(invalid_value(f"{here}.{key}", value, "must be a relative path"))
            if ".." in value.split("/"):
                out.append(invalid_value(f"{here}.{key}", value, "must not contain '..'"))
    return out


def _probe(probe: Obj | None, path: str, liveness: bool) -> list[Cause]:
    if probe is None:
        return []
    out = _handler(probe, path)
    keys = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")
    for key in keys:
        out += _at_least(probe, key, path, 0)
    if liveness and probe.get("successThreshold", 1) != 1:
        out.append(invalid_value(f"{path}.successThreshold", probe["successThreshold"], "must be 1"))
    return out


def _handler(handler: Obj, path: str) -> list[Cause]:
    kinds = [key for key in _HANDLERS if handler.get(key) is not None]
    if not kinds:
        return [required(path, "must specify a handler type")]
    out = [forbidden_value(f"{path}.{key}", "may not specify more than 1 handler type") for key in kinds[1:]]
    if kinds[0] == "exec" and not handler["exec"].get("command"):
        out.append(required(f"{path}.exec.command"))
    for key in ("httpGet", "tcpSocket"):
        if kinds[0] == key:
            port = handler[key].get("port", 0)
            if isinstance(port, int) and not 1 <= port <= 65535:
                out.append(invalid_value(f"{path}.{key}.port", port, "must be between 1 and 65535, inclusive"))
            elif isinstance(port, str):
                out += [invalid_value(f"{path}.{key}.port", port, why) for why in _port_name(port or "-")]
    return out


def _resources(resources: Obj, path: str) -> list[Cause]:
    out = []
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for kind, amounts in (("limits", limits), ("requests", requests)):
        for name, amount in amounts.items():
            here = f"{path}.{kind}[{name}]"
            if quantity.value(amount) < 0:
                out.append(invalid_value(here, amount, "must be greater than or equal to 0"))
    for name, amount in requests.items():
        if name in limits and 0 <= quantity.value(limits[name]) < quantity.value(amount):
            why = f"must be less than or equal to {name} limit of {limits[name]}"
            out.append(invalid_value(f"{path}.requests", amount, why))
    return out


def _toleration(t: Obj, path: str) -> list[Cause]:
    out = []
    if t.get("key"):
        out += [invalid_value(f"{path}.key", t["key"], why) for why in qualified_name(t["key"])]
    elif t.get("operator") != "Exists":
        out.append(
            invalid_value(f"{path}.operator", t.get("operator", ""), "operator must be Exists when `key` is empty")
        )
    if t.get("tolerationSeconds") is not None and t.get("effect") != "NoExecute":
        why = "effect must be 'NoExecute' when `tolerationSeconds` is set"
        out.append(invalid_value(f"{path}.effect", t.get("effect", ""), why))
    operator = t.get("operator", "")
    if operator == "Exists" and t.get("value"):
        out.append(invalid_value(f"{path}.operator", t["value"], "value must be empty when `operator` is 'Exists'"))
    elif operator not in ("", "Equal", "Exists"):
        out.append(unsupported(f"{path}.operator", operator, ("Equal", "Exists")))
    if t.get("effect", "") not in ("", *EFFECTS):
        out.append(unsupported(f"{path}.effect", t["effect"], EFFECTS))
    return out
