"""In which state a device is shown, what its drift is, and which one error is told."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry_hub.limits import FLEET_TEXT_CHARS_MAX
from skerry_hub.ui.rows import HELD, HOLDOVER, LIVE, NEW, PROBLEM, PodShown, pod_shown, row, unix_s

SINCE, MADE = "2026-01-02T03:04:05Z", "2026-01-01T00:00:00Z"
GOOD = PodShown("default/a", wanted=True, good=True, error="")
BAD = PodShown("default/b", wanted=True, good=False, error="default/b: ImagePullBackOff no such image")
LEAVING = PodShown("default/c", wanted=False, good=True, error="")


def node(*conditions: tuple[str, str, str]) -> dict[str, Any]:
    """Conditions: type, status, message."""
    shown = [{"type": k, "status": s, "message": m, "lastTransitionTime": SINCE} for k, s, m in conditions]
    return {"metadata": {"name": "pi", "creationTimestamp": MADE}, "status": {"conditions": shown}}


@pytest.mark.parametrize(
    ("conditions", "state", "since", "error"),
    [
        ((), NEW, MADE, ""),
        ((("Ready", "True", "connected"),), LIVE, SINCE, ""),
        ((("Ready", "Unknown", "not connected"),), HOLDOVER, SINCE, ""),
        ((("Ready", "False", "runtime is down"),), PROBLEM, SINCE, "runtime is down"),
        ((("Ready", "True", ""), ("DiskPressure", "True", "full")), PROBLEM, SINCE, "DiskPressure: full"),
        ((("Ready", "True", ""), ("RestoredHub", "True", "other")), HELD, SINCE, "RestoredHub: other"),
        ((("Ready", "Unknown", ""), ("RestoredHub", "True", "other")), HOLDOVER, SINCE, "RestoredHub: other"),
        ((("Ready", "True", ""), ("DiskPressure", "False", "calm")), LIVE, SINCE, ""),
    ],
)
def test_states(conditions: tuple[tuple[str, str, str], ...], state: str, since: str, error: str) -> None:
    shown = row(node(*conditions), [], None)
    assert (shown.state, shown.since, shown.error) == (state, unix_s(since), error)
    assert (shown.generation, shown.received, shown.sent) == (None, None, None)


def test_drift_counts_what_is_not_as_it_should_be() -> None:
    live = node(("Ready", "True", ""))
    assert row(live, [GOOD], None).drift == ""
    shown = row(live, [LEAVING, BAD, GOOD], {"drift": True, "bytes_in": 5, "bytes_out": 6, "generation": 7})
    assert (shown.ready, shown.pods, shown.drift) == (1, 2, "1 pod not ready, 1 leaving, change not applied")
    assert (shown.generation, shown.received, shown.sent) == (7, 5, 6)
    assert row(live, [], {"drift": None}).drift == "", "not known is not drift"


def test_one_error_is_told_the_nodes_own_first() -> None:
    live = node(("Ready", "True", ""))
    told = {"note": "malformed frame"}
    assert row(node(("Ready", "False", "down")), [BAD], told).error == "down"
    assert row(live, [GOOD, BAD], told).error == BAD.error
    assert row(live, [GOOD], told).error == "hub: malformed frame"
    assert len(row(node(("Ready", "False", "x " * 5_000)), [], None).error) == FLEET_TEXT_CHARS_MAX


def test_pods() -> None:
    meta = {"name": "a", "namespace": "ns"}
    ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    assert pod_shown({"metadata": meta, "status": ready}) == PodShown("ns/a", True, True, "")
    assert pod_shown({"metadata": meta, "status": {"phase": "Succeeded"}}).good
    assert not pod_shown({"metadata": meta}).good
    assert not pod_shown({"metadata": {**meta, "deletionTimestamp": SINCE}, "status": ready}).wanted
    creating = {"containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]}
    assert pod_shown({"metadata": meta, "status": creating}).error == ""
    looping = {"containerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff", "message": "10s"}}}]}
    assert pod_shown({"metadata": meta, "status": looping}).error == "ns/a: CrashLoopBackOff 10s"
    refused = {"phase": "Failed", "reason": "Unsupported", "message": "spec.hostPID"}
    assert pod_shown({"metadata": meta, "status": refused}).error == "ns/a: Unsupported spec.hostPID"


NAMES = ("conditions", "type", "status", "state", "waiting", "reason", "phase", "containerStatuses")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(NAMES), inner
    ),
    max_leaves=12,
)  # fmt: skip


@given(JSON, JSON)
def test_whatever_a_status_holds_there_is_a_row(status: Any, other: Any) -> None:
    pod = pod_shown({"metadata": {"name": "a"}, "status": other})
    shown = row({"metadata": {"name": "pi"}, "status": status}, [pod], {})
    assert shown.name == "pi"
    assert shown.pods == 1
