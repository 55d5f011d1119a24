"""What each profile of the benchmark runs: networks, data, recipes, budgets."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from triaxis.config import Config, config_from_plain
from triaxis.errors import ConfigError
from triaxis.values import BudgetSpec

WIDTH_ARMS = ("width_l2", "width_l2_global", "width_bn", "width_group_norm")
SINGLE_AXIS_ARMS = (*WIDTH_ARMS, "depth", "resolution")
ARMS = ("triaxis", *SINGLE_AXIS_ARMS, "equal_split", "compound", "scratch")
OPTIONAL_ARMS = ("scratch_same_macs", "width")
SCRATCH_ARMS = ("scratch", "scratch_same_macs")
PAID = "+collection"
AT = "@"
"""Between an arm's name and the peak rate of its fine-tune, where that is not the configured one."""


@dataclass(frozen=True)
class Profile:
    """One set-up. `settings` are a triaxis configuration without seed and data source.

    `dear_budgets` are those at which the arms run that cost many times the others: training from scratch, width alone on a latency budget,
    and the strongest rivals once more with the collection's effort added.
    `family` is what the files of results are named after, with the profile's name.
    `runtimes` run the speed measurement, `seconds` each time, for each batch. `best_on_test` evaluates on test after every
    epoch, for a column that published tables have; nothing is selected by it.
    """

    name: str
    title: str
    settings: dict[str, Any]
    budgets: tuple[str, ...]
    dear_budgets: tuple[str, ...] = ("macs=25%",)
    runtimes: tuple[str, ...] = ("eager", "onnxruntime")
    batches: tuple[int, ...] = (1, 64)
    seconds: float = 0.6
    best_on_test: bool = False
    compile: bool = False
    family: str = "cifar"
    published: tuple[tuple[str, float, float], ...] = field(default=())

    def config(self, source: str, seed: int) -> Config:
        """Return the configuration of one seed's run."""
        data = {**self.settings.get("data", {}), "source": source}
        return config_from_plain({**self.settings, "seed": seed, "data": data}, source=f"profile {self.name}")


def _gpu(name: str, model: str, title: str, published: tuple[tuple[str, float, float], ...] = ()) -> Profile:
    return Profile(
        name=name,
        title=title,
        settings={
            "model": {"name": model},
            "precision": "bf16",
            "data": {"val_fraction": 0.1},
            "budget": ["macs=40%"],
            "base": {"epochs": 200, "peak_lr": 0.2},
            "collect": {"recipe": {"epochs": 5}},
            "finetune": {"epochs": 100},
        },
        budgets=("macs=50%", "macs=40%", "macs=25%", "macs=12%"),
        runtimes=("eager", "compile", "onnxruntime"),
        best_on_test=True,
        published=published,
    )


# Method, accuracy and MACs reduction as torch-pruning's own reproduction page gives them; best epoch on the test set.
RESNET56_PUBLISHED = (
    ("Group-L1", 0.9293, 2.12),
    ("Group-BN", 0.9329, 2.12),
    ("DepGraph without sparse learning", 0.9346, 2.11),
    ("DepGraph without sparse learning", 0.9336, 2.51),
    ("DepGraph with sparse learning", 0.9377, 2.13),
    ("DepGraph with sparse learning", 0.9364, 2.57),
    ("ResRep", 0.9371, 2.12),
    ("C-SGD", 0.9344, 2.55),
)

CPU = Profile(
    name="cpu",
    title="ResNet-20 on 10,000 images of CIFAR-10",
    settings={
        "model": {"name": "cifar:resnet20"},
        # One thread: seeds can train side by side, and a batch of one is no faster with two.
        "threads": 1,
        "data": {"val_fraction": 0.1, "max_train_images": 10000},
        # Both metrics are named so that the run's cost table holds latency; each arm has its own budget.
        "budget": ["macs=25%", "latency=50%"],
        "base": {"epochs": 30, "peak_lr": 0.2},
        "finetune": {"epochs": 8},
    },
    budgets=("macs=50%", "macs=35%", "macs=25%", "macs=12%", "latency=50%"),
)

ADAMW = {"optimizer": "adamw", "weight_decay": 0.05}

