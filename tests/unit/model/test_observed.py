"""A listing becomes pods, newest attempt first."""

from __future__ import annotations

from skerry.model.observed import ContainerSeen, ContainerState, PodSeen, SandboxSeen, pods_seen


def box(ident: str, uid: str, attempt: int, created: int = 0) -> SandboxSeen:
    return SandboxSeen(ident, uid, "default", "web", attempt, True, created)


def made(ident: str, uid: str, name: str, attempt: int, created: int = 0) -> ContainerSeen:
    return ContainerSeen(ident, "b", uid, name, attempt, "f", ContainerState.RUNNING, created_ns=created)


def test_nothing_shows_no_pods() -> None:
    assert pods_seen([], []) == {}
    assert PodSeen("u").empty


def test_what_carries_one_uid_is_one_pod_whatever_the_order_of_the_listing() -> None:
    boxes = [box("b1", "u1", 0), box("b2", "u2", 0), box("b3", "u1", 1)]
    containers = [made("c1", "u1", "app", 0), made("c2", "u1", "app", 2), made("c3", "u3", "app", 0)]
    pods = pods_seen(boxes, containers)
    assert pods == pods_seen(boxes[::-1], containers[::-1])
    assert list(pods) == ["u1", "u2", "u3"]
    assert [s.id for s in pods["u1"].sandboxes] == ["b3", "b1"]
    assert [c.id for c in pods["u1"].containers] == ["c2", "c1"]
    assert pods["u3"].sandboxes == ()
    assert not pods["u3"].empty


def test_equal_attempts_are_ordered_by_age() -> None:
    pods = pods_seen([], [made("old", "u", "app", 1, 10), made("new", "u", "app", 1, 20)])
    newest = pods["u"].latest("app")
    assert newest is not None
    assert newest.id == "new"
    assert pods["u"].latest("other") is None
