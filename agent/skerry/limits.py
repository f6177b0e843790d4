"""Every bound of skerry, with its unit in its name. Nothing elsewhere is unbounded; nothing here decides anything.

Times are seconds (`_S`), sizes are bytes (`_BYTES`), the rest counts things (`_MAX`).
"""

from __future__ import annotations

KIB = 1024
MIB = 1024 * KIB

# --- frames and messages (wire/) --------------------------------------------------------------------------------------
FRAME_INFLATED_BYTES_MAX = 2 * MIB  # the same after inflating: stops a deflate bomb
OBJECT_BYTES_MAX = 1 * MIB + 64 * KIB  # one object as CBOR: a ConfigMap's own limit and its metadata
FRAME_BYTES_MAX = OBJECT_BYTES_MAX + 64 * KIB  # holds any object
GUARD_BYTES_MAX = 4 * KIB  # what protection adds to a frame, a certificate included
PAYLOAD_BYTES_MAX = FRAME_BYTES_MAX + GUARD_BYTES_MAX  # one MQTT payload
DELTA_BYTES_TARGET = 128 * KIB  # a Delta is closed once it holds this much, so that many objects travel in several
REPORT_ITEMS_MAX = 64  # items in one Report
REPORT_BYTES_TARGET = 64 * KIB  # a Report is closed once its items hold this much
CODEC_DEPTH_MAX = 64  # nesting of a decoded value
CODEC_ITEMS_MAX = 100_000  # items in one decoded value
TEXT_CHARS_MAX = 2_048  # a reason, message or detail from outside; longer is cut
NAME_CHARS_MAX = 253  # RFC 1123 subdomain, Kubernetes object names
FULL_NAME_CHARS_MAX = 63 + 1 + NAME_CHARS_MAX  # namespace/name
NONCE_BYTES = 8  # a session's nonce
DIGEST_BYTES = 32  # SHA-256
DIGEST_WIRE_BYTES = 16  # a digest as an identifier on the wire

# --- a device's desired set -------------------------------------------------------------------------------------------
OBJECTS_MAX = 2_000  # objects in one device's set
PODS_MAX = 250  # pods on one device (kubelet's own default is 110)
CONTAINERS_MAX = 32  # containers in one pod
VOLUMES_MAX = 64  # volumes in one pod
PULL_SECRETS_MAX = 64  # imagePullSecrets of one pod
PULL_KEYS_MAX = 16  # credentials for one image that a pull tries, one after the other
REGISTRIES_MAX = 1_000  # registries that one pull secret names
REGISTRY_CHARS_MAX = 512  # of the name of one: host, port and path
ENV_MAX = 1_000  # variables of one container after envFrom
ENV_BYTES_MAX = 512 * KIB  # the environment block of one container

# --- the session (loops/link, cloudhub) -------------------------------------------------------------------------------
CONNECT_TIMEOUT_S = 20.0  # DNS, TCP, TLS and CONNACK together
MQTT_KEEPALIVE_S = 300  # idle costs one PINGREQ per this
MQTT_SESSION_EXPIRY_S = 90  # just above the will delay: the broker's queue is never relied on
MQTT_WILL_DELAY_S = 60
HELLO_TIMEOUT_S = 10.0  # an unanswered Hello is repeated after this, then with back-off
ACK_TIMEOUT_S = 30.0  # an unanswered Report or Delta restarts the session after this
RECONNECT_BACKOFF_S = (0.5, 60.0)  # first and last delay, full jitter
SESSION_BACKOFF_S = (1.0, 300.0)  # Hello after a Reject or a silent hub
CREDIT_FRAMES = 16  # frames a device may have unacknowledged at the hub
INBOX_FRAMES_MAX = 32  # frames received and not yet handled, per connection
OUTBOX_FRAMES_MAX = 32  # frames handed to a connection that the broker has not acknowledged
PACKET_BYTES_MAX = FRAME_BYTES_MAX + 64 * KIB  # one MQTT packet with its topic and properties
PING_TIMEOUT_S = 30.0  # a PINGREQ that stays unanswered this long means that the broker is gone
LOG_BURST_LINES = 20  # lines that the link may log at once
LOG_REFILL_S = 60.0  # and after those one each this
LINK_REASONS_MAX = 16  # reasons why there is no connection, each told once until there is one
CLOSE_TIMEOUT_S = 2.0  # to write the farewell and the DISCONNECT

