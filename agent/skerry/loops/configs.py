"""ConfigMaps and Secrets by name, and which of them a pod's files and pulls are made of. Decides nothing.

Read anew when they may have changed, not for each question: a device's set has up to OBJECTS_MAX of them. Of a Secret
only the name is kept: what it holds is read, and opened where it is sealed, when somebody is about to use it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from skerry.errors import Malformed, NotOpened, Refused
from skerry.model.desired import Key, Kind, Object
from skerry.model.manifest import ConfigData, read_config
from skerry.model.pod import ObjectVolume, Pod
from skerry.plan.memory import Stamp
from skerry.wire.codec import decode
from skerry.wire.sealed import Unseal, is_sealed


class Configs:
    def __init__(
        self,
        objects: Callable[[], Iterable[tuple[Key, Object]]],
        version: Callable[[], object],
        unseal: Unseal | None = None,
    ) -> None:
        """`objects` gives those that a pod may name; `version` another value whenever they may be others."""
        self._objects, self._version, self._unseal = objects, version, unseal
        self._of: object = None
        self._read: dict[str, tuple[Object, ConfigData | None]] = {}  # by uid; of a Secret without its data
        self._names: dict[tuple[Kind, str, str], tuple[Object, ConfigData]] = {}  # by kind, namespace, name

    def find(self, namespace: str, name: str, secret: bool) -> ConfigData | None:
        """None if there is none. Raises NotOpened for one that is sealed and that no key here opens."""
        found = self._all().get((_kind(secret), namespace, name))
        if found is None or not secret:
            return found[1] if found is not None else None
        obj = found[0]
        if not is_sealed(obj.body):
            return _parsed(obj)
        if self._unseal is None:
            raise NotOpened("is sealed, and this device is not enrolled")
        return _parsed(Object(obj.kind, obj.uid, obj.digest, self._unseal(obj.body)))

    def stamp(self, pod: Pod) -> Stamp:
        """What the files of its volumes should hold now."""
        all_ = self._all()
        volumes = [v for v in pod.volumes if isinstance(v, ObjectVolume)]
        found = [(v.name, all_.get((_kind(v.secret), pod.namespace, v.object_name))) for v in volumes]
        return tuple((name, entry[0].digest if entry is not None else b"") for name, entry in found)

    def keys(self, pod: Pod) -> Stamp:
        """Which pull secrets of it are here, and as what."""
        all_ = self._all()
        found = [(name, all_.get((Kind.SECRET, pod.namespace, name))) for name in pod.pull_secrets]
        return tuple((name, entry[0].digest if entry is not None else b"") for name, entry in found)

    # --- private ------------------------------------------------------------------------------------------------------

    def _all(self) -> dict[tuple[Kind, str, str], tuple[Object, ConfigData]]:
        version = self._version()
        if version != self._of:
            before, self._read, self._names, self._of = self._read, {}, {}, version
            for (kind, uid), obj in self._objects():
                if kind is not Kind.POD:
                    known = before.get(uid)
                    known = self._read[uid] = known if known is not None and known[0] is obj else (obj, _named(obj))
                    if known[1] is not None:
                        self._names.setdefault((kind, known[1].namespace, known[1].name), (obj, known[1]))
        return self._names


def _kind(secret: bool) -> Kind:
    return Kind.SECRET if secret else Kind.CONFIG_MAP


def _named(obj: Object) -> ConfigData | None:
    parsed = _parsed(obj)
    return replace(parsed, data=()) if parsed is not None and parsed.secret else parsed


def _parsed(obj: Object) -> ConfigData | None:
    try:
        return read_config(obj, decode(obj.body))
    except (Refused, Malformed):
        return None
