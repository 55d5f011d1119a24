"""`triaxis open`: the page of a run that is going on, in a browser on this machine."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from triaxis.cli.frame import out
from triaxis.cli.stages import RunArgument
from triaxis.process.interrupt import Stop


def open(
    run_dir: RunArgument,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port on 127.0.0.1; 0 takes any that is free.")] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open a browser too, where this machine has one.")] = True,
) -> None:
    """Show a run while it is going on: progress, trials as they come, the frontier so far. Only this machine can see the page.

    Example: `triaxis open runs/demo`
    """
    from triaxis.cli.progress_of import progress_of
    from triaxis.report.live import LivePage, LiveServer

    page = LivePage(run_dir, progress_of)
    page.run.check()
    with LiveServer(page, port) as server:
        out.print(f"{server.address} shows {page.run.path}; press Ctrl-C to stop. Only this machine can see it.", soft_wrap=True)
        if browser and _has_screen():
            import webbrowser

            webbrowser.open(server.address)
        try:
            server.serve_forever(poll_interval=0.2)
        except (KeyboardInterrupt, Stop):
            out.print("stopped; the run itself is not touched")


def _has_screen() -> bool:
    """Whether a browser would have a window; on a terminal alone, a text browser would take the terminal away."""
    return sys.platform in ("darwin", "win32") or bool({"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ))
