"""Manifests: all problems at once with their places, and the objects that have none."""

import os
import textwrap
from pathlib import Path

import pytest

from clarion.model.codec import load_manifests
from clarion.model.convert import to_hub
from clarion.model.core import Service
from clarion.model.manifests import LoadResult, documents
from clarion.model.meta import ObjectKey
from clarion.model.metallb import BGPPeer, BGPPeerV1Beta1, IPAddressPool

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


def load(text: str, file: str = "a.yaml") -> LoadResult:
    return load_manifests([(file, textwrap.dedent(text))])


def lines(result: LoadResult) -> list[str]:
    return [str(problem) for problem in result.problems]


POOL = """\
    apiVersion: metallb.io/v1beta1
    kind: IPAddressPool
    metadata:
      name: east
      namespace: metallb-system
      annotations: {example.org/a.b: x}
    spec:
      addresses:
      - 192.0.2.0/28
      - "2001:db8::/120"
      serviceAllocation: {namespaces: [shop]}
    """


def test_an_object_and_its_places() -> None:
    result = load(POOL)
    (pool,) = result.objects
    assert isinstance(pool, IPAddressPool)
    assert pool.spec.addresses == ("192.0.2.0/28", "2001:db8::/120")
    assert pool.spec.auto_assign is True
    assert result.problems == ()

    def place(path: str) -> tuple[str, int, int] | None:
        return result.position("IPAddressPool", ObjectKey("metallb-system", "east"), path)

    assert place("") == ("a.yaml", 1, 1)
    assert place("metadata.name") == ("a.yaml", 4, 9)
    assert place("metadata.annotations[example.org/a.b]") == ("a.yaml", 6, 34)
    assert place("spec.addresses") == ("a.yaml", 8, 3)
    assert place("spec.addresses[1]") == ("a.yaml", 10, 5)
    assert place("spec.serviceAllocation.namespaces[0]") == ("a.yaml", 11, 36)
    assert place("spec.autoAssign") == ("a.yaml", 7, 1), "what is absent is placed at its parent"
    assert place("spec.addresses[7]") == ("a.yaml", 8, 3)
    assert result.position("IPAddressPool", ObjectKey("", "east"), "") is None


def test_every_problem_of_every_document() -> None:
    result = load(
        """\
        apiVersion: metallb.io/v1beta1
        kind: IPAddressPool
        metadata: {name: east}
        spec:
          addresses: 192.0.2.0/28
          autoAssign: no
          avoidBuggyIps: true
        ---
        apiVersion: metallb.io/v1beta1
        kind: BGPAdvertisement
        metadata: {namespace: metallb-system}
        spec:
          aggregationLength: 33
          agregationLengthV6: 64
        ---
        kind: [
        ---
        apiVersion: metallb.io/v1beta1
        kind: L2Advertisment
        metadata: {name: x}
        ---
        apiVersion: metallb.io/v1
        kind: Community
        metadata: {name: x}
        ---
        just: a mapping
        ---
        - a list
        """
    )
    assert result.objects == ()
    golden = GOLDEN / "model_manifest_problems.txt"
    text = "".join(f"{line}\n" for line in lines(result))
    if os.environ.get("UPDATE_GOLDEN") == "1":
        golden.write_text(text)
    assert golden.read_text() == text


def test_one_bad_object_does_not_spoil_the_others() -> None:
    good = textwrap.dedent(POOL)
    result = load_manifests(
        [("bad.yaml", "a: [\n---\n" + good.replace("east", "west")), ("good.yaml", good)]
    )
    assert [obj.name for obj in result.objects] == ["west", "east"]
    assert [(problem.file, problem.code) for problem in result.problems] == [
        ("bad.yaml", "InvalidYAML")
    ]


def test_the_same_object_twice() -> None:
    text = textwrap.dedent(POOL)
    result = load_manifests([("a.yaml", text), ("b.yaml", "\n" + text)])
    (problem,) = result.problems
    assert (problem.file, problem.line, problem.object, problem.path) == (
        "b.yaml",
        5,
        "IPAddressPool metallb-system/east",
        "metadata.name",
    )
    assert problem.message == "is defined a second time, first in a.yaml:1"
    assert len(result.objects) == 1


def test_lists_are_flattened_and_strangers_set_aside() -> None:
    text = """\
        apiVersion: v1
        kind: List
        items:
        - apiVersion: v1
          kind: Service
          metadata: {name: web, creationTimestamp: null}
          spec: {type: LoadBalancer, ports: [{port: 80, targetPort: http}], selector: null}
        - apiVersion: apps/v1
          kind: Deployment
          metadata: {name: web}
        - apiVersion: v1
          kind: ServiceList
          items:
          - {apiVersion: v1, kind: Service, metadata: {name: db}, spec: {ports: [{port: "80"}]}}
        """
    result = load(text)
    (service,) = result.objects
    assert isinstance(service, Service)
    assert service.spec.ports[0].target_port == "http"
    assert [document.object["kind"] for document in result.skipped] == ["Deployment"]
    assert lines(result) == [
        'a.yaml:14:81: Service db: spec.ports[0].port: must be an integer, not the string "80"'
    ]
    names = [d.object["metadata"]["name"] for d in documents("a.yaml", textwrap.dedent(text))]
    assert names == ["web", "web", "db"]


def test_old_peers_stay_what_they_are_until_they_are_judged() -> None:
    result = load(
        """\
        apiVersion: metallb.io/v1beta1
        kind: BGPPeer
        metadata: {name: tor}
        spec: {myASN: 64500, peerASN: 64501, peerAddress: 192.0.2.1, peerPort: 0}
        """
    )
    (peer,) = result.objects
    assert isinstance(peer, BGPPeerV1Beta1)
    newest = to_hub(peer)
    assert isinstance(newest, BGPPeer)
    assert (newest.api_version, newest.spec.peer_port, newest.spec.hold_time) == (
        "metallb.io/v1beta2",
        179,
        None,
    )
    assert result.position("BGPPeer", peer.key, "spec.peerAddress") == ("a.yaml", 4, 51)


def test_a_field_found_wrong_by_its_text_is_reported_once() -> None:
    result = load(
        """\
        apiVersion: metallb.io/v1beta1
        kind: BFDProfile
        metadata: {name: fast}
        spec: {echoMode: yes, receiveInterval: 0100, detectMultiplier: 1}
        """
    )
    assert [(problem.code, problem.column) for problem in result.problems] == [
        ("AmbiguousScalar", 18),
        ("AmbiguousScalar", 40),
        ("OutOfRange", 64),
    ]


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n", "---\n---\n", "~\n"])
def test_nothing(text: str) -> None:
    result = load_manifests([("a.yaml", text)])
    assert (result.objects, result.problems, result.skipped) == ((), (), ())