VIT = Profile(
    name="cpu",
    family="vit",
    title="A small ViT on 8,000 images of CIFAR-10",
    settings={
        "model": {
            "name": "timm:vit_tiny_patch16_224",
            "args": {"img_size": 32, "patch_size": 4, "embed_dim": 64, "depth": 6, "num_heads": 4},
        },
        "threads": 1,
        "precision": "fp32",
        "data": {"side_px": 32, "val_fraction": 0.1, "max_train_images": 8000},
        "budget": ["macs=50%"],
        "base": {"epochs": 20, "peak_lr": 2e-3, **ADAMW},
        # A quarter of the cost by the side alone is 12 px.
        "collect": {"recipe": {"epochs": 2, "peak_lr": 1e-3, **ADAMW}, "min_resolution": 0.375},
        "finetune": {"epochs": 6, "peak_lr": 1e-3, **ADAMW},
        "export": {"formats": ["safetensors"]},
    },
    budgets=("macs=50%", "macs=25%"),
    dear_budgets=(),
    runtimes=("eager",),
)

TINY_VIT = Profile(
    name="tiny",
    family="vit",
    title="A very small ViT on a few images, to try the benchmark itself",
    settings={
        "model": {
            "name": "timm:vit_tiny_patch16_224",
            "args": {"img_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 3, "num_heads": 4},
        },
        "precision": "fp32",
        "data": {"side_px": 16, "val_fraction": 0.2},
        "budget": ["macs=50%"],
        "width": {"round_to": 2},
        "base": {"epochs": 1, "batch_size": 32, "crop_px": 1, **ADAMW},
        "collect": {"recipe": {"epochs": 1, "batch_size": 32, "crop_px": 1, **ADAMW}, "num_trials": 4, "min_width": 0.5},
        "finetune": {"epochs": 1, "batch_size": 32, "crop_px": 1, **ADAMW},
        "export": {"formats": ["safetensors"]},
    },
    budgets=("macs=50%", "macs=25%"),
    dear_budgets=(),
    runtimes=("eager",),
    batches=(1, 64),
    seconds=0.04,
)

VIT_PROFILES: dict[str, tuple[Profile, ...]] = {"cpu": (VIT,), "tiny": (TINY_VIT,)}

TINY = Profile(
    name="tiny",
    title="ResNet-14 of half width on a few images, to try the benchmark itself",
    settings={
        "model": {"name": "cifar:resnet14", "args": {"width": 0.5}},
        "precision": "fp32",
        "data": {"val_fraction": 0.2},
        "budget": ["macs=50%"],
        "width": {"round_to": 2},
        "base": {"epochs": 1, "batch_size": 32, "crop_px": 1},
        "collect": {"recipe": {"epochs": 1, "batch_size": 32, "crop_px": 1}, "num_trials": 4, "block_images": 64, "calibrate_images": 64},
        "finetune": {"epochs": 1, "batch_size": 32, "crop_px": 1},
    },
    budgets=("macs=50%", "macs=25%"),
    runtimes=("eager",),
    batches=(1, 64),
    seconds=0.04,
)

PROFILES: dict[str, tuple[Profile, ...]] = {
    "cpu": (CPU,),
    "gpu": (
        _gpu("gpu-resnet56", "cifar:resnet56", "ResNet-56 on CIFAR-10", RESNET56_PUBLISHED),
        _gpu("gpu-densenet40", "cifar:densenet40", "DenseNet-40 on CIFAR-10"),
    ),
    "tiny": (TINY,),
}


def data_source(place: str) -> str:
    """Return the data source that a path means: torchvision's CIFAR-10, or an image folder; a full source stays as it is.

    Raises:
        ConfigError: There is no such folder.
    """
    if place.partition(":")[0] in ("imagefolder", "cifar10", "cifar100"):
        return place
    root = Path(place).expanduser()
    if not root.is_dir():
        raise ConfigError(f"--data must name a folder with CIFAR-10, as images in class folders or as torchvision keeps it, got {place!r}.")
    return f"cifar10:{place}" if (root / "cifar-10-batches-py").is_dir() else f"imagefolder:{place}"


def read_budget(text: str) -> BudgetSpec:
    """Read a budget of the benchmark, such as ``macs=25%`` or ``latency=50%``.

    Raises:
        ConfigError: It is not a share of the base model's MACs or latency.
    """
    spec = BudgetSpec.parse(text)
    if spec.fraction is None or spec.metric not in ("macs", "latency_ms"):
        raise ConfigError(f"A budget of this benchmark must be a share of the base model's, such as macs=25% or latency=50%, got {text!r}.")
    return spec
