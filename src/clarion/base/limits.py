"""Every bound in the system, with its unit in the name, and the relations that must hold.

A number that a stranger or a fault could grow has a row here. Code imports the name and never
repeats the number.
"""

# Speaker liveness by Lease: a holder renews every RENEW; it is dead when no renewal was seen for
# DURATION.
SPEAKER_LEASE_RENEW_SECONDS = 1.0
SPEAKER_LEASE_DURATION_SECONDS = 4.0

# The pulse process keeps answering this long without a sign of life from its parent.
PULSE_HEARTBEAT_SECONDS = 0.5
PULSE_ORPHAN_SECONDS = 3.0

# A speaker that does not see its own renewals come back sees nobody's, and judges nobody.
SPEAKER_LEASE_BLIND_SECONDS = 2.5
assert SPEAKER_LEASE_BLIND_SECONDS + SPEAKER_LEASE_RENEW_SECONDS < SPEAKER_LEASE_DURATION_SECONDS

# A speaker that stops answers this long after it said so: others take over meanwhile.
SPEAKER_HANDOVER_SECONDS = 0.3

# An owner whose speaker is gone must fall silent before the others take its addresses over.
assert PULSE_ORPHAN_SECONDS < SPEAKER_LEASE_DURATION_SECONDS
# One lost heartbeat or renewal is not a death.
assert 2 * PULSE_HEARTBEAT_SECONDS < PULSE_ORPHAN_SECONDS
assert 2 * SPEAKER_LEASE_RENEW_SECONDS < SPEAKER_LEASE_DURATION_SECONDS

# Embedded API: what one request, one watcher or one table of objects may cost.
API_BODY_BYTES = 3 * 1024 * 1024
API_OBJECT_BYTES = 1536 * 1024
API_ANNOTATIONS_BYTES = 256 * 1024
API_PAGE_OBJECTS = 10_000
API_PATCH_OPERATIONS = 10_000
API_OWNERS_PER_OBJECT = 64
API_OBJECTS = 200_000
API_PENDING_WRITES = 4_096
API_WATCHERS = 1_024
API_WATCH_QUEUE_EVENTS = 16_384
API_WATCH_QUEUE_BYTES = 32 * 1024 * 1024
API_WATCH_CATCH_UP_EVENTS = 512
API_BOOKMARK_SECONDS = 30.0
API_WATCH_SECONDS = 3_600.0
API_EVENT_TTL_SECONDS = 3_600.0
API_COMPACT_SECONDS = 300.0
API_COMPACT_ROWS = 1_000
API_HISTORY_ROWS = 100_000
API_RETRY_AFTER_SECONDS = 1
API_UPKEEP_SECONDS = 10.0
API_WARNINGS = 32
API_WARNING_CHARS = 256

# A body that is accepted may still be too large an object, never the other way round.
assert API_OBJECT_BYTES < API_BODY_BYTES
# A watcher that read one page of the log must have room for what happened meanwhile.
assert API_WATCH_CATCH_UP_EVENTS < API_WATCH_QUEUE_EVENTS
assert API_BOOKMARK_SECONDS < API_WATCH_SECONDS

# Children of `clarion run`: time to stop, and the pause before one is started again.
CHILD_STOP_SECONDS = 10.0
CHILD_READY_SECONDS = 30.0
CHILD_READY_POLL_SECONDS = 0.05
CHILD_RESTART_FIRST_SECONDS = 0.5
CHILD_RESTART_MAX_SECONDS = 30.0
CHILD_STABLE_SECONDS = 60.0

# Layer 2 announcements. A burst is ROUNDS rounds, INTERVAL apart: 0, 1.1, 2.2, 3.3 and 4.4 s after
# the take-over. Then one round per REFRESH, each address within +-SPREAD of that period.
L2_BURST_ROUNDS = 5
L2_BURST_INTERVAL_SECONDS = 1.1
L2_REFRESH_SECONDS = 60.0
L2_REFRESH_SPREAD = 0.1
L2_REFRESH_GRID_SECONDS = 0.05
# What the unsolicited frames of one node may add to a segment.
L2_FRAMES_PER_SECOND = 5000.0
L2_FRAMES_AT_ONCE = 500
L2_PACE_SECONDS = 0.01
# Frames read from one socket before the others have their turn, and the kernel's queue for it.
L2_RECEIVE_BATCH_FRAMES = 64
L2_RECEIVE_QUEUE_BYTES = 1 << 20
# A Linux socket can join a few hundred groups (net.core.optmem_max); sockets per interface.
L2_GROUP_SOCKETS_MAX = 64
L2_EXCLUDE_PATTERNS_MAX = 256

