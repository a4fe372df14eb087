"""Why something differs between two plans, told from what the two plans hold.

Each question is "why does the other plan lack this?". For what is lost the other plan is the new
one and its reasons are told as they are; for what is gained it is the old one, and they are told as
what held until now.
"""

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from clarion.base.addr import Address
from clarion.decide.advertise import AdvertisedRoute
from clarion.decide.effects import field_changes
from clarion.decide.plan import Plan, PlannedRoute, ServicePlan
from clarion.decide.reasons import Reason, reason
from clarion.decide.registry import listed
from clarion.decide.settings import BGPSettings, L2Settings
from clarion.model.meta import ObjectKey, kube_name

SERVICES_ASKED = 5
"""Services of one aggregate whose reasons are told; more would say the same."""

_SPELLED = {"lengths": "aggregationLength", "pools": "ipAddressPools", "local_pref": "localPref"}
_EFFECTS = {
    "reset": "the session is reset",
    "next-session": "it takes effect when the session next comes up",
    "live": "it takes effect in the running session",
    "kept": "the session does not notice",
}


def _gone(what: str, name: object) -> Reason:
    return reason("change-gone", what=what, name=str(name))


def _until_now(reasons: Iterable[Reason]) -> Iterator[Reason]:
    """The reasons why the old plan lacked something, as reasons why the new plan has it."""
    for item in reasons:
        if item.code == "change-gone":
            yield Reason("change-new", item.facts)
        elif item.code == "change-service":
            facts = {**item.facts, "before": item.facts["after"], "after": item.facts["before"]}
            yield Reason(item.code, facts)
        elif item.code == "change-advertisement":
            yield item
        else:
            yield reason("change-before", text=item.text)


def _unique(reasons: Iterable[Reason]) -> tuple[Reason, ...]:
    return tuple({item.text: item for item in reasons}.values())


def _against(reasons: Iterable[Reason]) -> Iterator[Reason]:
    return (item for item in reasons if item.verdict == "no")


# Addresses.


def address_reasons(old: Plan, new: Plan, service: ObjectKey) -> tuple[Reason, ...]:
    """Why a service has other addresses."""
    item = new.services.get(service)
    if item is None:
        return (_gone("service", service),)
    found = (
        [] if service in old.services else [reason("change-new", what="service", name=str(service))]
    )
    given = item.outcome.reasons if item.outcome else item.reasons
    # What stood in the way of the old address says more than how the new one was found.
    found += sorted(given, key=lambda why: why.verdict != "no")
    return _unique(found)


# Owners.


def owner_reasons(
    old: Plan,
    new: Plan,
    address: Address,
    before: Mapping[str, object],
    after: Mapping[str, object],
) -> tuple[Reason, ...]:
    """Why others answer for an address."""
    if before.keys() == after.keys():
        return _unique(_changed_ads(old.config.l2, new.config.l2))
    found: list[Reason] = []
    for node in sorted(before.keys() - after.keys()):
        found += _not_owner(old, new, node, address)
    if not before:
        for node in sorted(after):
            found += _until_now(_not_owner(new, old, node, address))
    return _unique(found)


def _not_owner(here: Plan, there: Plan, node: str, address: Address) -> Iterator[Reason]:
    """Why a node that answers here does not do so there."""
    for key, item in here.services.items():
        if address not in item.addresses or item.l2.owner != node:
            continue
        other = there.services.get(key)
        lost = _lost_address(item, other, address)
        if lost or other is None:
            yield from lost
        elif node not in there.nodes and there.nodes:
            yield _gone("node", node)
        elif not other.pool:
            yield from other.reasons
        elif node in other.l2.refused:
            yield other.l2.refused[node]
        elif other.l2.owner and other.l2.owner != node:
            yield reason("l2-not-first", owner=other.l2.owner)
        else:
            yield from _against(other.l2.reasons)


def _lost_address(item: ServicePlan, other: ServicePlan | None, address: Address) -> list[Reason]:
    """Why the service cannot be announced there under the address: it is gone, or has another."""
    if other is None:
        return [_gone("service", item.service)]
    return [] if address in other.addresses else [_readdressed(item, other)]


def _readdressed(item: ServicePlan, other: ServicePlan) -> Reason:
    same = set(item.addresses) & set(other.addresses)
    before = listed([address for address in item.addresses if address not in same])
    after = listed([address for address in other.addresses if address not in same]) or "no address"
    return reason("change-service", service=str(item.service), before=before, after=after)


# Sessions.


