"""Train the networks of a grid from scratch, and measure how well they use the device."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from triaxis.config import Config
from triaxis.data.images import Images, ResidentImages
from triaxis.data.sources import load_splits
from triaxis.errors import StoreError
from triaxis.metrics.macs import count_macs, count_params
from triaxis.models.cifar import densenet, resnet
from triaxis.stages.environment import pick_device
from triaxis.study.grid_config import GridConfig, Place
from triaxis.study.grid_networks import NetworkResult, NetworkSpec
from triaxis.study.table1 import Family
from triaxis.training.evaluate import evaluate
from triaxis.training.loop import OnStep, finetune
from triaxis.training.mode import Mode
from triaxis.values import digest

FAMILIES: dict[Family, Callable[..., nn.Module]] = {"resnet": resnet, "densenet": densenet}
PEAK_SIDES = {"cuda": 8192, "cpu": 1024}


@dataclass(frozen=True)
class Bench:
    """What every network of a grid shares: the images, on the device, and how to train on them.

    The test split is open, unlike in a run: a grid chooses nothing by it, it only measures, as the paper's table does.
    """

    train: Images
    test: Images
    data_digest: str
    device: torch.device
    mode: Mode
    is_compiled: bool
    resume_dir: Path

    @property
    def in_channels(self) -> int:
        """Channels of the images."""
        return next(iter(self.train.in_order(self.train.side_px, limit=1))).images.shape[1]

    def build(self, family: Family, place: Place) -> nn.Module:
        """Return the untrained network of a place."""
        layers, width, _ = place
        return FAMILIES[family](depth=layers, width=width, num_classes=self.train.num_classes, in_channels=self.in_channels)

    def train_network(self, spec: NetworkSpec, on_step: OnStep | None = None) -> NetworkResult:
        """Train one network from scratch and score it on the test split.

        An epoch that was finished by a process that was killed is not trained again.

        Raises:
            TriaxisError: Training diverged, or the images do not fill a batch.
        """
        torch.manual_seed(spec.seed)
        network = self.build(spec.family, (spec.layers, spec.width, spec.side_px))
        macs = count_macs(network, (self.in_channels, spec.side_px, spec.side_px))
        params = count_params(network)
        if self.is_compiled:
            compile_for_training(network)
        num_steps = 0

        def count(step: int, steps: int, loss: Tensor) -> None:
            nonlocal num_steps
            num_steps += 1
            if on_step:
                on_step(step, steps, loss)

        resume_path = self.resume_dir / f"{spec.network_id}.resume"
        options = {"side_px": spec.side_px, "seed": spec.seed, "device": self.device, "mode": self.mode}
        done = finetune(network, self.train, spec.recipe, **options, on_step=count, resume_path=resume_path)  # type: ignore[arg-type]
        found = evaluate(network, self.test, spec.side_px, self.device)
        return NetworkResult(
            spec=spec,
            state="done",
            accuracy=found.value,
            loss=found.loss,
            num_test=len(self.test),
            macs=macs,
            params=params,
            num_images=done.num_images,
            seconds=done.seconds,
            images_per_second=num_steps * spec.recipe.batch_size / done.seconds,
        )

    def attempt(self, spec: NetworkSpec, on_step: OnStep | None = None) -> NetworkResult:
        """Train one network; an exception becomes a failed result with its traceback.

        Raises:
            StoreError: The disk is full or unwritable, so that no other network could be saved either.
        """
        try:
            return self.train_network(spec, on_step)
        except StoreError:
            raise
        except Exception:  # noqa: BLE001  (a failed network is a record, whatever failed)
            return failed(spec, traceback.format_exc())


def failed(spec: NetworkSpec, reason: str) -> NetworkResult:
    """Return the record of a network that gave no accuracy."""
    return NetworkResult(spec=spec, state="failed", error=reason)


def open_bench(
    config: GridConfig, resume_dir: Path, *, mode: Mode | None = None, device: str | None = None, threads: int | None = None
) -> Bench:
    """Load the images and put them on the device.

    Args:
        config: The grid.
        resume_dir: Where half-trained networks are kept.
        mode: Precision and memory format; None is fp32.
        device: In place of the configuration's, such as one that was found already.
        threads: In place of the configuration's.

    Raises:
        DataError: The images are unusable.
        ConfigError: The device is not there.
    """
    place = pick_device(Config(device=device or config.device, threads=threads or config.threads))
    splits = load_splits(config.data, side_px=config.data.side_px or _side_for(config))
    test = splits.test.open()
    return Bench(
        train=_on(splits.train, place),
        test=_on(test, place),
        data_digest=digest([splits.digest(), test.fingerprint()]),
        device=place,
        mode=mode or Mode(),
        is_compiled=config.compile,
        resume_dir=resume_dir,
    )


def _side_for(config: GridConfig) -> int | None:
    """Known data sets have a side of their own; pictures in folders are brought to the grid's largest."""
    return config.largest[2] if config.data.source.startswith("imagefolder:") else None


def _on(images: Images, device: torch.device) -> Images:
    return images.to(device) if isinstance(images, ResidentImages) and device.type == "cuda" else images


def compile_for_training(network: nn.Module) -> None:
    """Compile the training passes only: calibration and evaluation are a few batches, of other shapes."""
    plain, fast = network.forward, torch.compile(network.forward)

    def forward(x: Tensor) -> Tensor:
        return fast(x) if network.training else plain(x)

    network.forward = forward


def matmul_peak_flops(device: torch.device, precision: str, repeats: int = 5) -> float:
    """Return the FLOPs per second of a large square matrix product, the most that the device gives in practice.

    Args:
        device: Where to measure; it should be idle.
        precision: ``bf16`` or ``fp32``.
        repeats: Timed products, after one that warms up; the fastest counts.
    """
    side = PEAK_SIDES.get(device.type, 2048)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return 2 * side**3 / min(seconds[1:])
