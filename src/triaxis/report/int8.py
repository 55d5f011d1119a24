"""The compressed model in INT8 beside itself in fp32, as text."""

from __future__ import annotations

from collections.abc import Iterator

from triaxis.report import words
from triaxis.report.records import Records


def comparison(records: Records) -> Iterator[tuple[str, str, str, str]]:
    """Return rows of text: name, fp32, INT8, change; none where the run made no INT8 file."""
    found, verified = records.int8, records.verification
    if not found:
        return
    pairs = [("val accuracy", found["val_accuracy_fp32"], found["val_accuracy"])]
    if verified is not None and verified.compressed.test_accuracy is not None:
        pairs.insert(0, ("test accuracy", verified.compressed.test_accuracy, found["test_accuracy"]))
    for name, before, after in pairs:
        yield name, words.percent(before), words.percent(after), f"{100 * (after - before):+.2f} points"
    before, after = (words.quantity(found[key], "latency") for key in ("latency_ms_fp32", "latency_ms"))
    yield f"latency on {found['runtime']}, batch {found['batch']}", before, after, f"{1 / found['latency_ratio']:.2f} x"
    if verified is not None:
        size = verified.compressed.file_bytes
        change = f"{100 * (found['file_bytes'] / size - 1):+.1f} %"
        yield "file", words.quantity(size, "bytes"), words.quantity(found["file_bytes"], "bytes"), change


def kept(records: Records) -> str:
    """Say which layers stayed in fp32."""
    names = records.int8.get("kept_in_fp32", [])
    if not names:
        return "Every layer is quantised."
    return f"In fp32 stayed, since eight bits cost accuracy there: {', '.join(names)}."
