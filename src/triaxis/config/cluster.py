"""The settings of trials on the machines of a cluster."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from triaxis.config.section import Section


class ClusterConfig(Section):
    """How trials use the machines of a Ray cluster; ``cluster: auto`` is short for its `address`."""

    address: str | None = Field(
        default=None, pattern=r"^(auto|(ray://)?[\w.\[\]:-]+:\d+)$", description="auto, HOST:PORT or ray://HOST:PORT; null starts Ray here"
    )
    cpus: int | None = Field(default=None, ge=1, description="cores of each trial; null takes its threads, or beside a GPU its share")
    gpus: float = Field(default=1.0, gt=0, le=1, description="GPU of each trial, where the run uses GPUs; 0.25 puts four on one")
    images: Literal["auto", "send", "path"] = Field(
        default="auto", description="send them to the nodes, or let each node open data.source itself; auto sends up to 1 GB"
    )
    retries: int = Field(default=2, ge=0, le=100, description="times that a trial is started again after its process or node was lost")
    silent_minutes: float = Field(
        default=10.0, ge=0, description="minutes without a word from a trial's node after which it is lost; 0 waits"
    )

    @model_validator(mode="before")
    @classmethod
    def _short(cls, given: Any) -> Any:
        return {"address": given} if isinstance(given, str) else given
