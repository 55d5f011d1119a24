"""What trials say of the base model."""

from __future__ import annotations

from triaxis.maths.lattice import BASE, Lattice
from triaxis.stages.collect import undertrained
from triaxis.study.synthetic import cnn_cost, table_of
from triaxis.values import DoneTrial, PrunePlan, Recipe, TrialSpec

LATTICE = Lattice(table_of(macs=cnn_cost))


def test_a_base_model_below_its_own_trials_is_said() -> None:
    plan = PrunePlan(num_blocks=9, num_channels=96, base_side_px=32, side_px=32)

    def measured(axis: str, accuracy: float) -> DoneTrial:
        spec = TrialSpec(target=LATTICE.target(BASE), axis=axis, recipe=Recipe(), seed=0, base_digest="b", data_digest="d")  # type: ignore[arg-type]
        return DoneTrial(spec=spec, plan=plan, val_accuracy=accuracy, val_loss=1.0, macs=1, params=1)

    remark = undertrained([measured("base", 0.60), measured("depth", 0.66), measured("width", 0.55)])
    assert "60.0%" in remark
    assert "66.0%" in remark
    assert undertrained([measured("base", 0.65), measured("depth", 0.66)]) == ""
    assert undertrained([]) == ""
