"""Numbers of BGP under the names of their IANA registries.

Decoders meet values outside these enums all the time; the enums name what we act on, they do not
claim that nothing else exists.
"""

import enum
from typing import Final

import msgspec

BGP_VERSION: Final = 4
BGP_PORT: Final = 179
AS_TRANS: Final = 23456
"""Stands for a four-octet ASN where only two octets fit (RFC 6793 §9)."""
MAX_TWO_OCTET_ASN: Final = 0xFFFF
MAX_HOLD_TIME: Final = 0xFFFF
"""Seconds that fit into an OPEN (RFC 4271 §4.2)."""
MAX_RESTART_TIME: Final = 0x0FFF
"""Seconds that fit into the graceful restart capability (RFC 4724 §3)."""


class MessageType(enum.IntEnum):
    """BGP Message Types (RFC 4271 §4.1, RFC 2918)."""

    OPEN = 1
    UPDATE = 2
    NOTIFICATION = 3
    KEEPALIVE = 4
    ROUTE_REFRESH = 5


class Afi(enum.IntEnum):
    """Address Family Numbers."""

    IPV4 = 1
    IPV6 = 2


class Safi(enum.IntEnum):
    """SAFI Namespace (RFC 4760 §6)."""

    UNICAST = 1


class Family(msgspec.Struct, frozen=True, order=True):
    """An address family and subsequent address family, as numbers."""

    afi: int
    safi: int

    def __str__(self) -> str:
        return FAMILY_NAMES.get(self, f"afi {self.afi} safi {self.safi}")


IPV4_UNICAST: Final = Family(Afi.IPV4.value, Safi.UNICAST.value)
IPV6_UNICAST: Final = Family(Afi.IPV6.value, Safi.UNICAST.value)
FAMILY_NAMES: Final = {IPV4_UNICAST: "ipv4-unicast", IPV6_UNICAST: "ipv6-unicast"}
FAMILY_OF_VERSION: Final = {4: IPV4_UNICAST, 6: IPV6_UNICAST}
"""The unicast family that carries prefixes of an IP version."""


class OptionalParameter(enum.IntEnum):
    """OPEN Optional Parameter Types (RFC 5492 §4, RFC 9072 §2)."""

    CAPABILITIES = 2
    EXTENDED_LENGTH = 255


class CapabilityCode(enum.IntEnum):
    """Capability Codes."""

    MULTIPROTOCOL = 1  # RFC 4760 §8
    ROUTE_REFRESH = 2  # RFC 2918 §2
    EXTENDED_NEXT_HOP = 5  # RFC 8950 §4
    EXTENDED_MESSAGE = 6  # RFC 8654 §3
    GRACEFUL_RESTART = 64  # RFC 4724 §3
    FOUR_OCTET_ASN = 65  # RFC 6793 §3
    ENHANCED_ROUTE_REFRESH = 70  # RFC 7313 §3.1
    FQDN = 73


NON_TRANSITIVE: Final = 0x40 << 56
"""The bit of an extended community that keeps it within its AS (RFC 4360 §2)."""
LINK_BANDWIDTH: Final = 0x4004
"""Type of the non-transitive link bandwidth extended community (RFC 10005 §5)."""


class AttributeFlag(enum.IntFlag):
    """Attribute flags octet (RFC 4271 §4.3)."""

    OPTIONAL = 0x80
    TRANSITIVE = 0x40
    PARTIAL = 0x20
    EXTENDED_LENGTH = 0x10


class AttributeCode(enum.IntEnum):
    """BGP Path Attributes."""

    ORIGIN = 1
    AS_PATH = 2
    NEXT_HOP = 3
    MULTI_EXIT_DISC = 4
    LOCAL_PREF = 5
    ATOMIC_AGGREGATE = 6
    AGGREGATOR = 7
    COMMUNITIES = 8
    ORIGINATOR_ID = 9
    CLUSTER_LIST = 10
    MP_REACH_NLRI = 14
    MP_UNREACH_NLRI = 15
    EXTENDED_COMMUNITIES = 16
    AS4_PATH = 17
    AS4_AGGREGATOR = 18
    LARGE_COMMUNITY = 32


class Origin(enum.IntEnum):
    """ORIGIN values (RFC 4271 §4.3 a)."""

    IGP = 0
    EGP = 1
    INCOMPLETE = 2


