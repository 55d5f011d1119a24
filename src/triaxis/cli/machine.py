"""The command on the machine itself."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from triaxis.cli import show
from triaxis.cli.frame import err, out, print_json


def doctor(
    measure: Annotated[bool, typer.Option("--measure/--no-measure", help="Time a small network too, for a few seconds.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for another program.")] = False,
) -> None:
    """Say what is installed, how fast this machine is, and which extras are missing for what.

    Example: `triaxis doctor`
    """
    from triaxis.stages.doctor import examine_machine

    found = examine_machine(measure=measure)
    if as_json:
        print_json(found)
        return
    show.rows(("installed", ""), [(name, number or "missing") for name, number in found["versions"].items()])
    show.rows(("machine", ""), _machine_rows(found["machine"]))
    if found["speed"]:
        show.rows((f"speed, {found['speed']['network']}", ""), _speed_rows(found["speed"]))
    show.rows(("extra", "", "needed for"), [_extra_row(name, extra) for name, extra in found["extras"].items()])
    missing = [name for name, extra in found["extras"].items() if not extra["installed"]]
    if missing:
        out.print(f"what is missing comes with: pip install 'triaxis\\[{','.join(missing)}]'", soft_wrap=True)
    if (found["machine"]["share_of_other_processes"] or 0) > 0.2:
        err.print("[yellow]warning[/]: other processes are busy, so the speeds are lower than on an idle machine")


def _machine_rows(machine: dict[str, Any]) -> list[tuple[str, str]]:
    share = machine["share_of_other_processes"]
    return [
        ("system", machine["system"]),
        ("device", f"{machine['device']}: {machine['device_name']}"),
        ("cores, threads", f"{machine['cores']}, {machine['threads']}"),
        ("memory, free", f"{machine['memory_gb']} GB, {machine['free_memory_gb']} GB"),
        ("other processes take", "-" if share is None else f"{share:.0%}"),
    ]


def _speed_rows(speed: dict[str, Any]) -> list[tuple[str, str]]:
    train = [(f"training, {name}", f"{number:,} images/s") for name, number in speed["train_images_per_s"].items()]
    return [*train, ("running, batch 64", f"{speed['run_images_per_s']:,} images/s"), ("running, batch 1", f"{speed['latency_ms']:.3g} ms")]


def _extra_row(name: str, extra: dict[str, Any]) -> tuple[str, str, str]:
    return name, "installed" if extra["installed"] else f"missing: {', '.join(extra['missing'])}", extra["needed_for"]
