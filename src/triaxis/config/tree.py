"""The configuration of a run: a typed tree, read from YAML and written back as YAML.

All default numbers live here, and only here. A key that is not in the tree, a value of the wrong type or out of range
is a `ConfigError` that names the key path and what would be right; several mistakes are named at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BeforeValidator,
    Field,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)

from triaxis.config.cluster import ClusterConfig
from triaxis.config.section import Section
from triaxis.config.tasks import TASKS, SegmentationConfig
from triaxis.errors import ConfigError
from triaxis.plugins import installed, require_known
from triaxis.values import METRICS, BudgetSpec, Recipe, metric_spec, parse_budgets

BASE_RECIPE = Recipe(epochs=30)
COLLECT_RECIPE = Recipe(epochs=4, peak_lr=0.05, distill=0.7, temperature=2.0, average_last=0.3)
SHARED_RECIPE = Recipe(epochs=1, peak_lr=0.1, distill=0.7, temperature=2.0, average_last=0.3)
FINETUNE_RECIPE = Recipe(epochs=30, peak_lr=0.05, distill=0.7, temperature=2.0, average_last=0.3)

MODEL_FORM = r"^[\w.]+:[\w./-]+$"
FUNCTION_FORM = r"^[\w.]+:\w+$"
DATA_KINDS = ("digits", "digit_scenes", "imagefolder", "masks", "coco", "cifar10", "cifar100", "fashion_mnist", "svhn")
DATA_FORM = r"^(digits|digit_scenes|[\w.]+:.+)$"

Format = Literal["safetensors", "pt2", "onnx", "onnx-int8"]
ListenerName = Annotated[str, Field(pattern=r"^[\w.-]+(:\w+)?$")]


ModuleNames = Annotated[tuple[str, ...], BeforeValidator(lambda given: (given,) if isinstance(given, str) else given)]
"""Paths of a model's modules, or globs; one alone needs no list."""

CRITERIA = ("l1", "l2", "bn", "taylor", "random")
"""The criteria in the box, see `triaxis.surgery.criteria`."""

RUNTIMES = ("eager", "compile", "onnxruntime", "openvino")
"""The runtimes in the box, see `triaxis.metrics.runtimes`."""


def _recipe_over(default: Recipe) -> Callable[[Any, ValidatorFunctionWrapHandler], Recipe]:
    """Return the check of a recipe whose missing keys come from `default`, not from the class."""

    def check(given: Any, handler: ValidatorFunctionWrapHandler) -> Recipe:
        merged = {**dataclasses.asdict(default), **given} if isinstance(given, dict) else given
        try:
            return handler(merged)
        except ConfigError as error:
            raise ValueError(str(error)) from None

    return check


BaseRecipe = Annotated[Recipe, WrapValidator(_recipe_over(BASE_RECIPE))]
CollectRecipe = Annotated[Recipe, WrapValidator(_recipe_over(COLLECT_RECIPE))]
SharedRecipe = Annotated[Recipe, WrapValidator(_recipe_over(SHARED_RECIPE))]
FinetuneRecipe = Annotated[Recipe, WrapValidator(_recipe_over(FINETUNE_RECIPE))]


class ModelConfig(Section):
    """The network to start from; ``model: timm:resnet18`` is short for its `name`."""

    name: str = Field(
        default="cifar:resnet20",
        pattern=MODEL_FORM,
        description="cifar:NAME, torchvision:NAME, timm:NAME, unet:NAME or package.module:function",
    )
    args: dict[str, Any] = Field(
        default={}, description="keyword arguments of the model's function; of a zoo's model numbers, words and lists of these"
    )
    weights: str | None = Field(
        default=None, description="'pretrained', or a safetensors or weights-only checkpoint file; null trains the base model first"
    )
    num_classes: int | None = Field(default=None, ge=2, description="null takes it from the data")
    side_px: int | None = Field(default=None, ge=4, description="side of the base model's input; null takes it from the model or the data")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, given: Any) -> Any:
        return {"name": given} if isinstance(given, str) else given


