"""The check of the wire: who answers for each address on this host's segments."""

from collections.abc import Mapping
from typing import Final

import msgspec

from clarion.decide.doctor import Check, Judgement, failed, ok, skipped, warning
from clarion.decide.registry import listed


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Stations that answered for one address on one interface, by hardware address."""

    address: str
    interface: str
    stations: tuple[str, ...]


class WireFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What was heard.

    Attributes:
        asked: Addresses asked for.
        answers: Who answered, where anybody did.
        owners: Address -> node that should answer; none of those told by BGP alone.
        here: The node that this host is; it does not hear itself. Empty: none.
        stations: Hardware address -> node.
        unheard: Nodes whose hardware addresses are not known.
    """

    asked: tuple[str, ...] = ()
    answers: tuple[Answer, ...] = ()
    owners: dict[str, str] = msgspec.field(default_factory=dict)
    here: str = ""
    stations: dict[str, str] = msgspec.field(default_factory=dict)
    unheard: tuple[str, ...] = ()


def _who(station: str, stations: Mapping[str, str]) -> str:
    node = stations.get(station)
    return f"{station} ({node})" if node else f"{station} (no known node)"


def _twice(facts: WireFacts) -> list[str]:
    """Addresses that two stations answer for, this host among them."""
    found = []
    for item in facts.answers:
        names = [_who(station, facts.stations) for station in item.stations]
        if facts.here and facts.owners.get(item.address) == facts.here:
            names.insert(0, f"{facts.here} itself")
        if len(names) > 1:
            found.append(f"{item.address} on {item.interface}: {' and '.join(names)}")
    return found


def _strangers(facts: WireFacts) -> tuple[list[str], list[str]]:
    """Addresses answered for by no known node, and those by another node than expected."""
    strange, others = [], []
    for item in facts.answers:
        for station in item.stations:
            node, owner = facts.stations.get(station), facts.owners.get(item.address)
            whose = f"; it should be {owner}" if owner else "; it is told by BGP alone"
            text = f"{item.address} on {item.interface}: {_who(station, facts.stations)}{whose}"
            if node is None:
                strange.append(text)
            elif node != owner:
                others.append(text)
    return strange, others


def _one_answer(facts: WireFacts) -> Judgement:
    if not facts.asked:
        return skipped("there is no address to ask for")
    twice = _twice(facts)
    strange, others = _strangers(facts)
    heard = {item.address for item in facts.answers}
    silent = sorted(
        address
        for address, owner in facts.owners.items()
        if address not in heard and owner != facts.here
    )
    told = {
        "answers": [msgspec.to_builtins(item) for item in facts.answers],
        "stations": facts.stations,
        "owners": facts.owners,
        "silent": silent,
        "unheard_nodes": list(facts.unheard),
    }
    if twice or (strange and not facts.unheard):
        return failed("; ".join([*twice, *(strange if not twice else ())]), **told)
    if strange:
        says = f"{'; '.join(strange)}: it may be of {listed(facts.unheard)}, not heard here"
        return warning(says, **told)
    if others:
        return warning("; ".join(others), **told)
    if silent:
        return warning(f"nobody answers here for {listed(silent)}", **told)
    return ok(f"{len(facts.asked)} asked for, one station each", **told)


WIRE_CHECKS: Final[tuple[Check[WireFacts], ...]] = (
    Check(
        "one-answer",
        "wire",
        "who answers ARP (RFC 5227 probes) and NDP for every address",
        "two stations with one address take each other's connections",
        "end the one that is no speaker; two nodes: see `second-announcer` and `strict-arp`",
        _one_answer,
    ),
)
