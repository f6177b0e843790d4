"""Bounds of the hub that no device shares, with their unit in their name. What device and hub agree on stands in
`skerry.limits`."""

from __future__ import annotations

from skerry.model.streams import STREAMS_SUFFIX

# --- HTTP connections of the embedded API and of the kubelet endpoint -------------------------------------------------
HTTP_HEAD_BYTES_MAX = 64 * 1024  # request line and headers
HTTP_BODY_BYTES_MAX = 3 * 1024 * 1024  # what the real API server allows
HTTP_CONNECTIONS_MAX = 4096
TLS_HANDSHAKE_S = 10.0
HTTP_HEAD_S = 10.0  # from a request's first byte to the end of its headers
HTTP_BODY_S = 60.0  # from there to the end of its body
HTTP_IDLE_S = 300.0  # between two requests of one connection
HTTP_WRITE_STALL_S = 60.0  # a client that does not read an ordinary reply
HTTP_SHUTDOWN_S = 1.0
HTTP_LINGER_S = 0.5  # after a refused request, so that its answer arrives
WRITE_HIGH_BYTES = 256 * 1024  # above this a stream waits for its client
READ_HIGH_BYTES = 64 * 1024  # received and not yet asked for: above this an upgraded connection is not read
TCP_KEEPALIVE = (15, 15, 9)  # seconds of silence, seconds between probes, lost probes: as Go has them
PEER_CHECK_S = 2.0  # how often a connection that is not read is asked whether its peer has gone

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

# --- kubelet endpoint -------------------------------------------------------------------------------------------------
KUBELET_PORTS = (10_350, 20_349)  # one port per device, the default range
KUBELET_FILES_S = (30.0, 60.0)  # certificate, key and client CA are looked at again after a time between these
KUBELET_CSR_POLL_S = (5.0, 15.0)  # a CertificateSigningRequest that waits is looked at again after a time between these
KUBELET_CSR_AGAIN_S = (300.0, 21_600.0)  # one that ended without a certificate is followed by another after a back-off
KUBELET_CSR_MESSAGE_CHARS_MAX = 300  # of why it ended, in one line of the log
KUBELET_RENEW_PART = (0.7, 0.9)  # of a certificate's life, when the next one is asked for: as a kubelet does
KUBELET_RENEW_LOOK_S = 3_600.0  # a clock that jumped is noticed within this
KUBELET_SELF_SIGNED_DAYS = 365  # what is shown until the first certificate is there; a kubelet's own is as long
KUBELET_STREAM_CREATE_S = 30.0  # from the upgrade until the client has opened all streams of an exec or port-forward
KUBELET_FIRST_OUTPUT_S = 0.05  # from the upgrade until a v5 client has made its streams (kubernetes#131189)
KUBELET_CLOSE_S = 5.0  # how long a client that has all it asked for may take to close its connection
REVIEW_CACHE_MAX = 1_024  # tokens, and answers about rights, each
REVIEW_YES_S = 60.0  # how long an answer of the API is believed; a kubelet's own default is two to five minutes
REVIEW_NO_S = 10.0
SUMMARY_BYTES_MAX = 4 * 1024 * 1024  # a device's stats
RESIZE_BYTES_MAX = 1_024  # one resize message
CLIENT_WINDOW_BYTES = 256 * 1024  # of one stream, received and not yet taken by the device: then its connection waits
PORT_FORWARDS_MAX = 128  # TCP connections of one client connection, those that have only one of their two streams too
PORT_CHANNELS_MAX = 64  # ports of one client connection that forwards by channels: two each, numbered by one byte

# --- enrolment --------------------------------------------------------------------------------------------------------
COMMON_NAME_CHARS_MAX = 64  # X.509's ub-common-name (RFC 5280, appendix A.1)
DEVICE_NAME_CHARS_MAX = COMMON_NAME_CHARS_MAX - len(STREAMS_SUFFIX)  # of a device that has certificates
DEVICE_DAYS = 90  # of a device's certificates
DEVICE_DAYS_MIN, DEVICE_DAYS_MAX = 1, 825  # what a person may say instead
RENEW_AGAIN_PART = 0.1  # of a certificate's life: who asks again within it is given the same one
RENEW_CHALLENGE_S = 120.0  # between the question for a challenge and the renewal
SERIALS_KEPT_MAX = 64  # certificates of one device that are replaced and have not ended, two a renewal
REVOKED_FILE_S = (1.0, 60.0)  # the file of revoked nodes cannot be written: tried again
REVOKED_LOOK_S = 1.0  # skerry-hub up looks so often whether the broker's rules must change
OWN_DAYS = 30  # of certificates that a hub makes for itself, in memory
OWN_RENEW_PART = 0.5  # of their life, after which they are made anew
OWN_LOOK_S = (1_800.0, 3_600.0)  # whether it is time, is looked at after a time between these
TOKEN_TTL_S = 3_600  # a token's life, if nobody says another
TOKEN_TTL_S_MIN, TOKEN_TTL_S_MAX = 60, 30 * 86_400
TOKEN_KEPT_S = 86_400.0  # after its end: so long a device that comes late is told why
TOKEN_SWEEP_S = (600.0, 1_200.0)  # tokens past that are looked for after a time between these
TOKEN_SWEEP_MAX = 500  # deleted in one go
TOKEN_DRAWS_MAX = 3  # names of 80 random bits that are all taken: something else is wrong
ENROL_PUBLISH_S = (600.0, 1_200.0)  # what token create reads is looked at again after a time between these
ENROL_CONNECTIONS_MAX = 256  # to the enrolment server, those in their TLS handshake among them
ENROL_ADDRESS_CONNECTIONS_MAX = 64  # of those from one address; many devices may share one behind a NAT
ENROL_CONNECTION_S = 45.0  # from its first byte to its last: longer than a device waits (ENROL_TIMEOUT_S)
ENROL_ACCEPT_PAUSE_S = 0.5  # after an accept(2) that failed: no file descriptors are left
ENROL_WORK_S = 25.0  # one enrolment, all of its API requests: less than a device waits
ENROL_WORK_MAX = 16  # enrolments under way
ENROL_RACES_MAX = 8  # times that another replica may be first in one step of one enrolment
ENROL_RACE_S = (0.02, 1.0)  # first and longest pause after that
ENROL_FAILURES_ADDRESS = (20, 3.0)  # refused requests of one address: so many at once, then one in so many seconds
ENROL_FAILURES_ALL = (500, 0.05)  # the same of all addresses together
ENROL_ADDRESSES_MAX = 4_096  # addresses whose failures are remembered
ENROL_AWAY_S = 5  # Retry-After, in seconds, while the API is away

