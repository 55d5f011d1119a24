"""The table of `triaxis bench` fits on a terminal of 80 characters, with no number and no heading cut off."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from triaxis.cli import app
from triaxis.cli.frame import out
from triaxis.deliver import measure

ROW = {"runtime": "onnxruntime", "batch": 64, "speedup": 12.3456, "base_ms": 1234.4, "compressed_ms": 99.987}
ROW |= {"base_images_per_s": 12345.6, "compressed_images_per_s": 123456.7, "base_memory_mb": 123.45, "compressed_memory_mb": 1.2345}


def test_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(measure, "bench_run", lambda *_, **__: [ROW])
    monkeypatch.setattr(out, "width", 80)
    done = CliRunner().invoke(app, ["bench", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "…" not in done.stdout
    # A long cell may be broken between two numbers, but not within one.
    for words in ("speed-up", "images/s", "12,346 →", "123,457", "1,234 → 100", "12.35 x", "123 → 1.23"):
        assert words in done.stdout
