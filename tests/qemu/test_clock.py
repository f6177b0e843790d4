"""Long form: the whole agent on a board whose clock is wrong, from power-on and by a step while it is connected.

What must happen (docs/operating.md, "The clock"; docs/decisions/0016): a clock that nobody has set judges nothing, so
the board enrols, comes back and connects by any, and learns the time at first contact. A clock that a time server has
set does judge: where that is wrong the board is without a hub until it is right, and then heals by itself. Nothing of
it restarts a pod.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timezone

import pytest

from fleet import Fleet, pod
from qemu import guest
from qemu.card import Card
from qemu.machine import Machine
from rig import until

from .conftest import NODE

pytestmark = pytest.mark.slow
HOUR_S, YEAR_S = 3_600.0, 365 * 86_400.0
PAST_31_BITS_S = float(1 << 31)  # 2038-01-19 03:14:08
BEFORE_S = 60.0  # so that the board passes that moment while it runs
DRIFT_S = 600.0  # between what the board is switched on with and a look at its clock
Y1970_S = 86_400.0  # a clock cannot be set to before the board was switched on
CLOCKS: dict[str, Callable[[float], float]] = {
    "1970": lambda _now: 0.0,
    "a year forward": lambda now: now + YEAR_S,
    "2038": lambda _now: PAST_31_BITS_S - BEFORE_S,
    "an hour back": lambda now: now - HOUR_S,
}


@pytest.mark.parametrize("clock", CLOCKS)
def test_a_board_enrols_and_comes_back_by_any_clock(clock: str, fleet: Fleet, machine: Machine, card: Card) -> None:
    """Each boot finds a new token, so the board enrols by this clock, whoever it was before; then the agent ends
    and comes back with that identity."""
    card.put_boot("skerry-token.txt", f"{fleet.token(NODE)}\n")
    said, before = CLOCKS[clock](time.time()), greetings(fleet)
    base = datetime.fromtimestamp(said, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
    machine.boot(extra=("-rtc", f"base={base}"))
    run = machine.console.run
    if said < (floor := float(run("stat -c %Y /usr/lib/clock-epoch"))):
        assert floor <= wall(machine) < time.time() - HOUR_S, "systemd's, or its own release's: no time is before"
    else:
        assert 0 <= wall(machine) - said < DRIFT_S
    until(lambda: "enrolment: done" in log(machine), "it to enrol", guest.READY_TIMEOUT_S, lambda: log(machine))
    wait_live(fleet, machine, before)
    if before == 0:
        run("ctr -n k8s.io images import /data/hello.tar", timeout_s=300)
        fleet.apply(pod("steady", NODE))
        guest.wait_phase(fleet, "steady")
    running = guest.wait_containers(machine)
    if said < PAST_31_BITS_S < said + DRIFT_S:
        until(lambda: wall(machine) > PAST_31_BITS_S, "the clock to need more than 31 bits", DRIFT_S)
    again(fleet, machine)
    guest.wait_ready(fleet, NODE)
    assert guest.wait_containers(machine) == running
    assert fleet.kubectl("exec", "steady", "--", "echo", "there") == "there\n", "streams have a connection of their own"
    assert "renewal:" not in log(machine), "no clock makes its certificates old"
    if clock != list(CLOCKS)[-1]:  # the last one goes on below
        run("systemctl --no-block poweroff")
        machine.wait_end()
        wait_away(fleet)


def test_a_step_while_it_is_connected_ends_neither_session_nor_pod(fleet: Fleet, machine: Machine) -> None:
    before, agent, greeted = guest.wait_containers(machine), main_pid(machine), greetings(fleet)
    now = time.time()
    for number, to in enumerate((now + YEAR_S, Y1970_S, PAST_31_BITS_S, now)):
        step(machine, to)
        name = f"after-step-{number}"  # a change comes and its status goes, by the session that there is
        fleet.apply(pod(name, NODE))
        guest.wait_phase(fleet, name)
        fleet.site.kubectl("delete", "pod", name, "--timeout=240s", timeout_s=270)
    assert (main_pid(machine), greetings(fleet)) == (agent, greeted), "the same agent, the same session"
    assert guest.wait_containers(machine) == before


def test_in_1970_it_connects_anew_and_enrols(fleet: Fleet, machine: Machine) -> None:
    """What systemd keeps a board from at its boot: the agent itself is in 1970."""
    before = guest.wait_containers(machine)
    step(machine, Y1970_S)
    greeted = greetings(fleet)
    assert fleet.broker is not None
    fleet.broker.kill()
    fleet.start_broker()
    wait_live(fleet, machine, greeted)
    done = log(machine).count("enrolment: done")
    machine.console.run(f"(umask 077; echo '{fleet.token(NODE)}' > /var/lib/skerry/token)")
    again(fleet, machine)
    assert log(machine).count("enrolment: done") == done + 1
    assert guest.wait_containers(machine) == before


def test_a_time_server_that_is_wrong_costs_the_hub_until_it_is_right(fleet: Fleet, machine: Machine) -> None:
    """There is no time server here: its mark is set, and the clock by hand."""
    before, run = guest.wait_containers(machine), machine.console.run
    mark = "/run/systemd/timesync/synchronized"
    run(f"systemctl stop systemd-timesyncd; mkdir -p $(dirname {mark}); touch {mark}")
    step(machine, time.time() + 50 * YEAR_S)
    greeted = greetings(fleet)
    run("systemctl restart skerry", timeout_s=300)
    wait_away(fleet)
    until(lambda: "certificate has expired" in log(machine), "it to refuse the broker's certificate",
          guest.READY_TIMEOUT_S, lambda: log(machine))  # fmt: skip
    assert guest.wait_containers(machine) == before
    agent = main_pid(machine)
    step(machine, time.time())
    wait_live(fleet, machine, greeted)
    guest.wait_ready(fleet, NODE)
    assert (main_pid(machine), guest.wait_containers(machine)) == (agent, before)


def step(machine: Machine, to_s: float) -> None:
    """`date -s`, and nothing corrects it."""
    machine.console.run(f"date -s @{int(to_s)}")
    assert 0 <= wall(machine) - int(to_s) < DRIFT_S


def wall(machine: Machine) -> float:
    return float(machine.console.run("date +%s"))


def log(machine: Machine) -> str:
    """The agent's, of this boot."""
    return machine.console.run("journalctl -b -o cat --no-pager -u skerry")


def main_pid(machine: Machine) -> int:
    return int(machine.console.run("systemctl show -p MainPID --value skerry"))


def greetings(fleet: Fleet) -> int:
    """Sessions that the board has begun with this hub."""
    return int(fleet.sessions().get(NODE, {}).get("hellos", 0))


def again(fleet: Fleet, machine: Machine) -> None:
    """The agent ends and begins: it has its identity and its journal, and knows no time."""
    machine.console.run("systemctl stop skerry", timeout_s=300)
    wait_away(fleet)
    greeted = greetings(fleet)
    machine.console.run("systemctl start skerry", timeout_s=300)
    wait_live(fleet, machine, greeted)


def wait_away(fleet: Fleet) -> None:
    until(lambda: fleet.sessions()[NODE]["state"] == "away", "the hub to miss it", guest.READY_TIMEOUT_S)


def wait_live(fleet: Fleet, machine: Machine, after: int) -> None:
    """Until the board has a session that began after so many."""
    until(
        lambda: greetings(fleet) > after and fleet.sessions()[NODE]["state"] == "live",
        "a new session", guest.READY_TIMEOUT_S, lambda: guest.trouble(machine),
    )  # fmt: skip
