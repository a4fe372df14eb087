"""What followed objects stand on: their definition, their namespace, their cluster.

Each is an object of its own on the server, known by its uid: one that was deleted and made anew
under the same name is another.
"""

from collections.abc import Sequence

from clarion.edge.kubeclient import ApiError, ForbiddenError, KubeClient, Selection
from clarion.edge.logs import Log
from clarion.model import kinds
from clarion.model.kinds import Kind
from clarion.proto.kube.guard import Ground

CLUSTER_IDENTITY = "kube-system"
"""The namespace whose uid is taken for the identity of a cluster, by this program as by others."""


class Footing:
    """One object that others stand on.

    Args:
        client: How to ask the server.
        kind: Its kind, cluster-scoped.
        name: Its name.
        words: What it is to them, for messages.
        log: Where it is told that it may not be read.
    """

    def __init__(self, client: KubeClient, kind: Kind, name: str, words: str, log: Log) -> None:
        self._client = client
        self._kind = kind
        self._name = name
        self._log = log
        self._forbidden = False
        self._uid = ""
        self._found = ""
        self.words = words

    async def ask(self) -> Ground:
        """Whether it stands as before; the first that is found is what later ones are held to.

        Raises:
            ApiError: the server fails or does not answer.
        """
        try:
            self._found = await self._client.uid_of(self._kind, self._name)
        except ForbiddenError as error:
            if not self._forbidden:
                self._forbidden = True
                self._log.warn(
                    f"{self._kind.plural} may not be read: their loss is told less surely from "
                    "deletions that somebody meant",
                    error=error.message,
                )
            self._found = await self._guess()
        if not self._found:
            return Ground.LOST
        self._uid = self._uid or self._found
        return Ground.SAME if self._found == self._uid else Ground.LAID_ANEW

    async def _guess(self) -> str:
        """What stands for the uid where it may not be read."""
        return "unknown"

    def accept(self) -> None:
        """Take what was found last for the old one's successor."""
        self._uid = self._found


class Definition(Footing):
    """The CustomResourceDefinition of a kind.

    Without the right to read it, discovery tells whether the kind is served in full, which may lag
    behind.
    """

    def __init__(self, client: KubeClient, kind: Kind, log: Log) -> None:
        name = f"{kind.plural}.{kind.group}"
        words = f"CustomResourceDefinition {name}"
        super().__init__(client, kinds.CUSTOM_RESOURCE_DEFINITION, name, words, log)
        self._of = kind

    async def _guess(self) -> str:
        return "served" if await self._client.serves(self._of) else ""


class Grounds:
    """All that the objects of one reflector stand on.

    Args:
        footings: The parts.
        foreign: Whether ground laid anew means another cluster, whose objects restore nothing.
        log: Where troubles are told.
    """

    def __init__(self, footings: Sequence[Footing], *, foreign: bool, log: Log) -> None:
        self._footings = footings
        self._foreign = foreign
        self._log = log
        self.lost: tuple[str, ...] = ()

    async def ask(self) -> Ground:
        """Whether the ground stands as before; the first answer is what later ones are held to."""
        found: dict[str, Ground] = {}
        for footing in self._footings:
            try:
                found[footing.words] = await footing.ask()
            except ApiError as error:
                self._log.debug("the ground of a deletion is unknown", error=error.message)
                return Ground.UNKNOWN
        self.lost = tuple(words for words, ground in found.items() if ground is not Ground.SAME)
        if not self.lost:
            return Ground.SAME
        return Ground.LOST if self._foreign or Ground.LOST in found.values() else Ground.LAID_ANEW

    def accept(self) -> None:
        """Objects were restored on what was found last: that is the ground from now on."""
        for footing in self._footings:
            footing.accept()
        self.lost = ()


def stands_on_cluster(kind: Kind) -> bool:
    """Whether objects of a kind stand on the cluster alone; configuration stands on more."""
    return not (kind.custom or kind is kinds.SECRET)


def grounds_of(client: KubeClient, kind: Kind, selection: Selection, log: Log) -> Grounds:
    """What the objects of a kind and selection stand on.

    Configuration stands on its definition and on the one namespace that it is read in. Everything
    else comes and goes with its namespace, rightly, and stands on the cluster.
    """
    if stands_on_cluster(kind):
        words = f"the cluster as it was (Namespace {CLUSTER_IDENTITY})"
        cluster = Footing(client, kinds.NAMESPACE, CLUSTER_IDENTITY, words, log)
        return Grounds([cluster], foreign=True, log=log)
    footings: list[Footing] = [Definition(client, kind, log)] if kind.custom else []
    if selection.namespace:
        words = f"Namespace {selection.namespace}"
        footings.append(Footing(client, kinds.NAMESPACE, selection.namespace, words, log))
    return Grounds(footings, foreign=False, log=log)
