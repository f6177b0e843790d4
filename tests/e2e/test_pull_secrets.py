"""A private image and its pull secret, from kubectl to a real registry on the board's loopback that wants a password.

The password is looked for where a Secret must not be: the whole flash of the board, every log, what `skerry` shows, the
API's Events and statuses, the environment of every process of this machine, and all that the pod can read.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet import BIN, Fleet, identities, pod, truth
from rig import Device, images, registry, until
from rig.process import pids
from rig.registry import HOST, Registry
from skerry.plan.keyring import WITHHELD

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.usefixtures("clean"),
    pytest.mark.skipif(bool(registry.missing()), reason=registry.missing()),
]
USER, PASSWORD = "tide", "nobody-may-read-this-4711"
SPELLED = tuple(
    said.encode()
    for said in (
        PASSWORD,
        base64.b64encode(PASSWORD.encode()).decode()[:32],
        base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()[:36],
        PASSWORD.encode().hex(),
    )
)
TYPE = "kubernetes.io/dockerconfigjson"
WAIT_S = 120.0
# A registry that gives whoever says his password a token, and says of the token that it is wrong, and the password.
ECHO = """
import http.server, urllib.parse
said = ["nothing"]
class Echo(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        said[:] = form["password"]
        print("heard", flush=True)
        self.answer(200, b'{"access_token": "short"}')
    def do_GET(self):
        self.answer(401, b"")
    def answer(self, status, body):
        self.send_response(status)
        challenge = f'Bearer realm="http://127.0.0.1:5001/token",service="echo",error="{said[0]}"'
        self.send_header("WWW-Authenticate", challenge)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_HEAD = do_GET
print("listens", flush=True)
http.server.HTTPServer(("127.0.0.1", 5001), Echo).serve_forever()
"""


@pytest.fixture(scope="module")
def private(board: Device) -> Iterator[Registry]:
    """With one image for each test, because one that is on the board serves all its pods."""
    running = Registry(board, USER, PASSWORD)
    for number in range(1, 6):
        word = {"etc/word": f"private {number}".encode(), "bin/hello": images.HELLO_SCRIPT}
        running.push(images.image(f"{HOST}/private/hello:{number}", word, ["/bin/hello"]))
    yield running
    running.process.kill()


def secret(password: str = PASSWORD, name: str = "keys", at: str = HOST) -> dict[str, Any]:
    """As `kubectl create secret docker-registry` makes it."""
    auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
    said = {"auths": {at: {"username": USER, "password": password, "auth": auth}}}
    meta = {"name": name, "namespace": "default"}
    data = {".dockerconfigjson": base64.b64encode(json.dumps(said).encode()).decode()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": TYPE, "data": data}


def wants(board: Device, name: str, number: int, *secrets: str, host: str = HOST) -> dict[str, Any]:
    container = {"name": "main", "image": f"{host}/private/hello:{number}", "env": [{"name": "PORT", "value": "0"}]}
    return pod(name, board.name, containers=[container], imagePullSecrets=[{"name": s} for s in secrets])


def waiting(fleet: Fleet, name: str) -> dict[str, str]:
    """Reason and message of the container that waits."""
    status = json.loads(fleet.kubectl("get", "pod", name, "--output", "json"))["status"]
    said: list[dict[str, Any]] = status.get("containerStatuses") or [{}]
    state: dict[str, str] = said[0].get("state", {}).get("waiting", {})
    return state


def until_waits(fleet: Fleet, name: str, fits: Callable[[dict[str, str]], bool]) -> dict[str, str]:
    until(lambda: fits(waiting(fleet, name)), "the container to wait", WAIT_S, lambda: str(waiting(fleet, name)))
    return waiting(fleet, name)


def warned(fleet: Fleet, name: str) -> list[tuple[str, str]]:
    """Reasons and messages of the pod's warnings."""
    selector = f"involvedObject.name={name},type=Warning"
    said = json.loads(fleet.kubectl("get", "events", "--field-selector", selector, "--output", "json"))
    return [(event["reason"], event["message"]) for event in said["items"]]


def holding(*folders: Path) -> list[str]:
    argv = ["grep", "-raFl", *(f"-e{said.decode()}" for said in SPELLED), *map(str, folders)]
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.splitlines()


def environments() -> list[str]:
    out = []
    for pid in pids():
        try:
            said = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue
        out += [str(pid)] if any(spelled in said for spelled in SPELLED) else []
    return out


def nowhere(fleet: Fleet, board: Device) -> list[str]:
    """Where it is though it must not be."""
    logs = [*fleet.site.folder.glob("logs"), *fleet.site.folder.glob("*/logs")]
    found = holding(board.disk, board.outside(board.run_dir), *logs) + environments()
    for command in (["explain", "app"], ["status"], ["get", "pods"]):
        argv = [str(BIN / "skerry"), *command, "--config", str(board.config_path), "--output", "json"]
        shown = board.nsenter(argv)
        found += [f"skerry {command}"] if PASSWORD in shown.stdout + shown.stderr else []
    for what in ("pods", "events", "nodes"):
        shown_here = fleet.kubectl("get", what, "--output", "json")
        found += [f"kubectl get {what}"] if PASSWORD in shown_here else []
    return found


def test_a_private_image_runs_and_the_password_is_nowhere(fleet: Fleet, board: Device, private: Registry) -> None:
    fleet.apply(secret(), wants(board, "app", 1, "keys"))
    fleet.wait_phase("app")
    assert private.user in private.process.log(), "it was asked by the user of the Secret"
    assert nowhere(fleet, board) == []
    assert holding(fleet.site.folder), "the search finds it where it may be: at the API"
    look = f"cat /etc/word; grep -rF {PASSWORD} /bin /etc /tmp /run /dev/shm 2>/dev/null; cat /proc/1/environ"
    shell = ["tasks", "exec", "--exec-id", os.urandom(6).hex(), truth(board)["default/app/main"], "/bin/sh", "-c", look]
    seen = board.ctr(*shell, check=False)
    assert "private 1" in seen
    assert PASSWORD not in seen
    running = identities(board)
    fleet.apply(secret("another"))
    fleet.apply(secret("another", "more"))
    fleet.apply(wants(board, "beside", 1))
    fleet.wait_phase("beside")
    assert {name: who for name, who in identities(board).items() if name in running} == running
    assert warned(fleet, "beside") == [], "an image that is on the board serves all its pods"


def test_with_a_wrong_password_it_says_so_and_heals_when_the_secret_does(
    fleet: Fleet, board: Device, private: Registry
) -> None:
    del private
    fleet.apply(secret("guessed-wrongly"), wants(board, "app", 2, "keys"))
    said = until_waits(fleet, "app", lambda now: now.get("reason") in ("ErrImagePull", "ImagePullBackOff"))
    assert "401 Unauthorized" in said["message"]
    assert fleet.kubectl("get", "pod", "app", "--no-headers").split()[2] in ("ErrImagePull", "ImagePullBackOff")
    until_waits(fleet, "app", lambda now: now.get("reason") == "ImagePullBackOff")
    assert {reason for reason, _ in warned(fleet, "app")} >= {"Failed", "BackOff"}
    fleet.apply(secret())
    fleet.wait_phase("app")
    assert nowhere(fleet, board) == []


def test_a_missing_one_is_an_event_and_the_others_serve(fleet: Fleet, board: Device, private: Registry) -> None:
    del private
    fleet.apply(secret(), wants(board, "app", 3, "gone", "keys"))
    fleet.wait_phase("app")
    until(lambda: "FailedToRetrieveImagePullSecret" in dict(warned(fleet, "app")), "the Event", WAIT_S)
    assert "pull secrets (gone)" in dict(warned(fleet, "app"))["FailedToRetrieveImagePullSecret"]


def test_one_of_a_wrong_type_is_named_without_what_is_in_it(fleet: Fleet, board: Device, private: Registry) -> None:
    del private
    fleet.kubectl("delete", "secret", "keys", "--ignore-not-found")
    wrong = {**secret(), "type": "Opaque"}
    fleet.apply(wrong, wants(board, "app", 4, "keys"))
    said = until_waits(fleet, "app", lambda now: now.get("reason") in ("ErrImagePull", "ImagePullBackOff"))
    assert said["message"].startswith("Secret default/keys: type: is neither kubernetes.io/dockerconfigjson")
    fleet.kubectl("delete", "secret", "keys")  # a Secret's type never changes
    fleet.apply(secret())
    fleet.wait_phase("app")
    assert nowhere(fleet, board) == []


def test_those_of_the_service_account_come_by_the_api(fleet: Fleet, board: Device, private: Registry) -> None:
    del private
    meta = {"name": "puller", "namespace": "default"}
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta, "imagePullSecrets": [{"name": "keys"}]}
    asks = wants(board, "app", 5)
    asks["spec"]["serviceAccountName"] = "puller"
    fleet.apply(secret(), account)
    fleet.apply(asks)
    fleet.wait_phase("app")
    fleet.kubectl("delete", "serviceaccount", "puller")


def test_a_registry_that_repeats_the_password_does_not_make_it_shown(fleet: Fleet, board: Device) -> None:
    echo = board.spawn([sys.executable, "-c", ECHO], "echo")
    echo.wait_log("listens")
    at = "127.0.0.1:5001"
    fleet.apply(secret(at=at), wants(board, "app", 1, "keys", host=at))
    until_waits(fleet, "app", lambda now: now.get("reason") == "ImagePullBackOff")
    assert "heard" in echo.log(), "it was told the password"
    found = nowhere(fleet, board)
    said = waiting(fleet, "app")["message"]
    fleet.kubectl("delete", "pod", "app", "--timeout=60s")
    echo.kill()
    assert WITHHELD in said
    assert board.containerd is not None
    assert found == [str(board.containerd.log_path)], "containerd logs it, which is not for skerry to prevent"
