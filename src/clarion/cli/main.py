"""The `clarion` command: a table of sub-commands, each imported only when it is used."""

import errno
import importlib
import sys

import click

from clarion import __version__
from clarion.base.errors import EXIT_FAILED, EXIT_USAGE, ClarionError

COMMANDS = {
    "run": "Embedded API, controller and speaker on this machine.",
    "apiserver": "The embedded Kubernetes-style API alone.",
    "controller": "Give addresses from pools to services.",
    "speaker": "Announce this node's share of the addresses.",
    "validate": "Check manifests: every problem at once, with file, line and remedy.",
    "plan": "Show allocations, owners and routes before anything is applied.",
    "explain": "Say why: a service, address, peer, node or pool.",
    "status": "Pools and usage, services, owners, peers, sessions, problems.",
    "doctor": "Check host, cluster and wire for what commonly breaks announcing.",
    "crds": "Print the CustomResourceDefinitions.",
    "lab": "Nodes, real routers and clients in network namespaces.",
}
"""Every command with its one line of help; the code of `x` is `clarion.cli.x`."""


class LazyGroup(click.Group):
    """Lists commands from the table and imports a command's module when it is invoked."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of the table."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, its module imported now; None if there is none."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"clarion.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        for option in command.params:
            # click would take the name of the parameter, which users do not see.
            if isinstance(option, click.Option) and option.envvar is None:
                flag = max(option.opts, key=len).lstrip("-")
                option.envvar = f"CLARION_{cmd_name}_{flag}".replace("-", "_").upper()
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of commands without importing any of them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=LazyGroup,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": "CLARION",
        "max_content_width": 110,
    },
    epilog="Exit codes: 0 done, 1 refused or failed, 2 changes in a plan, 64 wrong usage.",
)
@click.version_option(__version__, prog_name="clarion")
def cli() -> None:
    """Addresses from pools, given to services, told to the network by ARP/NDP and BGP."""


def main() -> None:
    """Entry point: maps every failure to a message on stderr and the documented exit code."""
    try:
        status = cli.main(standalone_mode=False)
    except click.UsageError as error:
        error.show()
        status = EXIT_USAGE
    except click.Abort:
        status = EXIT_FAILED
    except click.ClickException as error:
        error.show()
        status = EXIT_FAILED
    except ClarionError as error:
        click.echo(f"clarion: {error}", err=True)
        status = EXIT_FAILED
    except BrokenPipeError:
        # The reader of a pipe left early; the shell expects silence.
        sys.stderr.close()
        status = EXIT_FAILED
    except OSError as error:
        # Results are redirected to a file as often as not; any other error is a fault of ours.
        if error.errno != errno.ENOSPC:
            raise
        click.echo(f"clarion: {error.strerror}", err=True)
        status = EXIT_FAILED
    sys.exit(status if isinstance(status, int) else 0)


if __name__ == "__main__":
    main()
