"""Checks of pools and of Community objects."""

from bisect import bisect_left, insort

from msgspec.structs import replace

from clarion.base.addr import AddressRange, parse_address, parse_range, summarize
from clarion.base.duration import parse_duration
from clarion.base.rangeset import RangeSet
from clarion.decide.communities import (
    WELL_KNOWN,
    Aliases,
    CommunityValue,
    format_community,
    parse_community,
    well_known,
)
from clarion.decide.config_build import Build, age, hint, ref
from clarion.decide.problems import ObjectRef
from clarion.decide.selectors import any_matches, faults
from clarion.decide.settings import LAST_PRIORITY, Pool
from clarion.decide.special import touching
from clarion.model.annotations import HOLD_DOWN, RESERVED
from clarion.model.metallb import Community, IPAddressPool, ServiceAllocation


def span_text(span: AddressRange) -> str:
    """A range as people write it: a prefix where it is one."""
    prefixes = list(summarize(span)) if span.size & (span.size - 1) == 0 else []
    return str(prefixes[0]) if len(prefixes) == 1 else str(span)


class Overlaps:
    """Ranges accepted so far, sorted, so that each new one is compared with its neighbours only."""

    def __init__(self) -> None:
        self._spans: list[tuple[AddressRange, ObjectRef]] = []

    def find(self, span: AddressRange) -> tuple[AddressRange, ObjectRef] | None:
        """An accepted range that shares an address with this one, and its pool."""
        index = bisect_left(self._spans, (span, ObjectRef("", "", "")))
        for candidate in self._spans[max(index - 1, 0) : index + 1]:
            if candidate[0].overlaps(span):
                return candidate
        return None

    def add(self, span: AddressRange, owner: ObjectRef) -> None:
        """Accept a range."""
        insort(self._spans, (span, owner))


def build_pools(build: Build, previous: dict[str, Pool]) -> dict[str, Pool]:
    """All valid pools; advertisements are attached later."""
    overlaps = Overlaps()

    def admit(obj: IPAddressPool, pool: Pool) -> bool:
        return _admit(build, overlaps, obj, pool)

    return build.accept(build.snapshot.pools, lambda obj: _pool(build, obj), _bare(previous), admit)


def _bare(pools: dict[str, Pool]) -> dict[str, Pool]:
    return {name: with_advertisements(pool, (), ()) for name, pool in pools.items()}


def with_advertisements(pool: Pool, l2: tuple[str, ...], bgp: tuple[str, ...]) -> Pool:
    """The pool with the advertisements that select it."""
    return replace(pool, l2=l2, bgp=bgp)


def _pool(build: Build, obj: IPAddressPool) -> Pool:
    spec = obj.spec
    if not spec.addresses:
        build.report("pool-empty", obj, "spec.addresses")
    ranges: list[AddressRange] = []
    own = Overlaps()
    for index, text in enumerate(spec.addresses):
        path = f"spec.addresses[{index}]"
        span = build.parse(parse_range, text, "address-invalid", obj, path)
        if span is None:
            continue
        if twin := own.find(span):
            texts = {"range": span_text(span), "other_range": span_text(twin[0])}
            build.report("pool-overlaps-itself", obj, path, **texts)
        else:
            own.add(span, ref(obj))
        for block in touching(span):
            facts = {"entry": span_text(span), "block": block.text}
            build.report("pool-unusable", obj, path, **facts, what=block.what, effect=block.effect)
        ranges.append(span)
    if spec.avoid_buggy_ips and _all_avoided(ranges):
        build.report("pool-all-avoided", obj, "spec.avoidBuggyIPs")
    scope = spec.service_allocation
    return Pool(
        name=obj.name,
        ranges=tuple(ranges),
        auto_assign=spec.auto_assign,
        avoid_buggy=spec.avoid_buggy_ips,
        scoped=scope is not None,
        priority=(scope.priority if scope else 0) or LAST_PRIORITY,
        namespaces=_namespaces(build, obj, scope) if scope else None,
        service_selectors=scope.service_selectors if scope else (),
        reserved=_reserved(build, obj, ranges),
        hold_down=_hold_down(build, obj),
    )


def _all_avoided(ranges: list[AddressRange]) -> bool:
    """True if the last octet of every IPv4 address, of which there is one, is 0 or 255."""
    spans = [span for span in ranges if span.version == 4]
    return bool(spans) and all(
        span.size <= 2 and span.first & 255 in (0, 255) and span.last & 255 in (0, 255)
        for span in spans
    )


def _reserved(
    build: Build, obj: IPAddressPool, ranges: list[AddressRange]
) -> tuple[AddressRange, ...]:
    """The addresses that the annotation reserves; entries may be single addresses."""
    text = obj.metadata.annotations.get(RESERVED, "")
    found = []
    for entry in (item.strip() for item in text.split(",")) if text.strip() else ():
        span = build.parse(_reserved_entry, entry, "reserved-invalid", obj, _annotation(RESERVED))
        if span is None:
            continue
        found.append(span)
        inside = RangeSet((s.first, s.last) for s in ranges if s.version == span.version)
        if not any(a <= span.first and span.last <= z for a, z in inside.spans()):
            where = _annotation(RESERVED)
            build.report("reserved-outside-pool", obj, where, entry=span_text(span))
    return tuple(found)


