"""What an operator sees of a device's node with an unmodified kubectl."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from rig.site import kubectl
from unit.hub.test_hostile_cluster import RULES, story


async def run(kubeconfig: Path, *args: str) -> str:
    """kubectl's output; its errors too when it fails."""
    process = await asyncio.create_subprocess_exec(
        kubectl(), "--kubeconfig", str(kubeconfig), *args,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    return out.decode()


async def test_get_and_describe_show_a_node_like_others(tmp_path: Path) -> None:
    async with story(tmp_path, RULES, moody=False) as it:
        await it.told()
        kubeconfig = tmp_path / "api" / "admin.kubeconfig"
        _, row = (await run(kubeconfig, "get", "nodes", "-o", "wide")).splitlines()
        name, ready, roles, _age, version, internal, external, *rest = row.split()
        assert (name, ready, roles, version) == ("pi", "Ready", "edge", "v0.1.0+skerry")
        assert (internal, external) == ("10.0.0.1", "<none>")
        assert rest == ["rock", "6.1", "containerd://1.7"]
        described = await run(kubeconfig, "describe", "node", "pi")
        assert "skerry.dev/device=true:NoSchedule" in described
        assert re.search(r"HolderIdentity: +pi\n", described)
        assert re.search(r"RenewTime: +\w", described)
        for condition in ("MemoryPressure", "DiskPressure", "PIDPressure"):
            assert re.search(rf"{condition} +False", described), condition
        assert re.search(r"\n +Ready +True .*SessionLive", described)
        assert re.search(r"InternalIP: +10\.0\.0\.1\n", described)
        assert "Hostname:" not in described
        assert re.search(r"Architecture: +arm64\n", described)
        for part in ("Capacity", "Allocatable"):
            amounts = described.partition(f"{part}:\n")[2]
            assert re.match(r" +cpu: +4\n +memory: +512Mi\n +pods: +110\n", amounts), amounts[:200]


async def test_a_device_that_is_away_is_unknown_since_when(tmp_path: Path) -> None:
    async with story(tmp_path, RULES, moody=False) as it:
        await it.told()
        it.controller.presence("pi", False)

        async def away() -> bool:
            conditions = (await it.node())["status"]["conditions"]
            return any((c["type"], c.get("reason")) == ("Ready", "Holdover") for c in conditions)

        await it.until(away, "holdover")
        kubeconfig = tmp_path / "api" / "admin.kubeconfig"
        _, row = (await run(kubeconfig, "get", "nodes")).splitlines()
        assert row.split()[1] == "NotReady"
        described = await run(kubeconfig, "describe", "node", "pi")
        assert re.search(r"Ready +Unknown +\w.* Holdover +the device is not connected; its pods go on", described)
