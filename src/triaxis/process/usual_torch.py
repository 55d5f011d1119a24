"""The settings of torch that all work is done under, whatever the caller's own are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def usual_torch() -> Iterator[None]:
    """Record gradients and make new tensors float32, then put the caller's settings back.

    A caller may be under ``torch.no_grad()``, ``torch.inference_mode()`` or another default dtype: training, tracing and
    counting would then fail far from the cause. Also serves as a decorator.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        torch.set_default_dtype(before)