def _reserved_entry(text: str) -> AddressRange:
    alone = "/" not in text and "-" not in text
    return parse_address(text).host_prefix.range if alone else parse_range(text)


def _hold_down(build: Build, obj: IPAddressPool) -> float:
    text = obj.metadata.annotations.get(HOLD_DOWN, "")
    where = _annotation(HOLD_DOWN)
    value = build.parse(parse_duration, text, "hold-down-invalid", obj, where) if text else None
    if value is not None and value < 0:
        build.report("hold-down-invalid", obj, where, fault=f"{text!r} is negative")
    return max(value or 0.0, 0.0)


def _annotation(key: str) -> str:
    """The path of an annotation."""
    return f"metadata.annotations[{key}]"


def _namespaces(
    build: Build, obj: IPAddressPool, scope: ServiceAllocation
) -> frozenset[str] | None:
    """Namespaces that the scope admits, None for all.

    Selectors that match no namespace admit none; only the absence of both lists admits all.
    """
    path = "spec.serviceAllocation"
    build.unique(scope.namespaces, obj, f"{path}.namespaces")
    build.selectors(scope.namespace_selectors, obj, f"{path}.namespaceSelectors")
    build.selectors(scope.service_selectors, obj, f"{path}.serviceSelectors")
    if not scope.namespaces and not scope.namespace_selectors:
        return None
    labels = {item.name: item.metadata.labels for item in build.snapshot.namespaces}
    build.each_selects(
        scope.namespace_selectors,
        labels.values(),
        "namespace",
        obj,
        f"{path}.namespaceSelectors",
    )
    if labels:
        for index, name in enumerate(scope.namespaces):
            if name not in labels:
                where = f"{path}.namespaces[{index}]"
                build.report("namespace-unknown", obj, where, name=name, hint=hint(name, labels))
    usable = [item for item in scope.namespace_selectors if not any(faults(item))]
    return frozenset(scope.namespaces) | {
        name for name, own in labels.items() if any_matches(usable, own)
    }


def _admit(build: Build, overlaps: Overlaps, obj: IPAddressPool, pool: Pool) -> bool:
    clashes = [(i, span, overlaps.find(span)) for i, span in enumerate(pool.ranges)]
    for index, span, clash in clashes:
        if clash:
            build.report(
                "pool-overlap",
                obj,
                f"spec.addresses[{index}]",
                [clash[1]],
                range=span_text(span),
                other_range=span_text(clash[0]),
                other=str(clash[1]),
            )
    if any(clash for _, _, clash in clashes):
        return False
    for span in pool.ranges:
        overlaps.add(span, ref(obj))
    return True


def build_aliases(build: Build) -> Aliases:
    """All aliases, the well-known ones excepted; each faulty entry is set aside by itself."""
    aliases: Aliases = {}
    owners: dict[str, ObjectRef] = {}
    for obj in sorted(build.snapshot.communities, key=age):
        if not _in_place(build, obj):
            continue
        for index, entry in enumerate(obj.spec.communities):
            path = f"spec.communities[{index}]"
            value = build.parse(
                parse_community, entry.value, "community-invalid", obj, f"{path}.value"
            )
            if not entry.name:
                build.report("alias-empty", obj, f"{path}.name")
            elif entry.name in owners:
                other = owners[entry.name]
                facts = {"alias": entry.name, "other": str(other)}
                build.report("alias-taken", obj, f"{path}.name", [other], **facts)
            elif value is not None:
                _warn_of_hidden(build, obj, f"{path}.name", entry.name, value)
                aliases[entry.name] = value
                owners[entry.name] = ref(obj)
    return aliases


def _in_place(build: Build, obj: Community) -> bool:
    wanted = build.options.namespace
    if wanted and obj.namespace != wanted:
        facts = {"namespace": obj.namespace or "(none)", "wanted": wanted}
        build.report("wrong-namespace", obj, "metadata.namespace", **facts)
        return False
    return True


def _warn_of_hidden(
    build: Build, obj: Community, path: str, name: str, value: CommunityValue
) -> None:
    known = well_known(name)
    if known is not None and known != value:
        build.report("alias-hides-well-known", obj, path, alias=name, known=format_community(known))


def resolve_community(text: str, aliases: Aliases) -> CommunityValue | None:
    """The value of an alias or well-known name, None if it is neither."""
    return aliases[text] if text in aliases else well_known(text)


def alias_names(aliases: Aliases) -> list[str]:
    """Every name that may stand for a community, for suggestions."""
    return [*aliases, *WELL_KNOWN]
