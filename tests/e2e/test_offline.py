"""The network away: changes, deletes, kills and reboots while nobody can be reached, and what the return brings."""

from __future__ import annotations

import random
import time

import pytest

from fleet import Fleet, identities, kill, pod, status, truth
from rig import Device, until

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("clean")]

KILLS = 50


def test_hub_and_broker_away_for_the_whole_life_of_a_change(fleet: Fleet, board: Device) -> None:
    fleet.apply(pod("stays", "edge-1"), pod("goes", "edge-1"))
    fleet.wait_phase("stays")
    fleet.wait_phase("goes")
    until(lambda: len(truth(board)) == 2, "both containers")
    before = identities(board)
    board.cut()
    fleet.apply(pod("brief", "edge-1"))
    fleet.kubectl("delete", "pod", "brief", "--force", "--grace-period=0", "--timeout=90s")
    fleet.apply(pod("comes", "edge-1"))
    fleet.kubectl("delete", "pod", "goes", "--wait=false")
    assert identities(board) == before
    board.connect()
    fleet.wait_phase("comes")
    until(lambda: set(truth(board)) == {"default/stays/main", "default/comes/main"}, "the board to follow")
    until(lambda: fleet.view(board) == truth(board), "hub and board to agree")
    assert identities(board)["default/stays/main"] == before["default/stays/main"]
    fleet.kubectl("delete", "pod", "stays", "comes", "--timeout=90s")


def test_what_happened_offline_is_told_later(fleet: Fleet, board: Device) -> None:
    fleet.apply(pod("restarted", "edge-1"))
    fleet.wait_phase("restarted")
    until(lambda: "default/restarted/main" in truth(board), "the container")
    board.cut()
    (first,) = [c for c in board.containers() if not c.sandbox]
    kill(board, first.id)
    until(lambda: truth(board).get("default/restarted/main") not in (None, first.id), "the restart, offline")
    board.connect()

    def told() -> bool:
        (c,) = fleet.get("pod", "restarted")["status"]["containerStatuses"]
        return bool(c["restartCount"] == 1 and c["lastState"].get("terminated", {}).get("exitCode") == 137)

    until(told, "the hub to show the restart")
    fleet.kubectl("delete", "pod", "restarted", "--timeout=90s")


def test_the_agent_is_killed_at_random_moments_and_nothing_is_lost_or_restarted(fleet: Fleet, board: Device) -> None:
    """SIGKILL at least fifty times while changes come in: no acknowledged change is lost, no unchanged pod touched."""
    dice = random.Random(0)
    fleet.apply(pod("rock", "edge-1"))
    fleet.wait_phase("rock")
    until(lambda: "default/rock/main" in truth(board), "the container")
    rock = identities(board)["default/rock/main"]
    generation = status(board)["generation"]
    for i in range(KILLS):
        if i % 5 == 0:
            fleet.apply(pod(f"wave-{i // 5}", "edge-1"))
            if i >= 5:
                fleet.kubectl("delete", "pod", f"wave-{i // 5 - 1}", "--wait=false")
        time.sleep(dice.uniform(0.0, 0.4))
        board.kill_agent()
        now = status(board)["generation"]
        assert now >= generation, "an applied generation went back"
        generation = now
        assert identities(board).get("default/rock/main") == rock
        board.start_agent()
    last = f"default/wave-{(KILLS - 1) // 5}/main"
    until(lambda: set(truth(board)) == {"default/rock/main", last}, "the board to converge")
    until(lambda: fleet.view(board) == truth(board), "hub and board to agree")
    assert identities(board)["default/rock/main"] == rock
    fleet.kubectl("delete", "pod", "--all", "--timeout=120s")


def test_a_cold_boot_without_network_runs_every_journaled_pod(fleet: Fleet, board: Device) -> None:
    names = ["one", "two", "three"]
    fleet.apply(*(pod(n, "edge-1") for n in names))
    for n in names:
        fleet.wait_phase(n)
    until(lambda: len(truth(board)) == 3, "three containers")
    generation = status(board)["generation"]
    board.reboot(network=False, agent=True)
    until(lambda: set(truth(board)) == {f"default/{n}/main" for n in names}, "all three to run offline")
    assert status(board)["generation"] == generation
    board.connect()
    until(lambda: fleet.view(board) == truth(board), "hub and board to agree")
    for n in names:
        (c,) = fleet.get("pod", n)["status"]["containerStatuses"]
        assert c["restartCount"] == 1
    fleet.kubectl("delete", "pod", *names, "--timeout=90s")
