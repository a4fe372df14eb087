"""Why a session is not established: a reason of the registry, told from what was heard of it.

Words come from our own machine, from routers' NOTIFICATIONs and from FRR; one table reads them all.
"""

from typing import Final

from clarion.decide.reasons import Reason, reason
from clarion.model.sessions import UNKNOWN, BGPSessionStatus

_SIGNS: Final = (
    ("router advertisement of the peer", "session-unheard"),
    ("waiting for peer ipv6 lla", "session-unheard"),
    ("no such interface", "session-no-interface"),
    ("interface is down", "session-no-interface"),
    ("interface down", "session-no-interface"),
    ("no ipv6 link-local address", "session-no-interface"),
    ("bad peer as", "session-wrong-asn"),
    ("bad bgp identifier", "session-same-id"),
    ("unacceptable hold time", "session-hold-refused"),
    ("maximum number of prefixes", "session-too-many-prefixes"),
    ("prefixes", "session-too-many-prefixes"),
    ("administrative", "session-shut"),
    ("de-configured", "session-not-configured"),
    ("deconfigured", "session-not-configured"),
    ("connection rejected", "session-not-configured"),
    ("bfd", "session-path-lost"),
    ("hold timer", "session-peer-silent"),
    ("sent nothing", "session-peer-silent"),
    ("refused", "session-port-closed"),
    ("unreachable", "session-no-route"),
    ("no route", "session-no-route"),
    ("waiting for nht", "session-no-route"),
    ("does not answer", "session-no-answer"),
    ("timed out", "session-no-answer"),
    ("reset by peer", "session-cut"),
    ("closed", "session-cut"),
)
"""Words in the last error, the telling ones first -> the code of the reason."""


def why_down(report: BGPSessionStatus) -> Reason | None:
    """Why a session is not established; None if it is, or if nothing is known of it."""
    if report.up or not report.state:
        return None
    error = report.last_error.text if report.last_error else ""
    if report.state == UNKNOWN:
        return reason("session-unknown", error=error)
    if not error:
        return reason("session-begins", state=report.state)
    words = error.lower()
    code = next((code for sign, code in _SIGNS if sign in words), "session-failed")
    return reason(code, error=error)