# --- edge controller --------------------------------------------------------------------------------------------------
API_WRITES_MAX = 48  # writes under way, over all devices
DEVICE_WRITES_MAX = 4  # of one device
NODE_WRITERS_MAX = 16  # node patches under way
LEASE_DURATION_S = 40  # of a device's Lease, as kubelet's; a node lifecycle controller waits about as long
LEASE_S_MIN, LEASE_S_MAX = 10, 3_600  # what a person may say instead
LEASE_RENEW_PART = (0.25, 0.35)  # a Lease is renewed after a part of its duration between these, so two may fail
LEASE_WRITERS_MAX = 32  # renewals under way
REPLICA_RENEW_S = 2.0  # a replica of the hub renews its Lease and looks at the others' about this often
REPLICA_YIELD_S = 6.0  # one that could not renew for this long gives its devices up
REPLICA_DEAD_S = 8.0  # one whose Lease did not change for this long has none
REPLICA_FORGET_S = 600.0  # and after this its Lease is deleted
TOLERATION_WRITERS_MAX = 8  # patches of pods' tolerations under way
TOKEN_WRITERS_MAX = 8  # requests for tokens of service accounts under way
TOKEN_LIFE_PART = (0.7, 0.8)  # of a token's life, when the next one is asked for; kubelet's is 0.8
TOKEN_AGE_S_MAX = 86_400.0  # or at this age, as by the kubelet
TOKEN_LOOK_S = 10.0  # how often it is looked which are due
TOKEN_WAIT_S = 30.0  # a device's set waits so long for a token that the API does not give
EVENT_MESSAGE_CHARS_MAX = 1_024  # the API's own bound of an Event's message
EVENT_REASON_CHARS_MAX = 128  # and of its reason

# --- cloud hub --------------------------------------------------------------------------------------------------------
SUBSCRIBE_TOPICS_MAX = 100  # topics in one SUBSCRIBE
HAIL_BATCH = 20  # devices asked to say Hello at the same time
HAIL_PAUSE_S = 0.1  # between two batches: 200 devices in a second
PRESENCE_GRACE_S = 90.0  # without a session for this long, though no will came, a device counts as away
HELLOS_MAX, HELLO_EACH_S = 32, 1.0  # Hellos of a device: so many at once, then one in so many seconds
REJECT_PAUSE_S = 1.0  # Rejects to one device are not closer than this
BUSY_RETRY_MS = 2_000  # a device that sent more than its credit is asked to come back after about this
BROKER_STEADY_S = 10.0  # a connection that lived this long lets the back-off start anew
CRASH_BACKOFF_S = (1.0, 300.0)  # a session's task that failed; a bug, so it is counted

# --- metrics, kubectl top and the page of the fleet -------------------------------------------------------------------
DEVICES_SHOWN_MAX = 10_000  # devices that have metrics with their name
TOP_AGE_S = 15.0  # what kubectl top shows is asked for anew when it is older
TOP_FETCH_S = 10.0  # a device that has not told its figures by then is left out
TOP_TOTAL_S = 30.0  # one question for any number of devices
TOP_FETCHES_MAX = 128  # devices asked at the same time
TOP_BYTES_MAX = 4 * 1024 * 1024  # one device's figures
FLEET_VIEWERS_MAX = 16  # pages open at the same time
FLEET_COALESCE_S = 0.25  # changes of the fleet closer than this reach a page together
FLEET_BATCH_ROWS = 250  # devices in one event
FLEET_PING_S = 10.0  # a page hears something at least this often
FLEET_COUNTERS_S = 2.0  # a hub's counters are read this often, while a page is open
FLEET_TEXT_CHARS_MAX = 300  # of a device's last error

# --- keys that a hub keeps in files ----------------------------------------------------------------------------------
CERTIFICATE_DAYS = 3_650  # of an authority and of what it signs for this machine's own processes
CERTIFICATE_RENEW_DAYS = 30  # fewer left at a start: a certificate is made anew

# --- skerry-hub up ----------------------------------------------------------------------------------------------------
CHILD_BACKOFF_S = (0.5, 30.0)  # a child that ended is started again after this
CHILD_STEADY_S = 60.0
CHILD_READY_S = 30.0
CHILD_STOP_S = 10.0  # SIGTERM, then SIGKILL
