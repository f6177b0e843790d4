"""Long form: the plug is pulled at random moments under load, and what the guest had not flushed is really gone.

After each cut: root A is byte for byte what was flashed, e2fsck finds nothing on the data partition once its journal
has been replayed, skerry's journal reads, and the pods that nobody changed run again. CUTS sets how many (20); the
32-bit board has a fifth of them.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import statistics
import time

import pytest

from fleet import Fleet, pod
from qemu import guest
from qemu.card import Card
from qemu.figures import record
from qemu.machine import Machine

from .conftest import ARM64, BOARDS, NODE

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("ident", BOARDS, indirect=True, scope="module")]
CUTS = int(os.environ.get("CUTS", "20"))
SEED = int(os.environ.get("SEED", str(random.randrange(1 << 32))))
CUT_AFTER_S_MAX = 20.0
CONTROL_TRIES_MAX = 5
STEADY = ("steady-1", "steady-2")
# Small synced writes, a large unsynced one and an image import, all on the partition that holds the journal.
LOAD = (
    "(i=0; while :; do i=$((i+1)); echo $i > /data/l.new; sync /data/l.new; mv /data/l.new /data/l; done) & "
    "(while :; do dd if=/dev/urandom of=/data/unsynced bs=64k count=200; rm /data/unsynced; done) & "
    "(while :; do ctr -n k8s.io images import --no-unpack /data/hello.tar; done) &"
)


def test_what_was_not_flushed_is_lost_and_what_was_is_kept(machine: Machine, card: Card) -> None:
    """The control of what follows, on the empty root B. A flush by somebody else may save a write: then once more."""
    machine.drop_unflushed = True
    for number in range(1, CONTROL_TRIES_MAX + 1):
        machine.boot()
        block, mark = 64 * number, f"mark-{number}-"
        write = f"yes {mark} | dd of=/dev/vda3 bs=4096 count=1 iflag=fullblock oflag=direct status=none"
        # Nobody else writes to the card now, so nobody else flushes it.
        machine.console.run(f"fsfreeze -f /data; {write} seek={block} conv=fsync; {write} seek={block + 1}")
        machine.power_cut()
        flushed, unflushed = (card.root_b(n * 4096, 4096).startswith(mark.encode()) for n in (block, block + 1))
        assert flushed, "a flushed write was lost"
        if not unflushed:
            return
    pytest.fail(f"in {CONTROL_TRIES_MAX} cuts no unflushed write was lost: the cuts below would show nothing")


def test_power_cuts(fleet: Fleet, machine: Machine, card: Card) -> None:
    chance, cuts = random.Random(SEED), CUTS if machine.ident == ARM64 else max(1, CUTS // 5)
    print(f"SEED={SEED} CUTS={cuts}")
    machine.boot()
    guest.wait_active(machine, "skerry")
    machine.console.run("ctr -n k8s.io images import /data/hello.tar", timeout_s=300)
    fleet.apply(*(pod(name, NODE) for name in STEADY))
    for name in STEADY:
        guest.wait_phase(fleet, name)
    machine.console.run("sync; systemctl --no-block poweroff")
    machine.wait_end()
    root = hashlib.sha256(card.read_root()).hexdigest()
    machine.drop_unflushed = True
    survived, seconds = 0, []
    for number in range(1, cuts + 1):
        one_cut(fleet, machine, number, chance.uniform(0, CUT_AFTER_S_MAX))
        assert hashlib.sha256(card.read_root()).hexdigest() == root, f"cut {number}: root A changed"
        code, said = card.fsck_data(fleet.site.folder / "data.check")
        assert code == 0, f"cut {number}: e2fsck says {said}"
        machine.boot()
        seconds.append(steady_again(machine))
        survived += 1
        record(machine.ident, cuts_tried=number, cuts_survived=survived,
               cut_kernel_to_pods_s=[statistics.median(seconds), max(seconds)])  # fmt: skip
    assert survived == cuts


def one_cut(fleet: Fleet, machine: Machine, number: int, after_s: float) -> None:
    """A pod comes or goes, the disk is busy, and then the plug."""
    if not machine.running:
        machine.boot()
        steady_again(machine)
    machine.console.run(f"{{ {LOAD} }} > /dev/null 2>&1")
    if number % 2:
        fleet.apply(pod("comes-and-goes", NODE))
    else:
        fleet.kubectl("delete", "pod", "comes-and-goes", "--ignore-not-found", "--wait=false")
    time.sleep(after_s)  # the random moment
    machine.power_cut()


def steady_again(machine: Machine) -> float:
    """Until the unchanged pods run; seconds from the kernel's start. The journal must read as well."""
    guest.wait_pods(machine, STEADY)
    status = json.loads(machine.console.run("skerry status --output json", timeout_s=300))
    assert status["generation"] > 0, status
    found = guest.pods(machine)
    return max(guest.start_times(machine, [found[name] for name in STEADY]).values())