class DataConfig(Section):
    """The images; ``data: imagefolder:PATH`` is short for its `source`."""

    source: str = Field(
        default="digits",
        pattern=DATA_FORM,
        description="digits, imagefolder:PATH, cifar10:PATH, cifar100:PATH, fashion_mnist:PATH, svhn:PATH or package.module:function; "
        "of masks: digit_scenes, masks:PATH; of boxes: digit_scenes, coco:PATH",
    )
    side_px: int | None = Field(
        default=None,
        ge=4,
        description="side the images are brought to; null takes the model's, or the images' own up to 64 px and 224 for larger",
    )
    mean: tuple[float, ...] | None = Field(
        default=None, description="by channel, in [0, 1], as the model was trained; null takes the model's own, or measures"
    )
    std: tuple[float, ...] | None = Field(default=None, description="standard deviations, likewise")
    val_fraction: float = Field(
        default=0.1, gt=0, lt=1, description="share of what test leaves that steers every choice, where no val folder exists"
    )
    test_fraction: float = Field(
        default=0.2, gt=0, lt=1, description="share of the images opened once, at the end, where no test split exists"
    )
    download: bool = Field(default=False, description="fetch a known data set that is not there")
    skip_bad: bool = Field(default=False, description="go on without images that cannot be read, instead of stopping with their names")
    workers: int = Field(default=0, ge=0, description="processes that decode streamed images; 0 chooses by the number of cores")
    memory: Literal["auto", "resident", "stream"] = Field(
        default="auto", description="keep decoded images in memory, or decode them again each epoch"
    )
    max_train_images: int | None = Field(default=None, ge=2, description="train on a stratified part of this many images")
    seed: int = Field(default=0, ge=0, le=2**32 - 3, description="seed of the split")  # and of two more draws, below scikit-learn's 2**32

    @property
    def has_function(self) -> bool:
        """Whether the source is the user's own ``package.module:function``."""
        return self.source.partition(":")[0] not in DATA_KINDS

    @model_validator(mode="before")
    @classmethod
    def _short(cls, given: Any) -> Any:
        return {"source": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        if (self.mean is None) != (self.std is None):
            raise ValueError(f"mean and std must be given together, got {self.mean} and {self.std}.")
        if any(not 0 <= m <= 1 for m in self.mean or ()) or any(not 0 < s <= 1 for s in self.std or ()):
            raise ValueError(f"mean and std must be those of pixels in [0, 1], got {self.mean} and {self.std}: divide by 255.")
        return self


class CollectConfig(Section):
    """Which trials are measured, and how each is fine-tuned."""

    method: Literal["chains", "elastic"] = Field(
        default="chains", description="a fine-tune for each trial, or one training of weights that all cuts share"
    )
    recipe: CollectRecipe = Field(default=COLLECT_RECIPE, description="the short fine-tune of each trial")
    shared: SharedRecipe = Field(
        default=SHARED_RECIPE, description="elastic: how the shared weights are trained; epochs follow from collect.effort"
    )
    views: int = Field(
        default=8, ge=0, description="elastic: epochs after which pictures repeat, so that the base model looks at each once; 0 is never"
    )
    effort: float = Field(default=0.08, gt=0, le=10, description="elastic: its training, in shares of base training")
    largest_part: float = Field(default=0.4, gt=0, lt=1, description="elastic: the largest part of the whole effort that it may take")
    num_cuts: int = Field(default=40, ge=12, le=2000, description="elastic: cuts that are measured afterwards")
    num_trials: int = Field(default=9, ge=4, le=200, description="trials on the chains of the three axes")
    off_axis: int = Field(default=0, ge=0, le=100, description="trials more that cut several axes together")
    min_depth: float = Field(default=0.3, gt=0, le=1, description="smallest keep ratio of depth that is tried")
    min_width: float = Field(default=0.25, gt=0, le=1, description="smallest keep ratio of width that is tried")
    min_resolution: float = Field(default=0.5, gt=0, le=1, description="smallest keep ratio of resolution that is tried")
    block_images: int = Field(default=1000, ge=1, description="images that choose the block to remove")
    calibrate_images: int = Field(default=1000, ge=1, description="images that re-estimate the batch-norm statistics after a cut")
    executor: Literal["serial", "processes", "ray"] = Field(
        default="serial", description="trials one by one, or many at once (extra [ray])"
    )
    workers: int | None = Field(default=None, ge=1, description="trials at once, where the executor allows it; null takes as many as fit")
    cluster: ClusterConfig = ClusterConfig()


class WidthConfig(Section):
    """How channels are chosen."""

    importance: str = Field(default="l2", description=f"{', '.join(CRITERIA)} or package.module:Name: which score keeps a channel")
    scope: Literal["uniform", "global"] = Field(
        default="uniform", description="the same keep ratio in each channel group, or one ranking of all"
    )
    round_to: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        default=8, description="channel counts are rounded to the nearest multiple; auto measures what pays on the runtime: 8, 16 or 32"
    )

    @field_validator("importance")
    @classmethod
    def _is_known(cls, name: str) -> str:
        try:
            require_known("criterion", name, CRITERIA, setting="it")
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return name