# --- protected frames (wire/cose, wire/guard) -------------------------------------------------------------------------
SIGNING_KEY_BYTES = 32  # an Ed25519 seed or public key (RFC 8032)
EXCHANGE_KEY_BYTES = 32  # an X25519 key, either half (RFC 7748)
SIGNATURE_BYTES = 64
AEAD_KEY_BYTES, AEAD_NONCE_BYTES = 32, 12  # ChaCha20-Poly1305 (RFC 8439)
AEAD_TAG_BYTES = 16
KEY_ID_BYTES = 8
CHAIN_BYTES_MAX = 2 * KIB  # the certificate of a hub's signing key
REPLAY_WINDOW_MAX = 1_024  # frames that may overtake an older one; what is older still is taken for a replay
GREETINGS_KEPT_MAX = 16  # Hellos of a device that the hub knows again
STATEMENT_BYTES_MAX = 512  # what the devices' authority states of one
CERTIFY_TIMEOUT_S = 20.0  # to have a certificate verified, in a child process on a busy board
CERTIFY_PACE_S = 10.0  # after a signer that the authority does not certify, before another one is looked at
CERTIFY_LOOKS_MAX = 3  # signers looked at in CERTIFY_LOOKS_S, those that it does certify among them
CERTIFY_LOOKS_S = 30.0
SIGNER_KEPT_S = 86_400.0  # after a hub's signing key was certified, before a Hello asks for its certificate again
WORD_SIGNERS_MAX = 16  # hubs whose last word a device remembers

# --- enrolment (wire/token, wire/enrolment) --------------------------------------------------------------------------
TOKEN_CHARS_MAX = 1_024  # a token's line
TOKEN_SECRET_BYTES = 16
ENROL_BYTES_MAX = 64 * KIB  # one body, either way: a request, or certificates with the authorities above them
ENROL_TIMEOUT_S = 30.0  # one exchange with the hub, DNS to last byte
ENROL_REACH_S = 5.0  # to learn that the hub cannot be reached at all, before a process is started to ask it
ENROL_WHOLE_S = 120.0  # a whole enrolment: two exchanges, and the key
ENROL_RETRY_S = (30.0, 3_600.0)  # a new token that brings nothing, on a device that has an identity
ENROL_REFUSED_S = (600.0, 21_600.0)  # a token that was refused; another one in its place is tried at once
IDENTITY_BYTES_MAX = ENROL_BYTES_MAX + 16 * KIB  # the file of an enrolled device
CHALLENGE_BYTES = 24  # what a renewal is signed over: a time and a hub's mark on it
PROOF_BYTES_MAX = 256  # a COSE_Sign1 without its payload
RENEW_PART = (0.5, 0.65)  # of a certificate's life: by then it is renewed, each device at a moment of its own
RENEW_RETRY_S = (60.0, 21_600.0)  # a renewal that came to nothing; a device that is away starts no process
RENEW_REFUSED_S = (3_600.0, 86_400.0)  # the hub knows this device no more: only a person can help
RENEW_EXPIRED_S = (10.0, 600.0)  # the same where no broker lets the device in before it is renewed
RENEW_TRUST_S = (5.0, 900.0)  # the hub's authorities are others than this device's: the whole fleet hears it at once
RENEW_UNSURE_S = (900.0, 3_600.0)  # old by a clock that nobody has set: a hub that is reached says sooner what it is
RENEW_LOOK_S = 21_600.0  # a clock may be set meanwhile, so a certificate is looked at this often at least
TURNED_AWAY_MAX = 3  # connections in a row that a broker ends before a CONNACK: it may not take our certificate
CLOCK_OFF_S = 3_600.0  # a clock that is off by more judges no certificate
COMMON_NAME_CHARS_MAX = 64  # RFC 5280 appendix A.1, ub-common-name
OPENSSL_TIMEOUT_S = 20.0  # one run of the openssl command; a board that has just booted waits for entropy
PEM_BYTES_MAX = 16 * KIB  # a key or a request that it prints

# --- streams: logs, exec, attach, port-forward (loops/streams, loops/mux) ---------------------------------------------
STREAM_CHUNK_BYTES = 16 * KIB - 256  # data in one Data frame: how long others wait; with its covers one TLS record
STREAM_PIECE_BYTES_MAX = 4 * STREAM_CHUNK_BYTES  # what a stream hands on at once
STREAM_CHUNK_TAKEN_BYTES_MAX = 16 * KIB  # of another end
STREAM_WINDOW_BYTES = 256 * KIB  # bytes of one direction that may be unread: a stream's memory at its receiver
STREAM_WINDOW_BYTES_MAX = 1 * MIB  # the same of a fast one, while at most STREAMS_FAST_MAX are open
STREAM_FAST_S = 0.02  # fast: half its window is taken within this. More on the way would only make others wait
STREAMS_FAST_MAX = 8
STREAMS_MAX = 32  # open at the same time on one device; with their windows 16 MiB is the most memory they take
STREAMS_TOLD_MAX = 2 * STREAMS_MAX  # streams that one end lists to the other: open, or asked for
STREAM_OPEN_S = 20.0  # from the Dial to the first Window or Close: a new connection and a busy board
STREAM_LINGER_S = 5.0  # the connection stays this long after the last stream, for the next command
STREAM_PING_S = 15  # while streams are open each end says so often that it is there
STREAM_SILENCE_S = 45.0  # an end that heard nothing for so long takes the other for gone
STREAM_EXPIRY_S = 20  # MQTT message expiry of all stream frames: nothing older is of use
STREAM_FRAMES_WAITING_MAX = 1_024  # received frames not yet given to their stream: 32 windows hold 512 chunks
STREAM_IDLE_S = 4 * 3_600.0  # a stream without a byte either way is closed, as by kubelet
COMMAND_BYTES_MAX = 64 * KIB  # of an exec, all arguments together
COMMAND_ARGS_MAX = 1_024

