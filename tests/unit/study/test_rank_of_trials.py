from __future__ import annotations

from pathlib import Path

import numpy as np

from triaxis.study.page import write_rank_page
from triaxis.study.rank import study_rank
from triaxis.study.synthetic import Surface, axis_ratios, measure, separable

OFF_AXIS = np.array([[4 / 9, 0.375, 1], [4 / 9, 1, 0.5], [1, 0.375, 0.5], [4 / 9, 0.375, 0.5]])
POWER = Surface(kind="power", base_error=0.06, low=(4 / 9, 0.375, 0.5), losses=(0.08, 0.08, 0.05), exponents=(1.0, 1.0, 1.0))


def test_the_verdict_says_which_of_three_it_is_with_the_interval() -> None:
    assert study_rank(measure(separable, axis_ratios())).verdict.startswith("Rank 1 cannot be tested: none of the 13 points")
    ratios = np.vstack([axis_ratios(), OFF_AXIS])
    held = study_rank(measure(separable, ratios, noise=0.002))
    assert held.verdict.startswith("Rank 1 holds as far as these points can tell: the 4 points")
    broken = study_rank(measure(POWER, ratios, noise=0.002))
    assert broken.verdict.startswith("Rank 1 does not hold")
    assert broken.test is not None
    assert f"{100 * broken.test.interval[0]:+.2f} to {100 * broken.test.interval[1]:+.2f}" in broken.verdict


def test_the_page_of_a_run_is_written_with_and_without_off_axis_trials(tmp_path: Path) -> None:
    ratios = np.vstack([axis_ratios(), OFF_AXIS])
    full = write_rank_page(study_rank(measure(POWER, ratios)), "demo", tmp_path / "full.html").read_text(encoding="utf-8")
    assert '<figure class="plot" id="test">' in full
    alone = write_rank_page(study_rank(measure(POWER, axis_ratios())), "<demo>", tmp_path / "alone.html").read_text(encoding="utf-8")
    assert "cannot be tested" in alone
    assert "&lt;demo&gt;" in alone