# The pipe between the speaker and its pulse process.
IPC_MESSAGE_BYTES_MAX = 4 << 20
IPC_UNSENT_BYTES_MAX = 16 << 20
PULSE_ADDRESSES_PER_MESSAGE = 4096
PULSE_NOTICES_MAX = 256
PULSE_NOTICES_UNSENT_BYTES_MAX = 1 << 16
PULSE_SOCKET_RETRY_SECONDS = 1.0
PULSE_COUNTS_SECONDS = 1.0
# Without an echo to so many heartbeats in a row the pulse process hangs, and is replaced.
PULSE_UNANSWERED_HEARTBEATS_MAX = 6
# What an orphaned pulse process hands to its successor, and how long that may take.
RELAY_BYTES_MAX = 1 << 20
RELAY_SECONDS = 1.0
PULSE_START_SECONDS = 30.0
PULSE_STOP_SECONDS = 2.0
PULSE_RESTART_SECONDS_MIN = 0.1
PULSE_RESTART_SECONDS_MAX = 5.0

# The last heartbeat of a stuck speaker may be one renewal younger than its last renewal; the pulse
# process must be silent when the others see the lease end all the same.
assert SPEAKER_LEASE_RENEW_SECONDS + PULSE_ORPHAN_SECONDS <= SPEAKER_LEASE_DURATION_SECONDS
assert PULSE_HEARTBEAT_SECONDS * PULSE_UNANSWERED_HEARTBEATS_MAX >= PULSE_ORPHAN_SECONDS
assert IPC_MESSAGE_BYTES_MAX < IPC_UNSENT_BYTES_MAX

# BGP. The longest message without extended messages (RFC 4271 §4.1), and the longest shutdown
# communication (RFC 9003 §2).
BGP_MESSAGE_BYTES = 4096
BGP_COMMUNICATION_BYTES = 255
# The longest one with them (RFC 8654 §4).
BGP_EXTENDED_MESSAGE_BYTES = 65535
# What the communities of one route may take of a message; the rest is for prefixes.
BGP_COMMUNITY_BYTES_MAX = 3072
# The longest password of a connection (RFC 2385) that Linux takes.
TCP_MD5_KEY_BYTES_MAX = 80
# Hold time of a session unless configured, and the wait for the peer's OPEN (RFC 4271 §10, §8.2.2).
BGP_HOLD_SECONDS = 90.0
BGP_OPEN_HOLD_SECONDS = 60.0
# One attempt to connect; the wait before the next one doubles from MIN to MAX; an Established
# session that lived for STABLE starts again from MIN.
BGP_CONNECT_SECONDS = 10.0
BGP_RECONNECT_SECONDS_MIN = 1.0
BGP_RECONNECT_SECONDS_MAX = 30.0
BGP_STABLE_SECONDS = 10.0
# A peer that takes no byte for so long, or twice the hold time, is given up (RFC 9687 §3.2).
BGP_SEND_HOLD_SECONDS_MIN = 480.0
# What is read or encoded in one turn, so that a busy peer delays nobody else. Bytes that a slow
# peer has not taken stay at one chunk; the rest is state that later changes replace.
BGP_CHUNK_BYTES = 64 << 10
# UPDATEs that are kept for other peers that are to get the same.
BGP_SHARED_BYTES = 1 << 20
# How long the last words (a NOTIFICATION) may take to leave before the connection is cut.
BGP_LINGER_SECONDS = 1.0
# Prefixes of a peer that are told apart while counting; more are only known to be more.
BGP_INBOUND_PREFIXES_COUNTED = 10_000
# From this part of the allowed number on, the status of a session warns; a peer that exceeded it
# is left alone for so many seconds.
BGP_PREFIX_WARNING_FRACTION = 0.75
BGP_PREFIX_REST_SECONDS = 60.0
# Connections that the kernel holds until they are accepted.
BGP_LISTEN_BACKLOG = 128
# Seconds between attempts to bind the listener.
BGP_LISTEN_RETRY_SECONDS = 10.0
# When the kernel does not tell its interfaces, it is asked again after so long.
INTERFACES_AGAIN_SECONDS = 1.0
# Messages read in one turn from an interface with an unnumbered peer, and the longest one.
ND_RECEIVE_BATCH = 16
ND_MESSAGE_BYTES = 2048
# Router Advertisements there, at random intervals in between (RFC 4861 §6.2.1; FRR takes 10 s for
# unnumbered peers too), the first ones at the shortest. An answer to a question waits up to so
# long, and until so long after the last one (§10: MAX_RA_DELAY_TIME, MIN_DELAY_BETWEEN_RAS).
ND_ADVERTISE_SECONDS_MIN = 3.3
ND_ADVERTISE_SECONDS_MAX = 10.0
ND_EARLY_ADVERTISEMENTS = 3
ND_ANSWER_DELAY_SECONDS = 0.5
ND_ANSWER_GAP_SECONDS = 3.0
# Our own questions: how many, and how far apart (RFC 4861 §10: MAX_RTR_SOLICITATIONS,
# RTR_SOLICITATION_INTERVAL).
ND_SOLICITATIONS = 3
ND_SOLICIT_SECONDS = 4.0
assert ND_ANSWER_GAP_SECONDS <= ND_ADVERTISE_SECONDS_MIN < ND_ADVERTISE_SECONDS_MAX

