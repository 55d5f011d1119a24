"""Models by name: the CIFAR families, torchvision, timm, or the user's own factory; weights without pickle."""

from __future__ import annotations

import difflib
import inspect
import logging
import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from triaxis.data.images import Preprocess
from triaxis.errors import ConfigError, TriaxisError, UnsupportedModelError
from triaxis.models import cifar
from triaxis.models.arguments import check_args
from triaxis.plugins import import_named
from triaxis.store.checkpoints import put_state
from triaxis.surgery.plain import check_plain
from triaxis.values import Value

log = logging.getLogger(__name__)

PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "backbone.")
"""What DataParallel, torch.compile and Lightning modules put before the names of a state dict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource(Value):
    """How to make the base model again; saved in ``plan.json``. ``name`` is empty for a model handed over in code."""

    name: str
    args: dict[str, Any] = field(default_factory=dict)
    num_classes: int = 10
    side_px: int = 32
    in_channels: int = 3


@dataclass(frozen=True)
class Loaded:
    """A model ready to prune: `preprocess` and `side_px` are the model's own, or None; `is_trained` if its weights are complete."""

    model: nn.Module
    preprocess: Preprocess | None
    side_px: int | None
    is_trained: bool


def build(name: str, args: dict[str, Any], num_classes: int) -> nn.Module:
    """Return an untrained model for `num_classes` classes.

    Args:
        name: ``cifar:resnet20``, ``torchvision:NAME``, ``timm:NAME`` or ``package.module:function``.
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
        return ZOOS[zoo](kind, args, num_classes)
    except TriaxisError:
        raise
    except Exception as error:  # noqa: BLE001 - the zoos check few of their arguments, and fail on the others as they may
        reason = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
        raise ConfigError(f"model.args must fit {name}, got {args}: {reason}.") from None


def load_model(name: str, args: dict[str, Any], num_classes: int, weights: str | None = None) -> Loaded:
    """Return a model with its weights, all parameters trainable.

    Args:
        name: See `build`.
        args: See `build`.
        num_classes: Outputs of the classifier; a classifier of another number in `weights` is replaced by an untrained one.
        weights: None, ``pretrained`` (timm's or torchvision's own), or a safetensors or weights-only checkpoint file.

    Raises:
        ConfigError: No such model or file.
        UnsupportedModelError: The weights do not fit, or hold NaN.
    """
    model = build(name, args, num_classes)
    zoo, _, kind = name.partition(":")
    is_trained = False
    if weights == "pretrained":
        is_trained = put_weights(model, _pretrained(zoo, kind, args), f"the pretrained weights of {name}")
    elif weights:
        is_trained = put_weights(model, read_weights(Path(weights)), weights)
    preprocess, side_px = _own_preprocess(zoo, kind, model)
    return Loaded(model, preprocess, side_px, is_trained)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the state dict in a safetensors file or a checkpoint that holds tensors and plain data only.

    Raises:
        ConfigError: There is no such file, or it cannot be read without running code from it.
    """
    if not path.is_file():
        raise ConfigError(f"model.weights must be 'pretrained' or an existing file, got {str(path)!r}.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - on a text file the reader of pickles fails as its letters happen to say
        known = isinstance(error, pickle.UnpicklingError | RuntimeError | OSError | safetensors.SafetensorError)
        reason = (str(error).partition("\n")[0] if known else "") or "it is no file of weights"
        raise ConfigError(
            f"{path} must be a safetensors file or a checkpoint of tensors alone, got: {reason}. "
            "Save it again with safetensors.torch.save_file(model.state_dict(), ...)."
        ) from None
    for key in ("state_dict", "model_state_dict", "model", "state_dict_ema"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
            break
    tensors = {k: v for k, v in loaded.items() if isinstance(k, str) and isinstance(v, Tensor)} if isinstance(loaded, dict) else {}
    if not tensors:
        raise ConfigError(f"{path} must hold a state dict (names to tensors), got {type(loaded).__name__}.")
    return tensors


def put_weights(model: nn.Module, state: dict[str, Tensor], origin: str) -> bool:
    """Load a state dict into `model` and return whether the classifier came with it.

    Raises:
        UnsupportedModelError: Names or shapes do not fit, or a tensor holds NaN.
    """
    own = model.state_dict()
    state = _without_prefix(state, set(own))
    wrong_shape = [k for k in own if k in state and own[k].shape != state[k].shape]
    classifier = [k for k in wrong_shape if own[k].shape[1:] == state[k].shape[1:] and own[k].shape[0] != state[k].shape[0]]
    state = {k: v for k, v in state.items() if k not in classifier}
    missing = [k for k in own if k not in state and k not in classifier and not k.endswith("num_batches_tracked")]
    extra = [k for k in state if k not in own]
    fatal = [k for k in wrong_shape if k not in classifier]
    is_last = all(_is_last(key, own) for key in classifier)
    if missing or fatal or not is_last:
        shapes = [f"{k} {tuple(state[k].shape)} instead of {tuple(own[k].shape)}" for k in fatal]
        raise UnsupportedModelError(
            f"{origin} must fit the model: {len(missing)} tensors are missing ({', '.join(missing[:3])}), "
            f"{len(fatal) + (0 if is_last else len(classifier))} have another shape ({', '.join((shapes or classifier)[:3])}), "
            f"{len(extra)} are unknown ({', '.join(extra[:3])}). Check model.name and model.args."
        )
    if extra:
        log.warning("%s holds %d tensors that the model does not have: %s", origin, len(extra), ", ".join(extra[:5]))
    put_state(model, {**own, **{k: v for k, v in state.items() if k in own}}, origin)
    check_finite(model, origin)
    if classifier:
        log.warning("%s has a classifier for another number of classes: %s starts untrained", origin, ", ".join(classifier))
    return not classifier


def check_finite(model: nn.Module, origin: str) -> None:
    """Check that no weight is NaN or infinite.

    Raises:
        UnsupportedModelError: One is; names the tensor.
    """
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise UnsupportedModelError(
                f"All weights must be finite, got NaN or infinity in {name} of {origin}: train or load the model again."
            )


def unwrap(model: nn.Module) -> nn.Module:
    """Return the network inside DataParallel, DistributedDataParallel and torch.compile wrappers."""
    from accelerate.utils import extract_model_from_parallel

    return extract_model_from_parallel(model, keep_fp32_wrapper=False, keep_torch_compile=False)


def _is_last(key: str, own: dict[str, Tensor]) -> bool:
    """Whether a tensor belongs to the last layer with weights, or to an auxiliary classifier."""
    layers = [k.rpartition(".")[0] for k in own if own[k].dim() >= 2]
    layer = key.rpartition(".")[0]
    return layer == layers[-1] or bool(re.search(r"aux|head|classifier|fc", layer, re.IGNORECASE))


def _without_prefix(state: dict[str, Tensor], own: set[str]) -> dict[str, Tensor]:
    """Strip wrappers' prefixes for as long as that makes more names match."""
    matched = len(own & set(state))
    for _ in range(3):
        stripped = {p: {k.removeprefix(p): v for k, v in state.items()} for p in PREFIXES}
        best = max(PREFIXES, key=lambda p: len(own & set(stripped[p])))
        if all(k.startswith(best) for k in state) or len(own & set(stripped[best])) > matched:
            state, matched = stripped[best], len(own & set(stripped[best]))
    return state


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

    if kind not in models.list_models(module=models):
        raise ConfigError(_unknown("torchvision", kind, _names("torchvision")))
    # The auxiliary classifiers of GoogLeNet and Inception only serve training from scratch.
    extra = {"aux_logits": False, "init_weights": True} if kind in ("googlenet", "inception_v3") else {}
    return models.get_model(kind, weights=None, num_classes=num_classes, **extra, **args)


def _timm(kind: str, args: dict[str, Any], num_classes: int) -> nn.Module:
    import timm

    # Colons and slashes would name a model of a hub or of a folder, with weights of its own.
    if not re.fullmatch(r"[\w.-]+", kind) or not timm.is_model(kind.split(".")[0]):
        raise ConfigError(_unknown("timm", kind, _names("timm")))
    return timm.create_model(kind, pretrained=False, num_classes=num_classes, **args)


ZOOS: dict[str, Callable[[str, dict[str, Any], int], nn.Module]] = {"cifar": _cifar, "torchvision": _torchvision, "timm": _timm}


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
    return model


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

        return models.list_models(module=models)
    return [*(f"resnet{6 * n + 2}" for n in range(1, 19)), *(f"densenet{3 * n + 4}" for n in range(4, 33, 4))]


def _unknown(zoo: str, kind: str, known: list[str]) -> str:
    near = difflib.get_close_matches(kind, known, 3)
    return f"{zoo} must have a model of that name, got {kind!r}" + (f"; did you mean {' or '.join(near)}?" if near else ".")


def _pretrained(zoo: str, kind: str, args: dict[str, Any]) -> dict[str, Tensor]:
    try:
        if zoo == "timm":
            import timm

            return timm.create_model(kind, pretrained=True, **args).state_dict()
        if zoo == "torchvision":
            from torchvision import models

            return models.get_model_weights(kind).DEFAULT.get_state_dict(progress=False, check_hash=True)
    except Exception as error:  # noqa: BLE001 - the hubs raise whatever their HTTP clients raise
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"The pretrained weights of {zoo}:{kind} must be on this machine or downloadable, got: {reason}.") from None
    raise ConfigError(f"model.weights: pretrained is for timm and torchvision models, got {zoo}:{kind}: name a file.")


def _own_preprocess(zoo: str, kind: str, model: nn.Module) -> tuple[Preprocess | None, int | None]:
    """Return what the zoo says its images must look like."""
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
        side, stored = said.crop_size[0], said.resize_size[0]
        stats = Preprocess(
            mean=tuple(said.mean), std=tuple(said.std), crop_fraction=min(1.0, side / stored), interpolation=said.interpolation.value
        )
        return stats, side
    return None, None
