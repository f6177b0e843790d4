"""How a process that a stream was for ended, as kubelet says it on the error channel: a metav1.Status as JSON."""

from __future__ import annotations

import json


def exited(code: int) -> bytes:
    """Kubernetes client-go, remotecommand v4: kubectl takes the exit code out of the cause."""
    if code == 0:
        return _status({"status": "Success"})
    return _status(
        {
            "status": "Failure",
            "message": f"command terminated with non-zero exit code: exit status {code}",
            "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
        }
    )


def not_started(why: str) -> bytes:
    return _status(
        {
            "status": "Failure",
            "message": f"Internal error occurred: error executing command in container: {why}",
            "reason": "InternalError",
            "details": {"causes": [{"message": f"error executing command in container: {why}"}]},
            "code": 500,
        }
    )


def _status(said: dict[str, object]) -> bytes:
    return json.dumps({"metadata": {}, **said}, separators=(",", ":")).encode()
