"""Programs that announce service addresses, or speak BGP for others: how to know them.

Two announcers of one address answer one client with two hardware addresses; two speakers of BGP on
one node compete for one session per router. Which is which is told by a container's image, or by
the name of a process.
"""

import re
from collections.abc import Iterable
from typing import Final

import msgspec


class Announcer(msgspec.Struct, frozen=True):
    """One kind of program.

    Attributes:
        image: Regular expression that finds its container images; empty: known by process alone.
        processes: Names of its processes on the host.
        rival: It takes Services of type LoadBalancer for itself; others only share the wire.
        remedy: How it is stopped, or lived with.
    """

    name: str
    image: str
    processes: tuple[str, ...]
    rival: bool
    remedy: str


METALLB_SPEAKER: Final = Announcer(
    "MetalLB speaker",
    r"(^|/)metallb[/-]speaker([:@]|$)",
    ("speaker",),
    True,
    "kubectl -n metallb-system delete daemonset speaker",
)

ANNOUNCERS: Final = (
    METALLB_SPEAKER,
    Announcer(
        "MetalLB controller",
        r"(^|/)metallb[/-]controller([:@]|$)",
        (),
        True,
        "kubectl -n metallb-system delete deployment controller",
    ),
    Announcer(
        "kube-vip",
        r"(^|/)kube-vip([:@]|$)",
        ("kube-vip",),
        True,
        "run kube-vip for the control plane alone (svc_enable=false)",
    ),
    Announcer(
        "k3s servicelb",
        r"(^|/)klipper-lb([:@]|$)",
        (),
        True,
        "start k3s with --disable=servicelb",
    ),
    Announcer("OpenELB", r"(^|/)openelb([:@]|$)", ("openelb",), True, "remove OpenELB"),
    Announcer(
        "PureLB", r"purelb/(lbnodeagent|allocator)([:@]|$)", ("lbnodeagent",), True, "remove PureLB"
    ),
    Announcer("LoxiLB", r"(^|/)(kube-)?loxilb([:@]|$)", ("loxilb",), True, "remove LoxiLB"),
    Announcer(
        "keepalived",
        r"(^|/)keepalived([:@]|$)",
        ("keepalived",),
        False,
        "keep its addresses out of the pools",
    ),
    Announcer(
        "FRR",
        r"(^|/)(frr|frr-k8s)([:@]|$)",
        ("bgpd",),
        False,
        "one router takes one session per node address: give it other peers or another address",
    ),
    Announcer("BIRD", r"(^|/)(bird|calico/node)([:@]|$)", ("bird",), False, "as for FRR"),
    Announcer("GoBGP", r"(^|/)gobgpd?([:@]|$)", ("gobgpd",), False, "as for FRR"),
)

_IMAGES = [(re.compile(row.image), row) for row in ANNOUNCERS]
_PROCESSES = {name: row for row in ANNOUNCERS for name in row.processes}


def by_image(images: Iterable[str]) -> Announcer | None:
    """The announcer that one of the images of a Pod is of."""
    return next((row for image in images for found, row in _IMAGES if found.search(image)), None)


def by_process(name: str) -> Announcer | None:
    """The announcer that has processes of this name."""
    return _PROCESSES.get(name)
