"""Why routers answer a malformed message otherwise than its clause asks."""

import re

import msgspec

from .bgp_malformed_bytes import GOES, STAYS, UP, Row


class Reason(msgspec.Struct, frozen=True):
    """One cause of differences. `rows` (`chapter: name, state`) and `said` are patterns."""

    who: str
    rows: str
    said: str
    text: str


CLASSIC = (
    "ends the session by RFC 4271 §6.3, where RFC 7606 and the RFC of the attribute want the route "
    "withdrawn or the attribute discarded."
)
NO_TYPE = "names the state, but not the type of the message as data (RFC 6608 §4)."
NO_SETS = "is older than RFC 9774, which withdraws routes with sets of ASNs in their path."
STRICT = (
    "ends the session for a capability that it cannot read. No RFC says what to do; Clarion goes "
    "on as if it were unknown."
)
OTHER_CODE = "uses another subcode of UPDATE Message Error."
NO_ATTRIBUTE = "does not repeat the attribute as data (RFC 4271 §6.3)."
UNCHECKED = "does not check this."
NOTHING_GONE = (
    "withdraws what the UPDATE names, which is nothing; RFC 7606 §5.2 fears that the fault hides "
    "routes."
)
SHORT = "checks the length of all messages before the type of this one."
NOT_OFFERED = "had not offered to take long messages, so its answer is right (RFC 8654 §4)."
STERN = "withdraws the route where only the attribute is to be discarded or its flags ignored."

