"""The logits among what a network returns: in training mode some return those of auxiliary classifiers too."""

from __future__ import annotations

from typing import Any


def main_logits(output: Any) -> Any:
    """Return the field `logits` of a named tuple such as GoogLeNet's and Inception's in training mode, else the output as it is."""
    return output.logits if isinstance(output, tuple) and hasattr(output, "logits") else output
