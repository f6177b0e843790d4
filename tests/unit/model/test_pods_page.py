"""docs/pods.md tells what manifest.py does: its tables are made here, from the code's own and from what is refused."""

from __future__ import annotations

import os
from pathlib import Path

from skerry.model.manifest import CONTAINER_READ, IGNORED, POD_READ, VOLUME_READ
from unit.model.test_manifest import CONTAINER_REFUSED, POD_REFUSED, VOLUME_REFUSED

PAGE = Path(__file__).parents[3] / "docs" / "pods.md"
BEGIN, END = "<!-- tables: made by tests/unit/model/test_pods_page.py -->", "<!-- end of tables -->"

POD = {
    "containers": "1 to 32",
    "volumes": "up to 64, kinds below",
    "restartPolicy": "Always, OnFailure, Never",
    "terminationGracePeriodSeconds": "0 to 3600",
    "hostname": "",
    "imagePullSecrets": "up to 64 Secrets of type kubernetes.io/dockerconfigjson or kubernetes.io/dockercfg; see below",
    "dnsPolicy": "ClusterFirst and Default, which mean the same here: the board's own resolver",
    "os": "linux",
    "hostUsers": "true, which is the default",
}
CONTAINER = {
    "name": "",
    "image": "",
    "imagePullPolicy": "Always, IfNotPresent, Never; without one, the tag decides as in Kubernetes",
    "command": "with `$(VAR)`",
    "args": "with `$(VAR)`",
    "workingDir": "",
    "env": "`value`, `configMapKeyRef`; `secretKeyRef` if the device has `secret_env = true`; not `fieldRef`, "
    "`resourceFieldRef`",
    "envFrom": "`configMapRef`; `secretRef` if the device has `secret_env = true`",
    "ports": "`hostPort` too; TCP, UDP, SCTP. A pod whose hostPort another pod of the device has waits, Pending with "
    "reason `NodePorts`, until it is free",
    "volumeMounts": "not `subPath`, not mount propagation",
    "resources": "cpu and memory, limits and requests; changed while the container runs",
    "stdin": "kept open for `kubectl attach`",
    "stdinOnce": "",
    "tty": "",
    "terminationMessagePath": "only its default",
    "terminationMessagePolicy": "only `File`, its default",
}
VOLUME = {
    "name": "",
    "configMap": "with `items`, modes, `optional`; read-only",
    "secret": "with `items`, modes, `optional`; read-only, in memory, never on disk",
    "emptyDir": "on disk, or `medium: Memory`; `sizeLimit`",
    "hostPath": "all types",
}


def tables() -> str:
    out: list[str] = []
    for title, read in (("Pod `spec`", POD), ("Container", CONTAINER), ("Volume", VOLUME)):
        out += [f"### {title}: read", "", "| field | what of it |", "|---|---|"]
        out += [f"| `{name}` | {what or 'all'} |" for name, what in read.items()] + [""]
    out += ["### Pod `spec`: without meaning on a device", "", "| field | why |", "|---|---|"]
    out += [f"| `{name}` | {why} |" for name, why in IGNORED.items()] + [""]
    out += ["### Refused", "", "With any value but an empty one, false, or where noted above the default:", ""]
    for title, names in (("Pod", POD_REFUSED), ("Container", CONTAINER_REFUSED), ("Volume", VOLUME_REFUSED)):
        out += [f"- {title}: " + ", ".join(f"`{n}`" for n in sorted(set(names) - POD.keys())), ""]
    return "\n".join(out)


def test_what_the_page_says_is_read_is_what_is_read() -> None:
    assert POD.keys() == POD_READ
    assert CONTAINER.keys() == CONTAINER_READ
    assert VOLUME.keys() == VOLUME_READ


def test_the_page_has_the_present_tables() -> None:
    before, _, rest = PAGE.read_text().partition(BEGIN)
    old, _, after = rest.partition(END)
    if os.environ.get("SKERRY_WRITE_DOCS"):
        PAGE.write_text(f"{before}{BEGIN}\n\n{tables()}\n{END}{after}")
    else:
        assert old.strip() == tables().strip(), "stale: SKERRY_WRITE_DOCS=1 pytest tests/unit/model/test_pods_page.py"
