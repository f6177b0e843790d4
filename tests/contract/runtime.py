"""What every Runtime promises (ports.Runtime). A real or simulated adapter subclasses RuntimeContract and gives a
`site`; one that runs real processes subclasses RuntimeEffects too.

A simulated runtime has to understand three argvs: POLITE and STUBBORN run until they are stopped, and `exiting(n)` ends
at once with the code n, its last word.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, Protocol

import pytest

from skerry.errors import RuntimeAway, RuntimeFailed
from skerry.model.observed import ContainerSeen, ContainerState
from skerry.model.pod import Container, Pod, Port, Resources
from skerry.ports import ContainerSpec, MountSpec, Runtime, RuntimeEvent

POLITE = ("/bin/sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done")
STUBBORN = ("/bin/sleep", "100000")  # as process 1 it does not hear SIGTERM
WAIT_S = 30.0

_numbers = itertools.count(1)


class RuntimeSite(Protocol):
    """A runtime that has no pods, and the world it runs in."""

    image: str  # present

    def runtime(self) -> Runtime: ...

    async def away(self) -> None:
        """The runtime stops to answer, what it runs lives on."""

    async def back(self) -> None: ...

    async def kill(self, container_id: str) -> None:
        """SIGKILL the container's process behind the runtime's back."""


def exiting(code: int) -> tuple[str, ...]:
    return ("/bin/sh", "-c", 'exit "$0"', str(code))


def make_pod(*ports: Port, hostname: str = "") -> Pod:
    number = next(_numbers)
    container = Container("main", "set by the spec", ports=ports)
    return Pod(f"uid-{number}", "default", f"pod-{number}", (container,), hostname=hostname)


def make_spec(site: RuntimeSite, argv: tuple[str, ...] = POLITE, name: str = "main", attempt: int = 0) -> ContainerSpec:
    none = Resources()
    return ContainerSpec(name, attempt, site.image, f"mark-{name}.0-0-0", argv[:1], argv[1:], "", (), (), none)


async def run(runtime: Runtime, pod: Pod, spec: ContainerSpec, attempt: int = 0) -> tuple[str, str]:
    """The ids of a sandbox and a started container in it."""
    sandbox_id = await runtime.run_pod_sandbox(pod, attempt)
    container_id = await runtime.create_container(pod, sandbox_id, attempt, spec)
    await runtime.start_container(container_id)
    return sandbox_id, container_id


async def only(runtime: Runtime, pod: Pod) -> ContainerSeen:
    """The pod's one container."""
    (container,) = (await runtime.look(pod.uid))[pod.uid].containers
    return container


async def until_state(runtime: Runtime, pod: Pod, state: ContainerState) -> ContainerSeen:
    async def wait() -> ContainerSeen:
        while True:
            seen = await only(runtime, pod)
            if seen.state is state:
                return seen
            await asyncio.sleep(0.02)

    return await asyncio.wait_for(wait(), WAIT_S)


async def clear(runtime: Runtime) -> None:
    """Take down everything, as steer does: what fails is asked again, for a containerd whose shim goes away between
    its looking and its killing says "ttrpc: closed" once.
    """
    deadline = asyncio.get_running_loop().time() + WAIT_S
    while True:
        try:
            return await _clear(runtime)
        except RuntimeFailed:
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(0.2)


async def _clear(runtime: Runtime) -> None:
    for seen in (await runtime.look()).values():
        for container in seen.containers:
            await runtime.stop_container(container.id, 0)
        for sandbox in seen.sandboxes:
            await runtime.stop_pod_sandbox(sandbox.id)
        for container in seen.containers:
            await runtime.remove_container(container.id)
        for sandbox in seen.sandboxes:
            await runtime.remove_pod_sandbox(sandbox.id)