class FitConfig(Section):
    """Which accuracy predictor is fitted."""

    kind: Literal["auto", "growth", "polynomial"] = Field(
        default="auto", description="family of the accuracy predictor; polynomial is the paper's"
    )
    degree: int | None = Field(
        default=None,
        ge=1,
        le=8,
        description="degree of each factor; null chooses it; a number means polynomial, unless kind is growth",
    )
    rank: int = Field(default=1, ge=1, le=5, description="number of products that are added; above 1 needs four off-axis trials or more")
    target: Literal["accuracy", "balanced_accuracy"] = Field(
        default="accuracy", description="what is predicted of a classification; balanced for uneven classes"
    )


CommandFormat = Literal["onnx", "pt2"]


class DeviceConfig(Section):
    """A device that a command reaches; ``phone: COMMAND`` is short for its `command`."""

    command: str = Field(min_length=1, description="what measures a model there: its last line is the milliseconds of one batch")
    format: CommandFormat = Field(default="onnx", description="the file that the command gets: onnx or pt2")
    time_limit_s: float = Field(default=300.0, gt=0, description="seconds after which a command that has not ended is stopped")
    tries: int = Field(default=3, ge=1, le=100, description="times that a command is started before it counts as failed")
    wait_s: float = Field(default=2.0, ge=0, description="seconds between two tries")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, given: Any) -> Any:
        return {"command": given} if isinstance(given, str) else given


DeviceName = Annotated[str, Field(pattern=r"^[A-Za-z]\w*$")]


class ProfileConfig(Section):
    """How latency and memory are measured."""

    batches: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(1, 64), min_length=1, description="batch sizes of the latency table")
    repeats: int = Field(default=30, ge=3, description="timed passes at most for one latency of the table; the median is reported")
    latency_batch: int = Field(default=1, ge=1, description="batch size that a latency or memory budget speaks of")
    runtime: str = Field(
        default="eager",
        description="what runs the model when latency is measured: eager, compile, onnxruntime, openvino (also -1t, -int8), command, "
        "a device or package.module:Name",
    )
    command: str | None = Field(
        default=None, description="of the runtime command: prints the milliseconds of {model}, also its input, at {batch} and {side}"
    )
    format: CommandFormat = Field(default="onnx", description="onnx or pt2: the file that the command gets")
    time_limit_s: float = Field(default=300.0, gt=0, description="seconds after which a command that has not ended is stopped")
    tries: int = Field(default=3, ge=1, le=100, description="times that a command is started before it counts as failed")
    devices: dict[DeviceName, DeviceConfig] = Field(
        default={}, description="more devices, NAME: COMMAND, for budgets such as latency@NAME=20ms"
    )

    @property
    def commands(self) -> dict[str, DeviceConfig]:
        """What is run for each device, by the name of its runtime."""
        if self.command is None:
            return dict(self.devices)
        own = DeviceConfig(command=self.command, format=self.format, time_limit_s=self.time_limit_s, tries=self.tries)
        return {"command": own, **self.devices}

    @field_validator("devices")
    @classmethod
    def _has_names_of_its_own(cls, devices: dict[str, DeviceConfig]) -> dict[str, DeviceConfig]:
        if taken := sorted(set(devices) & {*RUNTIMES, "command"}):
            raise ValueError(f"a device must have a name that no runtime has, got {', '.join(taken)}.")
        return devices

    @model_validator(mode="before")
    @classmethod
    def _old_name(cls, given: Any) -> Any:
        # Runs of version 0.1 say backend.
        if isinstance(given, dict) and "backend" in given:
            given = {"runtime" if key == "backend" else key: item for key, item in given.items()}
        return given


class ExportConfig(Section):
    """What is written beside the compressed model's plan."""

    formats: tuple[Format, ...] = Field(
        default=("safetensors", "pt2"), description="safetensors, pt2, onnx and onnx-int8; each is tried before training"
    )


