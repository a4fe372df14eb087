"""Reviews: what the API server asks of webhooks, and how it is answered.

`admission.k8s.io/v1` AdmissionReview and `apiextensions.k8s.io/v1` ConversionReview.
"""

import msgspec

from clarion.model.codec import UndecodableError, decode, encode
from clarion.model.convert import convert_peer
from clarion.model.meta import JSONObject, Model, always

ADMISSION_V1 = "admission.k8s.io/v1"
CONVERSION_V1 = "apiextensions.k8s.io/v1"


class ReviewCause(Model, frozen=True, kw_only=True, gc=False):
    """One reason, with the field that it is about."""

    reason: str = ""
    message: str = ""
    field: str = ""


class ReviewDetails(Model, frozen=True, kw_only=True, gc=False):
    """Which object is meant, and all reasons."""

    name: str = ""
    group: str = ""
    kind: str = ""
    causes: tuple[ReviewCause, ...] = ()


class ReviewStatus(Model, frozen=True, kw_only=True, gc=False):
    """meta/v1 Status: whether it went well, and why not."""

    status: str = ""
    message: str = ""
    reason: str = ""
    code: int = 0
    details: ReviewDetails | None = None


class ReviewKind(Model, frozen=True, kw_only=True, gc=False):
    """A kind in one version."""

    group: str = ""
    version: str = ""
    kind: str = ""


class AdmissionRequest(Model, frozen=True, kw_only=True, gc=False):
    """What is about to happen to an object; both are plain, as the API server sends them."""

    uid: str
    kind: ReviewKind = ReviewKind()
    name: str = ""
    namespace: str = ""
    operation: str = ""
    object: JSONObject | None = None
    old_object: JSONObject | None = None
    dry_run: bool = False


class AdmissionResponse(Model, frozen=True, kw_only=True, gc=False):
    """Whether it may happen."""

    uid: str
    allowed: bool
    status: ReviewStatus | None = None
    warnings: tuple[str, ...] = ()


class AdmissionReview(Model, frozen=True, kw_only=True, gc=False):
    """The request, or the answer."""

    api_version: str = always(ADMISSION_V1)
    kind: str = always("AdmissionReview")
    request: AdmissionRequest | None = None
    response: AdmissionResponse | None = None


class ConversionRequest(Model, frozen=True, kw_only=True, gc=False):
    """Objects, and the version that all of them are wanted in."""

    uid: str
    desired_api_version: str = msgspec.field(name="desiredAPIVersion")
    objects: tuple[JSONObject, ...] = ()


class ConversionResponse(Model, frozen=True, kw_only=True, gc=False):
    """The objects in the order of the request, all or none."""

    uid: str
    result: ReviewStatus
    converted_objects: tuple[JSONObject, ...] = ()


class ConversionReview(Model, frozen=True, kw_only=True, gc=False):
    """The request, or the answer."""

    api_version: str = always(CONVERSION_V1)
    kind: str = always("ConversionReview")
    request: ConversionRequest | None = None
    response: ConversionResponse | None = None


def read_admission(body: bytes) -> AdmissionRequest:
    """The request of an AdmissionReview.

    Raises:
        UndecodableError: it is none, or of another version.
    """
    review = decode(body, AdmissionReview)
    if (review.api_version, review.kind) != (ADMISSION_V1, "AdmissionReview"):
        raise UndecodableError(f"{review.kind} of {review.api_version} is no {ADMISSION_V1} review")
    if review.request is None:
        raise UndecodableError("the AdmissionReview holds no request")
    return review.request


def convert_reviewed(body: bytes) -> bytes:
    """Answer a ConversionReview about BGPPeers.

    Raises:
        UndecodableError: it is none, or of another version.
    """
    review = decode(body, ConversionReview)
    if (review.api_version, review.kind) != (CONVERSION_V1, "ConversionReview"):
        raise UndecodableError(
            f"{review.kind} of {review.api_version} is no {CONVERSION_V1} review"
        )
    if review.request is None:
        raise UndecodableError("the ConversionReview holds no request")
    return encode(ConversionReview(response=_converted(review.request)))


def _converted(request: ConversionRequest) -> ConversionResponse:
    wanted = request.desired_api_version
    try:
        objects = tuple(convert_peer(peer, wanted) for peer in request.objects)
    except UndecodableError as error:
        failure = ReviewStatus(status="Failure", message=error.message)
        return ConversionResponse(uid=request.uid, result=failure)
    success = ReviewStatus(status="Success")
    return ConversionResponse(uid=request.uid, result=success, converted_objects=objects)
