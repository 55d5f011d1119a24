"""Weights without pickle: read from files or the zoos, checked, and put into a model."""

from __future__ import annotations

import logging
import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from triaxis.data.images import Preprocess
from triaxis.errors import ConfigError, UnsupportedModelError
from triaxis.models.detector import Detector
from triaxis.models.zoos import build, own_preprocess
from triaxis.store.checkpoints import put_state

log = logging.getLogger(__name__)


PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "backbone.", "detector.")
"""What DataParallel, torch.compile and Lightning modules put before the names of a state dict."""


@dataclass(frozen=True)
class Loaded:
    """A model ready to prune: `preprocess` and `side_px` are the model's own, or None; `is_trained` if its weights are complete."""

    model: nn.Module
    preprocess: Preprocess | None
    side_px: int | None
    is_trained: bool


def load_model(name: str, args: dict[str, Any], num_classes: int, weights: str | None = None) -> Loaded:
    """Return a model with its weights.

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
    # torchvision's own weights of a detector have its own names.
    inside = model.detector if isinstance(model, Detector) else model
    zoo, _, kind = name.partition(":")
    is_trained = False
    if weights == "pretrained":
        is_trained = put_weights(inside, _pretrained(zoo, kind, args), f"the pretrained weights of {name}")
    elif weights:
        is_trained = put_weights(inside, read_weights(Path(weights)), weights)
    preprocess, side_px = own_preprocess(zoo, kind, model)
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


def _pretrained(zoo: str, kind: str, args: dict[str, Any]) -> dict[str, Tensor]:
    try:
        if zoo == "timm":
            import timm

            return timm.create_model(kind, pretrained=True, **args).state_dict()
        if zoo == "torchvision":
            from torchvision import models

            if kind in models.list_models(module=models.detection):
                # Older files have other names, which the detectors put right themselves.
                return models.get_model(kind, weights="DEFAULT", **args).state_dict()
            return models.get_model_weights(kind).DEFAULT.get_state_dict(progress=False, check_hash=True)
    except Exception as error:  # noqa: BLE001 - the hubs raise whatever their HTTP clients raise
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"The pretrained weights of {zoo}:{kind} must be on this machine or downloadable, got: {reason}.") from None
    raise ConfigError(f"model.weights: pretrained is for timm and torchvision models, got {zoo}:{kind}: name a file.")
