from __future__ import annotations

from io import StringIO
from typing import Any

from rich.console import Console

from triaxis.cli.show import summary_table

NUMBERS = {"val_accuracy": 0.75, "test_accuracy": 0.5, "macs": 10**6, "params": 10**5, "file_bytes": 10**5, "latency_ms": {"1": 1.0}}


def shown(**more: Any) -> str:
    console = Console(width=120, file=StringIO(), record=True)
    console.print(summary_table({"base": NUMBERS, "compressed": NUMBERS, **more}))
    return console.export_text()


def test_a_balanced_accuracy_is_called_so() -> None:
    assert "balanced test accuracy" in shown(target="balanced_accuracy")
    assert "test accuracy" in shown(target="accuracy") and "balanced" not in shown(target="accuracy")
    assert "balanced" not in shown()  # summaries of version 0.1 do not say