# --- processes and ports of containers (containerd/) ------------------------------------------------------------------
DIAL_TIMEOUT_S = 10.0  # to connect to a port of a pod, or to containerd's streaming server
ATTACH_HEAD_BYTES_MAX = 16 * KIB  # of the HTTP answer of that server
EXEC_STDIN_S = 10.0  # longest wait for the shim to open its end of a process's stdin
EXEC_STDIN_LOOK_S = (0.001, 0.05)  # first and longest pause between two tries
EXEC_HANGUP_S = 1.0  # from SIGHUP to SIGKILL, for a process whose stream was closed
EXEC_END_S = 10.0  # longest wait for its end; and longest pause between two tries to hear of one
STATS_INTERFACES_MAX = 16  # network interfaces of one pod that are told
STATS_WINDOW_S = (1.0, 120.0)  # least and greatest age of the figures that a share of CPU is counted from

# --- container logs (world/logs, loops/rotate) ------------------------------------------------------------------------
CONTAINER_LOG_BYTES_MAX = 5 * MIB  # a log that has grown so far is rotated (the default of config.container_log_bytes)
LOG_CHECK_S = 300.0  # a quiet log's size is looked at so often, though its first write is heard; RELIST_S
LOG_RATE_BYTES_S = 128 * MIB  # the fastest that a board writes logs: containerd copied 110 MB/s on two x86 cores
LOG_EXCESS_BYTES = 256 * MIB  # written at that rate, a log is noticed at most so far beyond its bound
LOG_GROWTH_CHECK_S = 0.25  # least time between two looks at a log that grows
LOG_RETRY_S = (10.0, 20.0)  # until a log that could not be looked at or rotated is tried again, jittered
LOG_WATCHES_MAX = 1_024  # quiet logs whose next write is heard; others are looked at each LOG_CHECK_S
LOG_RENAMED_PARTS_MAX = 4  # of the size at which a log is rotated: all renamed files of a container together
CONTAINER_LOG_FILES_MAX = 3  # of one container, the one that is written among them
LOG_LINE_BYTES_MAX = 64 * KIB  # of a line that is kept until it is whole; longer ones pass in pieces
LOG_READ_BYTES = 32 * KIB  # read from a log at once
LOG_TAIL_READ_BYTES = 64 * KIB  # read at once from the end, looking for the last lines
LOG_CHANGEOVER_S = 1.0  # how long a runtime may still write into a log that was rotated
LOG_ENDED_S = (0.01, 5.0)  # first pause and longest wait until a runtime shows that who wrote a log has ended
LOG_AWAY_S = 10.0  # a follower asks again so often while the runtime is away
SPDY_CONTROL_BYTES_MAX = 64 * KIB  # one control frame; Data frames are passed on as they arrive
SPDY_HEADERS_BYTES_MAX = 64 * KIB  # a stream's headers, inflated
SPDY_STREAMS_MAX = 256  # open at the same time on one SPDY connection; a forwarded TCP connection takes two

# --- journal ----------------------------------------------------------------------------------------------------------
JOURNAL_BYTES_MAX = 256 * MIB  # LMDB map size on 64 bit; JOURNAL_BYTES_MAX_32 on 32 bit
JOURNAL_BYTES_MAX_32 = 128 * MIB  # the address space of a 32-bit process is small
JOURNAL_ALARM_RATIO = 0.8
BALLAST_BYTES = 1 * MIB  # given back piece by piece when the disk is full, so that a deletion can still be journaled
BALLAST_PIECE_BYTES = 128 * KIB
SMALL_GROWTH_BYTES = 1 * KIB  # what a commit may grow by on a full disk: a deletion's mark, the status that ends it
OUTBOX_ITEMS_MAX = 10_000
OUTBOX_BYTES_MAX = 16 * MIB
OUTBOX_MARKS_MAX = 256  # moments that are remembered to tell how long its items have waited
OUTBOX_MARK_S = 1.0  # least time between two of them
HISTORY_ITEMS_MAX = 2_000  # decisions that `skerry explain` can replay
COMMIT_QUEUE_MAX = 1_024  # commits waiting for the writer thread
COMMIT_MERGE_MAX = 64  # waiting commits that become one transaction
JOURNAL_RESERVE_BYTES = 8 * MIB  # map beyond the bound, for commits that do not grow the journal
PROBE_TIMEOUT_S = 60.0  # the child process that walks the journal at start
QUARANTINE_ITEMS_MAX = 4  # damaged journals kept for a person
QUARANTINE_BYTES_MAX = 64 * MIB

