"""Which of several controllers writes: the one that holds the Lease, or the only one there is."""

import math
from collections.abc import Callable, Iterator

from clarion.base.ports import Clock, Entropy
from clarion.daemons.liveness import CONTROLLER_LEASE
from clarion.edge import metrics
from clarion.edge.kubeclient import KubeClient
from clarion.edge.leases import LeaderElection
from clarion.edge.procid import own_identity
from clarion.edge.tasks import Supervisor
from clarion.model.meta import ObjectKey
from clarion.proto.kube.leases import ElectionPolicy

LEASE = CONTROLLER_LEASE


class Leadership:
    """Whether this program may write. Without an election it always may.

    Args:
        clock: The clock.
        election: The election to take part in; None: there is one program only.
    """

    def __init__(self, clock: Clock, election: LeaderElection | None = None) -> None:
        self._clock = clock
        self._election = election

    def start(self, tasks: Supervisor) -> None:
        """Take part. Tasks started later end before the lease is given up."""
        if self._election is not None:
            tasks.start("election", self._election.run)

    @property
    def elected(self) -> bool:
        """Whether there may be others."""
        return self._election is not None

    @property
    def leads(self) -> bool:
        """Whether this program may write at this moment."""
        return self.until() > self._clock.monotonic()

    def until(self) -> float:
        """Until when it may, unless the lease is renewed, in monotonic seconds."""
        if self._election is None:
            return math.inf
        until = self._election.leads_until
        return -math.inf if until is None else until

    @property
    def term(self) -> str:
        """A name for this time of leading: the same until another may have written."""
        return "alone" if self._election is None else self._election.term

    async def wait(self) -> None:
        """Until this program may write."""
        if self._election is not None:
            await self._election.wait_leading()

    def samples(self) -> Iterator[metrics.Sample]:
        """The metric that says who leads."""
        yield metrics.LEADER.sample(self.leads)

    def snapshot(self) -> dict[str, object]:
        """What `/debug/snapshot` shows."""
        election = self._election
        if election is None:
            return {"elected": False, "leads": True}
        return {
            "elected": True,
            "leads": self.leads,
            "identity": election.identity,
            "leader": election.leader,
        }


def join_election(
    client: KubeClient,
    namespace: str,
    clock: Clock,
    entropy: Entropy,
    on_change: Callable[[bool], None],
    policy: ElectionPolicy | None = None,
) -> Leadership:
    """A candidate for the controllers' Lease of a namespace.

    Args:
        client: How to reach the API.
        namespace: Where the Lease is.
        clock: The clock.
        entropy: For jitter.
        on_change: Told when leadership is won or lost.
        policy: The times, by default those of `base.limits`.
    """
    election = LeaderElection(
        client,
        ObjectKey(namespace, LEASE),
        own_identity(),
        clock,
        entropy,
        policy=policy,
        on_change=on_change,
    )
    return Leadership(clock, election)
