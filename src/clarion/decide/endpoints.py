"""Which nodes can serve a service, from its EndpointSlices and its traffic policy.

Readiness, as MetalLB reads it: an endpoint can serve when `ready` is true or absent, or when
`serving` is true.

| ready | serving | terminating | can serve |
|---|---|---|---|
| true, absent | any | any | yes |
| false | true | any | yes: it drains, but still answers |
| false | false, absent | any | no |
"""

from collections import Counter
from collections.abc import Iterable
from functools import reduce
from operator import or_

import msgspec

from clarion.model.annotations import LABEL_SLICE_SERVICE
from clarion.model.core import Endpoint, EndpointSlice, Service
from clarion.model.meta import ObjectKey

LOCAL = "Local"


class Serving(msgspec.Struct, frozen=True, gc=False):
    """Endpoints that can serve one service.

    Attributes:
        total: How many there are, wherever they run.
        by_node: How many of them each node hosts; one that is in the slices of both IP versions is
            one.
        seen: How many endpoints there are, serving or not.
        assumed: No slice is given and the cluster is assumed to have endpoints on every node.
    """

    total: int = 0
    by_node: dict[str, int] = msgspec.field(default_factory=dict)
    seen: int = 0
    assumed: bool = False

    def on(self, node: str) -> bool:
        """True if the node hosts an endpoint that can serve."""
        return self.assumed or node in self.by_node


NOBODY = Serving()
EVERYBODY = Serving(total=1, assumed=True)


def can_serve(endpoint: Endpoint) -> bool:
    """True if traffic may be sent to the endpoint; one without an address cannot take any."""
    conditions = endpoint.conditions
    return bool(endpoint.addresses) and (conditions.ready is not False or bool(conditions.serving))


def serving(slices: Iterable[EndpointSlice]) -> Serving:
    """Count the endpoints of a service that can serve, by node."""
    by_type: dict[str, Counter[str]] = {}
    total = seen = 0
    for item in slices:
        for endpoint in item.endpoints:
            seen += 1
            if not can_serve(endpoint):
                continue
            total += 1
            if endpoint.node_name:
                by_type.setdefault(item.address_type, Counter())[endpoint.node_name] += 1
    # The larger of two counts by node: | of Counters.
    by_node = reduce(or_, by_type.values(), Counter[str]())
    return Serving(total, dict(sorted(by_node.items())), seen)


def service_of(item: EndpointSlice) -> ObjectKey:
    """The service to which a slice belongs."""
    return ObjectKey(item.namespace, item.metadata.labels.get(LABEL_SLICE_SERVICE, ""))


def is_local(service: Service) -> bool:
    """True for externalTrafficPolicy Local: only nodes with an endpoint take traffic."""
    return service.spec.external_traffic_policy == LOCAL
