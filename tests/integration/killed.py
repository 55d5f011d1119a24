"""Run a configuration and kill this very process, as kill -9 does, once a stage is under way."""

from __future__ import annotations

import os
import signal

from triaxis.config import load_config
from triaxis.progress import Progress, Step
from triaxis.stages.pipeline import run

config, out, stage, share = (globals()[name] for name in ("CONFIG", "OUT", "STAGE", "SHARE"))


class Deadly:
    """A listener that does not survive the given stage."""

    def hear(self, step: Step) -> None:
        if step.stage == stage and step.event not in ("begin", "end") and step.share >= share:
            os.kill(os.getpid(), signal.SIGKILL)

    def close(self) -> None: ...


run(load_config(config), out, progress=Progress(Deadly()))
