"""What names, labels, annotations, owners and finalizers may be: the rules that every kind shares.

Pure; answers causes, raises nothing. Source: API conventions and k8s.io/apimachinery validation messages.
"""

from __future__ import annotations

import re
from typing import Any

from .status import Cause, forbidden_value, invalid_value, required

Obj = dict[str, Any]
_SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_VALUE = r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?"
_QUALIFIED = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_KEY = r"[-._a-zA-Z0-9]+"
_ANNOTATIONS_BYTES_MAX = 256 * 1024
_PART_MAX = 63
_SUBDOMAIN_MAX = 253
_STANDARD_FINALIZERS = ("kubernetes", "orphan", "foregroundDeletion")


def subdomain(value: str) -> list[str]:
    """Why `value` is no lower-case RFC 1123 subdomain."""
    if len(value) > _SUBDOMAIN_MAX:
        return [f"must be no more than {_SUBDOMAIN_MAX} characters"]
    if re.fullmatch(_SUBDOMAIN, value):
        return []
    return [
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
        f"and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '{_SUBDOMAIN}')"
    ]


def dns_label(value: str) -> list[str]:
    """Why `value` is no lower-case RFC 1123 label."""
    if len(value) > _PART_MAX:
        return [f"must be no more than {_PART_MAX} bytes"]
    if re.fullmatch(_LABEL, value):
        return []
    return [
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
        f"with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '{_LABEL}')"
    ]


def qualified_name(value: str) -> list[str]:
    """Why `value` is no `prefix/name` as label keys and finalizers are."""
    prefix, slash, name = value.rpartition("/")
    out = []
    if slash:
        if not prefix:
            out.append("prefix part must be non-empty")
        else:
            out += ["prefix part " + why for why in subdomain(prefix)]
    if not name:
        out.append("name part must be non-empty")
    elif len(name) > _PART_MAX:
        out.append(f"name part must be no more than {_PART_MAX} bytes")
    if not re.fullmatch(_QUALIFIED, name):
        out.append(
            "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
            "alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
            f"'{_QUALIFIED}')"
        )
    return out


def label_value(value: str) -> list[str]:
    """Why `value` may not be a label's value."""
    out = []
    if len(value) > _PART_MAX:
        out.append(f"must be no more than {_PART_MAX} bytes")
    if not re.fullmatch(_VALUE, value):
        out.append(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must "
            "start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for "
            f"validation is '{_VALUE}')"
        )
    return out


def config_key(value: str) -> list[str]:
    """Why `value` may not be a key of a ConfigMap or Secret."""
    if len(value) > _SUBDOMAIN_MAX:
        return [f"must be no more than {_SUBDOMAIN_MAX} characters"]
    if not re.fullmatch(_KEY, value):
        return [
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or "
            f"'KEY_NAME',  or 'key-name', regex used for validation is '{_KEY}')"
        ]
    if value in (".", ".."):
        return [f"must not be '{value}'"]
    return ["must not start with '..'"] if value.startswith("..") else []


def labels(value: Obj, path: str) -> list[Cause]:
    out = []
    for key, text in value.items():
        out += [invalid_value(path, key, why) for why in qualified_name(key)]
        out += [invalid_value(path, text, why) for why in label_value(text)]
    return out


def metadata(obj: Obj, name_rule: Any) -> list[Cause]:
    """What is wrong with an object's metadata; `name_rule` says why a name is bad."""
    meta = obj["metadata"]
    out = []
    if meta.get("generateName"):
        stem = meta["generateName"].rstrip("-") if meta["generateName"].endswith("-") else meta["generateName"]
        out += [invalid_value("metadata.generateName", meta["generateName"], why) for why in name_rule(stem + "a")]
    if not meta.get("name"):
        out.append(required("metadata.name", "name or generateName is required"))
    else:
        out += [invalid_value("metadata.name", meta["name"], why) for why in name_rule(meta["name"])]
    out += labels(meta.get("labels", {}), "metadata.labels")
    size = 0
    for key, text in meta.get("annotations", {}).items():
        out += [invalid_value("metadata.annotations", key, why) for why in qualified_name(key.lower())]
        size += len(key) + len(text.encode("utf-8", "replace"))
    if size > _ANNOTATIONS_BYTES_MAX:
        out.append(
            Cause("TooLong", "metadata.annotations", f"Too long: may not be more than {_ANNOTATIONS_BYTES_MAX} bytes")
        )
    out += _owners(meta.get("ownerReferences", []))
    for i, finalizer in enumerate(meta.get("finalizers", [])):
        out += [invalid_value("metadata.finalizers", finalizer, why) for why in qualified_name(finalizer)]
        if "/" not in finalizer and finalizer not in _STANDARD_FINALIZERS:
            why = "name is neither a standard finalizer name nor is it fully qualified"
            out.append(invalid_value(f"metadata.finalizers[{i}]", finalizer, why))
    return out


def _owners(owners: list[Obj]) -> list[Cause]:
    out = []
    controllers = []
    path = "metadata.ownerReferences"
    for owner in owners:
        if not owner.get("apiVersion"):
            out.append(invalid_value(f"{path}.apiVersion", "", "version must not be empty"))
        empty = [key for key in ("kind", "name", "uid") if not owner.get(key)]
        out += [invalid_value(f"{path}.{key}", "", "must not be empty") for key in empty]
        if owner.get("controller"):
            controllers.append(owner)
    if len(controllers) > 1:
        out.append(invalid_value("metadata.ownerReferences", "", "Only one reference can have Controller set to true."))
    return out


def metadata_update(new: Obj, old: Obj) -> list[Cause]:
    """What may not change in metadata."""
    out = []
    meta, was = new["metadata"], old["metadata"]
    if was.get("deletionTimestamp"):
        added = [f for f in meta.get("finalizers", []) if f not in was.get("finalizers", [])]
        if added:
            shown = "[]string{" + ", ".join(f'"{f}"' for f in added) + "}"
            why = f"no new finalizers can be added if the object is being deleted, found new finalizers {shown}"
            out += [forbidden_value("metadata.finalizers", why)] * 2  # the real server checks it twice
    return out
