"""Where `validate`, `plan` and `explain` take their objects from: files, or a live API."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from clarion.base.errors import ClarionError
from clarion.decide.snapshot import Options, Snapshot
from clarion.model.codec import load_manifests
from clarion.model.core import EndpointSlice, Service
from clarion.model.manifests import LoadResult, ManifestProblem
from clarion.model.meta import KubeObject

SUFFIXES = (".yaml", ".yml", ".json")
STDIN = "-"


class Loaded(msgspec.Struct, frozen=True):
    """Objects to decide about, and the manifests that they come from, if they do."""

    snapshot: Snapshot
    manifests: LoadResult | None = None

    @property
    def unreadable(self) -> tuple[ManifestProblem, ...]:
        """What could not be read at all."""
        return self.manifests.problems if self.manifests else ()


def load(
    files: Sequence[str], kubeconfig: str | None = None, options: Options | None = None
) -> Loaded:
    """Read files if any are given, else the live API.

    Args:
        files: Files, directories (every .yaml, .yml and .json below) and `-` for standard input.
        kubeconfig: Path of a kubeconfig for the live API; None for the usual places.
        options: Settings that change decisions.

    Raises:
        ClarionError: a path that cannot be read, or an API that cannot be reached.
    """
    options = options or Options()
    if not files:
        from clarion.cli.live import load_live

        return Loaded(load_live(kubeconfig, options))
    manifests = load_manifests(read_texts(files))
    options = msgspec.structs.replace(options, assume_cluster=True)
    objects = (placed(obj) for obj in manifests.objects)
    return Loaded(Snapshot.from_objects(objects, options), manifests)


def read_texts(paths: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Name and text of each file that the paths stand for."""
    for path in paths:
        if path == STDIN:
            yield "(stdin)", sys.stdin.read()
            continue
        for file in _files(Path(path)):
            try:
                yield str(file), file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise ClarionError(f"{file} cannot be read: {error}") from None


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = [item for item in sorted(path.rglob("*")) if item.suffix in SUFFIXES]
    if not found:
        raise ClarionError(f"{path} holds no file named {', '.join('*' + s for s in SUFFIXES)}")
    return found


def placed(obj: KubeObject) -> KubeObject:
    """The object with the namespace that kubectl would give it by default."""
    if not isinstance(obj, Service | EndpointSlice) or obj.namespace:
        return obj
    meta = msgspec.structs.replace(obj.metadata, namespace="default")
    return msgspec.structs.replace(obj, metadata=meta)
