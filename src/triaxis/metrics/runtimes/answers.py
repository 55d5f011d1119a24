"""The milliseconds in what a command printed: a number or JSON on its last line, or the output of two known programs.

Read are, in this order:

* the last line: a number such as ``3.21``, or ``3.21 ms``;
* the last line: JSON with ``median_ms`` or ``median``, and perhaps ``spread_ms`` or ``spread``;
* NVIDIA's trtexec: the median of ``GPU Compute Time``, in milliseconds (before TensorRT 8.2, ``GPU Compute`` and its ``median:``);
* LiteRT's (TensorFlow Lite's) benchmark_model: ``Inference (avg)`` in microseconds, with the spread of its last ``count=`` line.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass

_NUMBER = r"[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?"
_LAST_LINE = re.compile(rf"({_NUMBER})\s*(?:ms)?")
_TRTEXEC = re.compile(rf"GPU Compute Time: min = {_NUMBER} ms,.*?median = ({_NUMBER}) ms")
_TRTEXEC_OLD = re.compile(rf"\[I\] GPU Compute\s*$.*?median: ({_NUMBER}) ms", re.MULTILINE | re.DOTALL)
_LITERT = re.compile(rf"Inference timings in us:.*Inference \(avg\): ({_NUMBER})")
_LITERT_SPREAD = re.compile(rf"^.*count=\d+ .*avg=({_NUMBER}) std=({_NUMBER})", re.MULTILINE)
_SPREADS = ("spread_ms", "spread")
_MEDIANS = ("median_ms", "median")


@dataclass(frozen=True)
class Answer:
    """Milliseconds of one batch, and how far readings lie apart where the command says so."""

    ms: float
    spread_ms: float | None = None


def read_answer(text: str) -> Answer | None:
    """Return what a command measured, or None where it printed no number above 0.

    Args:
        text: All that it printed to standard output.
    """
    last = last_words(text)
    found = _from_last_line(last) or _from_json(last) or _from_trtexec(text) or _from_litert(text)
    return found if found and math.isfinite(found.ms) and found.ms > 0 else None


def last_words(text: str) -> str:
    """Return the last line that is not blank."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def _from_last_line(line: str) -> Answer | None:
    match = _LAST_LINE.fullmatch(line)
    return Answer(float(match[1])) if match else None


def _from_json(line: str) -> Answer | None:
    try:
        plain = json.loads(line) if line.startswith("{") else None
    except ValueError:
        return None
    if not isinstance(plain, dict):
        return None
    numbers = {key: item for key, item in plain.items() if isinstance(item, int | float) and not isinstance(item, bool)}
    ms, spread = (next((float(numbers[name]) for name in names if name in numbers), None) for names in (_MEDIANS, _SPREADS))
    return None if ms is None else Answer(ms, spread)


def _from_trtexec(text: str) -> Answer | None:
    found = _TRTEXEC.findall(text) or _TRTEXEC_OLD.findall(text)
    return Answer(float(found[-1])) if found else None


def _from_litert(text: str) -> Answer | None:
    found, spreads = _LITERT.findall(text), _LITERT_SPREAD.findall(text)
    if not found:
        return None
    return Answer(float(found[-1]) / 1e3, float(spreads[-1][1]) / 1e3 if spreads else None)
