"""What in an nftables ruleset keeps announcing from working.

The speaker hears ARP and neighbor discovery on packet sockets. Those are below the hooks of the
families ip, ip6, inet and arp, so drops there do not matter to it; netdev and bridge tables do. BGP
goes through the ordinary input hook.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

BGP_PORT: Final = 179
_LOW: Final = ("netdev", "bridge")
_INPUT: Final = ("inet", "ip", "ip6")
_NEIGHBOR_TYPES: Final = {"nd-neighbor-solicit", "nd-neighbor-advert", 135, 136}


def obstacles(ruleset: Mapping[str, Any]) -> tuple[str, ...]:
    """Places that drop what announcing needs.

    Args:
        ruleset: What `nft -j list ruleset` prints (libnftables-json), decoded.
    """
    items = ruleset.get("nftables", [])
    chains = [item["chain"] for item in items if "chain" in item]
    rules = [item["rule"] for item in items if "rule" in item]
    return (*_low_drops(chains, rules), *_bgp_drops(chains, rules))


def _place(rule: Mapping[str, Any]) -> str:
    name = rule.get("chain") or rule.get("name")
    return f"table {rule['family']} {rule['table']}, chain {name}"


def _drops(rule: Mapping[str, Any]) -> bool:
    return any("drop" in part or "reject" in part for part in rule.get("expr", []))


def _matches(rule: Mapping[str, Any]) -> Iterator[tuple[str, set[Any]]]:
    """What a rule compares (`tcp dport`, `ether type`, `icmpv6 type`), and with which values."""
    for part in rule.get("expr", []):
        match = part.get("match", {})
        if match.get("op") not in ("==", "in"):
            continue
        left = match.get("left", {})
        field = left.get("payload") or left.get("meta") or {}
        name = f"{field.get('protocol', 'meta')} {field.get('field') or field.get('key')}"
        yield name, set(_values(match.get("right")))


def _values(right: Any) -> Iterator[Any]:
    """The single values that a match names; ranges give their two ends."""
    match right:
        case {"set": list(items)} | {"range": list(items)}:
            for item in items:
                yield from _values(item)
        case str() | int():
            yield right


def _low_drops(chains: Iterable[Any], rules: Iterable[Any]) -> Iterator[str]:
    """Drops in netdev and bridge tables that name ARP or neighbor discovery, or everything."""
    for chain in chains:
        if chain["family"] in _LOW and chain.get("policy") == "drop":
            yield f"{_place(chain)}: policy drop"
    for rule in rules:
        if rule["family"] not in _LOW or not _drops(rule):
            continue
        named = dict(_matches(rule))
        types = named.get("ether type", named.get("meta protocol", set()))
        if "arp" in types or any(part.startswith("arp ") for part in named):
            yield f"{_place(rule)}: drops ARP"
        elif named.get("icmpv6 type", set()) & _NEIGHBOR_TYPES:
            yield f"{_place(rule)}: drops neighbor discovery"
        elif not any("match" in part for part in rule["expr"]):
            yield f"{_place(rule)}: drops everything"


def _bgp_drops(chains: Iterable[Any], rules: list[Any]) -> Iterator[str]:
    """Drops of BGP: by name, or by the policy of an input chain whose table accepts it nowhere."""
    for rule in rules:
        named = dict(_matches(rule))
        if rule["family"] in _INPUT and _drops(rule) and BGP_PORT in named.get("tcp dport", ()):
            yield f"{_place(rule)}: drops TCP {BGP_PORT}"
    for chain in chains:
        closed = chain.get("hook") == "input" and chain.get("policy") == "drop"
        if chain["family"] in _INPUT and closed and not _accepts_bgp(chain, rules):
            yield f"{_place(chain)}: policy drop, and no rule of the table names TCP {BGP_PORT}"


def _accepts_bgp(chain: Mapping[str, Any], rules: Iterable[Any]) -> bool:
    return any(
        BGP_PORT in dict(_matches(rule)).get("tcp dport", set()) and not _drops(rule)
        for rule in rules
        if (rule["family"], rule["table"]) == (chain["family"], chain["table"])
    )
