"""Models by name: the CIFAR families, torchvision, timm, or the user's own factory."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from triaxis.data.images import Preprocess
from triaxis.errors import ConfigError, TriaxisError
from triaxis.models import cifar, detector_zoo, unet
from triaxis.models.arguments import check_args
from triaxis.models.detector import Detector, as_detector
from triaxis.plugins import import_named
from triaxis.surgery.trace.plain import check_plain
from triaxis.values import Value


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource(Value):
    """How to make the base model again, and what of it may be cut; saved in ``plan.json``.

    `name` is empty for a model handed over in code; `protect`, `prune_only` and `example_input` are those of
    `Surgeon.examine`.
    """

    name: str
    args: dict[str, Any] = field(default_factory=dict)
    num_classes: int = 10
    side_px: int = 32
    in_channels: int = 3
    protect: tuple[str, ...] = ()
    prune_only: tuple[str, ...] = ()
    example_input: str | None = None


def build(name: str, args: dict[str, Any], num_classes: int) -> nn.Module:
    """Return an untrained model for `num_classes` classes; a detector of torchvision's comes as a `Detector`.

    Args:
        name: ``cifar:resnet20``, ``torchvision:NAME``, ``timm:NAME``, ``detection:NAME``, ``unet:basic``, ``unet:ENCODER`` with one of
            timm's, or ``package.module:function``.
        args: Keyword arguments for the model's function.
        num_classes: Outputs of the classifier.

    Raises:
        ConfigError: No such model, or the arguments do not fit it.
    """
    if names_code(name):
        return _own(name, args, num_classes)
    check_args(name, args)
    zoo, _, kind = name.partition(":")
    try:
        return as_detector(ZOOS[zoo](kind, args, num_classes))
    except TriaxisError:
        raise
    except Exception as error:  # noqa: BLE001 - the zoos check few of their arguments, and fail on the others as they may
        reason = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
        raise ConfigError(f"model.args must fit {name}, got {args}: {reason}.") from None


def unwrap(model: nn.Module) -> nn.Module:
    """Return the network inside DataParallel, DistributedDataParallel and torch.compile wrappers."""
    while True:
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        elif (compiled := getattr(model, "_orig_mod", None)) is not None:
            model = compiled
        else:
            return model


def _cifar(kind: str, args: dict[str, Any], num_classes: int) -> nn.Module:
    found = re.fullmatch(r"(resnet|densenet)(\d{1,9})", kind)
    if not found:
        close = difflib.get_close_matches(kind, _names("cifar"), 1)
        hint = f"; did you mean cifar:{close[0]}?" if close else "."
        raise ConfigError(f"A cifar model must be cifar:resnetN or cifar:densenetN (for example cifar:resnet20), got {kind!r}{hint}")
    maker = cifar.resnet if found[1] == "resnet" else cifar.densenet
    return maker(int(found[2]), num_classes=num_classes, **args)


def _torchvision(kind: str, args: dict[str, Any], num_classes: int) -> nn.Module:
    from torchvision import models

    if kind in models.list_models(module=models.detection):
        return detector_zoo.torchvision_detector(kind, args, num_classes)
    if kind not in _names("torchvision"):
        raise ConfigError(_unknown("torchvision", kind, _names("torchvision")))
    if kind in models.list_models(module=models.segmentation):
        # An untrained network has an untrained backbone: torchvision would fetch a trained one.
        return models.get_model(kind, weights=None, weights_backbone=None, num_classes=num_classes, **args)
    # The auxiliary classifiers of GoogLeNet and Inception only serve training from scratch.
    extra = {"aux_logits": False, "init_weights": True} if kind in ("googlenet", "inception_v3") else {}
    return models.get_model(kind, weights=None, num_classes=num_classes, **extra, **args)


def _timm(kind: str, args: dict[str, Any], num_classes: int) -> nn.Module:
    import timm

    # Colons and slashes would name a model of a hub or of a folder, with weights of its own.
    if not re.fullmatch(r"[\w.-]+", kind) or not timm.is_model(kind.split(".")[0]):
        raise ConfigError(_unknown("timm", kind, _names("timm")))
    return timm.create_model(kind, pretrained=False, num_classes=num_classes, **args)


def _detection(kind: str, args: dict[str, Any], num_classes: int) -> nn.Module:
    if kind not in detector_zoo.FAMILIES:
        raise ConfigError(_unknown("detection", kind, _names("detection")))
    return detector_zoo.FAMILIES[kind](num_classes, **args)


def _unet(kind: str, args: dict[str, Any], num_classes: int) -> nn.Module:
    import timm

    if kind == "basic":
        return unet.unet(num_classes=num_classes, **args)
    if not (re.fullmatch(r"[\w.-]+", kind) and timm.is_model(kind.split(".")[0])):
        near = difflib.get_close_matches(kind, ["basic", *timm.list_models()], 1)
        hint = f"; did you mean unet:{near[0]}?" if near else "."
        raise ConfigError(f"A U-Net must be unet:basic, or unet:ENCODER with an encoder of timm's, got {kind!r}{hint}")
    return unet.encoder_unet(kind, num_classes=num_classes, **args)


ZOOS: dict[str, Callable[[str, dict[str, Any], int], nn.Module]] = {
    "cifar": _cifar,
    "torchvision": _torchvision,
    "timm": _timm,
    "unet": _unet,
    "detection": _detection,
}


def names_code(name: str) -> bool:
    """Whether a model's name is a function of the user's own, which is imported and called, and not a zoo's model."""
    return name.partition(":")[0] not in ZOOS


