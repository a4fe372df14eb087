"""Between the served versions of a resource, on plain objects."""

from clarion.apiserver.resources import Resource
from clarion.apiserver.status import Json, bad_request
from clarion.base.errors import InvalidInputError
from clarion.model.convert import convert_peer
from clarion.model.kinds import Kind


def convert(resource: Resource, body: Json, wanted: Kind) -> Json:
    """The object in another served version.

    Raises:
        ApiError: 400, it cannot be read as what it claims to be.
    """
    if body.get("apiVersion") == wanted.api_version:
        return body
    assert resource.plural == "bgppeers", "the only resource with two versions"
    try:
        return convert_peer(body, wanted.api_version)
    except (InvalidInputError, AttributeError, TypeError) as error:
        raise bad_request(f"the {resource.kind} cannot be converted: {error}") from None
