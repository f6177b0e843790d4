"""Every bound of the embedded API server, with its unit in its name. Nothing here decides anything."""

from __future__ import annotations

OBJECT_BYTES_MAX = 1536 * 1024  # etcd's default
JSON_DEPTH_MAX = 100
WATCHERS_MAX = 4096
WATCH_QUEUE_EVENTS_MAX = 8192  # a watcher that falls this far behind is ended
WATCH_TIMEOUT_S = 3600.0  # when the client gives none
WATCH_TIMEOUT_MAX_S = 86400.0
WATCH_BOOKMARK_S = 60.0
WATCH_BATCH_BYTES = 64 * 1024
CHANGES_MAX = 10_000  # kept for watches that begin in the past
CHANGES_BYTES_MAX = 64 * 1024 * 1024
LIST_ITEMS_MAX = 100_000
STORE_BYTES_MAX = 1024 * 1024 * 1024  # all objects together; they are held in memory too
COMMIT_BATCH_MAX = 512  # writes that share one fsync
PENDING_WRITES_MAX = 4096
EVENT_TTL_S = 3600.0
EVENT_SWEEP_S = 60.0
CSR_DECIDED_TTL_S = 3600.0  # a CertificateSigningRequest that is approved or denied, as on a cluster
CSR_PENDING_TTL_S = 86_400.0  # and one that nobody looked at
COLLECTION_DELETE_MAX = 100_000
SQLITE_BUSY_MS = 2000
YAML_BYTES_MAX = 1024 * 1024