# BFD: intervals, multiplier and least TTL of multihop packets where a profile is silent, as in FRR.
BFD_INTERVAL_SECONDS = 0.3
BFD_ECHO_SECONDS = 0.05
BFD_DETECT_MULTIPLIER = 3
BFD_MULTIHOP_TTL_MIN = 254
# While a session is not up, nobody sends faster (RFC 5880 §6.8.3); nor while echo does the work.
BFD_SLOW_SECONDS = 1.0
# After a BGP session came up the other side may make its BFD session anew (FRR does).
BFD_SETTLE_SECONDS = 1.0
# A session that is no longer wanted says so for this long: three packets at the slow rate.
BFD_LINGER_SECONDS = 3.0
# Packets read from one socket before the others have their turn.
BFD_RECEIVE_BATCH_PACKETS = 64
# Random source ports that are tried before giving up for a moment.
BFD_SOURCE_PORTS_TRIED = 8

# Back end FRR: seconds in which changes are gathered before FRR is told.
FRR_GATHER_SECONDS = 0.2
# Seconds between two looks at FRR's sessions.
FRR_LOOK_SECONDS = 3.0
# Seconds that one command may take.
FRR_ANSWER_SECONDS = 20.0
# Octets of one answer; the configuration of 100,000 prefixes has about 20 million.
FRR_ANSWER_BYTES_MAX = 64 << 20

# What is news of a BGP session is written to its object at once, but not more often than this.
SESSION_NEWS_SECONDS = 1.0
# Counts of a session, and attempts that fail as the last one did, are written so often at most.
SESSION_COUNTS_SECONDS = 60.0
# After news the counts are written once more when routes had this long to go out.
SESSION_SETTLE_SECONDS = 8.0

assert BGP_RECONNECT_SECONDS_MIN < BGP_RECONNECT_SECONDS_MAX
# Attributes besides communities and MP_REACH_NLRI with one IPv6 prefix take less than 256 octets.
assert BGP_COMMUNITY_BYTES_MAX + 512 <= BGP_MESSAGE_BYTES
# A turn holds at least one message of every kind, and what is shared serves peers a turn apart.
assert BGP_CHUNK_BYTES > BGP_EXTENDED_MESSAGE_BYTES
assert BGP_SHARED_BYTES >= 4 * BGP_CHUNK_BYTES

# Talking to the Kubernetes API. One request and one page, a connection attempt, and the silence
# after which a connection is dead (keepalive probes, then TCP_USER_TIMEOUT).
KUBE_REQUEST_SECONDS = 30.0
KUBE_CONNECT_SECONDS = 10.0
KUBE_KEEPALIVE_IDLE_SECONDS = 15
KUBE_KEEPALIVE_INTERVAL_SECONDS = 5
KUBE_KEEPALIVE_PROBES = 3
KUBE_DEAD_PEER_SECONDS = 30
# Objects per page of a list, and how many are decoded before the loop has its turn.
KUBE_PAGE_ITEMS = 500
KUBE_DECODE_ITEMS = 100
# etcd takes objects of 1.5 MiB; as JSON with its escapes one may be several times that.
KUBE_WATCH_LINE_BYTES = 16 << 20
KUBE_ERROR_BODY_BYTES = 64 << 10
# How long the end of the last connections is waited for when a client closes.
KUBE_CLOSE_SECONDS = 0.5
# Credentials: how old a token or certificate read from a file may be, how long an exec plugin may
# take, and how long what it brought stands, even if it is refused.
KUBE_FILE_REREAD_SECONDS = 60.0
KUBE_EXEC_PLUGIN_SECONDS = 60.0
KUBE_EXEC_PLUGIN_PAUSE_SECONDS = 5.0
# Events: waiting to be written, remembered for counting repeats, the window within which a repeat
# is counted, and per object a bucket of so many at once and one more each so many seconds.
EVENT_QUEUE_MAX = 1000
EVENT_MEMORY_MAX = 4096
EVENT_WINDOW_SECONDS = 600.0
EVENT_BURST = 25
EVENT_REFILL_SECONDS = 300.0
EVENT_MESSAGE_BYTES = 1024
# The message of a condition: as long as the API takes it; on a Service, which everybody who lists
# services pays for, much shorter.
CONDITION_MESSAGE_CHARS = 32_768
SERVICE_CONDITION_MESSAGE_CHARS = 1024
# Leader election of the controller (as client-go by default).
LEADER_LEASE_SECONDS = 15.0
LEADER_RENEW_SECONDS = 10.0
LEADER_RETRY_SECONDS = 2.0

