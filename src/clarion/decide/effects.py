"""What a changed field of a BGP peer does to its session, from nothing to a reset.

The sessions themselves have the same table for what they are told (`CHANGE_EFFECTS` of
`proto.bgp.config`); a test holds that the two agree about every field.
"""

from typing import Any, Final, Literal

import msgspec

from clarion.base.limits import BGP_HOLD_SECONDS, BGP_RECONNECT_SECONDS_MAX
from clarion.decide.settings import Peer

Effect = Literal["kept", "live", "next-session", "reset"]

STRENGTH: Final[tuple[Effect, ...]] = ("kept", "live", "next-session", "reset")
"""From the weakest to the strongest."""

PEER_EFFECTS: Final[dict[str, Effect]] = {
    "my_asn": "reset",
    "peer_asn": "reset",
    "dynamic_asn": "reset",
    "address": "reset",
    "interface": "reset",
    "source_address": "reset",
    "port": "reset",
    "router_id": "reset",
    "password": "reset",
    "ebgp_multihop": "reset",
    "ttl_security": "reset",
    "local_asn": "reset",
    "vrf": "reset",
    "families": "reset",
    # Both are agreed in the OPENs; another one is offered when a session next comes up.
    "hold_time": "next-session",
    "graceful_restart": "next-session",
    "keepalive_time": "live",
    "connect_time": "live",
    "passive": "live",
    "max_prefixes": "live",
    "bfd_profile": "live",
    # What only says where sessions and passwords are.
    "password_secret": "kept",
    "node_selectors": "kept",
    "lacking": "kept",
}
"""Every field of a peer but its name, by which it is known."""

DEFAULTS: Final[dict[str, Any]] = {
    "hold_time": BGP_HOLD_SECONDS,
    "connect_time": BGP_RECONNECT_SECONDS_MAX,
}
"""What the native speaker uses where the user left a field open."""

UNSHOWN = frozenset(("node_selectors", "lacking"))
"""Fields whose change shows elsewhere: sessions that come or go, and their reasons."""

BLANKS = frozenset(("***", "(blanked)"))
"""What stands for a password in a saved snapshot."""


class FieldChange(msgspec.Struct, frozen=True):
    """A field of a peer that differs, its values as text, and what that does to the session."""

    field: str
    before: str
    after: str
    effect: Effect


def field_changes(old: Peer, new: Peer) -> tuple[FieldChange, ...]:
    """The fields that differ, the strongest effect first."""
    found = []
    for field, effect in PEER_EFFECTS.items():
        before, after = _value(old, field), _value(new, field)
        if field not in UNSHOWN and before != after and not _blank(field, before, after):
            texts = (_text(field, before), _text(field, after))
            found.append(FieldChange(field, *texts, effect))
    return tuple(sorted(found, key=lambda item: -STRENGTH.index(item.effect)))


def strongest(changes: tuple[FieldChange, ...]) -> Effect:
    """What all the changes together do to the session."""
    return max((item.effect for item in changes), key=STRENGTH.index, default="kept")


def _value(peer: Peer, field: str) -> Any:
    """What the session uses: without a keepalive time, a third of the hold time."""
    value = getattr(peer, field)
    if field == "keepalive_time" and value is None:
        return _value(peer, "hold_time") / 3
    return DEFAULTS.get(field) if value is None else value


def _blank(field: str, before: Any, after: Any) -> bool:
    """True if the values cannot be compared: a saved snapshot has no passwords."""
    return field == "password" and bool(before and after) and bool(BLANKS & {before, after})


def _text(field: str, value: Any) -> str:
    """A value in words; a password only by whether there is one."""
    if field == "password":
        return "set" if value else "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, frozenset):
        return ", ".join(f"IPv{item}" for item in sorted(value))
    if isinstance(value, float):
        return f"{value:g}s"
    return str(value) if value not in (None, "", 0) else "not set"
