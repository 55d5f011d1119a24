"""How a metric is named, read and shown; what it measures stands in ``triaxis.metrics``.

A key names a metric in tables and records. It ends in its unit (``latency_ms``, ``energy_mJ``) unless it counts something
(``macs``), and a runtime may follow: ``latency_ms@onnxruntime``. In a budget the unit stands with the amount instead:
``latency@onnxruntime=3ms``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from triaxis.values.base import Value, require

_COUNT = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
_BYTES = {"": 1.0, "b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30}
_KEY = re.compile(r"[a-zA-Z]\w*(@[\w.:+-]+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSpec(Value):
    """One metric's words: `name` in a budget, `key` in records, `title` for readers, the `unit` of its numbers.

    `units` holds what an amount may be written in, in lower case, with its worth in the key's own unit.
    """

    name: str
    key: str
    title: str
    unit: str
    units: dict[str, float]

    @property
    def is_count(self) -> bool:
        """Whether numbers are shown with k, M and G and without a unit."""
        return not self.unit


_BOX = {
    "macs": MetricSpec(name="macs", key="macs", title="MACs", unit="", units=_COUNT),
    "params": MetricSpec(name="params", key="params", title="params", unit="", units=_COUNT),
    "latency_ms": MetricSpec(name="latency", key="latency_ms", title="latency", unit="ms", units={"ms": 1.0, "us": 1e-3, "s": 1e3}),
    "memory_bytes": MetricSpec(name="memory", key="memory_bytes", title="memory", unit="B", units=_BYTES),
}
METRICS: tuple[str, ...] = tuple(_BOX)
"""Keys of the metrics in the box."""


def metric_spec(key: str) -> MetricSpec:
    """Return the words of a metric, by its key; a metric that is not in the box is described by its key alone.

    Raises:
        ConfigError: The key has not the form NAME, NAME_UNIT or NAME_UNIT@RUNTIME.
    """
    require(_KEY.fullmatch(key) is not None, f"A metric must be named like macs, energy_mJ or latency_ms@onnxruntime, got {key!r}.")
    plain, at, runtime = key.partition("@")
    spec = _BOX.get(plain)
    if spec is None:
        name, _, unit = plain.rpartition("_")
        name, unit = (name, unit) if name else (plain, "")
        units = {unit.lower(): 1.0} if unit else _COUNT
        spec = MetricSpec(name=name, key=plain, title=name.replace("_", " "), unit=unit, units=units)
    if not at:
        return spec
    title = f"{spec.title} on {runtime}"
    return MetricSpec(name=f"{spec.name}@{runtime}", key=key, title=title, unit=spec.unit, units=spec.units)


def metric_named(name: str, keys: Iterable[str] = METRICS) -> MetricSpec | None:
    """Return the metric that a budget calls `name`, among `keys`; None if there is none."""
    plain, at, runtime = name.partition("@")
    key = next((key for key in keys if metric_spec(key).name == plain.lower() or key == plain), None)
    return metric_spec(f"{key}{at}{runtime}") if key else None
