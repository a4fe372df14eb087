"""`clarion lab`: the lab from the command line."""

import os
import sys
from pathlib import Path

import click

from clarion.lab import rootless
from clarion.lab.netns import Lab, default_base
from clarion.lab.process import LabError, start_ticks


@click.group()
@click.option("--name", default="lab", show_default=True, help="Several labs can run at once.")
@click.pass_context
def command(context: click.Context, name: str) -> None:
    """Nodes, real routers and clients in network namespaces."""
    context.obj = name


@command.command()
@click.pass_obj
def up(name: str) -> None:
    """Build the lab, start everything and leave it running."""
    from clarion.lab.topology import StandardLab

    rootless.require_root("up")
    if (default_base() / name / "state.json").exists():
        raise LabError(f"lab {name!r} is there already", f"clarion lab --name {name} down")
    lab = Lab(name)
    try:
        standard = StandardLab(lab)
        standard.up()
    except BaseException:
        lab.close()
        raise
    lab.leave()
    click.echo(f"lab {name} is up: {', '.join(lab.namespaces)}")
    command = "clarion lab" if name == "lab" else f"clarion lab --name {name}"
    click.echo(f"  {command} exec api kubectl apply -f examples/05-l2/")
    click.echo(f"  {command} exec client arping -c 1 -I eth0 192.0.2.224")
    click.echo(f"  {command} exec frr vtysh -c 'show bgp'")
    click.echo(f"  {command} status        {command} down")


@command.command()
@click.pass_obj
def down(name: str) -> None:
    """End and remove a lab, also one whose owner crashed."""
    rootless.require_root("down")
    if not (default_base() / name).is_dir():
        raise LabError(f"there is no lab named {name!r}")
    Lab(name).close()
    click.echo(f"lab {name} is gone")


@command.command(
    name="exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
@click.argument("host")
@click.argument("words", metavar="COMMAND...", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_obj
def execute(name: str, host: str, words: tuple[str, ...]) -> None:
    """Run a command on a host of the lab: node-a, client, frr, bird, upstream, api..."""
    from clarion.lab.topology import read_state

    rootless.require_root("exec")
    state = read_state(default_base() / name)
    if host not in state.hosts:
        raise LabError(f"no host {host!r}", remedy=f"one of: {', '.join(state.hosts)}")
    full_name = state.hosts[host]
    environment = {**os.environ, "KUBECONFIG": state.kubeconfig, "PS1": f"{host}# "}
    if words[0] == "vtysh" and "-N" not in words:
        words = ("vtysh", "-N", full_name, *words[1:])
    if words[0] == "birdc" and "-s" not in words:
        control = default_base() / name / f"bird-{host}" / "bird.ctl"
        words = ("birdc", "-s", str(control), *words[1:])
    os.execvpe("ip", ["ip", "netns", "exec", full_name, *words], environment)  # noqa: S606 - a list, no shell


@command.command()
@click.pass_obj
def status(name: str) -> None:
    """What runs, what the routers hold, who answers for which address."""
    from rich.console import Console

    from clarion.lab import screen
    from clarion.lab.topology import StandardLab, read_state

    rootless.require_root("status")
    state = read_state(default_base() / name)
    standard = StandardLab(Lab(name, attach=True))
    standard.attach()
    console = Console()
    dead = sorted(program for program, pid in state.pids.items() if start_ticks(pid) is None)
    console.print(screen.status(standard))
    if dead:
        console.print(f"[red]ended:[/] {', '.join(dead)}")


@command.command()
@click.option(
    "--examples",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of the use cases; default: the one of the source tree.",
)
@click.option(
    "--once", is_flag=True, help="End after the verification even when it runs on a terminal."
)
@click.pass_obj
def demo(name: str, examples: Path | None, once: bool) -> None:
    """Go through the use cases with real routers and show what they see, verified."""
    rootless.ensure("demo")
    from clarion.lab.show import run_demo

    passed = run_demo(name, examples, stay=not once and sys.stdout.isatty())
    if not passed:
        sys.exit(1)