def session_reasons(old: Plan, new: Plan, node: str, peer: str, change: str) -> tuple[Reason, ...]:
    """Why a session comes, goes, or is touched."""
    if change == "session-removed":
        return _unique(_no_session(new, node, peer))
    if change == "session-added":
        return _unique(_until_now(_no_session(old, node, peer)))
    return tuple(
        reason(
            "change-peer",
            field=kube_name(item.field),
            before=item.before,
            after=item.after,
            effect=_EFFECTS[item.effect],
        )
        for item in field_changes(old.config.peers[peer], new.config.peers[peer])
    )


def _no_session(there: Plan, node: str, peer: str) -> Iterator[Reason]:
    """Why there is no session; nothing if there is one."""
    plan = there.nodes.get(node)
    if peer not in there.config.peers:
        yield _gone("peer", peer)
    elif plan is None:
        yield _gone("node", node)
    elif refused := plan.peers[peer].refused:
        yield refused
    elif plan.refused and not plan.speaks:
        yield plan.refused


# Routes.


def route_reasons(
    old: Plan,
    new: Plan,
    node: str,
    peer: str,
    before: PlannedRoute | None,
    after: PlannedRoute | None,
) -> tuple[Reason, ...]:
    """Why a node tells a peer something else about a prefix."""
    if before and after:
        return _unique(_other_attributes(old, new, before, after))
    if before:
        return _unique(_no_route(old, new, node, peer, before))
    assert after is not None, "a change has one side at least"
    return _unique(_until_now(_no_route(new, old, node, peer, after)))


def _other_attributes(
    old: Plan, new: Plan, before: PlannedRoute, after: PlannedRoute
) -> Iterator[Reason]:
    one, two = set(before.advertisements), set(after.advertisements)
    changed = tuple(_changed_ads(old.config.bgp, new.config.bgp, one | two))
    yield from changed
    yield from (note for note in after.notes if note not in before.notes)
    codes = {note.code for note in after.notes}
    yield from _until_now(note for note in before.notes if note.code not in codes)
    if one != two and not changed:
        texts = {"before": listed(sorted(one)), "after": listed(sorted(two))}
        yield reason("change-sources", **texts)


def _no_route(
    here: Plan, there: Plan, node: str, peer: str, route: PlannedRoute
) -> Iterator[Reason]:
    """Why a node that tells a peer of a route here does not do so there."""
    ended = tuple(_no_session(there, node, peer))
    if ended:
        yield from ended
        return
    for key in route.services[:SERVICES_ASKED]:
        item, other = here.services[key], there.services.get(key)
        if other is None:
            yield _gone("service", key)
        elif set(item.addresses) - set(other.addresses):
            yield _readdressed(item, other)
        elif not other.pool:
            yield from other.reasons
        elif node in other.bgp.refused:
            yield other.bgp.refused[node]
        elif node not in other.bgp.nodes:
            yield from _against(other.bgp.reasons)
        else:
            told = other.bgp.nodes[node]
            yield from _not_by_ads(here, there, peer, route)
            for name in route.advertisements:
                if name in there.config.bgp and name not in told:
                    facts = {"service": str(key), "node": node}
                    yield reason("change-cover", advertisement=name, **facts)


def _not_by_ads(here: Plan, there: Plan, peer: str, route: PlannedRoute) -> Iterator[Reason]:
    """What became of the advertisements of a route."""
    version = route.route.prefix.version
    if version not in there.config.peers[peer].families:
        yield reason("peer-without-family", peer=peer, family=version)
    for name in route.advertisements:
        ad = there.config.bgp.get(name)
        if ad is not None and not ad.goes_to(peer):
            yield reason("peer-not-told", peer=peer, advertisement=name)
        else:
            yield from _changed_ads(here.config.bgp, there.config.bgp, {name})


Ads = Mapping[str, BGPSettings] | Mapping[str, L2Settings]


def _changed_ads(old: Ads, new: Ads, names: set[str] | None = None) -> Iterator[Reason]:
    """The advertisements that differ, and in which fields."""
    for name in sorted(names if names is not None else old.keys() | new.keys()):
        one, two = old.get(name), new.get(name)
        if two is None:
            yield _gone("advertisement", name)
        elif one is None:
            yield reason("change-new", what="advertisement", name=name)
        elif one != two:
            fields = [
                _SPELLED.get(field, kube_name(field))
                for field in one.__struct_fields__
                if getattr(one, field) != getattr(two, field)
            ]
            yield reason("change-advertisement", advertisement=name, fields=listed(fields))


def altered(before: AdvertisedRoute, after: AdvertisedRoute) -> tuple[str, ...]:
    """Names of the attributes of a route that differ."""
    one, two = msgspec.structs.asdict(before), msgspec.structs.asdict(after)
    return tuple(name for name in one if one[name] != two[name])
