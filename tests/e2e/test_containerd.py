"""The Runtime contract on containerd, and what is containerd's own: foreign pods, completed names, crictl's labels.

One board of the rig for the whole module; each test starts with no pods.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import uvloop

from contract.images import ImagesContract
from contract.runtime import (
    STUBBORN,
    Heard,
    RuntimeContract,
    RuntimeEffects,
    clear,
    make_pod,
    make_spec,
    only,
    run,
    until_state,
)
from e2e.board import Board, Monotonic
from rig import Device, images, until
from rig.cri import Cri
from skerry.containerd.adapter import Containerd
from skerry.errors import RuntimeAway, RuntimeFailed
from skerry.model.observed import ContainerState
from skerry.ports import MountSpec

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("containerd"), reason="needs root and tools/setup"),
]


class TestContract(RuntimeContract):
    pass


class TestImages(ImagesContract):
    pass


class TestEffects(RuntimeEffects):
    pass


async def test_pods_that_others_made_are_not_shown(site: Board) -> None:
    with Cri(site.socket) as cri:
        foreign, _ = cri.run_pod("foreign", images.HELLO)
        assert await site.runtime().look() == {}
        cri.remove_pod(foreign)


async def test_a_short_image_name_is_the_one_kubernetes_means(site: Board) -> None:
    device, runtime = site.device, site.runtime()
    if not await runtime.image_present("docker.io/library/tide:1"):
        await asyncio.to_thread(device.import_image, images.image("docker.io/library/tide:1", {}, ["/bin/sleep", "9"]))
    assert await runtime.image_present("tide:1")
    assert not await runtime.image_present("tide:2")
    pod, spec = make_pod(), make_spec(site)
    await run(runtime, pod, replace(spec, image="tide:1"))
    assert (await only(runtime, pod)).state is ContainerState.RUNNING


async def test_containers_carry_the_labels_that_crictl_and_ctr_show(site: Board) -> None:
    pod = make_pod()
    await run(site.runtime(), pod, make_spec(site))
    (container,) = site.device.containers()
    assert (container.name, container.pod, container.namespace) == ("main", pod.name, "default")
    assert container.pod_uid == pod.uid


async def test_many_pods_at_once_within_the_bound_of_calls(site: Board) -> None:
    runtime, pods = site.runtime(), [make_pod() for _ in range(6)]
    await asyncio.gather(*(run(runtime, pod, make_spec(site)) for pod in pods))
    seen = await runtime.look()
    assert set(seen) == {pod.uid for pod in pods}
    assert len({one.sandboxes[0].ip for one in seen.values()}) == 6


async def test_an_exec_that_ends_is_no_event(site: Board) -> None:
    runtime, pod = site.runtime(), make_pod()
    _, container_id = await run(runtime, pod, make_spec(site))
    events = runtime.events()
    assert (await events.__anext__()).pod_uid == ""
    site.device.ctr("tasks", "exec", "--exec-id", "probe", container_id, "/bin/true")
    await asyncio.sleep(0.3)
    nothing = asyncio.ensure_future(events.__anext__())
    await asyncio.sleep(0.3)
    assert not nothing.done()
    await site.kill(container_id)
    assert (await asyncio.wait_for(nothing, 30)).pod_uid == pod.uid
    await events.aclose()  # type: ignore[attr-defined]


async def test_a_runtime_whose_socket_is_missing_is_away() -> None:
    runtime = Containerd(Path("/run/no/such.sock"), cgroup_parent="/x", log_dir=Path("/tmp/x"), clock=Monotonic())
    with pytest.raises(RuntimeAway):
        await runtime.version()


def test_it_works_on_uvloop(device: Device) -> None:
    async def story() -> None:
        board = Board(device)
        runtime, pod = board.runtime(), make_pod()
        events = runtime.events()
        await events.__anext__()
        await run(runtime, pod, make_spec(board))
        assert (await asyncio.wait_for(events.__anext__(), 30)).pod_uid == pod.uid
        assert (await only(runtime, pod)).state is ContainerState.RUNNING
        await events.aclose()  # type: ignore[attr-defined]
        await clear(runtime)
        await board.close()

    loop = uvloop.new_event_loop()
    try:
        loop.run_until_complete(story())
    finally:
        loop.close()


async def test_after_a_power_cut_nothing_is_ready_and_all_of_it_can_be_taken_down(site: Board) -> None:
    device, runtime, pod = site.device, site.runtime(), make_pod()
    sandbox_id, container_id = await run(runtime, pod, make_spec(site))
    heard = Heard(runtime)
    await heard.until("")
    await asyncio.to_thread(device.reboot)
    await heard.over()
    assert isinstance(heard.error, RuntimeAway)
    site.moved()
    runtime = site.runtime()
    seen = (await runtime.look())[pod.uid]
    assert [(box.id, box.ready) for box in seen.sandboxes] == [(sandbox_id, False)]
    assert [c.id for c in seen.containers] == [container_id]
    assert seen.containers[0].state in (ContainerState.EXITED, ContainerState.UNKNOWN)
    newer, _ = await run(runtime, pod, make_spec(site, attempt=1), 1)
    seen = (await runtime.look())[pod.uid]
    assert [(box.id, box.ready) for box in seen.sandboxes] == [(newer, True), (sandbox_id, False)]
    assert seen.containers[0].state is ContainerState.RUNNING
    await clear(runtime)
    assert await runtime.look() == {}


@pytest.mark.parametrize("after_s", [0.0, 0.02, 0.05, 0.08, 0.12])
async def test_a_runtime_that_dies_while_it_makes_a_pod_leaves_what_a_look_shows(site: Board, after_s: float) -> None:
    device, runtime, pod = site.device, site.runtime(), make_pod()
    making = asyncio.ensure_future(run(runtime, pod, make_spec(site)))
    await asyncio.sleep(after_s)
    await site.away()
    with contextlib.suppress(RuntimeAway):
        await making
    await site.back()
    await clear(runtime)
    assert await runtime.look() == {}
    assert device.ctr("containers", "list", "--quiet") == ""
    assert [p.name for p in device.outside("/run/netns").iterdir()] == []
    for _ in range(5):  # a snapshot half made by the one that was killed may be in its way once, as steer would see too
        try:
            await run(runtime, pod, make_spec(site))
            break
        except RuntimeFailed:
            await clear(runtime)
            await asyncio.sleep(1)
    assert (await only(runtime, pod)).state is ContainerState.RUNNING


async def test_a_refreshed_volume_reaches_the_running_container(site: Board) -> None:
    runtime, pod = site.runtime(), make_pod()
    script = "cat /out/key; until grep -q flow /out/key; do sleep 0.05; done; cat /out/key"
    spec = make_spec(site, ("/bin/sh", "-c", script))
    path = await asyncio.to_thread(site.mount_files, pod.uid, "ebb")
    await run(runtime, pod, replace(spec, mounts=(MountSpec(path, "/out", True),)))
    await asyncio.to_thread(until, lambda: "ebb" in site.log(pod, "main", 0), "the first content to be read")
    assert await asyncio.to_thread(site.mount_files, pod.uid, "flow") == path
    assert (await until_state(runtime, pod, ContainerState.EXITED)).exit_code == 0


async def test_a_cancelled_call_ends_at_once_and_leaves_the_connection_as_it_was(site: Board) -> None:
    runtime, pod = site.runtime(), make_pod()
    _, container_id = await run(runtime, pod, make_spec(site, STUBBORN))
    stopping = asyncio.ensure_future(runtime.stop_container(container_id, 60))
    await asyncio.sleep(0.1)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(stopping, 20)
    assert (await only(runtime, pod)).state is ContainerState.RUNNING
    await asyncio.wait_for(runtime.stop_container(container_id, 0), 60)
    assert (await only(runtime, pod)).exit_code == 137
