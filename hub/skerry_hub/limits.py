"""Bounds of the hub that no device shares, with their unit in their name. What device and hub agree on stands in
`skerry.limits`."""

from __future__ import annotations

# --- the Kubernetes API as a client -----------------------------------------------------------------------------------
API_TIMEOUT_S = 30.0  # one request but a watch, from its start to the end of its reply
API_CONNECT_TIMEOUT_S = 10.0
API_CONNECTIONS_MAX = 128  # more than all writers and watches together: none waits for a connection
API_REPLY_BYTES_MAX = 64 * 1024 * 1024  # one page of a list
LIST_PAGE_ITEMS = 500
WATCH_TIMEOUT_S = (300.0, 600.0)  # a watch is asked to end after a time between these, so that they never end together
WATCH_SILENCE_S = 90.0  # no event and no bookmark for this long: the watch is opened again where it stopped
WATCH_SHORT_S = 1.0  # a watch that ends sooner is opened again after a back-off
WATCH_LINE_BYTES_MAX = 8 * 1024 * 1024  # one event
RETRY_AFTER_S_MAX = 60.0  # a server that asks for more is asked again after this

# --- edge controller --------------------------------------------------------------------------------------------------
API_WRITES_MAX = 48  # writes under way, over all devices
DEVICE_WRITES_MAX = 4  # of one device
NODE_WRITERS_MAX = 16  # node patches under way
EVENT_MESSAGE_CHARS_MAX = 1_024  # the API's own bound of an Event's message
EVENT_REASON_CHARS_MAX = 128  # and of its reason

# --- cloud hub --------------------------------------------------------------------------------------------------------
SUBSCRIBE_TOPICS_MAX = 100  # topics in one SUBSCRIBE
HAIL_BATCH = 20  # devices asked to say Hello at the same time
HAIL_PAUSE_S = 0.1  # between two batches: 200 devices in a second
PRESENCE_GRACE_S = 90.0  # without a session for this long, though no will came, a device counts as away
REJECT_PAUSE_S = 1.0  # Rejects to one device are not closer than this
BUSY_RETRY_MS = 2_000  # a device that sent more than its credit is asked to come back after about this
BROKER_STEADY_S = 10.0  # a connection that lived this long lets the back-off start anew
CRASH_BACKOFF_S = (1.0, 300.0)  # a session's task that failed; a bug, so it is counted

# --- skerry-hub up ----------------------------------------------------------------------------------------------------
CHILD_BACKOFF_S = (0.5, 30.0)  # a child that ended is started again after this
CHILD_STEADY_S = 60.0
CHILD_READY_S = 30.0
CHILD_STOP_S = 10.0  # SIGTERM, then SIGKILL
