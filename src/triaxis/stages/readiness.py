"""What hours of work rest on, looked at before the first of them: packages, a network that trains, formats that can be written."""

from __future__ import annotations

import copy
import logging

import torch
from torch import Tensor, nn

from triaxis.config import Config, ExportConfig
from triaxis.config.tree import Format
from triaxis.deliver.bundle import refusal
from triaxis.errors import ExportError, TriaxisError, UnsupportedModelError
from triaxis.execution import make_executor
from triaxis.metrics.make import make_metric
from triaxis.metrics.runtimes import make_runtime
from triaxis.metrics.runtimes.onnx import require_onnx
from triaxis.store.base import Store
from triaxis.surgery.cut.sides import first_line
from triaxis.surgery.trace.plain import trainable
from triaxis.tasks import Task, mapped, tensors_in
from triaxis.tasks.matching import require_pycocotools
from triaxis.values import Recipe

log = logging.getLogger(__name__)


def require_packages(config: Config, device: torch.device) -> None:
    """Check that what the configuration asks for beyond the base installation is there.

    Raises:
        MissingDependencyError: It is not; names the setting and the extra.
        ConfigError: There is no such metric or runtime.
    """
    if config.collect.executor != "serial":
        make_executor(config.collect.executor, config.collect.workers)
    make_runtime(config.profile.runtime, device, commands=config.profile.commands)
    for budget in config.budgets:
        make_metric(
            budget.metric,
            batch=config.profile.latency_batch,
            runtime=config.profile.runtime,
            device=device,
            own=config.metrics,
            commands=config.profile.commands,
        )
    if config.task == "detection":
        require_pycocotools()
    if {"onnx", "onnx-int8"} & set(config.export.formats):
        require_onnx()


def require_trainable(network: nn.Module, task: Task, targets: Tensor, shape: tuple[int, int, int, int], num_outputs: int) -> None:
    """Take one training step's way forward and back on a copy: in training mode a network may do other things.

    Args:
        network: On the CPU; it is not changed, and no random number is used up.
        task: What it is to be trained for.
        targets: (B, ...) of as many images, for the loss.
        shape: (B, C, S, S) of a small batch.
        num_outputs: Such as logits for each image.

    Raises:
        UnsupportedModelError: The network fails in training mode, does not return what the task wants, or no weight gets a gradient.
    """
    if not any(True for _ in network.parameters()):
        raise UnsupportedModelError("The model must have weights to cut and to train, but it has no parameters: check what was passed.")
    trial = trainable(copy.deepcopy(network)).train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            output = task.forward(trial, torch.randn(shape), targets)
        except Exception as error:
            raise UnsupportedModelError(
                f"The model must also run in training mode on images of shape {shape}, but there it raised {type(error).__name__}: "
                f"{first_line(error)}."
            ) from error
    if isinstance(output, tuple | list):
        raise UnsupportedModelError(
            "The model must return its output alone in training mode too, or as the first of a tuple, or called logits or out, "
            f"got {type(output).__name__}: leave the outputs of auxiliary classifiers out."
        )
    task.check_output(output, shape[0], num_outputs)
    if not any(part.requires_grad for part in tensors_in(output)):
        raise UnsupportedModelError(
            "The model's outputs must depend on its weights by operations that keep gradients, but they have none: "
            "take torch.no_grad() and detach() out of its forward."
        )
    try:
        task.loss(mapped(output, Tensor.float), targets, Recipe()).backward()
    except Exception as error:
        raise UnsupportedModelError(
            f"The model must allow a step of training, but the way back raised {type(error).__name__}: {first_line(error)}."
        ) from error


def formats_to_write(config: Config, store: Store, network: nn.Module, input_shape: tuple[int, int, int]) -> tuple[Format, ...]:
    """Return the formats that will be written, after trying each once on the uncut model.

    A run that keeps the default formats goes on without one that torch refuses, and warns; one that the user chose is an
    error now, not after the training. A configuration that writes the defaults out, as ``triaxis init`` does, chose nothing.

    Raises:
        ExportError: A format that was chosen cannot be written; names it.
    """
    wanted = config.export.formats
    tried: list[str] = store.record("formats_that_work") or ["safetensors"]
    refused = {form: refusal(network, input_shape, form) for form in wanted if form not in tried}
    for form, reason in refused.items():
        if not reason:
            tried.append(form)
        elif wanted != ExportConfig().formats:
            raise ExportError(
                f"export.formats asks for {form}, but the model is refused: {reason}: "
                f"leave {form} out; safetensors, which triaxis.load reads, is always written."
            )
        else:
            log.warning("model.%s will not be written: the model is refused: %s", form, reason)
    if refused:
        store.put_record("formats_that_work", tried)
    return tuple(form for form in wanted if not refused.get(form))


def require_runtime(config: Config, store: Store, network: nn.Module, input_shape: tuple[int, int, int], device: torch.device) -> None:
    """Run the uncut model once in every runtime that latency will be measured in, where that is not PyTorch as it is.

    Raises:
        UnsupportedModelError: A runtime refuses the model.
        DeviceError: A device does not answer.
    """
    tried: list[str] = store.record("runtimes_that_work") or ["eager"]
    wanted = [config.profile.runtime, *(budget.metric.partition("@")[2] for budget in config.budgets)]
    for name in dict.fromkeys(name for name in wanted if name and name not in tried):
        try:
            make_runtime(name, device, commands=config.profile.commands).prepare(network, input_shape, 1)()
        except TriaxisError:
            raise
        except Exception as error:
            setting = f"profile.runtime: {name}" if name == config.profile.runtime else f"The runtime {name}"
            raise UnsupportedModelError(
                f"{setting} must run the model, but it refuses it: {first_line(error)}: set profile.runtime: eager."
            ) from error
        tried.append(name)
        store.put_record("runtimes_that_work", tried)
