"""`clarion doctor` on the real API server: what the shipped roles allow, and what is missing."""

import asyncio
from pathlib import Path

import pytest

from clarion.decide.doctor import examine
from clarion.decide.doctor_cluster import CLUSTER_CHECKS
from clarion.decide.planner import plan
from clarion.decide.snapshot import Options, Snapshot
from clarion.edge.clock import SystemClock
from clarion.edge.clusterfacts import read_cluster
from clarion.edge.kubeclient import KubeClient
from clarion.edge.kubeconfig import find_config
from clarion.testing.engine import Engine

from .deploy_kit import KUSTOMIZE, SYSTEM, Object, kustomized, text_of

ROLES = ("ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")


def verdicts(kubeconfig: Path) -> dict[str, tuple[str, str]]:
    """What the cluster's checks say for these credentials."""

    async def read() -> dict[str, tuple[str, str]]:
        clock = SystemClock()
        snapshot = Snapshot(options=Options(namespace=SYSTEM))
        async with KubeClient(find_config(str(kubeconfig), clock)) as client:
            facts = await read_cluster(client, clock, snapshot, plan(snapshot))
        found = examine(CLUSTER_CHECKS, facts)
        return {item.code: (item.verdict, item.says) for item in found}

    return asyncio.run(read())


@pytest.mark.parametrize("program", ["controller", "speaker"])
def test_the_shipped_roles_are_enough_for_their_program_and_no_other(
    engine: Engine, tmp_path: Path, program: str
) -> None:
    del engine  # asked for because it says why there is none
    with Engine(tmp_path, controllers=()) as own:
        own.kubectl("create", "namespace", SYSTEM)
        roles: list[Object] = [
            item for item in kustomized(own.kubectl, KUSTOMIZE / "native") if item["kind"] in ROLES
        ]
        own.kubectl("apply", "-f", "-", stdin=text_of(roles))
        account = own.service_account_kubeconfig(SYSTEM, program, tmp_path / "kubeconfig")
        found = verdicts(account)
        assert found["permissions"] == ("ok", f"enough for the {program}")
        # What it may not see is not called well.
        assert found["second-announcer"][0] == found["definitions"][0] == "skipped"
        assert "cannot list resource" in found["second-announcer"][1]
        found = verdicts(own.kubeconfig)
        assert found["permissions"] == ("ok", "enough for the controller and the speaker")
        assert found["definitions"][0] == "failed", "none is installed"
        assert found["second-announcer"][0] == found["clock"][0] == "ok"
