"""`make demo`: the main job of skerry on real parts, told in one line per step. Exit code 0 only if every claim held.

A pod goes from kubectl to a real container, whose log is read and in which a command is run; broker and hub are taken
away; the board is rebooted with no interface but lo and runs the pod again; a second pod applied meanwhile starts after
the reconnection, and the first is not touched.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from fleet import ROOT, Fleet, identities, status, truth
from rig import Device, RigError, until

COLOUR = sys.stdout.isatty() and "NO_COLOR" not in os.environ
NODE, FIRST, SECOND = "edge-1", "default/hello/hello", "default/second/hello"
STEP_TIMEOUT_S = 60.0


@contextmanager
def step(what: str) -> Iterator[list[str]]:
    """One line: the time it took, what was done, and what was seen (the list)."""
    began, seen = time.monotonic(), list[str]()
    try:
        yield seen
    except BaseException:
        print(f"{paint('31', 'failed')}  {what}", flush=True)
        raise
    took = f"{time.monotonic() - began:6.2f} s"
    print(f"{paint('2', took)}  {what}" + (f": {paint('1', ', '.join(seen))}" if seen else ""), flush=True)


def paint(code: str, text: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if COLOUR else text


def demo(fleet: Fleet) -> None:
    with step("mosquitto, Kubernetes API and hub are ready"):
        fleet.start()
    board = enrolled(fleet)
    with step("kubectl apply -f examples/hello.yaml → Running") as seen:
        fleet.kubectl("apply", "-f", str(ROOT / "examples/hello.yaml"))
        fleet.wait_phase("hello")
        until(lambda: FIRST in truth(board), "the container to run", STEP_TIMEOUT_S)
        before = identities(board)[FIRST]
        generation = status(board)["generation"]
        seen += [f"container {before[0][:12]}", f"journal generation {generation}"]
    reach_in(fleet)
    with step("hub, API and broker killed, cable pulled, power cut: nothing of the board is left but its disk"):
        board.cut()
        fleet.stop_hub_side()
        board.power_off()
        left = board.leftovers()
        if left:
            raise RigError(f"the power cut left {left}")
    with step("boot with no interface but lo → the pod runs again, from the journal") as seen:
        board.boot(network=False)
        board.start_agent()
        until(lambda: FIRST in truth(board), "the pod to run again offline", STEP_TIMEOUT_S)
        reachable = [name for name, yes in fleet.reachable().items() if yes]
        links = board.nsenter(["ip", "-o", "link", "show", "up"]).stdout
        if reachable or "eth0" in links:
            raise RigError(f"this was not offline: {reachable} answers, interfaces are {links}")
        after = identities(board)[FIRST]
        if after[0] == before[0]:
            raise RigError("the container was never restarted, so there was no reboot")
        if status(board)["generation"] != generation:
            raise RigError("the journal's generation changed without a hub")
        seen += [f"container {before[0][:12]} became {after[0][:12]}", f"journal generation still {generation}"]
    with step("meanwhile at the hub: kubectl apply -f examples/second.yaml"):
        fleet.start()
        fleet.kubectl("apply", "-f", str(ROOT / "examples/second.yaml"))
    with step("cable plugged in → the second pod runs, the first was not touched") as seen:
        board.connect()
        fleet.wait_phase("second")
        until(lambda: SECOND in truth(board), "the second container to run", STEP_TIMEOUT_S)
        if identities(board)[FIRST] != after:
            raise RigError("the reconnection restarted the first pod")
        seen += [f"journal generation {status(board)['generation']}", "first pod's process unchanged"]
    with step("the hub's view equals the board's truth") as seen:
        until(lambda: fleet.view(board) == truth(board), "the hub's view to equal the board's", STEP_TIMEOUT_S)
        seen += [f"{name} = {ident[:12]}" for name, ident in sorted(truth(board).items())]
    with step("kubectl delete both → nothing runs") as seen:
        fleet.kubectl("delete", "pod", "hello", "second", "--timeout=60s")
        until(lambda: not board.containers(), "all containers to be gone", STEP_TIMEOUT_S)
        board.stop_agent()
    with step("everything ended"):
        board.power_off()
        left = board.leftovers()
        if left:
            raise RigError(f"the board left {left}")


def enrolled(fleet: Fleet) -> Device:
    with step(f"board {NODE} booted with one token: containerd, images, agent; it enrolled itself") as seen:
        board = fleet.join(NODE)
        board.boot(network=True)
        board.start_agent()
        fleet.kubectl("wait", f"node/{NODE}", "--for=condition=Ready", "--timeout=30s")
        if (board.journal_path.parent / "token").exists():
            raise RigError("the token is still there")
        seen += ["mutual TLS 1.3 to the broker", "every frame sealed end to end", "every set signed by the hub"]
    return board


def reach_in(fleet: Fleet) -> None:
    with step("kubectl logs, kubectl exec: through the hub and MQTT, as if the board were at hand") as seen:
        seen += fleet.kubectl("logs", "hello", "--tail=1").splitlines()
        seen += fleet.kubectl("exec", "hello", "--", "sh", "-c", "echo pid $$ of $(hostname)").splitlines()


def main() -> int:
    began = time.monotonic()
    try:
        with Fleet() as fleet:
            demo(fleet)
    except (RigError, AssertionError) as why:
        print(f"demo: {why}", file=sys.stderr)
        return 1
    print(f"demo: every claim held, {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
