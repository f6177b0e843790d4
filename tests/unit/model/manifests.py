"""Manifests that the model's tests share."""

from __future__ import annotations

import copy
from typing import Any

from skerry.model.desired import Kind, Object, object_of

_FULL: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "namespace": "default",
        "name": "web",
        "uid": "u1",
        "resourceVersion": "5",
        "labels": {"app": "web"},
        "annotations": {"example.com/a": "1"},
    },
    "spec": {
        "restartPolicy": "OnFailure",
        "terminationGracePeriodSeconds": 10,
        "hostname": "web-0",
        "dnsPolicy": "Default",
        "nodeName": "pi",
        "containers": [
            {
                "name": "app",
                "image": "example.com/app:1",
                "imagePullPolicy": "Always",
                "command": ["/bin/app", "$(A)"],
                "args": ["--port", "80"],
                "workingDir": "/srv",
                "env": [
                    {"name": "A", "value": "1"},
                    {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k", "optional": True}}},
                    {"name": "C", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                ],
                "envFrom": [{"prefix": "P_", "configMapRef": {"name": "m"}}, {"secretRef": {"name": "s"}}],
                "ports": [{"containerPort": 80, "hostPort": 8080, "protocol": "TCP", "name": "http"}],
                "volumeMounts": [
                    {"name": "cm", "mountPath": "/etc/app", "readOnly": True},
                    {"name": "data", "mountPath": "/data"},
                    {"name": "secret", "mountPath": "/secret"},
                    {"name": "host", "mountPath": "/host"},
                ],
                "resources": {"limits": {"cpu": "500m", "memory": "64Mi"}, "requests": {"cpu": "100m"}},
            },
            {"name": "side", "image": "example.com/side"},
        ],
        "volumes": [
            {"name": "cm", "configMap": {"name": "m", "items": [{"key": "k", "path": "a/b", "mode": 0o400}]}},
            {"name": "data", "emptyDir": {"medium": "Memory", "sizeLimit": "8Mi"}},
            {"name": "secret", "secret": {"secretName": "s", "defaultMode": 0o400, "optional": True}},
            {"name": "host", "hostPath": {"path": "/srv", "type": "Directory"}},
            {"name": "unused", "hostPath": {"path": "/unused"}},
        ],
    },
}


def full() -> dict[str, Any]:
    """A pod that uses every field that is read."""
    return copy.deepcopy(_FULL)


def small() -> dict[str, Any]:
    return {
        "metadata": {"namespace": "default", "name": "p"},
        "spec": {"containers": [{"name": "a", "image": "example.com/app:1"}]},
    }


def pod_object(_manifest: object = None, uid: str = "u1") -> Object:
    return object_of(Kind.POD, uid, b"")
