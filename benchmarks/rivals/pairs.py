"""The pairs of network and data on which efforts are compared, and the arms."""

from __future__ import annotations

from rivals.profiles import Profile

EFFORTS = (0.25, 1.0)
ARMS = ("triaxis", "equal_split", "width_l2", "width_l2_global", "depth", "resolution", "random_cut", "scratch")
BUDGETS = ("macs=50%", "macs=25%", "macs=12%", "latency=50%")


def _pair(name: str, title: str, model: str, epochs: int, **data: object) -> Profile:
    return Profile(
        name=name,
        title=title,
        settings={
            "model": {"name": model},
            "threads": 1,
            "data": {"val_fraction": 0.1, **data},
            "profile": {"runtime": "onnxruntime"},
            # Each arm has its own budget.
            "budget": ["macs=25%"],
            "base": {"epochs": epochs, "peak_lr": 0.2, "average_last": 0.2},
            "collect": {"method": "elastic", "effort": 0.05, "num_cuts": 24},
            "finetune": {"peak_lr": 0.1},
        },
        budgets=BUDGETS,
    )


PAIRS: dict[str, Profile] = {
    "resnet20-cifar10": _pair("resnet20-cifar10", "ResNet-20 on 10,000 images of CIFAR-10", "cifar:resnet20", 80, max_train_images=10000),
    "depthwise-tiny50": _pair("depthwise-tiny50", "A depthwise network on 50 classes of photographs", "rivals.networks:depthwise", 80),
    # Tries the benchmark itself, in seconds.
    "tiny": Profile(
        name="tiny",
        title="ResNet-14 of half width on a few images",
        settings={
            "model": {"name": "cifar:resnet14", "args": {"width": 0.5}},
            "precision": "fp32",
            "data": {"val_fraction": 0.2},
            "budget": ["macs=50%"],
            "width": {"round_to": 2},
            "base": {"epochs": 2, "batch_size": 32, "crop_px": 1},
            "collect": {
                "method": "elastic",
                "effort": 0.2,
                "num_cuts": 14,
                "shared": {"batch_size": 32, "crop_px": 1},
                "block_images": 64,
                "calibrate_images": 64,
            },
            "finetune": {"batch_size": 32, "crop_px": 1},
        },
        budgets=("macs=50%",),
    ),
}
