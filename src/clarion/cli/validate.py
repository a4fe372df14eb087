"""`clarion validate`: every problem of the configuration at once, with place and remedy."""

from collections.abc import Iterator

import click
import msgspec

from clarion.cli.render import print_json, styled
from clarion.cli.sources import Loaded, Wanted, load, placed, source_options
from clarion.decide.config import build_config
from clarion.decide.document import VALIDATE_SCHEMA
from clarion.decide.problems import ObjectRef, Problem
from clarion.decide.registry import listed
from clarion.decide.snapshot import Snapshot
from clarion.model.manifests import LoadResult, ManifestProblem
from clarion.model.meta import ObjectKey

MISSING_KINDS = {
    "pool-unknown": ("IPAddressPool",),
    "peer-unknown": ("BGPPeer",),
    "bfd-profile-missing": ("BFDProfile",),
    "secret-not-given": ("Secret",),
    "namespace-unknown": ("Namespace",),
    "advertisement-without-pool": ("IPAddressPool",),
    "advertisement-without-peer": ("BGPPeer",),
    "alias-unknown": ("Community",),
    "services-wait": ("IPAddressPool",),
    "service-without-address": ("IPAddressPool",),
    "service-not-announced": ("IPAddressPool", "L2Advertisement", "BGPAdvertisement", "Node"),
    "pool-not-advertised": ("L2Advertisement", "BGPAdvertisement"),
}
"""Problem -> the kinds whose absence causes it."""

OF_PLANS = frozenset(("no-nodes",))
"""Problems that say what a plan cannot show: nothing is wrong with the objects."""


class Place(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """Another object concerned, and where it was written; without files the place is empty."""

    object: str
    file: str = ""
    line: int = 0


class Finding(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """One problem and where it was written; without files the place is empty."""

    file: str = ""
    line: int = 0
    column: int = 0
    severity: str = "error"
    code: str
    object: str = ""
    path: str = ""
    message: str
    remedy: str = ""
    related: tuple[Place, ...] = ()


def as_finding(item: ManifestProblem) -> Finding:
    """What cannot be read, among the other problems."""
    fields = {field: getattr(item, field) for field in item.__struct_fields__}
    return Finding(severity=item.severity, **fields)


def findings(loaded: Loaded) -> list[Finding]:
    """What cannot be read and what is wrong with the rest, in the order of the files."""
    unreadable = [as_finding(item) for item in loaded.unreadable]
    broken = _broken_kinds(loaded)
    told = {(item.object, item.path) for item in unreadable}
    problems = _problems(_with_flawed(loaded))
    judged = [_finding(loaded, item) for item in problems if not _follows(item, broken)]
    return sorted(unreadable + [item for item in judged if (item.object, item.path) not in told])


def _problems(snapshot: Snapshot) -> tuple[Problem, ...]:
    """What is wrong with the configuration and, where services are given, with the result."""
    if not snapshot.services:
        return build_config(snapshot).problems
    from clarion.decide.findings import service_findings
    from clarion.decide.planner import plan

    made = plan(snapshot)
    shown = (item for item in made.problems if item.code not in OF_PLANS)
    return (*shown, *service_findings(made, snapshot))


def _with_flawed(loaded: Loaded) -> Snapshot:
    """The objects with those that have a fault already: what else is wrong with them counts too."""
    if loaded.manifests is None or not loaded.manifests.flawed:
        return loaded.snapshot
    objects = (*loaded.snapshot.objects(), *map(placed, loaded.manifests.flawed))
    snapshot = Snapshot.from_objects(objects, loaded.snapshot.options)
    outdated = (*loaded.snapshot.outdated, *snapshot.outdated)
    return msgspec.structs.replace(snapshot, outdated=tuple(sorted(outdated)))


def _broken_kinds(loaded: Loaded) -> set[str]:
    """Kinds of which some manifest could not be read."""
    if loaded.manifests is None:
        return set()
    manifests = loaded.manifests
    read = {(obj.kind, obj.name) for obj in (*manifests.objects, *manifests.flawed)}
    return {kind for kind, key in loaded.manifests.sources if (kind, key.name) not in read}


def _follows(problem: Problem, broken: set[str]) -> bool:
    """True if what is missing is likely among the objects that could not be read."""
    return bool(broken.intersection(MISSING_KINDS.get(problem.code, ())))


def _finding(loaded: Loaded, problem: Problem) -> Finding:
    file, line, column = _position(loaded, problem.object, problem.path)
    related = []
    for other in problem.related:
        other_file, other_line, _ = _position(loaded, other)
        related.append(Place(object=str(other), file=other_file, line=other_line))
    return Finding(
        file=file,
        line=line,
        column=column,
        severity=problem.severity,
        code=problem.code,
        object=str(problem.object),
        path=problem.path,
        message=problem.message,
        remedy=problem.remedy,
        related=tuple(related),
    )


def _position(loaded: Loaded, obj: ObjectRef, path: str = "") -> tuple[str, int, int]:
    """File, line and column of a field; empty if no file holds the object."""
    for namespace in (obj.namespace, "") if loaded.manifests else ():
        key = ObjectKey(namespace, obj.name)
        if place := loaded.manifests and loaded.manifests.position(obj.kind, key, path):
            return place
    return "", 0, 0


@click.command(context_settings={"max_content_width": 110})
@source_options
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
@click.option("--strict", is_flag=True, help="Exit with 1 for warnings too.")
def command(wanted: Wanted, output: str, strict: bool) -> int:
    """Check manifests, or a live configuration: every problem at once.

    Services among the objects are decided too: one that gets no address, or that nobody announces,
    is a warning.

    Exits with 1 if there is an error; warnings alone exit with 0.
    """
    loaded = load(wanted)
    found = findings(loaded)
    errors = sum(item.severity == "error" for item in found)
    count = sum(1 for _ in loaded.snapshot.objects())
    if output == "json":
        print_json({"schema": VALIDATE_SCHEMA, "objects": count, "problems": found})
    else:
        for item in found:
            for line in finding_lines(item):
                click.echo(line)
        _summarize(count, errors, len(found) - errors)
        _note_unused(loaded.manifests)
    return 1 if errors or (strict and found) else 0


def finding_lines(item: Finding) -> Iterator[str]:
    """A problem as people read it."""
    colour = "red" if item.severity == "error" else "yellow"
    place = f"{item.file}:{item.line}:{item.column}: " if item.file else ""
    what = ": ".join(filter(None, (item.object, item.path)))
    yield f"{place}{styled(item.severity, colour)} [{item.code}]"
    yield f"    {what}: {item.message}" if what else f"    {item.message}"
    for other in item.related:
        if other.file:
            yield f"    see {other.file}:{other.line}: {other.object}"
    if item.remedy:
        yield f"    → {item.remedy}"


def _summarize(objects: int, errors: int, warnings: int) -> None:
    read = _count(objects, "object")
    if errors or warnings:
        click.echo(f"{read}: {_count(errors, 'error')}, {_count(warnings, 'warning')}")
    else:
        click.echo(f"{read}, no problem")


def _note_unused(manifests: LoadResult | None) -> None:
    """What was read and says nothing: whoever expects more looks for it here."""
    for file in manifests.empty if manifests else ():
        click.echo(f"{file} is empty, or holds comments only")
    kinds = sorted({str(item.object["kind"]) for item in manifests.skipped} if manifests else ())
    if manifests and kinds:
        objects = _count(len(manifests.skipped), "object")
        click.echo(f"{objects} of kinds that Clarion does not read: {listed(kinds)}")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
