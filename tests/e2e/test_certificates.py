"""The life of a certificate on real parts: an operator takes one back, a new token heals it, an authority is replaced,
and nobody visits the board."""

from __future__ import annotations

import json
import time

import pytest

from fleet import BIN, Fleet, identities, pod, truth
from rig import Device, until

pytestmark = pytest.mark.e2e
MINUTE_S = 60.0


def ready(fleet: Fleet) -> str:
    conditions = fleet.get("node", "edge-1")["status"]["conditions"]
    return str(next(c["status"] for c in conditions if c["type"] == "Ready"))


def operator(fleet: Fleet, *args: str) -> str:
    return str(fleet.site.run([str(BIN / "skerry-hub"), *args, "--kubeconfig", str(fleet.site.kubeconfig)]).stdout)


def test_a_live_session_ends_within_a_minute_of_its_revocation_and_a_new_token_heals_it(
    fleet: Fleet, board: Device, clean: None
) -> None:
    fleet.apply(pod("rock", "edge-1"))
    until(lambda: "default/rock/main" in truth(board), "the container")
    before = identities(board)["default/rock/main"]
    shown = fleet.site.run([str(BIN / "skerry-hub"), "status", "--socket", str(fleet.status_socket)]).stdout
    assert "believed by 1 of 1 devices" in shown
    assert fleet.sessions()["edge-1"]["certificate_end_s"] > time.time() + 80 * 86_400
    began = time.monotonic()
    assert operator(fleet, "revoke", "edge-1") == "revoked edge-1\n"
    until(lambda: ready(fleet) == "Unknown", "the session to be over", MINUTE_S)
    assert time.monotonic() - began < MINUTE_S
    assert fleet.sessions()["edge-1"]["state"] == "away"
    assert operator(fleet, "revoke", "edge-1") == "edge-1 was revoked already\n"
    reasons = [e["reason"] for e in fleet.get("events", "-A")["items"] if e["involvedObject"]["name"] == "edge-1"]
    assert "Revoked" in reasons
    fleet.apply(pod("late", "edge-1"))
    time.sleep(2)
    assert "default/late/main" not in truth(board), "no set reaches it"
    assert identities(board)["default/rock/main"] == before, "and its pods run on"
    (board.journal_path.parent / "token").write_text(fleet.token("edge-1"))
    board.stop_agent()
    board.start_agent()
    until(lambda: ready(fleet) == "True", "the board to be back", MINUTE_S)
    until(lambda: "default/late/main" in truth(board), "the pod that came meanwhile", MINUTE_S)
    assert identities(board)["default/rock/main"] == before
    secret = json.loads(fleet.kubectl("get", "secret", "-n", "skerry", "skerry-device-edge-1", "-o", "json"))
    assert "revoked" not in secret["data"]
