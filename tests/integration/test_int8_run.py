"""A finished run in INT8: written by one command, measured once, shown beside fp32."""

from __future__ import annotations

import json
import shutil

import pytest

pytest.importorskip("onnxscript")


def test_a_run_is_quantised_and_the_test_split_is_opened_once(finished, tmp_path, command, monkeypatch) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    done = command("export", run, "--format", "onnx-int8")
    assert done.returncode == 0, done.stderr
    assert "layers in fp32" in done.stdout and "model_int8.onnx" in done.stdout
    found = json.loads((run / "summary.json").read_text())
    assert found["int8"]["val_accuracy"] >= found["int8"]["val_accuracy_fp32"] - 0.1
    assert found["int8"]["val_accuracy_fp32"] == pytest.approx(found["compressed"]["val_accuracy"], abs=0.02)
    assert (run / "compressed" / "model_int8.onnx").stat().st_size == found["int8"]["file_bytes"]
    low, high = found["int8"]["test_interval"]
    assert low <= found["int8"]["test_accuracy"] <= high

    monkeypatch.setattr("triaxis.data.images.Sealed.open", lambda self: pytest.fail("the test split is opened again"))
    (run / "compressed" / "model_int8.onnx").unlink()
    assert command("export", run, "--format", "onnx-int8").returncode == 0
    again = json.loads((run / "summary.json").read_text())
    assert again["int8"]["test_accuracy"] == found["int8"]["test_accuracy"]
    assert command("report", run).returncode == 0
    assert "The compressed model in INT8" in (run / "report.html").read_text()
    assert command("prune", run).returncode == 0
    assert json.loads((run / "summary.json").read_text())["int8"] == again["int8"], "the same model is not measured again"


def test_int8_takes_normalised_images_only(finished, command) -> None:
    done = command("export", finished, "--format", "onnx-int8", "--with-preprocessing")
    assert done.returncode == 3 and "onnx-int8 takes normalised images" in done.stderr.replace("\n", " ")
