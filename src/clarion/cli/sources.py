"""Where `validate`, `plan` and `explain` take their objects from.

Three sources are the same to what comes after: manifests, a live API, and the snapshot that a
speaker shows under `/debug/snapshot`, saved to a file.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import click
import msgspec

from clarion.base.errors import ClarionError
from clarion.cli.options import back_end_option
from clarion.decide.snapshot import Backend, Options, Snapshot
from clarion.model.codec import load_manifests
from clarion.model.core import EndpointSlice, Service
from clarion.model.kinds import kind_of
from clarion.model.manifests import LoadResult, ManifestProblem
from clarion.model.meta import CONFIGURATION_NAMESPACES, KubeObject

SUFFIXES = (".yaml", ".yml", ".json")
STDIN = "-"
LIVE = "live"

Origin = Literal["manifests", "snapshot", "live"]
F = TypeVar("F", bound=Callable[..., Any])


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Where to read, and the settings that the user gave; empty ones are left to the source."""

    files: tuple[str, ...] = ()
    kubeconfig: str = ""
    namespace: str = ""
    lb_class: str = ""
    backend: Backend | None = None
    graceful_shutdown: bool = False

    @property
    def options(self) -> Options:
        """The settings for objects that come without any."""
        return Options(
            namespace=self.namespace,
            lb_class=self.lb_class,
            backend=self.backend or "native",
            graceful_shutdown=self.graceful_shutdown,
        )


class Question(msgspec.Struct, frozen=True):
    """What is asked about: programs' reports are read only where they are part of the answer."""

    kind: str
    name: str


class Loaded(msgspec.Struct, frozen=True):
    """Objects to decide about, and the manifests that they come from, if they do."""

    snapshot: Snapshot
    manifests: LoadResult | None = None
    origin: Origin = "live"

    @property
    def unreadable(self) -> tuple[ManifestProblem, ...]:
        """What could not be read at all."""
        return self.manifests.problems if self.manifests else ()


def source_options(function: F) -> F:
    """The flags of every command that reads objects; they arrive as one `Wanted`."""
    flags = (
        click.option(
            "-f",
            "files",
            multiple=True,
            metavar="PATH",
            help="Manifests: file, directory or - (stdin); or a saved /debug/snapshot.",
        ),
        click.option("--kubeconfig", default="", help="Live API to read when no file is given."),
        click.option("--namespace", default="", help="Where configuration objects must live."),
        click.option("--lb-class", default="", help="Handle services of this loadBalancerClass."),
        back_end_option(
            "Back end whose rules apply.  [default: native, or what is in force]", default=None
        ),
        click.option(
            "--bgp-graceful-shutdown",
            "graceful_shutdown",
            is_flag=True,
            help="Speakers shed the traffic of cordoned nodes.  [default: what is in force]",
        ),
    )

    def gathered(**values: Any) -> Any:
        fields = {name: values.pop(name) for name in Wanted.__struct_fields__}
        return function(wanted=Wanted(**fields), **values)

    gathered.__doc__ = function.__doc__
    decorated: Any = gathered
    # Flags that stand on the function already follow those of the source.
    decorated.__click_params__ = getattr(function, "__click_params__", [])
    for flag in reversed(flags):
        decorated = flag(decorated)
    result: F = decorated
    return result


def load(wanted: Wanted, question: Question | None = None) -> Loaded:
    """Read files if any are given, else the live API: all of it, or what a question needs.

    Raises:
        ClarionError: a path that cannot be read, or an API that cannot be reached.
    """
    if not wanted.files or wanted.files == (LIVE,):
        from clarion.cli.live import load_live

        given = ("backend",) if wanted.backend else ()
        return Loaded(load_live(wanted.kubeconfig or None, wanted.options, question, given))
    faults: list[ManifestProblem] = []
    texts = list(read_texts(wanted.files, faults.append))
    saved = [name for name, text in texts if looks_saved(text)]
    if saved and len(texts) > 1:
        raise ClarionError(f"{saved[0]} is a saved snapshot, which is a whole: give it alone")
    if saved:
        return Loaded(read_saved(*texts[0], wanted), origin="snapshot")
    manifests = load_manifests(texts)
    found = (*faults, *manifests.problems)
    manifests = msgspec.structs.replace(manifests, problems=found)
    options = msgspec.structs.replace(
        wanted.options,
        assume_cluster=True,
        namespace=wanted.namespace or configuration_namespace(manifests.objects),
    )
    objects = (placed(obj) for obj in manifests.objects)
    return Loaded(Snapshot.from_objects(objects, options), manifests, "manifests")


