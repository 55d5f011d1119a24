"""What would fail after hours is said before anything is trained, or works: odd networks, formats, packages, torch's settings."""

from __future__ import annotations

import logging
from collections import namedtuple
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import triaxis
from triaxis.config import config_from_plain
from triaxis.data.images import Preprocess
from triaxis.deliver.bundle import export
from triaxis.errors import ConfigError, ExportError, MissingDependencyError, TriaxisError, UnsupportedModelError
from triaxis.models.cifar import ResNet, resnet
from triaxis.models.weights import load_model
from triaxis.models.zoos import ModelSource
from triaxis.stages.base import open_run
from triaxis.store.directory import RunDirectory
from triaxis.store.memory import MemoryStore
from triaxis.surgery.surgeon import Surgeon
from triaxis.training.loop import finetune
from triaxis.training.mode import PLAIN
from triaxis.values import Recipe

FEW = {"epochs": 1, "batch_size": 32, "crop_px": 0, "flip": False}
CONFIG = {
    "threads": 1,
    "precision": "fp32",
    "width": {"round_to": 4},
    "collect": {"recipe": FEW, "num_trials": 4, "block_images": 32, "calibrate_images": 32},
    "finetune": FEW,
    "profile": {"repeats": 3, "batches": [1]},
}


def images_of(num: int = 64) -> TensorDataset:
    pixels = torch.randn(num, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return TensorDataset(pixels, torch.arange(num) % 3)


def small() -> ResNet:
    return resnet(8, width=0.25, num_classes=3)


Both = namedtuple("Both", ["logits", "aux"])


class Auxiliary(ResNet):
    """Returns a second classifier's logits too while it is trained, as GoogLeNet does."""

    wrap = Both

    def __init__(self) -> None:
        super().__init__(8, 0.25, 3)
        self.aux = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor | Both:
        logits = super().forward(x)
        return self.wrap(logits, self.aux(torch.relu(x).mean((2, 3)).repeat(1, 6)[:, :16])) if self.training else logits


class Unnamed(Auxiliary):
    """Which of the two is meant, nobody can know."""

    wrap = staticmethod(lambda *outputs: [{"one": outputs[0], "two": outputs[1]}])  # type: ignore[assignment]


class Undecided(ResNet):
    """Looks at its data to choose a way, which torch.export cannot follow."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if float(x.sum()) > -1e9 else x + 1)


class Dreaming(ResNet):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).detach()


class OnlyAsleep(ResNet):
    def forward(self, x: Tensor) -> Tensor:
        assert not self.training, "I do not train"
        return super().forward(x)


def lazy() -> nn.Module:
    return nn.Sequential(nn.LazyConv2d(4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(3))


def on_meta() -> nn.Module:
    return small().to("meta")


def quantised() -> nn.Module:
    return torch.ao.quantization.quantize_dynamic(small(), {nn.Linear}, dtype=torch.qint8)


def weight_normed() -> nn.Module:
    model = small()
    torch.nn.utils.weight_norm(model.stages[0][0].conv1)
    return model


def parametrized() -> nn.Module:
    model = small()
    torch.nn.utils.parametrizations.weight_norm(model.stages[0][0].conv1)
    return model


def spectral_normed() -> nn.Module:
    model = small()
    torch.nn.utils.spectral_norm(model.stages[0][0].conv1)
    model(torch.zeros(2, 3, 8, 8))
    return model


def scripted() -> nn.Module:
    return torch.jit.trace(small().eval(), torch.zeros(1, 3, 8, 8))


ODD = [
    (lazy, "0.weight has none yet"),
    (on_meta, "conv1.weight is on the meta device"),
    (quantised, "fc is quantised"),
    (weight_normed, r"stages\.0\.0\.conv1 computes its weight anew at each pass \(WeightNorm\): call torch.nn.utils.remove_weight_norm"),
    (parametrized, r"stages\.0\.0\.conv1 computes some anew at each pass \(a parametrization\): call .*remove_parametrizations"),
    (spectral_normed, "remove_spectral_norm"),
    (scripted, "TorchScript"),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("make", "words"), ODD, ids=[make.__name__ for make, _ in ODD])
def test_weights_that_are_none_are_named(tmp_path, make, words):
    model = make()
    with pytest.raises(UnsupportedModelError, match=words):
        triaxis.compress(model, (images_of(),) * 3, budget="macs=50%", out=tmp_path / "run", config=config_from_plain(CONFIG))
    with pytest.raises(UnsupportedModelError, match=words):
        Surgeon.examine(model, side_px=8)
    with pytest.raises(UnsupportedModelError, match=words):
        load_model(f"{__name__.rpartition('.')[2]}:{make.__name__}", {}, 3)


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, __name__.rpartition(".")[2], sys.modules[__name__])


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Unnamed(), "first of a tuple, or called logits or out, got list"),
        (Dreaming(8, 0.25, 3), "keep gradients"),
        (OnlyAsleep(8, 0.25, 3), "there it raised AssertionError: I do not train"),
        (nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), "has no parameters"),
    ],
)
def test_what_cannot_be_trained_is_said_before_training(tmp_path, model, words):
    with pytest.raises(UnsupportedModelError, match=words):
        triaxis.compress(model, (images_of(),) * 3, budget="macs=50%", out=tmp_path / "run", config=config_from_plain(CONFIG))
    assert not list(tmp_path.glob("run/checkpoints/*"))


def opened(tmp_path: Path, model: nn.Module, store: MemoryStore | None = None, **sections: object):
    config = config_from_plain({**CONFIG, **sections})
    splits = triaxis.from_datasets(images_of(), images_of(), images_of())
    return open_run(config, RunDirectory(tmp_path / "run"), store or MemoryStore(), model=model, splits=splits)


def test_the_main_logits_of_a_network_with_auxiliary_ones_are_trained(tmp_path):
    _, data, base, trainer = opened(tmp_path, Auxiliary())
    model = base.surgeon.cut(base.surgeon.plan(width=0.5))
    before = model.fc.weight.clone()
    finetune(model, data.splits.train, Recipe(**FEW), side_px=8, seed=0, device=trainer.device, mode=PLAIN)
    assert not torch.equal(model.fc.weight, before)
    assert model(torch.zeros(2, 3, 8, 8)).shape == (2, 3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_weights_of_another_float_are_brought_to_float32(tmp_path, caplog, dtype):
    given = small().to(dtype)
    base = opened(tmp_path, given, export={"formats": ["safetensors"]}).base
    assert {p.dtype for p in base.surgeon.base.parameters()} == {torch.float32}
    assert {p.dtype for p in given.parameters()} == {dtype}
    assert f"weights are {dtype}" in caplog.text


def test_a_default_format_that_torch_refuses_is_left_out_with_a_warning(tmp_path, caplog):
    store = MemoryStore()
    with caplog.at_level(logging.WARNING):
        run = opened(tmp_path, Undecided(8, 0.25, 3), store).run
    assert run.config.export.formats == ("safetensors",)
    assert "model.pt2 will not be written" in caplog.text
    assert store.record("formats_that_work") == ["safetensors"]


def test_a_format_that_works_is_tried_once(tmp_path, monkeypatch):
    store, model = MemoryStore(), small()
    assert opened(tmp_path, model, store).run.config.export.formats == ("safetensors", "pt2")
    monkeypatch.setattr("triaxis.stages.readiness.refusal", lambda *_: pytest.fail("tried again"))
    assert opened(tmp_path, model, store).run.config.export.formats == ("safetensors", "pt2")


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"export": {"formats": ["safetensors", "pt2", "onnx"]}}, "export.formats asks for pt2"),
        ({"export": {"formats": ["onnx"]}}, "export.formats asks for onnx"),
    ],
)
def test_a_format_that_was_chosen_and_is_refused_ends_before_training(tmp_path, section, words):
    pytest.importorskip("onnxscript")
    with pytest.raises(ExportError, match=words):
        opened(tmp_path, Undecided(8, 0.25, 3), **section)
    assert not list(tmp_path.glob("run/checkpoints/*"))


def test_a_runtime_that_refuses_the_model_ends_before_training(tmp_path, monkeypatch):
    pytest.importorskip("onnxscript")

    def refuse(*given: object, **settings: object) -> None:
        raise RuntimeError("no such operator")

    monkeypatch.setattr("torch.onnx.export", refuse)
    with pytest.raises(UnsupportedModelError, match=r"profile\.runtime: onnxruntime must run the model"):
        opened(tmp_path, Undecided(8, 0.25, 3), export={"formats": ["safetensors"]}, profile={"runtime": "onnxruntime"})
    assert not list(tmp_path.glob("run/checkpoints/*"))


def test_a_cut_that_is_refused_after_all_leaves_the_other_files(tmp_path, caplog):
    """The uncut model may export and its cut not."""
    model = Undecided(8, 0.25, 3).eval()
    plan = Surgeon.examine(model, side_px=8).identity()
    given = (tmp_path, model, plan, ModelSource(name="", num_classes=3, side_px=8), Preprocess())
    files = export(*given, ("safetensors", "pt2"))
    assert [file.name for file in files] == ["model.safetensors", "plan.json"]
    assert "model.pt2 must be made by torch" in caplog.text
    with pytest.raises(ExportError, match=r"model\.pt2 must be made by torch"):
        export(*given, ("pt2",))
    assert not (tmp_path / "model.pt2").exists()


@pytest.mark.parametrize(
    ("section", "missing", "words"),
    [
        ({"collect": {**CONFIG["collect"], "executor": "ray"}}, "ray", "ray"),
        ({"export": {"formats": ["onnx"]}}, "onnxruntime", "onnxruntime"),
        ({"profile": {"runtime": "onnxruntime"}}, "onnxruntime", "onnxruntime"),
    ],
)
def test_a_missing_package_is_said_before_the_data_are_opened(tmp_path, monkeypatch, section, missing, words):
    import importlib.util
    import sys

    find = importlib.util.find_spec
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *a: None if name == missing else find(name, *a))
    monkeypatch.setattr("triaxis.stages.base._own_copy", lambda _: pytest.fail("the model was touched"))
    with pytest.raises(MissingDependencyError, match=words):
        opened(tmp_path, small(), **section)


def test_a_missing_compiler_is_said_before_training(tmp_path, monkeypatch):
    def no_compiler(*_, **__):
        raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found")

    monkeypatch.setattr(torch, "compile", no_compiler)
    with pytest.raises(MissingDependencyError, match=r"needs a compiler.*No working C"):
        opened(tmp_path, small(), profile={"runtime": "compile"})


@contextmanager
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("setting", [torch.no_grad, torch.inference_mode, float64], ids=["no_grad", "inference_mode", "float64"])
def test_compress_works_under_any_setting_of_torch_and_puts_it_back(tmp_path, setting):
    torch.manual_seed(0)
    with setting():
        # Made under the setting too: the weights are then float64, or tensors that autograd refuses.
        model, images = small(), images_of()
        before = (torch.get_default_dtype(), torch.is_grad_enabled(), torch.is_inference_mode_enabled())
        config = config_from_plain({**CONFIG, "export": {"formats": ["safetensors"]}})
        found = triaxis.compress(model, (images,) * 3, budget="macs=60%", out=tmp_path / "run", config=config)
        assert (torch.get_default_dtype(), torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == before
    weights = list(found.model.parameters())
    assert {(p.dtype, p.is_inference()) for p in weights} == {(torch.float32, False)}
    found.model(torch.zeros(2, 3, found.solution.side_px, found.solution.side_px)).sum().backward()
    assert all(p.grad is not None for p in weights)


@pytest.mark.parametrize("setting", [torch.inference_mode, float64])
def test_settings_are_put_back_after_an_error_too(tmp_path, setting):
    with setting():
        before = (torch.get_default_dtype(), torch.is_inference_mode_enabled())
        with pytest.raises(TriaxisError):
            triaxis.load(tmp_path)
        with pytest.raises(ConfigError):
            triaxis.inspect_model("cifar:resnet9")
        assert (torch.get_default_dtype(), torch.is_inference_mode_enabled()) == before
        assert triaxis.Surgeon.examine(resnet(8, width=0.25).float(), side_px=8).anatomy.groups
