"""API objects as a real server hands them out: defaulted, admitted, with all that must not travel."""

from __future__ import annotations

from typing import Any

TOKEN = "kube-api-access-x7x7x"


def api_pod(name: str = "web", node: str = "pi", **spec: Any) -> dict[str, Any]:
    mount = {"name": TOKEN, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": True}
    main = {
        "name": "main",
        "image": "busybox:1",
        "imagePullPolicy": "IfNotPresent",
        "resources": {},
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "volumeMounts": [{"name": "conf", "mountPath": "/conf"}, mount],
        "env": [{"name": "P", "valueFrom": {"secretKeyRef": {"name": "pass", "key": "p"}}}],
        "envFrom": [{"configMapRef": {"name": "all"}}],
    }
    sources = [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
    ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": f"uid-{name}",
            "resourceVersion": "7",
            "generation": 1,
            "creationTimestamp": "2026-11-24T10:00:00Z",
            "labels": {"app": name},
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "note": "kept"},
            "managedFields": [{"manager": "kubectl"}],
            "ownerReferences": [{"kind": "ReplicaSet", "name": "rs"}],
        },
        "spec": {
            "containers": [main],
            "volumes": [
                {"name": "conf", "configMap": {"name": "conf", "defaultMode": 420}},
                {"name": TOKEN, "projected": {"defaultMode": 420, "sources": sources}},
            ],
            "nodeName": node,
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30,
            "dnsPolicy": "ClusterFirst",
            "serviceAccount": "default",
            "serviceAccountName": "default",
            "schedulerName": "default-scheduler",
            "securityContext": {},
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "tolerationSeconds": 300}],
            "priority": 0,
            "enableServiceLinks": True,
            "preemptionPolicy": "PreemptLowerPriority",
            **spec,
        },
        "status": {"phase": "Pending", "qosClass": "BestEffort"},
    }


def api_config(name: str, secret: bool = False, **more: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret" if secret else "ConfigMap",
        "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}", "resourceVersion": "5"},
        **more,
    }
