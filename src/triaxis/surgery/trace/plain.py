"""What a network handed over must be before anything is done with it: plain weights that can be copied, cut and trained."""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from triaxis.errors import UnsupportedModelError

log = logging.getLogger(__name__)

RECOMPUTED = {"WeightNorm": "torch.nn.utils.remove_weight_norm", "SpectralNorm": "torch.nn.utils.remove_spectral_norm"}
"""Hooks that write a module's weight anew at each pass, and what takes them off."""


def check_plain(model: nn.Module) -> None:
    """Check that every weight is an ordinary tensor with numbers in it; nothing is run.

    Raises:
        UnsupportedModelError: The model is TorchScript, quantised, sparse, lazy or without data, or it computes a weight anew at each
            pass; names the module.
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise UnsupportedModelError("The model must be an ordinary nn.Module, got TorchScript: pass the model that it was made from.")
    for path, module in model.named_modules():
        if type(module).__module__.startswith(("torch.ao.nn.", "torch.nn.quantized")) and "quantized" in type(module).__module__:
            raise UnsupportedModelError(
                f"The model must have floating-point weights, but {path or 'the model'} is quantised ({type(module).__name__}): "
                "pass the model as it was before quantisation, and quantise the compressed one."
            )
        if is_parametrized(module):
            raise UnsupportedModelError(
                f"The model must have plain weights, but {path or 'the model'} computes some anew at each pass (a parametrization): "
                "call torch.nn.utils.parametrize.remove_parametrizations on it first."
            )
        for hook in module._forward_pre_hooks.values():
            if (kind := type(hook).__name__) in RECOMPUTED and type(hook).__module__.startswith("torch.nn.utils."):
                raise UnsupportedModelError(
                    f"The model must have plain weights, but {path or 'the model'} computes its weight anew at each pass ({kind}): "
                    f"call {RECOMPUTED[kind]} on it first."
                )
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        _check_tensor(name, tensor)


def _check_tensor(name: str, tensor: Tensor) -> None:
    if nn.parameter.is_lazy(tensor):
        raise UnsupportedModelError(
            f"All weights must have their shapes, but {name} has none yet (a lazy module): run the model once on an image, and train it."
        )
    if tensor.is_meta:
        raise UnsupportedModelError(
            f"All weights must hold numbers, but {name} is on the meta device, which keeps shapes alone: load the model's weights first."
        )
    if tensor.is_quantized or tensor.layout != torch.strided or is_traceable_wrapper_subclass(tensor):
        raise UnsupportedModelError(
            f"All weights must be ordinary dense tensors, but {name} is {_kind(tensor)}: "
            "pass the model as it was before it was quantised, made sparse or spread over devices."
        )


def _kind(tensor: Tensor) -> str:
    if tensor.is_quantized:
        return "quantised"
    return str(tensor.layout) if tensor.layout != torch.strided else f"a {type(tensor).__name__}"


def trainable(model: nn.Module) -> nn.Module:
    """Bring floating-point weights to float32, in place; frozen ones stay frozen. Warns where a type is changed, and if all are frozen.

    A network that is frozen as a whole was made ready to be used, not to be trained: then all of its weights are trained.
    """
    other = {str(t.dtype) for t in model.state_dict().values() if t.is_floating_point() and t.dtype != torch.float32}
    if other:
        log.warning("the model's weights are %s: it is cut, trained and delivered in float32", ", ".join(sorted(other)))
        model.float()
    weights = [p for p in model.parameters() if p.is_floating_point()]
    if weights and not any(p.requires_grad for p in weights):
        log.warning("all weights of the model are frozen (requires_grad is False): all are trained; leave free those that alone may change")
        for parameter in weights:
            parameter.requires_grad_(True)
    return model
