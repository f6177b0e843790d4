"""Which store this API is: the uid of namespace kube-system and an epoch id kept in a ConfigMap there.

Decides when a new epoch is written; two replicas that race end with the same one. A restored or replaced API shows
another pair than the one a device has journaled, and that protects the device's set (HubSession).
"""

from __future__ import annotations

from dataclasses import dataclass

from skerry.ports import Entropy
from skerry_hub.ports import CONFIG_MAPS, NAMESPACES, Cluster, Conflict, Invalid, NotFound, Obj

NAMESPACE, NAME, KEY = "kube-system", "skerry-hub", "epoch"
ADOPT = "skerry.dev/adopt"  # annotation of a node: the epoch that an operator lets replace the device's set
EPOCH_BYTES = 8
EPOCH_CHARS_MAX = 64


@dataclass(frozen=True, slots=True)
class Identity:
    store: str
    epoch: str


async def establish(cluster: Cluster, entropy: Entropy) -> Identity:
    """The identity of the API, with a first epoch where there is none. Raises ClusterError."""
    namespace = await cluster.get(NAMESPACES, "", NAMESPACE)
    store = str(namespace["metadata"]["uid"])
    found = await read(cluster)
    if found is None:
        try:
            found = await cluster.create(CONFIG_MAPS, NAMESPACE, _config_map(_new(entropy)))
        except Conflict:
            found = await cluster.get(CONFIG_MAPS, NAMESPACE, NAME)
    epoch = epoch_of(found)
    if not epoch:
        epoch = await open_epoch(cluster, entropy, "")
    return Identity(store, epoch)


async def read(cluster: Cluster) -> Obj | None:
    """The ConfigMap, or None. Raises ClusterError."""
    try:
        return await cluster.get(CONFIG_MAPS, NAMESPACE, NAME)
    except NotFound:
        return None


async def open_epoch(cluster: Cluster, entropy: Entropy, instead_of: str) -> str:
    """Write a new epoch unless somebody else already replaced `instead_of`; the epoch that holds now. Raises
    ClusterError; Conflict says to ask again."""
    found = await cluster.get(CONFIG_MAPS, NAMESPACE, NAME)
    epoch = epoch_of(found)
    if epoch and epoch != instead_of:
        return epoch
    version = found["metadata"]["resourceVersion"]
    patch = {"metadata": {"resourceVersion": version}, "data": {KEY: _new(entropy)}}
    return epoch_of(await cluster.patch(CONFIG_MAPS, NAMESPACE, NAME, patch))


def epoch_of(config_map: Obj) -> str:
    """Empty when the ConfigMap holds none. Raises Invalid when somebody wrote what is none."""
    epoch = str((config_map.get("data") or {}).get(KEY) or "")
    if len(epoch) > EPOCH_CHARS_MAX or not epoch.isascii():
        raise Invalid(f"ConfigMap {NAMESPACE}/{NAME}: {KEY} is at most {EPOCH_CHARS_MAX} ASCII characters")
    return epoch


def _new(entropy: Entropy) -> str:
    return entropy.token(EPOCH_BYTES).hex()


def _config_map(epoch: str) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": NAME,
            "namespace": NAMESPACE,
            "annotations": {"skerry.dev/about": "which history of this API the devices' sets belong to; do not copy"},
        },
        "data": {KEY: epoch},
    }
