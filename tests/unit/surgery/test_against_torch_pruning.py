"""A second implementation: torch-pruning's dependency graph finds the same coupled layers where it works."""

from __future__ import annotations

import pytest
import torch
import torch_pruning as tp
import torchvision
from torch import nn

from triaxis.models import cifar
from triaxis.surgery.find.channels import find_groups
from triaxis.surgery.trace.tracing import trace


def their_groups(model: nn.Module, example: torch.Tensor) -> set[frozenset[tuple[str, int]]]:
    """Return the (layer, dimension) pairs of each of torch-pruning's groups that leave the classifier whole."""
    graph = tp.DependencyGraph().build_dependency(model, example_inputs=example, verbose=False)
    names = {module: name for name, module in model.named_modules()}
    last = [m for m in model.modules() if isinstance(m, nn.Linear)][-1:]
    found = set()
    for group in graph.get_all_groups(ignored_layers=last, root_module_types=[nn.Conv2d, nn.Linear]):
        places = set()
        for dep, _ in group:
            module = dep.target.module
            if isinstance(module, nn.Conv2d | nn.Linear):
                is_depthwise = isinstance(module, nn.Conv2d) and module.groups == module.out_channels > 1
                places.add((names[module], 0 if is_depthwise or graph.is_out_channel_pruning_fn(dep.handler) else 1))
        found.add(frozenset(places))
    return found


@pytest.mark.parametrize(
    "make", [lambda: cifar.resnet(20), torchvision.models.resnet18, torchvision.models.mobilenet_v2, torchvision.models.squeezenet1_1]
)
def test_the_same_layers_are_coupled(make) -> None:
    model, example = make().eval(), torch.randn(1, 3, 64, 64)
    groups, _ = find_groups(model, trace(model, example))
    weights = {f"{n}.weight": n for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    ours = {frozenset((weights[m.tensor], m.dim) for m in g.members if m.tensor in weights) for g in groups}
    theirs = their_groups(model, example)
    assert ours <= theirs
    assert all("classifier" in str(group) for group in theirs - ours)
