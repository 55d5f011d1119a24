"""The same proof on a small vision transformer: triaxis beside depth, width and resolution alone, from scratch on CIFAR-10.

    python benchmarks/vit.py --data PATH --seeds 0 1 2

The protocol is that of benchmarks/cifar.py (benchmarks/README.md): every arm starts from the same weights, costs at most the budget,
and trains equally much. Width alone is cut by triaxis's own surgery. Stop it at any time: the same command goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import cifar
from rivals.profiles import VIT_PROFILES

ARMS = ("triaxis", "width", "depth", "resolution", "equal_split")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    return cifar.main(arguments, profiles=VIT_PROFILES, arms=ARMS, family="vit", description=(__doc__ or "").splitlines()[0])


if __name__ == "__main__":
    sys.exit(main())
