"""The exceptions that cross module borders: what is wrong and, where one exists, the remedy."""

EXIT_FAILED, EXIT_USAGE = 1, 64
"""How a program ends that failed, and one that was called wrongly (sysexits.h): calling that one
again in the same way cannot help."""


class ClarionError(Exception):
    """Root of every error that a user may see.

    Attributes:
        message: What is wrong, naming the object and field concerned.
        remedy: What to do about it; empty when there is nothing to say.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} ({self.remedy})" if self.remedy else self.message


class InvalidInputError(ClarionError, ValueError):
    """A value given by a user or a file cannot be read."""


QUOTED_CHARS = 60
"""Longest text that a message repeats whole."""


def shortened(text: str) -> str:
    """A text of a user, its end left out where nobody would read it."""
    return text if len(text) <= QUOTED_CHARS else text[: QUOTED_CHARS - 3] + "..."


def quoted(text: str) -> str:
    """The same in quotes."""
    return repr(shortened(text))


class DecodeError(Exception):
    """Bytes from the network do not form what they claim to be.

    Attributes:
        code: The protocol's error code (for BGP: RFC 4271 §4.5), 0 where the protocol has none.
        subcode: The protocol's error subcode, 0 where it has none.
        data: Bytes the protocol wants echoed to the sender.
        message: The fault in words, for logs.
    """

    def __init__(self, message: str, code: int = 0, subcode: int = 0, data: bytes = b"") -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.subcode = subcode
        self.data = data
