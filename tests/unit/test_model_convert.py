"""BGPPeer between its versions."""

from typing import Any

import pytest

from clarion.model.annotations import CONVERSION_DATA
from clarion.model.codec import UndecodableError
from clarion.model.convert import convert_peer, peer_to_v1beta1, peer_to_v1beta2, to_hub
from clarion.model.metallb import BGPPeer, BGPPeerSpecV1Beta1, BGPPeerV1Beta1

OLD = {"apiVersion": "metallb.io/v1beta1", "kind": "BGPPeer"}
NEW = {"apiVersion": "metallb.io/v1beta2", "kind": "BGPPeer"}


def test_absent_timers_stay_absent() -> None:
    spec = {"myASN": 64500, "peerASN": 64501, "peerAddress": "192.0.2.1"}
    assert peer_to_v1beta2(OLD | {"spec": spec}) == NEW | {"spec": spec}


def test_zero_is_the_default_port() -> None:
    assert peer_to_v1beta2(OLD | {"spec": {"peerPort": 0}}) == NEW | {"spec": {}}
    assert peer_to_v1beta2(OLD | {"spec": {"peerPort": 1179}})["spec"] == {"peerPort": 1179}


def test_what_the_old_version_cannot_hold_is_kept() -> None:
    spec = {"myASN": 64500, "interface": "eth1", "dynamicASN": "external", "connectTime": "5s"}
    new: dict[str, Any] = NEW | {"metadata": {"name": "tor"}, "spec": spec}
    old = peer_to_v1beta1(new)
    assert old["spec"] == {"myASN": 64500}
    assert set(old["metadata"]["annotations"]) == {CONVERSION_DATA}
    assert peer_to_v1beta2(old) == new


def test_a_change_made_in_the_old_version_is_not_undone() -> None:
    old = peer_to_v1beta1(NEW | {"metadata": {}, "spec": {"myASN": 1, "vrf": "red"}})
    old["spec"]["myASN"] = 2
    assert peer_to_v1beta2(old)["spec"] == {"myASN": 2, "vrf": "red"}


@pytest.mark.parametrize("text", ["", "nonsense", "[]", "{}", '{"myASN": 5}'])
def test_an_annotation_that_no_conversion_wrote_is_left_alone(text: str) -> None:
    old = OLD | {"metadata": {"annotations": {CONVERSION_DATA: text}}, "spec": {"myASN": 1}}
    assert peer_to_v1beta2(old) == old | NEW


def test_kept_data_of_a_copied_object_does_not_come_back() -> None:
    old = peer_to_v1beta1(NEW | {"metadata": {}, "spec": {"myASN": 1, "vrf": "red"}})
    copied = NEW | {"metadata": old["metadata"], "spec": {"myASN": 1}}
    assert peer_to_v1beta2(peer_to_v1beta1(copied))["spec"] == {"myASN": 1}


def test_versions() -> None:
    peer = OLD | {"spec": {"myASN": 1}}
    assert convert_peer(peer, OLD["apiVersion"]) is peer
    assert convert_peer(convert_peer(peer, NEW["apiVersion"]), OLD["apiVersion"]) == peer
    with pytest.raises(UndecodableError):
        convert_peer(peer, "metallb.io/v1")


def test_typed() -> None:
    spec = BGPPeerSpecV1Beta1(my_asn=1, peer_asn=2, peer_address="192.0.2.1", ebgp_multi_hop=True)
    peer = to_hub(BGPPeerV1Beta1(spec=spec))
    assert isinstance(peer, BGPPeer)
    assert (peer.spec.my_asn, peer.spec.peer_port, peer.spec.ebgp_multi_hop) == (1, 179, True)
    assert to_hub(peer) is peer


@pytest.mark.parametrize(
    "part",
    [{"metadata": 5}, {"metadata": {"annotations": []}}, {"spec": [1]}, {"kind": "IPAddressPool"}],
)
def test_what_is_no_peer_is_not_converted(part: dict[str, Any]) -> None:
    for source, wanted in ((OLD, NEW), (NEW, OLD)):
        with pytest.raises(UndecodableError):
            convert_peer(source | part, wanted["apiVersion"])