class SegmentType(enum.IntEnum):
    """AS_PATH segment types (RFC 4271 §4.3 b, RFC 5065 §3)."""

    AS_SET = 1
    AS_SEQUENCE = 2
    AS_CONFED_SEQUENCE = 3
    AS_CONFED_SET = 4


class ErrorCode(enum.IntEnum):
    """BGP Error (Notification) Codes (RFC 4271 §4.5, RFC 7313 §5, RFC 9687 §3.2)."""

    MESSAGE_HEADER = 1
    OPEN_MESSAGE = 2
    UPDATE_MESSAGE = 3
    HOLD_TIMER_EXPIRED = 4
    FINITE_STATE_MACHINE = 5
    CEASE = 6
    ROUTE_REFRESH_MESSAGE = 7
    SEND_HOLD_TIMER_EXPIRED = 8


class HeaderError(enum.IntEnum):
    """Message Header Error subcodes (RFC 4271 §6.1)."""

    CONNECTION_NOT_SYNCHRONIZED = 1
    BAD_MESSAGE_LENGTH = 2
    BAD_MESSAGE_TYPE = 3


class OpenError(enum.IntEnum):
    """OPEN Message Error subcodes (RFC 4271 §6.2, RFC 5492 §5)."""

    UNSPECIFIC = 0
    UNSUPPORTED_VERSION_NUMBER = 1
    BAD_PEER_AS = 2
    BAD_BGP_IDENTIFIER = 3
    UNSUPPORTED_OPTIONAL_PARAMETER = 4
    UNACCEPTABLE_HOLD_TIME = 6
    UNSUPPORTED_CAPABILITY = 7


class UpdateError(enum.IntEnum):
    """UPDATE Message Error subcodes (RFC 4271 §6.3)."""

    MALFORMED_ATTRIBUTE_LIST = 1
    UNRECOGNIZED_WELL_KNOWN_ATTRIBUTE = 2
    MISSING_WELL_KNOWN_ATTRIBUTE = 3
    ATTRIBUTE_FLAGS_ERROR = 4
    ATTRIBUTE_LENGTH_ERROR = 5
    INVALID_ORIGIN_ATTRIBUTE = 6
    INVALID_NEXT_HOP_ATTRIBUTE = 8
    OPTIONAL_ATTRIBUTE_ERROR = 9
    INVALID_NETWORK_FIELD = 10
    MALFORMED_AS_PATH = 11


class FsmError(enum.IntEnum):
    """Finite State Machine Error subcodes (RFC 6608 §3)."""

    UNSPECIFIED = 0
    UNEXPECTED_IN_OPEN_SENT = 1
    UNEXPECTED_IN_OPEN_CONFIRM = 2
    UNEXPECTED_IN_ESTABLISHED = 3


class Cease(enum.IntEnum):
    """Cease NOTIFICATION subcodes (RFC 4486 §3, RFC 8538 §3, RFC 9384 §3)."""

    MAXIMUM_NUMBER_OF_PREFIXES_REACHED = 1
    ADMINISTRATIVE_SHUTDOWN = 2
    PEER_DE_CONFIGURED = 3
    ADMINISTRATIVE_RESET = 4
    CONNECTION_REJECTED = 5
    OTHER_CONFIGURATION_CHANGE = 6
    CONNECTION_COLLISION_RESOLUTION = 7
    OUT_OF_RESOURCES = 8
    HARD_RESET = 9
    BFD_DOWN = 10


class RouteRefreshError(enum.IntEnum):
    """ROUTE-REFRESH Message Error subcodes (RFC 7313 §5)."""

    INVALID_MESSAGE_LENGTH = 1


class RefreshSubtype(enum.IntEnum):
    """ROUTE-REFRESH Subcodes (RFC 7313 §3.2)."""

    REQUEST = 0
    BEGIN = 1
    END = 2


SUBCODES: Final[dict[int, type[enum.IntEnum]]] = {
    ErrorCode.MESSAGE_HEADER: HeaderError,
    ErrorCode.OPEN_MESSAGE: OpenError,
    ErrorCode.UPDATE_MESSAGE: UpdateError,
    ErrorCode.FINITE_STATE_MACHINE: FsmError,
    ErrorCode.CEASE: Cease,
    ErrorCode.ROUTE_REFRESH_MESSAGE: RouteRefreshError,
}
"""Which registry names the subcodes of an error code."""
