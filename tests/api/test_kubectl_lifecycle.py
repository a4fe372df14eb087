"""Watching, waiting, owners, finalizers and namespaces, judged by kubectl."""

import json
import time
from collections.abc import Callable
from pathlib import Path

from clarion.testing.apiprocess import Kubectl

_PATIENCE = 15.0


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.05)


def config_map(name: str, namespace: str, **metadata: object) -> str:
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, **metadata},
    }
    return json.dumps(body)


def owned_by(owner: dict[str, dict[str, str]], *, block: bool = False) -> dict[str, object]:
    reference = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "blockOwnerDeletion": block,
    }
    return {"ownerReferences": [reference]}


def gone(kubectl: Kubectl, kind: str, name: str, namespace: str) -> bool:
    return kubectl.run("get", kind, name, "-n", namespace).returncode != 0


def test_get_watch_follows_changes(kubectl: Kubectl, namespace: str) -> None:
    kubectl("create", "-f", "-", stdin=config_map("first", namespace))
    watcher = kubectl.stream("get", "configmap", "-n", namespace, "-w", "--output-watch-events")
    assert watcher.stdout is not None
    try:
        assert watcher.stdout.readline().split()[0] == "EVENT"
        assert watcher.stdout.readline().split()[:2] == ["ADDED", "first"]
        kubectl("create", "-f", "-", stdin=config_map("second", namespace))
        assert watcher.stdout.readline().split()[:2] == ["ADDED", "second"]
        kubectl("label", "configmap", "first", "a=b", "-n", namespace)
        assert watcher.stdout.readline().split()[:2] == ["MODIFIED", "first"]
        kubectl("delete", "configmap", "second", "-n", namespace)
        assert watcher.stdout.readline().split()[:2] == ["DELETED", "second"]
    finally:
        watcher.terminate()
        watcher.wait()
        watcher.stdout.close()


def test_watch_with_selector_sees_objects_come_and_go(kubectl: Kubectl, namespace: str) -> None:
    kubectl("create", "-f", "-", stdin=config_map("cm", namespace))
    watcher = kubectl.stream(
        *("get", "configmap", "-n", namespace, "-l", "app=web"),
        *("-w", "--output-watch-events"),
    )
    assert watcher.stdout is not None
    try:
        # kubectl lists before it watches: label only when its watch is known to be on.
        kubectl("create", "-f", "-", stdin=config_map("seen", namespace, labels={"app": "web"}))
        assert watcher.stdout.readline().split()[0] == "EVENT"
        assert watcher.stdout.readline().split()[:2] == ["ADDED", "seen"]
        kubectl("label", "configmap", "cm", "app=web", "-n", namespace)
        assert watcher.stdout.readline().split()[:2] == ["ADDED", "cm"]
        kubectl("label", "configmap", "cm", "--overwrite", "app=other", "-n", namespace)
        assert watcher.stdout.readline().split()[:2] == ["DELETED", "cm"]
    finally:
        watcher.terminate()
        watcher.wait()
        watcher.stdout.close()


def test_wait_for_deletion(kubectl: Kubectl, namespace: str) -> None:
    kubectl("create", "-f", "-", stdin=config_map("cm", namespace, finalizers=["example.com/hold"]))
    kubectl("delete", "configmap", "cm", "-n", namespace, "--wait=false")
    held = kubectl.get("configmap", "cm", "-n", namespace)["metadata"]
    assert held["deletionTimestamp"]
    waiter = kubectl.stream(
        "wait", "configmap/cm", "-n", namespace, "--for=delete", "--timeout=20s"
    )
    added = '{"metadata":{"finalizers":["example.com/hold","example.com/more"]}}'
    refused = kubectl.fails("patch", "cm", "cm", "-n", namespace, "--type=merge", "-p", added)
    assert "no new finalizers can be added" in refused
    kubectl("patch", "cm", "cm", "-n", namespace, "-p", '{"metadata":{"finalizers":null}}')
    output, _ = waiter.communicate(timeout=20)
    assert waiter.returncode == 0, output
    assert gone(kubectl, "configmap", "cm", namespace)