class Heard:
    """Listens to events and remembers them."""

    def __init__(self, runtime: Runtime) -> None:
        self.uids: list[str] = []
        self.error: BaseException | None = None
        self._changed = asyncio.Event()
        self._events = runtime.events()
        self._task = asyncio.ensure_future(self._listen(self._events))

    async def _listen(self, events: AsyncIterator[RuntimeEvent]) -> None:
        try:
            async for event in events:
                self.uids.append(event.pod_uid)
                self._changed.set()
        except RuntimeAway as error:
            self.error = error
        self._changed.set()

    async def until(self, pod_uid: str) -> None:
        """Wait for an event that may concern the pod; it and those before it are forgotten."""

        async def wait() -> None:
            while not {pod_uid, ""} & set(self.uids):
                assert self.error is None, "the runtime went away"
                self._changed.clear()
                await self._changed.wait()

        await asyncio.wait_for(wait(), WAIT_S)
        self.uids.clear()

    async def over(self) -> None:
        """Until the events have ended by themselves."""
        await asyncio.wait({self._task}, timeout=WAIT_S)

    async def end(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


class RuntimeContract:
    async def test_it_says_what_it_is(self, site: RuntimeSite) -> None:
        name, slashes, version = (await site.runtime().version()).partition("://")
        assert (slashes, bool(name), bool(version)) == ("://", True, True)

    async def test_nothing_is_seen_where_nothing_is(self, site: RuntimeSite) -> None:
        assert await site.runtime().look() == {}
        assert await site.runtime().look("no-such-uid") == {}

    async def test_a_pod_runs_and_is_seen(self, site: RuntimeSite) -> None:
        runtime, pod, spec = site.runtime(), make_pod(), make_spec(site)
        sandbox_id = await runtime.run_pod_sandbox(pod, 0)
        (box,) = (await runtime.look())[pod.uid].sandboxes
        assert (box.id, box.pod_uid, box.namespace, box.name) == (sandbox_id, pod.uid, "default", pod.name)
        assert (box.attempt, box.ready) == (0, True)
        assert box.ip
        assert box.created_ns > 0
        container_id = await runtime.create_container(pod, sandbox_id, 0, spec)
        made = await only(runtime, pod)
        assert made.state is ContainerState.CREATED
        await runtime.start_container(container_id)
        seen = await only(runtime, pod)
        assert seen.state is ContainerState.RUNNING
        assert (seen.id, seen.sandbox_id, seen.pod_uid) == (container_id, sandbox_id, pod.uid)
        assert (seen.name, seen.attempt, seen.fingerprint) == ("main", 0, spec.fingerprint)
        assert seen.image == site.image
        assert seen.image_id
        assert 0 < seen.created_ns <= seen.started_ns
        assert seen.finished_ns == 0

    async def test_looking_at_one_pod_shows_that_one(self, site: RuntimeSite) -> None:
        runtime, one, two = site.runtime(), make_pod(), make_pod()
        await asyncio.gather(*(run(runtime, pod, make_spec(site)) for pod in (one, two)))
        whole = await runtime.look()
        assert set(whole) == {one.uid, two.uid}
        assert await runtime.look(one.uid) == {one.uid: whole[one.uid]}

    @pytest.mark.parametrize("code", [0, 3])
    async def test_an_exit_is_seen_with_its_code(self, site: RuntimeSite, code: int) -> None:
        runtime, pod = site.runtime(), make_pod()
        await run(runtime, pod, make_spec(site, exiting(code)))
        seen = await until_state(runtime, pod, ContainerState.EXITED)
        assert seen.exit_code == code
        assert 0 < seen.started_ns <= seen.finished_ns

    async def test_who_hears_the_signal_stops_within_the_grace(self, site: RuntimeSite) -> None:
        runtime, pod = site.runtime(), make_pod()
        _, container_id = await run(runtime, pod, make_spec(site, POLITE))
        await asyncio.sleep(1)  # a shell needs a moment to set its trap
        await asyncio.wait_for(runtime.stop_container(container_id, 60), 50)
        seen = await only(runtime, pod)
        assert (seen.state, seen.exit_code) == (ContainerState.EXITED, 0)
        await runtime.stop_container(container_id, 60)  # a second time is nothing

    @pytest.mark.parametrize("grace_s", [0, 1])
    async def test_who_does_not_is_killed_after_it(self, site: RuntimeSite, grace_s: int) -> None:
        runtime, pod = site.runtime(), make_pod()
        _, container_id = await run(runtime, pod, make_spec(site, STUBBORN))
        started = asyncio.get_running_loop().time()
        await runtime.stop_container(container_id, grace_s)
        assert asyncio.get_running_loop().time() - started >= grace_s - 0.05
        seen = await only(runtime, pod)
        assert (seen.state, seen.exit_code) == (ContainerState.EXITED, 137)

    async def test_a_removed_container_is_gone_even_if_it_ran(self, site: RuntimeSite) -> None:
        runtime, pod = site.runtime(), make_pod()
        sandbox_id, container_id = await run(runtime, pod, make_spec(site))
        await runtime.remove_container(container_id)
        await runtime.remove_container(container_id)
        seen = (await runtime.look(pod.uid))[pod.uid]
        assert seen.containers == ()
        assert [box.id for box in seen.sandboxes] == [sandbox_id]

    async def test_a_stopped_sandbox_is_not_ready_and_has_nothing_running(self, site: RuntimeSite) -> None:
        runtime, pod = site.runtime(), make_pod()
        sandbox_id, _ = await run(runtime, pod, make_spec(site, STUBBORN))
        await runtime.stop_pod_sandbox(sandbox_id)
        await runtime.stop_pod_sandbox(sandbox_id)
        seen = (await runtime.look(pod.uid))[pod.uid]
        assert [box.ready for box in seen.sandboxes] == [False]
        assert [c.state for c in seen.containers] == [ContainerState.EXITED]
        await runtime.remove_pod_sandbox(sandbox_id)
        await runtime.remove_pod_sandbox(sandbox_id)
        assert await runtime.look() == {}

    async def test_making_what_exists_returns_it(self, site: RuntimeSite) -> None:
        runtime, pod, spec = site.runtime(), make_pod(), make_spec(site)
        sandbox_id, container_id = await run(runtime, pod, spec)
        before = await runtime.look(pod.uid)
        assert await run(runtime, pod, spec) == (sandbox_id, container_id)
        assert await run(site.runtime(), pod, spec) == (sandbox_id, container_id)
        assert await runtime.look(pod.uid) == before

    async def test_making_the_same_at_the_same_time_makes_one(self, site: RuntimeSite) -> None:
        runtime, pod = site.runtime(), make_pod()
        told = await asyncio.gather(*(runtime.run_pod_sandbox(pod, 0) for _ in range(3)), return_exceptions=True)
        assert all(isinstance(one, (str, RuntimeFailed)) for one in told)
        (box,) = (await runtime.look(pod.uid))[pod.uid].sandboxes
        assert {one for one in told if isinstance(one, str)} == {box.id}
        assert await runtime.run_pod_sandbox(pod, 0) == box.id

    async def test_a_stopped_sandbox_is_still_the_one_of_its_attempt(self, site: RuntimeSite) -> None:
        runtime, pod = site.runtime(), make_pod()
        sandbox_id = await runtime.run_pod_sandbox(pod, 0)
        await runtime.stop_pod_sandbox(sandbox_id)
        assert await runtime.run_pod_sandbox(pod, 0) == sandbox_id
        assert [box.ready for box in (await runtime.look(pod.uid))[pod.uid].sandboxes] == [False]

    async def test_another_attempt_is_another_and_the_newest_comes_first(self, site: RuntimeSite) -> None:
        runtime, pod = site.runtime(), make_pod()
        sandbox_id, first = await run(runtime, pod, make_spec(site, exiting(1)))
        await until_state(runtime, pod, ContainerState.EXITED)
        second = await runtime.create_container(pod, sandbox_id, 0, make_spec(site, attempt=1))
        await runtime.start_container(second)
        assert [c.id for c in (await runtime.look(pod.uid))[pod.uid].containers] == [second, first]
        await runtime.stop_pod_sandbox(sandbox_id)
        newer = await runtime.run_pod_sandbox(pod, 1)
        boxes = (await runtime.look(pod.uid))[pod.uid].sandboxes
        assert [(box.id, box.attempt, box.ready) for box in boxes] == [(newer, 1, True), (sandbox_id, 0, False)]

    async def test_two_containers_share_a_sandbox(self, site: RuntimeSite) -> None:
        runtime, pod = site.runtime(), make_pod()
        ids = [await run(runtime, pod, make_spec(site, name=name)) for name in ("main", "side")]
        assert ids[0][0] == ids[1][0]
        assert {c.name for c in (await runtime.look())[pod.uid].containers} == {"main", "side"}

    async def test_unknown_ids(self, site: RuntimeSite) -> None:
        runtime, unknown = site.runtime(), "0123456789abcdef"
        await runtime.stop_container(unknown, 5)
        await runtime.remove_container(unknown)
        await runtime.stop_pod_sandbox(unknown)
        await runtime.remove_pod_sandbox(unknown)
        with pytest.raises(RuntimeFailed):
            await runtime.start_container(unknown)
        with pytest.raises(RuntimeFailed):
            await runtime.update_container_resources(unknown, Resources(cpu_limit_millis=100))
        with pytest.raises(RuntimeFailed):
            await runtime.create_container(make_pod(), unknown, 0, make_spec(site))

    async def test_new_resources_restart_nothing(self, site: RuntimeSite) -> None:
        runtime, pod = site.runtime(), make_pod()
        _, container_id = await run(runtime, pod, make_spec(site))
        before = await only(runtime, pod)
        await runtime.update_container_resources(container_id, Resources(200, 100, 64 << 20, 0))
        await runtime.update_container_resources(container_id, Resources())
        assert await only(runtime, pod) == before

    async def test_events_tell_of_a_start_and_of_an_exit_that_a_look_then_shows(self, site: RuntimeSite) -> None:
        runtime, pod = site.runtime(), make_pod()
        heard = Heard(runtime)
        await heard.until("")  # listening has begun
        _, container_id = await run(runtime, pod, make_spec(site, STUBBORN))
        await heard.until(pod.uid)
        await asyncio.sleep(0.3)
        heard.uids.clear()
        await site.kill(container_id)
        await heard.until(pod.uid)
        while (seen := await only(runtime, pod)).state is ContainerState.RUNNING:
            await heard.until(pod.uid)  # that was a late word of the start
        assert (seen.state, seen.exit_code) == (ContainerState.EXITED, 137)
        await heard.end()

    async def test_while_it_is_away_that_is_said_and_what_runs_lives_on(self, site: RuntimeSite) -> None:
        runtime, one, two = site.runtime(), make_pod(), make_pod()
        await run(runtime, one, make_spec(site))
        _, dying = await run(runtime, two, make_spec(site, STUBBORN))
        before = await runtime.look(one.uid)
        heard = Heard(runtime)
        await heard.until("")
        await site.away()
        with pytest.raises(RuntimeAway):
            await runtime.look()
        with pytest.raises(RuntimeAway):
            await runtime.run_pod_sandbox(make_pod(), 0)
        with pytest.raises(RuntimeAway):
            await runtime.stop_container(dying, 1)
        with pytest.raises(RuntimeAway):
            await runtime.image_present(site.image)
        await heard.over()
        assert isinstance(heard.error, RuntimeAway)
        await site.kill(dying)
        await site.back()
        assert await runtime.look(one.uid) == before
        seen = await until_state(runtime, two, ContainerState.EXITED)
        assert seen.exit_code
        again = Heard(runtime)
        await again.until("")
        await run(runtime, make_pod(), make_spec(site))
        await again.end()


class EffectsSite(RuntimeSite, Protocol):
    """A site with real processes."""

    def folder(self) -> str:
        """A new, empty folder that containers can mount and the test can read, by the same path."""

    def cgroup_value(self, container_id: str, v1: str, v2: str) -> str:
        """What the file of the container's control group says, by its name in either version."""

    async def get(self, port: int) -> str:
        """What an HTTP server on this port of the board says."""

    def log(self, pod: Pod, container: str, attempt: int) -> str:
        """The container's log file, in CRI's format."""


def shell(site: RuntimeSite, script: str, folder: str = "", read_only: bool = False, **changed: Any) -> ContainerSpec:
    """A container that runs a script with `folder` at /out."""
    mounts = (MountSpec(folder, "/out", read_only),) if folder else ()
    return replace(make_spec(site, ("/bin/sh", "-c", script)), mounts=mounts, **changed)


class RuntimeEffects:
    async def told(self, site: EffectsSite, pod: Pod, spec: ContainerSpec) -> str:
        """Run a script to its end and return its log's text."""
        runtime = site.runtime()
        await run(runtime, pod, spec)
        seen = await until_state(runtime, pod, ContainerState.EXITED)
        assert seen.exit_code == 0, site.log(pod, spec.name, spec.attempt)
        lines = site.log(pod, spec.name, spec.attempt).splitlines()
        return "".join(line.split(" ", 3)[3] + "\n" for line in lines)

    async def test_environment_arguments_and_working_folder(self, site: EffectsSite) -> None:
        script = 'echo "$0|$1|$GREETING|$EMPTY|$(pwd)"'
        env = (("GREETING", "grüß dich = 'a' $B"), ("EMPTY", ""))
        spec = shell(site, "", args=("-c", script, "zero", "one two"), env=env, working_dir="/etc")
        assert await self.told(site, make_pod(), spec) == "zero|one two|grüß dich = 'a' $B||/etc\n"

    async def test_hostname(self, site: EffectsSite) -> None:
        assert await self.told(site, make_pod(hostname="tide"), shell(site, "hostname")) == "tide\n"
        pod = make_pod()
        assert await self.told(site, pod, shell(site, "hostname")) == f"{pod.name}\n"

    async def test_a_mount_is_written_and_a_read_only_one_is_not(self, site: EffectsSite) -> None:
        folder = site.folder()
        assert await self.told(site, make_pod(), shell(site, "echo salt > /out/water", folder)) == ""
        script = "cat /out/water; echo sand > /out/water || true"
        text = await self.told(site, make_pod(), shell(site, script, folder, read_only=True))
        assert "salt\n" in text  # what sh says of the other comes by another pipe, before or after
        assert await self.told(site, make_pod(), shell(site, "cat /out/water", folder)) == "salt\n"

    async def test_limits_reach_the_control_group(self, site: EffectsSite) -> None:
        runtime, pod = site.runtime(), make_pod()
        limits = Resources(250, 100, 48 << 20, 0)
        _, container_id = await run(runtime, pod, shell(site, POLITE[2], resources=limits))

        def values() -> tuple[int, str]:
            memory = site.cgroup_value(container_id, "memory.limit_in_bytes", "memory.max")
            return int(memory), site.cgroup_value(container_id, "cpu.cfs_quota_us", "cpu.max").split()[0]

        assert values() == (48 << 20, "25000")
        await runtime.update_container_resources(container_id, Resources(500, 100, 64 << 20, 0))
        assert values() == (64 << 20, "50000")

    async def test_over_its_memory_it_is_killed_and_that_is_the_reason(self, site: EffectsSite) -> None:
        runtime, pod = site.runtime(), make_pod()
        script = "x=0123456789abcdef; while :; do x=$x$x; done"
        await run(runtime, pod, shell(site, script, resources=Resources(memory_limit_bytes=16 << 20)))
        seen = await until_state(runtime, pod, ContainerState.EXITED)
        assert (seen.exit_code, seen.reason) == (137, "OOMKilled")

    async def test_a_host_port_leads_into_the_pod(self, site: EffectsSite) -> None:
        runtime, pod = site.runtime(), make_pod(Port(8080, host_port=18080))
        script = "mkdir /www; echo ahoy > /www/index.html; exec httpd -f -p 8080 -h /www"
        await run(runtime, pod, shell(site, script))
        assert await site.get(18080) == "ahoy\n"

    async def test_a_container_sees_its_own_processes_alone(self, site: EffectsSite) -> None:
        text = await self.told(site, make_pod(), shell(site, "echo $$; ls -d /proc/[0-9]* | wc -l"))
        assert text.splitlines()[0] == "1"
        assert int(text.splitlines()[1]) <= 3  # the shell and its pipe

    async def test_the_kernels_own_files_are_masked_or_read_only(self, site: EffectsSite) -> None:
        script = "wc -c < /proc/interrupts; (echo 1 > /proc/sys/kernel/panic && echo written) 2>/dev/null; true"
        assert await self.told(site, make_pod(), shell(site, script)) == "0\n"

    async def test_the_log_goes_with_the_container(self, site: EffectsSite) -> None:
        runtime, pod = site.runtime(), make_pod()
        assert await self.told(site, pod, shell(site, "echo out; echo err >&2")) in ("out\nerr\n", "err\nout\n")
        await runtime.remove_container((await only(runtime, pod)).id)
        with pytest.raises(FileNotFoundError):
            site.log(pod, "main", 0)