REASONS = (
    Reason(
        "frr",
        "Attributes: .*",
        "3/10",
        "leaves the attributes at the faulty one and takes the rest of them for routes. Where the "
        "fault stands last, it withdraws.",
    ),
    Reason("frr", "Attributes: unknown well-known .*", "3/1", OTHER_CODE),
    Reason("frr", "(Attributes|Internal|Two-octet ASNs): .*", "3/[1458]", CLASSIC),
    Reason("frr", "Routes: .* marked transitive, .*", "3/4", CLASSIC),
    Reason("frr", "Attributes: AS_PATH with a set, .*", STAYS, NO_SETS),
    Reason("frr", "Attributes: A.* marked .*", STAYS, "discards the attribute only."),
    Reason("frr", "Attributes: .* from outside, .*", GOES, STERN),
    Reason(
        "frr",
        "Attributes: no attribute at all, .*",
        STAYS,
        "sees nothing to do in an UPDATE without attributes.",
    ),
    Reason(
        "frr",
        "Header: UPDATE of 5,055 .*",
        "1/2",
        "takes long messages only from peers that offer to take them themselves.",
    ),
    Reason(
        "frr", "Header: type 6, .*", "1/2 .*", "has a message of type 6 (dynamic capabilities)."
    ),
    Reason("frr", "No routes: .*", UP, NOTHING_GONE),
    Reason("frr", "OPEN: .*(capability|next hop) .*", "2/[02]", STRICT),
    Reason("frr", "OPEN: long form, .*", "2/4", "knows the long form by a first length of 255."),
    Reason("frr", "OPEN: parameter of type 1, .*", "2/5", "still has Authentication Failure."),
    Reason("frr", "OPEN: parameters shorter .*", UP, "ignores what follows the parameters."),
    Reason("frr", "Route refresh: .* 22 .*", "1/2.*", SHORT),
    Reason("frr", "Route refresh: .* 24 .*", "7/1", "does not repeat the message as data."),
    Reason(
        "frr", "Routes: .* beside NEXT_HOP .*", GOES, "checks a NEXT_HOP that is to be ignored."
    ),
    Reason("frr", "Routes: .* unknown family, .*", "closed", "closes without a word."),
    Reason("frr", "Routes: .* 24 octets, .*", UP, "takes it for the next hop of a VPN."),
    Reason("frr", "Routes: MP_.*", "3/1", OTHER_CODE),
    Reason("frr", "Routes: MP_.*", "3/9", NO_ATTRIBUTE),
    Reason("frr", "Routes: route both .*", GOES, "withdraws after it has announced."),
    Reason("frr", "State: NOTIFICATION, .*", "5/1", "answers a NOTIFICATION."),
    Reason("frr", "State: OPEN, .*", "closed", "closes without a word."),
    Reason("frr", "State: .*", "5/[123]", NO_TYPE),
    Reason("bird", "Attributes: AS_PATH with a set, .*", STAYS, NO_SETS),
    Reason("bird", "Attributes: .*", f"{STAYS}|{UP}", UNCHECKED),
    Reason("bird", "Header: KEEPALIVE .*", UP, UNCHECKED),
    Reason("bird", "Header: OPEN .*", "5/3.*", "looks at the state before the length."),
    Reason("bird", "Header: UPDATE of 5,055 .*", "1/2", NOT_OFFERED),
    Reason("bird", "No routes: .*", "3/1", OTHER_CODE),
    Reason("bird", "No routes: .*", UP, UNCHECKED),
    Reason("bird", "OPEN: version .*", "2/1.*", "sends two octets of something else as data."),
    Reason("bird", "OPEN: .*(capability|next hop) .*", "2/0", STRICT),
    Reason("bird", "Route refresh: .* 22 .*", "1/2.*", SHORT),
    Reason("bird", "Routes: .* marked transitive, .*", "3/1", CLASSIC),
    Reason("bird", "Routes: .*", "3/1|3/10", OTHER_CODE),
    Reason("bird", "Routes: MP_.*", "3/9", NO_ATTRIBUTE),
    Reason("bird", "State: UPDATE, OpenConfirm", UP, "takes an UPDATE for the KEEPALIVE."),
    Reason("bird", "State: .*", "5/[123]", NO_TYPE),
    Reason("gobgp", ".*", "the daemon ends", "dereferences nil, and the whole router is gone."),
    Reason("gobgp", "Attributes: AS_PATH with a set, .*", STAYS, NO_SETS),
    Reason("gobgp", "(Attributes|Two-octet ASNs|Routes: .* beside).*", GOES, STERN),
    Reason("gobgp", "Routes: route both .*", GOES, "withdraws after it has announced."),
    Reason("gobgp", "(Attributes|Internal|Routes): .*", STAYS, UNCHECKED),
    Reason("gobgp", "(Header|OPEN): .*", UP, UNCHECKED),
    Reason("gobgp", "Header: UPDATE .*", "3/1", "finds it in the body of the message."),
    Reason("gobgp", "Header: .*", "1/2|closed", "ends the session in fewer words."),
    Reason("gobgp", "No routes: .*", UP, NOTHING_GONE),
    Reason(
        "gobgp", "OPEN: (long form|param).*", "1/2", "calls any fault of length that of a message."
    ),
    Reason("gobgp", "OPEN: version .*", "2/1", "does not say which version it speaks."),
    Reason("gobgp", "Route refresh: .*", UP, UNCHECKED),
    Reason(
        "gobgp", "Route refresh: .*", "7/1", "does not repeat the message, and asks no subtype."
    ),
    Reason(
        "gobgp",
        "Routes: MP_.*",
        UP,
        "leaves out the attribute that it cannot read, and goes on.",
    ),
    Reason("gobgp", "Routes: .*", "3/1", OTHER_CODE),
    Reason("gobgp", "State: .*", "closed", "closes without a word."),
    Reason("openbgpd", "Attributes: AS_PATH with a set, .*", STAYS, NO_SETS),
    Reason(
        "openbgpd",
        "Attributes: .* another AS .*",
        "3/11",
        "wants the peer's own ASN first, as RFC 4271 §6.3 allows.",
    ),
    Reason("openbgpd", "(Attributes|Internal): .*", STAYS, UNCHECKED),
    Reason("openbgpd", "(Attributes|Internal|Two-octet ASNs): .*", r"3/\d+", CLASSIC),
    Reason("openbgpd", "Header: UPDATE of 5,055 .*", "1/2", NOT_OFFERED),
    Reason("openbgpd", "No routes: .*", "3/3.*", "looks for what is missing first."),
    Reason("openbgpd", "OPEN: hold time .*", UP, UNCHECKED),
    Reason("openbgpd", "OPEN: version .*", "2/1.*", "writes the version in one octet."),
    Reason("openbgpd", "Route refresh: .* 22 .*", "1/2.*", SHORT),
    Reason("openbgpd", "Route refresh: .*", UP, UNCHECKED),
    Reason("openbgpd", "Routes: MP_UNREACH of 2 .*", "3/5.*", OTHER_CODE),
    Reason("openbgpd", "Routes: .* family, .*", "3/9", "takes no family that was not agreed on."),
    Reason("openbgpd", "Routes: IPv4 .*", "3/9", "knows no IPv4 routes over IPv6 (RFC 8950)."),
    Reason("openbgpd", "Routes: .*", "3/[34]", CLASSIC),
    Reason("openbgpd", "Routes: MP_.*", "3/9.*", "repeats the value without type and length."),
    Reason(
        "openbgpd", "State: ROUTE-.*", f"{UP}|silent", "does not look at it before Established."
    ),
    Reason("openbgpd", "State: .*", "5/[123]", NO_TYPE),
)

TEXTS = tuple(dict.fromkeys(reason.text for reason in REASONS))


def why(who: str, row: Row, said: str) -> int:
    """The number, among `TEXTS`, of the first reason that fits.

    Raises:
        LookupError: nobody knows why.
    """
    place = f"{row.chapter}: {row.name}, {row.state}"
    for reason in REASONS:
        if (
            who == reason.who
            and re.fullmatch(reason.rows, place)
            and re.fullmatch(reason.said, said)
        ):
            return TEXTS.index(reason.text) + 1
    raise LookupError(f"{who} has no reason for {said} in {place}")
