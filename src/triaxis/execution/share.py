"""What one trial takes of a node, and how many fit into a cluster: plain numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from triaxis.errors import ConfigError

Node = Mapping[str, float]
"""What a node has, as Ray counts it: ``CPU`` cores and ``GPU`` devices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What a trial asks for: `cpus` cores, None chooses; `gpus` devices, 0 for none, less than 1 for a part of one.

    `max_cpus` bounds what is chosen, such as the threads of a training.
    """

    cpus: int | None = None
    gpus: float = 0.0
    max_cpus: int | None = None

    def of(self, nodes: Sequence[Node], workers: int | None = None) -> dict[str, float]:
        """Return the cores and devices of each trial, as Ray is asked for them.

        Args:
            nodes: Of the cluster.
            workers: Trials at once, if that is given.

        Raises:
            ConfigError: No node is large enough.
        """
        fitting = [node for node in nodes if node.get("GPU", 0) >= self.gpus and node.get("CPU", 0) >= (self.cpus or 1)]
        if not fitting:
            wanted = f"{self.cpus or 1} cores" + (f" and {self.gpus:g} GPU" if self.gpus else "")
            have = f"{max((n.get('CPU', 0) for n in nodes), default=0):g} cores"
            have += f" and {max((n.get('GPU', 0) for n in nodes), default=0):g} GPUs"
            raise ConfigError(
                f"Each trial needs {wanted} on one node, but no node of the Ray cluster has so much; the largest has {have}: "
                "lower collect.cluster.cpus or collect.cluster.gpus, or start Ray with more (--num-cpus, --num-gpus)."
            )
        return {"num_cpus": self.cpus or self._chosen(fitting, workers), "num_gpus": self.gpus}

    def _chosen(self, fitting: Sequence[Node], workers: int | None) -> int:
        if self.gpus:
            most = min(node["CPU"] * self.gpus / node["GPU"] for node in fitting)
        elif workers:
            most = min(sum(node["CPU"] for node in fitting) / workers, max(node["CPU"] for node in fitting))
        else:
            most = min(self.max_cpus or 1, max(node["CPU"] for node in fitting))
        return max(1, int(min(most, self.max_cpus or most)))


def num_places(nodes: Sequence[Node], share: Mapping[str, float]) -> int:
    """Return how many trials fit into the nodes at once."""
    cpus, gpus = share["num_cpus"], share["num_gpus"]
    by_cpu = [int(node.get("CPU", 0) / cpus) for node in nodes]
    if not gpus:
        return sum(by_cpu)
    # A part of a device is on one device.
    by_gpu = [int(node.get("GPU", 0)) * int(1 / gpus) if gpus <= 1 else int(node.get("GPU", 0) / gpus) for node in nodes]
    return sum(map(min, by_cpu, by_gpu))
