"""What the speaker keeps of an EndpointSlice decides like the whole of it."""

import itertools

import msgspec
import pytest

from clarion.daemons.inputs import endpoints_read
from clarion.decide.endpoints import service_of, serving
from clarion.model.annotations import LABEL_SLICE_SERVICE
from clarion.model.core import Endpoint, EndpointConditions, EndpointPort, EndpointSlice
from clarion.model.meta import ObjectKey, ObjectMeta, ObjectReference

ANSWERS = (None, False, True)
META = ObjectMeta(
    name="web-1",
    namespace="shop",
    uid="1",
    resource_version="7",
    labels={LABEL_SLICE_SERVICE: "web", "endpointslice.kubernetes.io/managed-by": "somebody"},
)


def endpoint(node: str | None, *conditions: bool | None) -> Endpoint:
    ready, serving_, terminating = conditions
    return Endpoint(
        addresses=("192.0.2.1",),
        conditions=EndpointConditions(ready=ready, serving=serving_, terminating=terminating),
        node_name=node,
        hostname="web-1",
        zone="east",
        target_ref=ObjectReference(kind="Pod", name="web-1", namespace="shop", uid="2"),
    )


@pytest.mark.parametrize("conditions", list(itertools.product(ANSWERS, repeat=3)))
def test_decisions_are_those_of_the_whole_slice(conditions: tuple[bool | None, ...]) -> None:
    whole = EndpointSlice(
        metadata=META,
        address_type="IPv4",
        endpoints=(endpoint("n1", *conditions), endpoint(None, *conditions), Endpoint()),
        ports=(EndpointPort(port=80),),
    )
    kept = endpoints_read(whole)
    assert kept.key == whole.key
    assert service_of(kept) == service_of(whole) == ObjectKey("shop", "web")
    assert serving([kept]) == serving([whole])
    assert [item.addresses for item in kept.endpoints] == [i.addresses for i in whole.endpoints]


def test_what_decides_nothing_changes_nothing() -> None:
    one = EndpointSlice(metadata=META, endpoints=(endpoint("n1", True, None, None),))
    touched = msgspec.structs.replace(META, resource_version="8", annotations={"seen": "now"})
    assert endpoints_read(one) == endpoints_read(msgspec.structs.replace(one, metadata=touched))


def test_equal_texts_and_conditions_are_kept_once() -> None:
    data = msgspec.json.encode(EndpointSlice(endpoints=(endpoint("n1", True, None, None),)))
    (one,), (other,) = (
        endpoints_read(msgspec.json.decode(data, type=EndpointSlice)).endpoints for _ in range(2)
    )
    assert one.node_name is other.node_name
    assert one.conditions is other.conditions
