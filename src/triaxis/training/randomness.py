"""The state of every source of random numbers that training may draw from, as plain data."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


def seed_all(seed: int) -> None:
    """Seed torch on every device, numpy and Python."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def torch_state(device: torch.device) -> Sequence[Tensor]:
    """Return what torch draws from on the CPU and, where training is there, on the GPU; cheap enough for every step."""
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def set_torch_state(states: Sequence[Tensor], device: torch.device) -> None:
    """Go back to what `torch_state` gave; on another kind of device the CPU's part is taken."""
    torch.set_rng_state(states[0])
    if device.type == "cuda" and len(states) > 1:
        torch.cuda.set_rng_state(states[1], device)


def random_state(device: torch.device) -> dict[str, Any]:
    """Return what `set_random_state` needs to draw the same numbers again: tensors, numbers, text and lists only."""
    kind, keys, *more = np.random.get_state()
    version, words, gauss = random.getstate()
    return {
        "torch": list(torch_state(device)),
        "numpy": [str(kind), torch.from_numpy(np.asarray(keys).astype(np.int64)), *more],
        "python": [version, list(words), gauss],
    }


def set_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Go back to a state."""
    set_torch_state(state["torch"], device)
    kind, keys, *more = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *more))
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))


def state_of_rank(saved: Any, rank: int) -> dict[str, Any] | None:
    """Return one rank's state of those that were saved, or None: version 0.1 saved the only one, and fewer ranks than now saved none."""
    states = saved if isinstance(saved, list) else [saved]
    return states[rank] if rank < len(states) else None