def metric_keys(own: dict[str, str]) -> tuple[str, ...]:
    """Return the keys of all metrics: in the box, the user's own, and those of installed packages.

    Raises:
        ConfigError: A key has the wrong form.
    """
    keys = (*METRICS, *own, *installed("metric"))
    for key in keys:
        metric_spec(key)
    return keys


class Config(Section):
    """Everything a run depends on."""

    seed: int = Field(default=0, ge=0, lt=2**64, description="of training; where threads and precision are given, it fixes the numbers")
    device: str = Field(default="auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$", description="auto, cpu, mps, cuda or cuda:N")
    threads: int | None = Field(default=None, ge=1, le=1024, description="CPU threads; null times all cores, half of them and one")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto", description="of training; auto is fp32 unless another is over 20 % faster"
    )
    save_minutes: float = Field(default=10, ge=0, description="minutes between two saved states of a training within an epoch")
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    task: str = Field(
        default="classification",
        description=f"{', '.join(TASKS)} or package.module:Name: what the network is trained for, and scored by",
    )
    segmentation: SegmentationConfig = SegmentationConfig()
    protect: ModuleNames = Field(default=(), description="modules that stay whole with all inside them: paths such as layer1, or globs")
    prune_only: ModuleNames = Field(default=(), description="modules that alone may lose blocks and channels, likewise; empty is all")
    example_input: str | None = Field(
        default=None, pattern=FUNCTION_FORM, description="package.module:function that makes a model's arguments of a batch of pictures"
    )
    metrics: dict[str, str] = Field(
        default={}, description="metrics of your own: NAME_UNIT: package.module:Name, such as energy_mJ: my_metrics:Energy"
    )
    effort: float | None = Field(
        default=None, gt=0, description="all training after the base model's, in shares of base training; null leaves it to finetune.epochs"
    )
    budget: tuple[str, ...] = Field(
        default=("macs=50%",), min_length=1, description="such as macs=50%, params=2M, latency=3ms, memory=64MB; or a list"
    )
    base: BaseRecipe = Field(default=BASE_RECIPE, description="training of the base model, where it has no weights or a new classifier")
    collect: CollectConfig = CollectConfig()
    width: WidthConfig = WidthConfig()
    fit: FitConfig = FitConfig()
    finetune: FinetuneRecipe = Field(default=FINETUNE_RECIPE, description="the final fine-tune of the compressed model")
    profile: ProfileConfig = ProfileConfig()
    export: ExportConfig = ExportConfig()
    progress: tuple[ListenerName, ...] = Field(default=(), description="who hears how far it is: tensorboard, or package.module:Name")

    @model_validator(mode="before")
    @classmethod
    def _empty_sections(cls, given: Any) -> Any:
        # `collect:` with every key commented out reads as null in YAML; its author means the defaults.
        return {key: item for key, item in given.items() if item is not None} if isinstance(given, dict) else given

    @field_validator("task")
    @classmethod
    def _is_a_task(cls, name: str) -> str:
        try:
            require_known("task", name, TASKS, setting="it")
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return name

    @model_validator(mode="after")
    def _target_has_an_effect(self) -> Self:
        if self.task != "classification" and self.fit.target != "accuracy":
            raise ValueError(f"fit.target {self.fit.target} is for the task classification, got task {self.task}: leave fit.target out.")
        return self

    @field_validator("budget", mode="before")
    @classmethod
    def _check_budgets(cls, given: Any) -> Any:
        texts = [given] if isinstance(given, str) else given
        if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"must be a budget such as macs=50%, or a list of them, got {given!r}.")
        return tuple(texts)

    @field_validator("budget")
    @classmethod
    def _parse_budgets(cls, texts: tuple[str, ...], others: ValidationInfo) -> tuple[str, ...]:
        try:
            parse_budgets(texts, metric_keys(others.data.get("metrics", {})))
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return texts

    @property
    def budgets(self) -> tuple[BudgetSpec, ...]:
        """The budgets, read."""
        return parse_budgets(self.budget, self.metric_keys)

    @property
    def metric_keys(self) -> tuple[str, ...]:
        """Keys of the metrics that a budget may name."""
        return metric_keys(self.metrics)

    def to_plain(self) -> dict[str, Any]:
        """Return the whole tree as plain JSON data, defaults included."""
        return self.model_dump(mode="json")

    def to_yaml(self) -> str:
        """Return the whole tree as YAML, which `load_config` reads back to an equal configuration."""
        return yaml.safe_dump(self.to_plain(), sort_keys=False, default_flow_style=False)