def test_owner_takes_its_dependents_along(kubectl: Kubectl, namespace: str) -> None:
    kubectl("create", "-f", "-", stdin=config_map("owner", namespace))
    owner = kubectl.get("configmap", "owner", "-n", namespace)
    kubectl("create", "-f", "-", stdin=config_map("child", namespace, **owned_by(owner)))
    child = kubectl.get("configmap", "child", "-n", namespace)
    kubectl("create", "-f", "-", stdin=config_map("grandchild", namespace, **owned_by(child)))
    kubectl("delete", "configmap", "owner", "-n", namespace)
    eventually(lambda: gone(kubectl, "configmap", "grandchild", namespace))
    assert gone(kubectl, "configmap", "child", namespace)
    # Whoever arrives after its owner has gone goes too.
    kubectl("create", "-f", "-", stdin=config_map("late", namespace, **owned_by(owner)))
    eventually(lambda: gone(kubectl, "configmap", "late", namespace))


def test_foreground_deletion_waits_for_dependents(kubectl: Kubectl, namespace: str) -> None:
    kubectl("create", "-f", "-", stdin=config_map("owner", namespace))
    owner = kubectl.get("configmap", "owner", "-n", namespace)
    metadata = {**owned_by(owner, block=True), "finalizers": ["example.com/hold"]}
    kubectl("create", "-f", "-", stdin=config_map("child", namespace, **metadata))
    kubectl("delete", "configmap", "owner", "-n", namespace, "--cascade=foreground", "--wait=false")
    eventually(
        lambda: "deletionTimestamp" in kubectl.get("cm", "child", "-n", namespace)["metadata"]
    )
    finalizers = kubectl.get("configmap", "owner", "-n", namespace)["metadata"]["finalizers"]
    assert finalizers == ["foregroundDeletion"]
    # The child has no dependents, so its own hold is all that keeps it.
    child = kubectl.get("configmap", "child", "-n", namespace)["metadata"]
    assert child["finalizers"] == ["example.com/hold"]
    release = '{"metadata":{"finalizers":null}}'
    kubectl("patch", "cm", "child", "-n", namespace, "--type=merge", "-p", release)
    eventually(lambda: gone(kubectl, "configmap", "owner", namespace))
    assert gone(kubectl, "configmap", "child", namespace)


def test_orphans_stay(kubectl: Kubectl, namespace: str) -> None:
    kubectl("create", "-f", "-", stdin=config_map("owner", namespace))
    owner = kubectl.get("configmap", "owner", "-n", namespace)
    kubectl("create", "-f", "-", stdin=config_map("child", namespace, **owned_by(owner)))
    kubectl("delete", "configmap", "owner", "-n", namespace, "--cascade=orphan")
    assert gone(kubectl, "configmap", "owner", namespace)
    child = kubectl.get("configmap", "child", "-n", namespace)
    assert "ownerReferences" not in child["metadata"]


def test_namespace_takes_its_content_along(kubectl: Kubectl, namespace: str) -> None:
    kubectl("create", "-f", "-", stdin=config_map("cm", namespace, finalizers=["example.com/hold"]))
    kubectl("delete", "namespace", namespace, "--wait=false")
    eventually(lambda: "deletionTimestamp" in kubectl.get("cm", "cm", "-n", namespace)["metadata"])
    assert "Terminating" in kubectl("get", "namespace", namespace)
    refused = kubectl.fails("create", "configmap", "new", "-n", namespace)
    assert "because it is being terminated" in refused
    kubectl("patch", "cm", "cm", "-n", namespace, "-p", '{"metadata":{"finalizers":null}}')
    kubectl("wait", f"namespace/{namespace}", "--for=delete", "--timeout=20s")
    kubectl("create", "namespace", namespace)
    assert kubectl.get("configmap", "-n", namespace)["items"] == []


def test_manifest_folder_comes_and_goes(kubectl: Kubectl, namespace: str, manifests: Path) -> None:
    for number in range(3):
        path = manifests / f"{number}.json"
        path.write_text(config_map(f"cm-{number}", namespace, labels={"set": "one"}))
    kubectl("apply", "-f", str(manifests))
    assert len(kubectl("get", "cm", "-n", namespace, "-l", "set=one", "-o", "name").split()) == 3
    (manifests / "1.json").unlink()
    pruned = kubectl(
        *("apply", "-f", str(manifests), "-n", namespace, "-l", "set=one"),
        *("--prune", "--prune-allowlist=core/v1/ConfigMap"),
    )
    assert "configmap/cm-1 pruned" in pruned
    kubectl("delete", "-f", str(manifests))
    eventually(lambda: kubectl.get("cm", "-n", namespace, "-l", "set=one")["items"] == [])
