"""Manifests and the hub's pods on one device: of two with one name the manifest's runs; a planted bug is seen."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import skerry.loops.local as loop_module
from sim.checks import PROMISES
from sim.folder import SimManifests
from sim.life import Life, make, run
from sim.loop import bury
from sim.people import NAMESPACE
from sim.planted import Planted, plant
from skerry.errors import Malformed
from skerry.journal.local import Step, next_step
from skerry.journal.record import LocalObject
from skerry.model.desired import Key, Object
from skerry.ports import ManifestFile
from skerry_hub.edgecontroller.mirrors import is_mirror
from skerry_hub.ports import PODS, Obj

SOON_S = 300.0


def told(story: Callable[[Life], Coroutine[Any, Any, None]]) -> Life:
    """A story of one device and a hub without any fault."""
    life = make(7)
    life.people.register(life.people.nodes[0])
    life.hub.start()
    try:
        life.world.loop.run_until_complete(story(life))
    finally:
        bury(life.world.loop)
    return life


async def until(life: Life, holds: Callable[[], bool], what: str) -> None:
    end = life.world.now + SOON_S
    while not holds():
        assert life.world.now < end, what
        await asyncio.sleep(1)


def manifest(name: str) -> bytes:
    main = {"name": "main", "image": "tide:1", "args": ["run"], "imagePullPolicy": "IfNotPresent"}
    value = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [main]}}
    return json.dumps(value).encode()


def hub_pod(name: str, node: str) -> Obj:
    value: Obj = json.loads(manifest(name))
    value["spec"] |= {"nodeName": node, "restartPolicy": "Always"}
    value["metadata"] |= {"namespace": NAMESPACE}
    return value


def test_of_two_pods_of_one_name_the_manifests_runs_and_the_hubs_is_refused_until_it_is_gone() -> None:
    async def story(life: Life) -> None:
        device, name = life.devices[0], f"web-{life.devices[0].node}"
        device.folder.write("web.json", manifest("web"))
        device.start()

        def shown() -> Obj:
            return life.etcd.find(PODS, NAMESPACE, name) or {"metadata": {}}

        def alive() -> set[str]:
            running = (m for m in device.engine.containers.values() if m.seen.state.value == "running")
            return {m.pod.uid for m in running}

        await until(life, lambda: is_mirror(shown()) and len(alive()) == 1, "the mirror and its container")
        (local,) = alive()
        life.etcd.delete(PODS, NAMESPACE, name, 0)
        life.etcd.create(PODS, NAMESPACE, hub_pod(name, device.node))

        def status() -> Obj:
            return shown().get("status") or {}

        await until(life, lambda: status().get("reason") == "NameTaken", "the refusal")
        assert "web.json" in status()["message"]
        assert (status()["phase"], alive()) == ("Failed", {local})
        assert not is_mirror(shown())
        device.folder.write("web.json", None)
        await until(life, lambda: status().get("phase") == "Running", "the hub's pod to run")
        assert alive() == {shown()["metadata"]["uid"]}

    told(story)


def test_a_mirror_comes_back_when_what_has_its_name_goes() -> None:
    async def story(life: Life) -> None:
        device, name = life.devices[0], f"web-{life.devices[0].node}"
        life.etcd.create(PODS, NAMESPACE, hub_pod(name, "elsewhere"))
        device.folder.write("web.json", manifest("web"))
        device.start()
        await until(life, lambda: bool(device.engine.containers), "the pod to run")
        await asyncio.sleep(60)
        life.etcd.delete(PODS, NAMESPACE, name, 0)

        def runs() -> bool:
            pod = life.etcd.find(PODS, NAMESPACE, name)
            return pod is not None and is_mirror(pod) and (pod.get("status") or {}).get("phase") == "Running"

        await until(life, runs, "the mirror")

    told(story)


def test_a_mistake_in_a_file_that_costs_its_pod_is_seen() -> None:
    """The planted bug: a file that cannot be parsed is taken for an empty one."""

    def careless(known: Mapping[Key, LocalObject], read: Mapping[str, Sequence[Object] | None]) -> Step:
        files = {name: () if objects is None and name in broken else objects for name, objects in read.items()}
        return next_step(known, files)

    async def parse(self: SimManifests, file: ManifestFile) -> tuple[object, ...]:
        try:
            return await truly(self, file)
        except Malformed:
            broken.add(file.name)
            raise

    broken: set[str] = set()
    truly = SimManifests.parse
    patches: list[tuple[Any, str, Any]] = [(loop_module, "next_step", careless), (SimManifests, "parse", parse)]
    with plant(Planted("a broken file is an empty one", ("3",), 30, lambda: patches)):
        seen = next(outcome.broken for outcome in map(run, range(30)) if outcome.broken is not None)
    assert seen.promise == PROMISES["3"], seen
