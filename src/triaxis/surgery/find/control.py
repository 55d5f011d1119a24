"""What the user lets the surgeon touch: modules to protect, and modules to prune only."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from triaxis.errors import ConfigError
from triaxis.surgery.find.blocks import LAYERS, Block, inside
from triaxis.surgery.trace.tracing import ChannelTracer

PROTECTED, NOT_LISTED = "it is in the list of modules to protect", "it is not in the list of modules to prune"


@dataclass(frozen=True)
class Control:
    """Paths of modules that stay as they are, and of those that alone may lose channels or blocks (all, if there are none)."""

    protected: tuple[str, ...] = ()
    only: tuple[str, ...] = ()

    @classmethod
    def of(cls, model: nn.Module, protect: Sequence[str] | str, prune_only: Sequence[str] | str) -> Control:
        """Find the modules that the user's names and globs mean; ``blocks.*`` means all that is inside, too.

        Raises:
            ConfigError: A name or glob matches no module.
        """
        paths = [path for path, _ in model.named_modules() if path]
        return cls(_matched(paths, "protect", protect), _matched(paths, "prune_only", prune_only))

    def hold(self, model: nn.Module, tracer: ChannelTracer) -> None:
        """Pin the channels that must stay: all of a protected module's, and those that a module outside `only` makes."""
        modules = dict(model.named_modules())
        for (tensor, dim), labels in tracer.labelled.items():
            owner = tensor.rpartition(".")[0]
            if _within(owner, self.protected):
                tracer.atoms.pin(labels, f"{owner}: {PROTECTED}")
            elif self.only and not _within(owner, self.only) and _makes(modules.get(owner), dim):
                tracer.atoms.pin(labels, f"{owner}: {NOT_LISTED}")

    def held(self, blocks: Iterable[Block]) -> list[Block]:
        """Return the blocks, those that must stay marked so."""
        reasons = ((b, self._reason(b) if b.is_removable else "") for b in blocks)
        return [dataclasses.replace(b, is_removable=False, why=reason) if reason else b for b, reason in reasons]

    def _reason(self, block: Block) -> str:
        """Return why a block that could go must stay, or nothing."""
        for path in block.modules:
            if _within(path, self.protected):
                return PROTECTED
            if held := [p for p in self.protected if inside(p, path)]:
                return f"{held[0]} in it is in the list of modules to protect"
        return NOT_LISTED if self.only and not all(_within(path, self.only) for path in block.modules) else ""


def _makes(module: nn.Module | None, dim: int) -> bool:
    """Say whether a dimension of a module's tensors is that of the channels it makes."""
    if isinstance(module, LAYERS):
        return dim == (1 if getattr(module, "transposed", False) else 0)
    return isinstance(module, nn.MultiheadAttention) and dim == 0


def _within(path: str, outer: Iterable[str]) -> bool:
    return any(path == o or inside(path, o) for o in outer)


def listed(key: str, given: Sequence[str] | str) -> tuple[str, ...]:
    """Return the names that were given, one or several.

    Raises:
        ConfigError: They are no names; `key` says what was set.
    """
    names = (given,) if isinstance(given, str) else tuple(given)
    if not all(isinstance(name, str) and name for name in names):
        raise ConfigError(f"{key} must be a list of paths of modules, or of globs such as 'blocks.*', got {given!r}.")
    return names


def _matched(paths: Sequence[str], key: str, patterns: Sequence[str] | str) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for pattern in listed(key, patterns):
        hits = [path for path in paths if fnmatchcase(path, pattern)]
        if not hits:
            near = difflib.get_close_matches(pattern, paths, 3, cutoff=0.4) or list(paths[:3])
            raise ConfigError(f"{key} must name modules of the model, but {pattern!r} matches none; the nearest are {', '.join(near)}.")
        found |= dict.fromkeys(hits)
    return tuple(found)