def _own(name: str, args: dict[str, Any], num_classes: int) -> nn.Module:
    try:
        if not re.fullmatch(r"\w+(\.\w+)*:\w+", name):
            raise ConfigError(f"model.name must name an importable package.module:Name, got {name!r}.")
        function = import_named(name, setting="model.name")
    except ConfigError as error:
        near = nearest(name)
        hint = f"; did you mean {' or '.join(near)}?" if near else "."
        raise ConfigError(f"{error} The zoos' models are {', '.join(f'{zoo}:NAME' for zoo in ZOOS)}{hint}") from None
    signature = inspect.signature(function)
    takes = signature.parameters
    if "num_classes" in takes or any(p.kind is p.VAR_KEYWORD for p in takes.values()):
        args = {"num_classes": num_classes, **args}
    try:
        signature.bind(**args)
    except TypeError as error:
        raise ConfigError(f"model.args must fit {name}, got {args}: {error}.") from None
    model = function(**args)
    if not isinstance(model, nn.Module):
        raise ConfigError(f"{name} must return a torch.nn.Module, got {type(model).__name__}.")
    model = unwrap(model)
    check_plain(model)
    return as_detector(model)


def nearest(name: str) -> list[str]:
    """Return the zoos' models whose names are most like a misspelt one, at most three: of the zoo that was meant, else of all."""
    zoo, _, kind = name.rpartition(":")
    meant = difflib.get_close_matches(zoo, ZOOS, 1)
    known = [(other, model) for other in meant or ZOOS for model in _names(other)]
    exact = [kind] if any(kind == model for _, model in known) else None
    close = exact or difflib.get_close_matches(kind, sorted({model for _, model in known}), 3, 0.6 if meant else 0.8)
    return [f"{other}:{model}" for wanted in close for other, model in known if model == wanted][:3]


def _names(zoo: str) -> list[str]:
    if zoo == "timm":
        import timm

        return timm.list_models()
    if zoo == "torchvision":
        from torchvision import models

        segmenters = models.list_models(module=models.segmentation)
        return [*models.list_models(module=models), *segmenters, *detector_zoo.torchvision_names()]
    if zoo == "unet":
        return ["basic"]
    if zoo == "detection":
        return list(detector_zoo.FAMILIES)
    return [*(f"resnet{6 * n + 2}" for n in range(1, 19)), *(f"densenet{3 * n + 4}" for n in range(4, 33, 4))]


def _unknown(zoo: str, kind: str, known: list[str]) -> str:
    near = difflib.get_close_matches(kind, known, 3)
    return f"{zoo} must have a model of that name, got {kind!r}" + (f"; did you mean {' or '.join(near)}?" if near else ".")


def own_preprocess(zoo: str, kind: str, model: nn.Module) -> tuple[Preprocess | None, int | None]:
    """Return what the zoo says its images must look like."""
    if isinstance(model, Detector):
        said = model.detector.transform
        side = said.fixed_size[0] if said.fixed_size else None
        return Preprocess(mean=tuple(said.image_mean), std=tuple(said.image_std)), side
    if zoo == "timm":
        from timm.data import resolve_model_data_config

        said = resolve_model_data_config(model)
        stats = Preprocess(
            mean=tuple(said["mean"]), std=tuple(said["std"]), crop_fraction=said["crop_pct"], interpolation=said["interpolation"]
        )
        return stats, said["input_size"][-1]
    if zoo == "torchvision":
        from torchvision import models

        said = models.get_model_weights(kind).DEFAULT.transforms()
        if not hasattr(said, "crop_size"):
            # Models of segmentation were trained on crops of whole pictures, and take any side.
            return Preprocess(mean=tuple(said.mean), std=tuple(said.std)), None
        side, stored = said.crop_size[0], said.resize_size[0]
        stats = Preprocess(
            mean=tuple(said.mean), std=tuple(said.std), crop_fraction=min(1.0, side / stored), interpolation=said.interpolation.value
        )
        return stats, side
    return None, None
