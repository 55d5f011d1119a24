"""triaxis: make a trained CNN as fast as you need, by pruning depth, width and input resolution together."""

from __future__ import annotations

__version__ = "0.1.0"