def tell_unreadable(loaded: Loaded) -> None:
    """Say on standard error what could not be read: an answer that lacks it may mislead."""
    for item in loaded.unreadable:
        if item.severity == "error":
            what = ": ".join(filter(None, (item.object, item.path, item.message)))
            place = f"{item.file}:{item.line}:{item.column}"
            click.echo(f"{place}: error [{item.code}] {what}", err=True)


def configuration_namespace(objects: Iterable[KubeObject]) -> str:
    """The namespace that programs will read: the usual one if any manifest is for it, else any."""
    used = {obj.namespace for obj in objects if kind_of(obj).custom}
    return next((name for name in CONFIGURATION_NAMESPACES if name in used), "")


# A saved snapshot.


def looks_saved(text: str) -> bool:
    """True if a text is what a program shows under `/debug/snapshot`, and no manifest."""
    if not text.lstrip().startswith("{") or '"component"' not in text:
        return False
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    return "component" in value and "kind" not in value


def read_saved(name: str, text: str, wanted: Wanted) -> Snapshot:
    """The snapshot in what a speaker shows; settings that the user gave replace its own.

    Raises:
        ClarionError: it is that of another program, or of another version.
    """
    value = msgspec.json.decode(text)
    if not isinstance(value.get("snapshot"), dict):
        raise ClarionError(
            f"{name} is the snapshot of a {value['component']}, which does not hold the objects",
            "save that of a speaker: curl localhost:7472/debug/snapshot",
        )
    try:
        snapshot = msgspec.convert(value["snapshot"], Snapshot, str_keys=True)
    except msgspec.ValidationError as error:
        raise ClarionError(f"{name} is no snapshot of this version: {error}") from None
    given = {
        field: setting
        for field in ("namespace", "lb_class", "backend", "graceful_shutdown")
        if (setting := getattr(wanted, field))
    }
    options = msgspec.structs.replace(snapshot.options, **given)
    return msgspec.structs.replace(snapshot, options=options)


# Files.


def read_texts(
    paths: Iterable[str], report: Callable[[ManifestProblem], object] | None = None
) -> Iterator[tuple[str, str]]:
    """Name and text of each file that the paths stand for.

    Args:
        paths: Files, directories (every .yaml, .yml and .json below) and `-` for standard input.
        report: Takes a file that cannot be read; without it, the first one ends the reading.

    Raises:
        ClarionError: a path that does not exist, or a file that cannot be read.
    """
    for path in paths:
        for file in (path,) if path == STDIN else _files(Path(path)):
            name = "(stdin)" if file == STDIN else str(file)
            text = _read(name, file)
            if isinstance(text, str):
                yield name, text
            elif report is None:
                raise ClarionError(f"{name}: {text.message}")
            else:
                report(text)


def _read(name: str, file: str | Path) -> str | ManifestProblem:
    """The text of a file, or why it has none."""
    try:
        data = sys.stdin.buffer.read() if file == STDIN else Path(file).read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        fault, line, column = f"cannot be read: {error.strerror}", 1, 1
    except UnicodeDecodeError as error:
        before = error.object[: error.start]
        fault = f"is not UTF-8: byte {error.object[error.start]:#04x}"
        line, column = before.count(b"\n") + 1, len(before) - before.rfind(b"\n")
    return ManifestProblem(
        code="UnreadableFile",
        file=name,
        line=line,
        column=column,
        message=f"the file {fault}",
        remedy="save it as UTF-8 text, readable by you",
    )


def _files(path: Path) -> Sequence[Path]:
    if not path.exists():
        raise ClarionError(f"{path} does not exist")
    if not path.is_dir():
        return [path]
    found = [item for item in sorted(path.rglob("*")) if item.suffix in SUFFIXES]
    found = [item for item in found if item.is_file()]
    if not found:
        raise ClarionError(f"{path} holds no file named {', '.join('*' + s for s in SUFFIXES)}")
    return found


def placed(obj: KubeObject) -> KubeObject:
    """The object with the namespace that kubectl would give it by default."""
    if not isinstance(obj, Service | EndpointSlice) or obj.namespace:
        return obj
    meta = msgspec.structs.replace(obj.metadata, namespace="default")
    return msgspec.structs.replace(obj, metadata=meta)
