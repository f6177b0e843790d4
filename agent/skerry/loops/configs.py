"""ConfigMaps and Secrets by name, and which of them a pod's files are made of. Decides nothing.

Read anew when they may have changed, not for each question: a device's set has up to OBJECTS_MAX of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from skerry.errors import Malformed, Refused
from skerry.model.desired import Key, Kind, Object
from skerry.model.manifest import ConfigData, read_config
from skerry.model.pod import ObjectVolume, Pod
from skerry.plan.memory import Stamp
from skerry.wire.codec import decode


class Configs:
    def __init__(self, objects: Callable[[], Iterable[tuple[Key, Object]]], version: Callable[[], object]) -> None:
        """`objects` gives those that a pod may name; `version` another value whenever they may be others."""
        self._objects, self._version = objects, version
        self._of: object = None
        self._read: dict[str, tuple[Object, ConfigData | None]] = {}  # by uid
        self._names: dict[tuple[Kind, str, str], tuple[Object, ConfigData]] = {}  # by kind, namespace, name

    def find(self, namespace: str, name: str, secret: bool) -> ConfigData | None:
        found = self._all().get((_kind(secret), namespace, name))
        return found[1] if found is not None else None

    def stamp(self, pod: Pod) -> Stamp:
        """What the files of its volumes should hold now."""
        all_ = self._all()
        volumes = [v for v in pod.volumes if isinstance(v, ObjectVolume)]
        found = [(v.name, all_.get((_kind(v.secret), pod.namespace, v.object_name))) for v in volumes]
        return tuple((name, entry[0].digest if entry is not None else b"") for name, entry in found)

    # --- private ------------------------------------------------------------------------------------------------------

    def _all(self) -> dict[tuple[Kind, str, str], tuple[Object, ConfigData]]:
        version = self._version()
        if version != self._of:
            before, self._read, self._names, self._of = self._read, {}, {}, version
            for (kind, uid), obj in self._objects():
                if kind is not Kind.POD:
                    known = before.get(uid)
                    known = self._read[uid] = known if known is not None and known[0] is obj else (obj, _parsed(obj))
                    if known[1] is not None:
                        self._names.setdefault((kind, known[1].namespace, known[1].name), (obj, known[1]))
        return self._names


def _kind(secret: bool) -> Kind:
    return Kind.SECRET if secret else Kind.CONFIG_MAP


def _parsed(obj: Object) -> ConfigData | None:
    try:
        return read_config(obj, decode(obj.body))
    except (Refused, Malformed):
        return None
