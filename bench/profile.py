"""`python -m bench.profile`: the agent and the hub of real fleets under cProfile, as text in docs/profile/.

Two runs: the demo (its second life of the agent: boot without network, reconnection, a second pod, deletion), and
1,000 changes of pods' labels through the API, over a set of 10 running pods and 90 ConfigMaps that they use. Real
mosquitto, LMDB and containerd. CPU time of the event loop's thread by
cProfile; the journal's writer thread is not in it. Its own cost is in every number: shares count, seconds do not.
"""

from __future__ import annotations

import argparse
import io
import platform
import pstats
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import traced
from bench.report import progress
from demo import demo
from fleet import BIN, Fleet, pod, status
from rig import Device, until

OUT = traced.ROOT / "docs" / "profile"
PODS, MAPS_EACH, CHANGES, LINES = 10, 9, 1000, 30


class Profiled(Fleet):
    """A fleet whose agents and hub run under cProfile; the statistics of the last life of each are kept."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.stats = folder

    def start_hub(self) -> None:
        argv = ["run", "--kubeconfig", str(self.site.kubeconfig), "--broker", "mqtt://127.0.0.1:1883"]
        self.hub = self.site.spawn(traced.argv("profile", self.stats / "hub", "hub", *argv), name="hub")
        self.hub.wait_log("ready", 60.0)

    def join(self, name: str, **options: Any) -> Device:
        def argv(board: Device) -> list[str]:
            return traced.argv("profile", self.stats / "agent", "agent", "run", "--config", str(board.config_path))

        return super().join(name, agent_argv=argv, **options)


def of_demo(folder: Path) -> str:
    with Profiled(folder) as fleet:
        demo(fleet)
        assert fleet.hub is not None
        fleet.hub.stop()
    return "make demo"


def of_changes(folder: Path, count: int = CHANGES) -> str:
    with Profiled(folder) as fleet:
        fleet.start()
        board = fleet.join("edge-1")
        board.boot(network=True)
        board.start_agent()
        fleet.kubectl("wait", "node/edge-1", "--for=condition=Ready", "--timeout=60s")
        names = [f"changing-{i}" for i in range(PODS)]
        for name in names:
            maps = [config_map(f"{name}-{i}") for i in range(MAPS_EACH)]
            sources = [{"configMapRef": {"name": m["metadata"]["name"]}} for m in maps]
            container = {"name": "main", "image": "rig.local/hello:1", "envFrom": sources}
            fleet.apply(*maps, pod(name, "edge-1", containers=[container]))
        for name in names:
            fleet.wait_phase(name, timeout_s=120)
        before = status(board)["generation"]
        argv = ["env", f"PYTHONPATH={traced.ROOT}", str(BIN / "python"), "-m", "bench.changes"]
        run = fleet.site.ns.run([*argv, str(fleet.site.kubeconfig), str(count), *names], 600.0)
        until(lambda: told(fleet, count), "the last change to reach the device")
        time.sleep(2.0)  # the device's answers
        deltas = status(board)["generation"] - before
        board.stop_agent()
        assert fleet.hub is not None
        fleet.hub.stop()
    took = float(run.stdout)
    return f"{count} label changes in {took:.1f} s over {PODS * (MAPS_EACH + 1)} objects, sent in {deltas} Deltas"


def told(fleet: Fleet, count: int) -> bool:
    labels = fleet.get("pod", f"changing-{(count - 1) % PODS}")["metadata"]["labels"]
    return bool(labels["change"] == str(count - 1))


def config_map(name: str) -> dict[str, Any]:
    data = {f"KEY_{name[-1]}_{i}": f"value {i}" for i in range(5)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": data}


def text(stats_file: Path, what: str) -> str:
    """The functions with most time of their own, and those with most time beneath them."""
    out = io.StringIO()
    stats = pstats.Stats(str(stats_file), stream=out)
    total = stats.total_tt  # type: ignore[attr-defined]
    out.write(f"# {what}\n# {total:.2f} s of CPU in the loop's thread; cProfile, Python {platform.python_version()}\n")
    for order in ("tottime", "cumulative"):
        stats.sort_stats(order).print_stats(LINES)
    roots = re.compile(r"\S*/(site-packages|agent|native|hub|lib/python3\.\d+)/")
    lines = [roots.sub("", line) for line in out.getvalue().splitlines()]
    kept = [line.rstrip()[:150] for line in lines if line.strip() and not line.startswith(("   Random", "   List"))]
    return "\n".join(line for line in kept if not re.match(r"^\w{3} \w{3} +\d", line)) + "\n"


def main() -> int:
    top = argparse.ArgumentParser(prog="bench.profile", description=__doc__)
    top.add_argument("--only", choices=("demo", "changes"), help="one of the two runs")
    top.add_argument("--out", type=Path, default=OUT)
    top.add_argument("--changes", type=int, default=CHANGES)
    top.add_argument("--suffix", default="", help="of the files' names; -pure goes with SKERRY_PURE=1")
    args = top.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name in [args.only] if args.only else ["demo", "changes"]:
        with tempfile.TemporaryDirectory(prefix="skerry-profile-") as folder:
            told_ = of_demo(Path(folder)) if name == "demo" else of_changes(Path(folder), args.changes)
            for end in ("agent", "hub"):
                path = args.out / f"{name}-{end}{args.suffix}.txt"
                path.write_text(text(Path(folder) / end, f"{end}: {told_}. Made by `python -m bench.profile`"))
                progress(f"profile: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
