"""Who manages which fields (`metadata.managedFields`), and server-side apply on top of it."""

from clarion.apiserver.status import Json


def same(new: Json, old: Json) -> bool:
    """True if a write would change nothing."""
    return new == old
