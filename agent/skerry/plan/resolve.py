"""Fill in what a container or volume takes from ConfigMaps and Secrets, and `$(NAME)` references.

Source: Kubernetes API reference, EnvVar, EnvFromSource, Container.command. Raises Refused with the path of what is
missing; the object may still arrive, so the caller tries again when the set changes.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from skerry.errors import NotOpened, Refused
from skerry.limits import ENV_BYTES_MAX, ENV_MAX
from skerry.model.manifest import ConfigData
from skerry.model.pod import Container, EnvVar, ObjectVolume
from skerry.ports import FilesVolume, VolumeFile

MISSING = "CreateContainerConfigError"
Lookup = Callable[[str, bool], ConfigData | None]  # (name, is a Secret) in the pod's namespace; raises NotOpened

_REFERENCE = re.compile(r"\$(\$|\(([^)]*)\))")


def environment(container: Container, lookup: Lookup) -> tuple[tuple[str, str], ...]:
    """The container's variables in order: envFrom first, then env, the later one winning."""
    env: dict[str, str] = {}
    for i, source in enumerate(container.env_from):
        path = f"spec.containers[{container.name}].envFrom[{i}]"
        found = _find(lookup, source.name, source.secret, source.optional, path)
        for key, data in _variables(found).items():
            if key and "=" not in key:
                env[source.prefix + key] = _text(data, f"{path}: key {key}")
    for i, var in enumerate(container.env):
        value = _value(var, env, lookup, f"spec.containers[{container.name}].env[{i}]")
        if value is not None:
            env[var.name] = value
    size = sum(len(k.encode()) + len(v.encode()) + 2 for k, v in env.items())
    if len(env) > ENV_MAX or size > ENV_BYTES_MAX:
        raise Refused(f"spec.containers[{container.name}].env", f"over {ENV_MAX} variables or {ENV_BYTES_MAX} bytes")
    return tuple(env.items())


def expand(text: str, env: dict[str, str]) -> str:
    """Replace `$(NAME)`; `$$` is a literal `$`; a reference to nothing stays as it is."""

    def one(match: re.Match[str]) -> str:
        if match[1] == "$":
            return "$"
        return env.get(match[2], match[0])

    return _REFERENCE.sub(one, text)


def files(volume: ObjectVolume, lookup: Lookup) -> FilesVolume:
    """The files of a ConfigMap or Secret volume."""
    path = f"spec.volumes[{volume.name}]"
    found = _find(lookup, volume.object_name, volume.secret, volume.optional, path)
    data = dict(found.data) if found else {}
    if not volume.items:
        return FilesVolume(volume.name, tuple(VolumeFile(k, v, volume.default_mode) for k, v in sorted(data.items())))
    out = []
    for item in volume.items:
        if item.key in data:
            mode = volume.default_mode if item.mode is None else item.mode
            out.append(VolumeFile(item.path, data[item.key], mode))
        elif not volume.optional:
            whose = f"{_kind(volume.secret)} {volume.object_name}"
            raise Refused(f"{path}.items", f"{whose} has no key {item.key}", MISSING)
    return FilesVolume(volume.name, tuple(out))


def _value(var: EnvVar, env: dict[str, str], lookup: Lookup, path: str) -> str | None:
    if var.source is None:
        return expand(var.value, env)
    ref = var.source
    found = _find(lookup, ref.name, ref.secret, ref.optional, path)
    data = _variables(found)
    if ref.key in data:
        return _text(data[ref.key], path)
    if ref.optional:
        return None
    raise Refused(path, f"{_kind(ref.secret)} {ref.name} has no key {ref.key}", MISSING)


def _variables(found: ConfigData | None) -> dict[str, bytes]:
    """What may become a variable; binaryData never does."""
    return {key: data for key, data in found.data if key not in found.binary} if found is not None else {}


def _find(lookup: Lookup, name: str, secret: bool, optional: bool, path: str) -> ConfigData | None:
    try:
        found = lookup(name, secret)
    except NotOpened as why:
        raise Refused(path, f"{_kind(secret)} {name} {why}", MISSING) from None
    if found is None and not optional:
        raise Refused(path, f"{_kind(secret)} {name} is not on this device", MISSING)
    return found


def _kind(secret: bool) -> str:
    return "Secret" if secret else "ConfigMap"


def _text(data: bytes, path: str) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise Refused(path, "is not UTF-8, so it cannot be a variable", MISSING) from None
    if "\0" in text:
        raise Refused(path, "holds a NUL character, so it cannot be a variable", MISSING)
    return text
