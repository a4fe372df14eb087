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

# An owner whose speaker is gone must fall silent before the others take its addresses over.
assert PULSE_ORPHAN_SECONDS < SPEAKER_LEASE_DURATION_SECONDS
# One lost heartbeat or renewal is not a death.
assert 2 * PULSE_HEARTBEAT_SECONDS < PULSE_ORPHAN_SECONDS
assert 2 * SPEAKER_LEASE_RENEW_SECONDS < SPEAKER_LEASE_DURATION_SECONDS
