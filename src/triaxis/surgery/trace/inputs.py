"""What a model is called with where it takes more than one batch of pictures: a function of the user's own makes its arguments.

The function is given normalised pictures (B, C, S, S), at any batch and side, and returns a tuple of positional arguments or a
mapping of keyword arguments. It runs in front of the model, so that everything else in triaxis calls the model with pictures alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from triaxis.errors import ConfigError
from triaxis.plugins import import_named

Maker = Callable[[Tensor], Any]


class Arguments:
    """The hook that makes a model's arguments from one batch of pictures; a call with anything else passes unchanged."""

    def __init__(self, make: Maker, name: str) -> None:
        self.make, self.name = make, name

    def __call__(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if len(args) != 1 or kwargs or not isinstance(args[0], Tensor):
            return None
        shape = tuple(args[0].shape)
        try:
            made = self.make(args[0])
        except Exception as error:  # code of the user's own may raise anything
            reason = (str(error).strip() or "no reason given").splitlines()[0]
            raise ConfigError(
                f"example_input: {self.name} must make the model's arguments from pictures of shape {shape}, but it raised "
                f"{type(error).__name__}: {reason}."
            ) from error
        if isinstance(made, Mapping):
            return (), dict(made)
        if isinstance(made, tuple | list):
            return tuple(made), {}
        if isinstance(made, Tensor):
            return (made,), {}
        raise ConfigError(
            f"example_input: {self.name} must return a tuple of the model's arguments, or a mapping of them by name, "
            f"got {type(made).__name__}."
        )


class FromPictures(nn.Module):
    """Around a model with such a hook: what exporters need, who read the arguments off `forward`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Any:
        return self.model(images)


def called_with(model: nn.Module, maker: str | Maker | None) -> nn.Module:
    """Let a model be called with pictures alone, in place, and return it; without a maker nothing is changed.

    Args:
        model: Any network.
        maker: A function from pictures (B, C, S, S) to the model's arguments, or its name, ``package.module:function``.

    Raises:
        ConfigError: The function cannot be imported, or it is none.
    """
    if maker is None:
        return model
    name = maker if isinstance(maker, str) else getattr(maker, "__qualname__", repr(maker))
    made = import_named(maker, setting="example_input") if isinstance(maker, str) else maker
    if not callable(made):
        raise ConfigError(f"example_input must name a function from pictures to the model's arguments, got {name}: {made!r}.")
    for key, hook in list(model._forward_pre_hooks.items()):
        if isinstance(hook, Arguments):
            del model._forward_pre_hooks[key]
            model._forward_pre_hooks_with_kwargs.pop(key, None)
    model.register_forward_pre_hook(Arguments(made, name), with_kwargs=True)
    return model


def for_export(model: nn.Module) -> nn.Module:
    """Return a model whose `forward` takes pictures alone: the model itself, unless it takes more."""
    is_plain = not any(isinstance(hook, Arguments) for hook in model._forward_pre_hooks.values())
    return model if is_plain else FromPictures(model).train(model.training)