# A new leader looks again at what is stored, until it has seen all of it.
TAKEOVER_LOOK_SECONDS = 1.0

# Webhooks: one request, how long its body may take, and how long a refusal may be checked against
# the server before it stands. What was admitted is remembered until it is seen, so long at most.
WEBHOOK_BODY_BYTES = 8 << 20
WEBHOOK_BODY_SECONDS = 10.0
WEBHOOK_CONFIRM_SECONDS = 3.0
WEBHOOK_MEMORY_SECONDS = 5.0
WEBHOOK_MEMORY_OBJECTS = 256
# Warnings of one answer, as the API server shows them: so many characters each.
WEBHOOK_WARNINGS = 16
WEBHOOK_WARNING_CHARS = 256
# The webhook's certificate is renewed so long before its end. An authority is used once the API
# servers had time to learn of it, and the one before it stays trusted until nobody shows it.
WEBHOOK_CERTIFICATE_RENEW_DAYS = 90
WEBHOOK_AUTHORITY_SETTLE_SECONDS = 15.0
WEBHOOK_AUTHORITY_OVERLAP_SECONDS = 3_600.0
WEBHOOK_CERTIFICATE_CHECK_SECONDS = 5.0
WEBHOOK_CERTIFICATE_RETRY_SECONDS = 2.0

# How often it is looked whether the Secret of MetalLB's member list is there.
MEMBERLIST_SECRET_LOOK_SECONDS = 30.0

# A dead connection is noticed before its request is given up as too slow.
assert KUBE_CONNECT_SECONDS < KUBE_REQUEST_SECONDS
assert (
    KUBE_KEEPALIVE_IDLE_SECONDS + KUBE_KEEPALIVE_INTERVAL_SECONDS * KUBE_KEEPALIVE_PROBES
    <= KUBE_DEAD_PEER_SECONDS
)
assert LEADER_RETRY_SECONDS < LEADER_RENEW_SECONDS < LEADER_LEASE_SECONDS
assert WEBHOOK_AUTHORITY_SETTLE_SECONDS < WEBHOOK_AUTHORITY_OVERLAP_SECONDS

# Deciding: communities that one advertisement may list, as in MetalLB.
COMMUNITIES_PER_ADVERTISEMENT_MAX = 63

# Manifests: how deep YAML may be nested, and how many values its aliases may stand for in all, so
# that a short text cannot grow without bound.
YAML_DEPTH = 64
YAML_ALIAS_NODES = 10_000

# Services whose statuses and events are told before the rest of a program has its turn.
SERVICES_TOLD_IN_ONE_TURN = 250
# Writes of the controller and the speaker to the API.
WRITES_IN_FLIGHT = 8
# The longest wait before a refused object is tried again, and between two looks for an API that was
# away.
WRITE_RETRY_MAX_SECONDS = 30.0
WRITE_PROBE_MAX_SECONDS = 5.0
# Connections that are being closed, over all peers; the oldest is cut when there are more.
BGP_CLOSING_MAX = 64
# Connections accepted in one turn of the loop.
BGP_ACCEPT_BATCH = 16
# Without a descriptor for the next connection, the listener rests so long.
BGP_ACCEPT_PAUSE_SECONDS = 1.0

# Released addresses of one pool that wait for their hold-down; beyond it the oldest is free early.
POOL_RESTING_ADDRESSES = 65_536
# Of those the last ones are written to the pool, for who controls next; up to so many bytes each.
POOL_RESTS_WRITTEN = 500
POOL_REST_BYTES = 190
assert POOL_RESTS_WRITTEN * POOL_REST_BYTES < API_ANNOTATIONS_BYTES // 2

# How far the clocks of two machines may differ when one reads the other's Lease without following
# it, as `status` and `explain` do.
LEASE_CLOCK_SKEW_SECONDS = 1.0

# `clarion doctor` on the wire: addresses asked for, how often each and how fast, how long answers
# are awaited after each round, and stations that are told apart for one address. And how long the
# host's packet filter may take to tell its rules.
DOCTOR_ADDRESSES = 512
DOCTOR_QUESTIONS = 2
DOCTOR_QUESTIONS_PER_SECOND = 500
DOCTOR_ANSWER_SECONDS = 0.4
DOCTOR_STATIONS = 16
DOCTOR_FILTER_SECONDS = 5.0

# What frr-k8s is asked for is written once for all that changes within this time, and looked at
# again this often: a label of the own node, of which nobody tells, may have changed.
FRRK8S_COALESCE_SECONDS = 0.2
FRRK8S_RECHECK_SECONDS = 30.0
