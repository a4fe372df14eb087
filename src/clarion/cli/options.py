"""Flags that several commands share, and the types of their values."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from clarion.base.duration import parse_duration
from clarion.base.errors import InvalidInputError
from clarion.edge.listen import parse_listen

F = TypeVar("F", bound=Callable[..., Any])
API_LISTEN = "127.0.0.1:6480"
SPEAKER_HTTP, CONTROLLER_HTTP = "127.0.0.1:7472", "127.0.0.1:7473"
BACK_ENDS = ("native", "frr", "frr-k8s")
LOG_LEVELS = ("all", "debug", "info", "warn", "error", "none")


class Duration(click.ParamType[float]):
    """A duration such as 500ms, 3s or 2m; the value is seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Seconds."""
        if isinstance(value, float | int):
            return float(value)
        try:
            return parse_duration(value)
        except InvalidInputError as error:
            self.fail(error.message, param, ctx)


class KeyValue(click.ParamType[tuple[str, str]]):
    """`key=value`; the value is a pair."""

    name = "key=value"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """The pair."""
        if isinstance(value, tuple):
            return value
        key, equals, text = value.partition("=")
        if not key or not equals:
            self.fail(f"{value!r} is not key=value", param, ctx)
        return key, text


class Listen(click.ParamType[str]):
    """`HOST:PORT`; the value stays text. Empty where a program may do without."""

    name = "host:port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The same text."""
        text = str(value)
        try:
            if text:
                parse_listen(text)
        except InvalidInputError as error:
            self.fail(error.message, param, ctx)
        return text


def back_end_option(text: str, default: str | None = "native") -> Callable[[F], F]:
    """`--bgp`: the back end, with what that means to a command; None: it may be left open."""
    return click.option(
        "--bgp",
        "backend",
        type=click.Choice(BACK_ENDS),
        default=default,
        show_default=default is not None,
        help=text,
    )


def graceful_shutdown_option(text: str) -> Callable[[F], F]:
    """`--bgp-graceful-shutdown`: how long traffic is shed before a stop."""
    return click.option(
        "--bgp-graceful-shutdown",
        "graceful_shutdown",
        type=Duration(),
        default="0s",
        show_default=True,
        help=text,
    )


def listen_option(flag: str, default: str, text: str) -> Callable[[F], F]:
    """Where a program listens: HOST:PORT."""
    return click.option(
        flag, type=Listen(), default=default, show_default=True, metavar="HOST:PORT", help=text
    )


def program_options(default_listen: str) -> Callable[[F], F]:
    """The flags of the controller and the speaker."""
    flags = (
        click.option("--kubeconfig", default="", help="Default: KUBECONFIG, the Pod's account."),
        click.option("--namespace", default="", help="Default: metallb-system if it exists."),
        click.option("--lb-class", default="", help="Handle this loadBalancerClass only."),
        listen_option(
            "--listen-http", default_listen, "Health, metrics and debug; empty for none."
        ),
        click.option("--log-level", type=click.Choice(LOG_LEVELS), default="info"),
    )

    def decorate(function: F) -> F:
        for flag in reversed(flags):
            function = flag(function)
        return function

    return decorate
