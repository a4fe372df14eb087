"""The routers of the lab: FRR, BIRD, GoBGP and OpenBGPD with one configuration and one view."""

from clarion.lab.bird import Bird
from clarion.lab.frr import Frr
from clarion.lab.gobgp import Gobgp
from clarion.lab.openbgpd import Openbgpd
from clarion.lab.process import LabError, wait_until
from clarion.lab.routerbase import (
    Neighbor,
    NeighborState,
    RoutePath,
    Router,
    RouterConfig,
    Routes,
)

ROUTERS: dict[str, type[Router]] = {router.kind: router for router in (Frr, Bird, Gobgp, Openbgpd)}

__all__ = [
    "ROUTERS",
    "Bird",
    "Frr",
    "Gobgp",
    "LabError",
    "Neighbor",
    "NeighborState",
    "Openbgpd",
    "RoutePath",
    "Router",
    "RouterConfig",
    "Routes",
    "wait_until",
]