# --- manifests in a folder of the device (loops/local, world/manifests) -----------------------------------------------
LOCAL_FILES_MAX = 64  # manifest files that are read
LOCAL_FILE_BYTES_MAX = 256 * KIB  # of one file
LOCAL_PODS_MAX = 32  # pods that come from the folder; beside those of the hub
LOCAL_OBJECTS_MAX = 128  # pods, ConfigMaps and Secrets together
LOCAL_BYTES_MAX = 512 * KIB  # of all their bodies: the pods among them are told to the hub in one frame
LOCAL_ITEMS_MAX = 20_000  # values in one file: stops aliases that multiply
LOCAL_SETTLE_S = 0.5  # a folder that was quiet this long is read
LOCAL_WRITING_S = 10.0  # a file that is open for writing is waited for this long
LOCAL_RETRY_S = (5.0, 300.0)  # a folder that cannot be read or watched, a journal without room

# --- steering ---------------------------------------------------------------------------------------------------------
POD_WORKERS_MAX = 4  # pods acted upon at the same time
RESTART_BACKOFF_S = (10.0, 300.0)  # kubelet's crash loop back-off; the first restart is immediate
RESTART_RESET_S = 600.0  # a container that ran this long starts from no back-off
STEP_BACKOFF_S = (1.0, 60.0)  # a failed runtime call
PULL_BACKOFF_S = (10.0, 300.0)  # a failed image pull, as kubelet
GRACE_S_DEFAULT = 30  # Kubernetes' terminationGracePeriodSeconds
GRACE_S_MAX = 3_600
FORCED_GRACE_S = 1  # a pod that vanished from a checked set
RELIST_FIRST_S = 3.0  # the first relist after the event stream opened
RELIST_S = 300.0  # the safety net beside the runtime's events
RUNTIME_CALL_TIMEOUT_S = 120.0  # any CRI call but a pull; StopContainer adds its grace
PULL_TIMEOUT_S = 1_800.0
RUNTIME_BACKOFF_S = (0.2, 10.0)  # the runtime itself is away
RUNTIME_OUTAGE_S = (10.0, 300.0)  # away this long before the hub is told; doubled with each outage told in a row
RUNTIME_STEADY_S = 600.0  # a runtime that was up this long ends the row
LOOK_BATCH_MAX = 16  # pods looked at one by one before a whole listing is cheaper
STATUS_MESSAGE_CHARS_MAX = 1_024  # a container's message in a report
CONTAINERS_SEEN_MAX = 4_000  # sandboxes and containers in one listing
LOOK_CALLS_MAX = 8  # status calls under way at the same time in one look
EXIT_SETTLE_S = (0.002, 5.0)  # first pause and longest wait until CRI shows an exit that containerd has told

# --- the service manager's watchdog (loops/pulse) ---------------------------------------------------------------------
WATCHDOG_FEED_S = 30.0  # fed this often at most; a third of WatchdogSec where that is less
LOOP_BUSY_S_MAX = 600.0  # a loop that says nothing for so long is stuck: five runtime calls that all time out
POD_STEP_S_MAX = GRACE_S_MAX + 2 * RUNTIME_CALL_TIMEOUT_S  # the longest step of a pod: a stop with the longest grace

# --- volumes ----------------------------------------------------------------------------------------------------------
VOLUME_FILES_MAX = 16_384  # files, folders and links in the tmpfs of ConfigMap and Secret volumes
VOLUME_PATH_CHARS_MAX = 4_096  # PATH_MAX
MOUNT_TIMEOUT_S = 30.0  # mount(8) or umount(8)

# --- hub --------------------------------------------------------------------------------------------------------------
SESSION_QUEUE_FRAMES_MAX = 64  # frames of one device waiting at the hub; over it they are dropped and counted
FLOOD_DROPS_MAX = 256  # drops within FLOOD_WINDOW_S that make the hub unsubscribe the device for a while
FLOOD_WINDOW_S = 10.0
FLOOD_PAUSE_S = (30.0, 600.0)  # first and last pause, jittered
RESTORED_WAIT_S = 60.0  # until the hub asks again for a new epoch, where a device has seen more than it can have
HAIL_BACKOFF_S = (30.0, 3_600.0)  # asking a silent device to say Hello
API_BACKOFF_S = (0.2, 30.0)  # retries against the Kubernetes API
STATUS_COALESCE_S = 0.05  # status patches of one pod closer than this become one
