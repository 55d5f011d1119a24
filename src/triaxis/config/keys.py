"""The key paths of the tree, each with the sentence that describes it, and what differs between two trees."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from triaxis.config.section import Section
from triaxis.config.tree import Config
from triaxis.values import Recipe

RECIPE_WORDS = {
    "epochs": "passes over the train split",
    "batch_size": "images in a step",
    "optimizer": "sgd (Nesterov) or adamw",
    "peak_lr": "highest learning rate of the one-cycle schedule",
    "momentum": "of sgd",
    "weight_decay": "not applied to biases and norm layers",
    "warmup": "share of the steps in which the learning rate rises",
    "label_smoothing": "share of the target spread over all classes",
    "distill": "share of the loss that is distillation from the base model, in [0, 1]",
    "temperature": "of the distillation",
    "average_last": "share of the steps, at the end, whose weights are averaged",
    "clip_norm": "largest norm of the gradient; 0 is off",
    "crop_px": "padding of the random crop",
    "flip": "mirror images at random",
    "randaugment": "OPERATIONS,MAGNITUDE of RandAugment, such as 2,9, magnitude up to 30; empty is off",
    "mixup": "alpha of mixup; 0 is off",
    "cutmix": "alpha of cutmix; 0 is off",
}


def walk_keys(section: type[Section] = Config, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield each key path of a section of the tree with the sentence that describes it; a section comes before its keys."""
    for name, field in section.model_fields.items():
        kind, path = field.annotation, f"{prefix}{name}"
        yield path, _described(field) or _first_line(kind)
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from walk_keys(kind, f"{path}.")
        elif kind is Recipe:
            yield from ((f"{path}.{key}", text) for key, text in RECIPE_WORDS.items())


def _described(field: FieldInfo) -> str:
    """The field's description, after its choices if it has some."""
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    return ": ".join(filter(None, (" | ".join(choices), field.description)))


def _first_line(kind: Any) -> str:
    return (kind.__doc__ or "").splitlines()[0].rstrip(".").replace("`", "")


def flatten(plain: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return plain nested data as one level of dotted keys; the free mapping `model.args` stays whole."""
    flat: dict[str, Any] = {}
    for key, item in plain.items():
        path = f"{prefix}{key}"
        if isinstance(item, dict) and path != "model.args":
            flat |= flatten(item, f"{path}.")
        else:
            flat[path] = item
    return flat


def config_diff(old: Config, new: Config) -> list[str]:
    """Return one line ``key: old -> new`` for each setting that differs, in the tree's order."""
    before, after = flatten(old.to_plain()), flatten(new.to_plain())
    return [f"{key}: {before[key]!r} -> {after[key]!r}" for key in before if before[key] != after[key]]
