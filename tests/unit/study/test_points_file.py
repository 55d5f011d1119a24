from __future__ import annotations

from pathlib import Path

import pytest

from triaxis.errors import DataError
from triaxis.study.points_file import read_points, read_ratios
from triaxis.values import KeepRatios, Point


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "points.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_points_with_weights_repeats_spaces_and_other_columns(tmp_path: Path) -> None:
    text = "\ufeffname, Depth,width,resolution,accuracy,weight\nx,1,1,1,0.9,2\ny,0.5,1,1,0.8,\ny,0.5,1,1,0.81,1\n"
    first, second, third = read_points(_file(tmp_path, text))
    assert first == Point(ratios=KeepRatios(), accuracy=0.9, weight=2.0)
    assert second.weight == 1.0
    assert third.ratios == KeepRatios(depth=0.5)


def test_every_bad_row_is_named_by_its_line(tmp_path: Path) -> None:
    text = "depth,width,resolution,accuracy\n1,1,1,0.9\n0.5,1,1,91\n1,x,1,0.8\n1,1,0,0.8\n1,1\n"
    with pytest.raises(DataError, match=r"4 bad: line 3: accuracy.*line 4: width must be a number, got 'x'.*line 5:.*line 6: accuracy"):
        read_points(_file(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("depth,width,accuracy\n1,1,0.9\n", "lacks resolution"),
        ("", "lacks depth, width, resolution, accuracy"),
        ("depth,width,resolution,accuracy\n", "at least one row"),
    ],
)
def test_unusable_files(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_points(_file(tmp_path, text))


def test_a_missing_or_binary_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must be a CSV file"):
        read_points(tmp_path / "none.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00depth")
    with pytest.raises(DataError, match="must be a CSV file"):
        read_points(tmp_path / "binary.csv")


def test_rows_to_predict_need_no_accuracy(tmp_path: Path) -> None:
    assert read_ratios(_file(tmp_path, "depth,width,resolution\n1,0.5,1\n")) == [KeepRatios(width=0.5)]
