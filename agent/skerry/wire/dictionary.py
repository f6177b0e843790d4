"""The deflate dictionary that both ends know: words that Kubernetes objects and our messages are made of.

Frozen: a changed byte here is a new protocol version (frame.VERSION). The most frequent words stand last, where
deflate reaches them with the shortest distances.
"""

from __future__ import annotations

_WORDS = """
Directory DirectoryOrCreate FileOrCreate CharDevice BlockDevice Socket Memory emptyDir sizeLimit medium hostPath
CrashLoopBackOff ImagePullBackOff ErrImagePull CreateContainerConfigError ContainerCreating PodInitializing OOMKilled
Completed Error Unsupported FailedMount BackOff Pulled Created Started Killing Scheduled Failed Succeeded Pending
securityContext privileged runAsUser runAsNonRoot capabilities readOnlyRootFilesystem allowPrivilegeEscalation
livenessProbe readinessProbe startupProbe httpGet tcpSocket periodSeconds timeoutSeconds successThreshold
failureThreshold initialDelaySeconds lifecycle preStop postStart projected downwardAPI fieldRef fieldPath
v1 apiVersion kind Pod ConfigMap Secret Opaque type immutable binaryData data
app.kubernetes.io/name app.kubernetes.io/instance app.kubernetes.io/component app.kubernetes.io/managed-by
ownerReferences controller blockOwnerDeletion deletionTimestamp deletionGracePeriodSeconds annotations
nodeName nodeSelector hostname subdomain hostNetwork imagePullSecrets automountServiceAccountToken
enableServiceLinks serviceAccountName serviceAccount default terminationMessagePath /dev/termination-log
terminationMessagePolicy File dnsPolicy ClusterFirst schedulerName default-scheduler preemptionPolicy
PreemptLowerPriority priority tolerations effect NoExecute operator Exists tolerationSeconds
node.kubernetes.io/not-ready node.kubernetes.io/unreachable
envFrom prefix configMapRef secretRef valueFrom configMapKeyRef secretKeyRef optional key items defaultMode mode path
volumeMounts mountPath readOnly subPath volumes configMap secret secretName
limits requests cpu memory 100m 500m 64Mi 128Mi 256Mi ports containerPort hostPort hostIP protocol TCP UDP http
workingDir command args sh -c /bin/sh sleep env value
restartPolicy Always OnFailure Never terminationGracePeriodSeconds
imagePullPolicy IfNotPresent latest image docker.io/library/ registry resources
metadata namespace labels app name uid spec containers
"""

DICTIONARY = " ".join(_WORDS.split()).encode()
