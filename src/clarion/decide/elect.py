"""Who answers for an address on the segment.

The order of candidates is MetalLB's, so that speakers of both kinds agree during a roll-out: the
highest preference first, then the lowest SHA-256 of `node#address`, where the address is the
service's first one in canonical text.
"""

import hashlib
from collections.abc import Mapping

import msgspec

from clarion.base.addr import Address
from clarion.decide.endpoints import Serving, is_local
from clarion.decide.nodes import Candidates, Nodes
from clarion.decide.reasons import Reason, reason
from clarion.decide.registry import listed
from clarion.decide.settings import Pool
from clarion.model.annotations import ALLOW_SHARED_IP, service_annotation
from clarion.model.core import Service


class L2Decision(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Who answers for the addresses of one service.

    Attributes:
        owner: The node chosen; empty when there is none.
        announced: The owner answers; False when it lacks the interfaces, or there is no owner.
        interfaces: Where the owner answers; None for every interface.
        ranking: All candidates, the owner first.
        refused: Every other node, with its reason.
    """

    addresses: tuple[Address, ...] = ()
    owner: str = ""
    announced: bool = False
    interfaces: tuple[str, ...] | None = None
    advertisements: tuple[str, ...] = ()
    ranking: tuple[str, ...] = ()
    refused: dict[str, Reason] = msgspec.field(default_factory=dict)
    reasons: tuple[Reason, ...] = ()


def rank(
    address: Address, scores: Mapping[str, int], incumbent: str | None = None
) -> tuple[str, ...]:
    """Candidates in order: score descending, then the incumbent, then the hash ascending."""
    suffix, sha = f"#{address}".encode(), hashlib.sha256
    # One look at each candidate: with many nodes this is most of what a plan costs.
    places = [
        (-score, node != incumbent, sha(node.encode() + suffix).digest(), node)
        for node, score in scores.items()
    ]
    places.sort()
    return tuple([place[3] for place in places])


def decide_l2(
    nodes: Nodes,
    pool: Pool,
    service: Service,
    addresses: tuple[Address, ...],
    serving: Serving,
) -> L2Decision:
    """Choose the owner of a service's addresses.

    Args:
        nodes: The nodes, the configuration and its options.
        pool: The pool that has the addresses.
        service: The service.
        addresses: Its addresses, in the order of its status: the first one decides.
        serving: Its endpoints.
    """
    names, notes = _matching(nodes, pool, service)
    if not names:
        return L2Decision(addresses=addresses, reasons=tuple(notes))
    against = _against(nodes, service, names, serving)
    if against:
        return L2Decision(addresses=addresses, advertisements=names, reasons=(against, *notes))
    if serving.assumed:
        notes.append(reason("endpoints-assumed"))
    found = nodes.candidates(names)
    scores, refused = found.scores, found.refused
    if is_local(service) and not serving.assumed:
        refused = dict(refused)
        for node in scores:
            if not serving.on(node):
                refused[node] = reason("node-without-local-endpoint")
        scores = {node: score for node, score in scores.items() if serving.on(node)}
    if not scores:
        why = (reason("l2-no-candidate"), *notes)
        return L2Decision(addresses=addresses, advertisements=names, refused=refused, reasons=why)
    incumbent = nodes.incumbents.get(str(addresses[0]))
    ranking = rank(addresses[0], scores, incumbent)
    if incumbent == ranking[0]:
        notes.append(reason("l2-incumbent", node=incumbent))
    return _on_interfaces(
        found,
        L2Decision(
            addresses=addresses,
            owner=ranking[0],
            advertisements=names,
            ranking=ranking,
            refused=refused,
            reasons=tuple(notes),
        ),
    )


def _matching(nodes: Nodes, pool: Pool, service: Service) -> tuple[tuple[str, ...], list[Reason]]:
    """The pool's advertisements that are for the service; why the others are not."""
    if not pool.l2:
        return (), [reason("l2-no-advertisement", pool=pool.name)]
    names, notes = [], []
    for name in pool.l2:
        if nodes.config.l2[name].covers_service(service.metadata.labels):
            names.append(name)
        else:
            notes.append(reason("l2-other-services", advertisement=name))
    return tuple(names), notes


def _against(
    nodes: Nodes, service: Service, names: tuple[str, ...], serving: Serving
) -> Reason | None:
    """What forbids the service to be answered for by any node."""
    if not serving.total:
        return reason("no-endpoints", seen=serving.seen)
    if service_annotation(service, ALLOW_SHARED_IP) is None:
        return None
    for name in names:
        if nodes.config.l2[name].service_selectors:
            return reason("l2-sharing-with-service-selectors", advertisement=name)
    return None


def _on_interfaces(found: Candidates, decision: L2Decision) -> L2Decision:
    """Where the owner answers; it is not replaced if it lacks the interfaces."""
    owner = decision.owner
    wanted, usable = found.wanted[owner], found.usable[owner]
    if usable == ():
        why = reason("l2-owner-without-interface", node=owner, interfaces=listed(wanted or ()))
    else:
        where = "every interface" if usable is None else listed(usable)
        addresses = listed(decision.addresses)
        why = reason("l2-owner", node=owner, addresses=addresses, interfaces=where)
    return msgspec.structs.replace(
        decision,
        announced=usable != (),
        interfaces=usable,
        reasons=(why, *decision.reasons),
    )
