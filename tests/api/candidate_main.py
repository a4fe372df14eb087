"""A candidate for a lease as a program: prints the time whenever it would act as the leader."""

import asyncio
import sys

from clarion.edge.clock import SystemClock, SystemEntropy
from clarion.edge.kubeclient import KubeClient
from clarion.edge.kubeconfig import find_config
from clarion.edge.leases import LeaderElection
from clarion.model.meta import ObjectKey
from clarion.proto.kube.leases import ElectionPolicy

POLICY = ElectionPolicy(lease_duration=3.0, renew_deadline=2.0, retry_period=0.2)


async def main(kubeconfig: str, namespace: str, identity: str) -> None:
    clock, entropy = SystemClock(), SystemEntropy()
    async with KubeClient(find_config(kubeconfig, clock)) as client:
        key = ObjectKey(namespace, "leader")
        election = LeaderElection(client, key, identity, clock, entropy, policy=POLICY)
        task = asyncio.create_task(election.run())
        while not task.done():
            # The time is taken before the question, so a stop in between cannot make it too late.
            now = clock.monotonic()
            if election.leads:
                sys.stdout.write(f"{now}\n")
                sys.stdout.flush()
            await asyncio.sleep(0.01)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
