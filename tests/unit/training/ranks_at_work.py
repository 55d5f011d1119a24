"""What each process does in test_ranks: every case, one after the other, so that processes start once for all of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from triaxis.data.images import Preprocess, ResidentImages, StreamedImages
from triaxis.process.interrupt import Stop
from triaxis.process.ranks import Ranks, joined
from triaxis.training import meeting
from triaxis.training.calibrate import calibrate
from triaxis.training.evaluate import evaluate, loss_gradients, loss_with_batch_statistics
from triaxis.training.loop import finetune
from triaxis.training.machine import Machine
from triaxis.training.mode import Mode
from triaxis.training.teacher import Teacher
from triaxis.values import Recipe

CPU, SIDE_PX, NUM_IMAGES = torch.device("cpu"), 8, 16 * 10 + 5
PLAIN = {"epochs": 2, "batch_size": 16, "crop_px": 1, "peak_lr": 0.05}
RECIPES = {
    "plain": Recipe(**PLAIN),
    "uneven": Recipe(**{**PLAIN, "batch_size": 15}, average_last=0.5),
    "mixed": Recipe(**PLAIN, mixup=0.4, cutmix=0.5, optimizer="adamw"),
    "distilled": Recipe(**PLAIN, distill=0.7),
    "randaugment": Recipe(**PLAIN, randaugment="2,9"),
}


class Small(nn.Module):
    """Fits `most` images at a time into memory, on one rank only."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.seen: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            if len(x) > self.most:
                raise torch.OutOfMemoryError("out of memory")
            self.seen.append(len(x))
        return x


def network(seed: int = 0, *, norm: bool = False, most: int = 99, dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(seed)
    body: list[nn.Module] = [Small(most), nn.Conv2d(3, 8, 3, padding=1), *([nn.BatchNorm2d(8)] if norm else []), nn.ReLU()]
    return nn.Sequential(*body, nn.Dropout(dropout), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))


class Pixels:
    """Pictures that a streamed split decodes one by one."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        self.images, self.labels, self.num_readable = images, labels, len(images)

    def __len__(self) -> int:
        return len(self.images)

    def identity(self) -> int:
        return len(self.images)

    def picture(self, index: int, side_px: int, offset: tuple[float, float], flip: bool) -> torch.Tensor:
        if index >= self.num_readable:
            raise OSError(f"image {index} cannot be read")
        picture = self.images[index].roll(int(4 * offset[0]), 1)
        return picture.flip(2) if flip else picture


def images(count: int = NUM_IMAGES, *, streamed: bool = False) -> Any:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 2
    pixels = (torch.randint(0, 120, (count, 3, SIDE_PX, SIDE_PX), generator=generator) + 100 * labels.view(-1, 1, 1, 1)).to(torch.uint8)
    if streamed:
        return StreamedImages(Pixels(pixels, labels), 2, Preprocess(), SIDE_PX, num_workers=0)
    return ResidentImages(pixels, labels, 2, Preprocess())


class Foreign:
    """A split of the user's own, which knows nothing of ranks."""

    def __init__(self) -> None:
        self._own = images()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    def __len__(self) -> int:
        return len(self._own)


def train(model: nn.Module, recipe: Recipe, ranks: Ranks, data: Any = None, **more: Any) -> Any:
    teacher = Teacher(network(1), SIDE_PX, CPU, Mode()) if recipe.distill else None
    given = {"side_px": SIDE_PX, "seed": 7, "device": CPU, "mode": Mode(), "teacher": teacher, "ranks": ranks, **more}
    return finetune(model, images() if data is None else data, recipe, **given)


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def trained(name: str, ranks: Ranks, data: Any = None, **more: Any) -> dict[str, Any]:
    model = network()
    done = train(model, RECIPES[name], ranks, data, **more)
    return {"weights": weights(model), "losses": list(done.losses)}


def looked_at(ranks: Ranks) -> dict[str, Any]:
    """Everything that looks at a network without training it, on 700 images, which are three batches, the last of them short."""
    model, many = network(norm=True), images(700)
    found = evaluate(model, many, SIDE_PX, CPU, ranks=ranks)
    gradients = loss_gradients(model, many, SIDE_PX, CPU, num_images=700, ranks=ranks)
    calibrate(model, many, SIDE_PX, CPU, recipe=Recipe(), num_images=600, ranks=ranks)
    # Of the running statistics, which change as it looks, each rank has its own.
    loss = loss_with_batch_statistics(network(norm=True), many, SIDE_PX, CPU, num_images=700, ranks=ranks)
    return {
        "score": [found.value, list(found.interval), found.loss, found.numbers],
        "loss": loss,
        "gradients": gradients,
        "statistics": weights(model),
    }


def resumed(ranks: Ranks, folder: Path, *, cut_off: bool) -> dict[str, Any]:
    """A training with dropout, stopped in the middle of an epoch by a signal that reaches the last rank only, and gone on with."""
    path = folder / f"of-{ranks.size}.resume"
    recipe = Recipe(**PLAIN, mixup=0.4)
    if cut_off:
        asked = 0

        def requested() -> bool:
            nonlocal asked
            asked += 1
            return ranks.rank == ranks.size - 1 and asked >= 14

        real, meeting.requested = meeting.requested, requested
        try:
            train(network(dropout=0.5), recipe, ranks, resume_path=path)
            raise AssertionError("it must stop")
        except Stop:
            pass
        finally:
            meeting.requested = real
        ranks.agree("written")
        assert path.exists()
        torch.manual_seed(99)
    model = network(dropout=0.5, seed=5 if cut_off else 0)
    steps: list[int] = []
    train(model, recipe, ranks, resume_path=path, on_step=lambda step, *more: steps.append(step))
    return {"weights": weights(model), "steps": len(steps)}


def out_of_memory(ranks: Ranks) -> dict[str, Any]:
    """A batch that is too large for one rank's memory: all halve it."""
    model, machine = network(most=4 if ranks.rank == max(0, ranks.size - 2) else 99), Machine()
    train(model, RECIPES["plain"], ranks, machine=machine)
    return {"weights": weights(model), "parts": ranks.gather(machine.batch_parts)}


def failed(ranks: Ranks) -> dict[str, Any]:
    """A rank whose loss becomes NaN, and another whose picture cannot be read: all raise that, and all can go on afterwards."""
    said = []
    for harm in (nan, unreadable):
        try:
            with ranks.together("training"):
                harm(ranks)
        except Exception as error:  # noqa: BLE001  (on the rank itself it is the error that was raised there)
            said.append(str(error))
    return {"said": said, "after": ranks.gather(ranks.agree("after", ranks.rank)[-1][0])}


def nan(ranks: Ranks) -> None:
    model = network()
    if ranks.rank == ranks.size - 1:
        with torch.no_grad():
            model[1].weight.fill_(torch.nan)
    train(model, RECIPES["plain"], ranks)


def unreadable(ranks: Ranks) -> None:
    data = images(streamed=True)
    if ranks.rank == ranks.size - 1:
        data.dataset.num_readable = 40
    train(network(), RECIPES["plain"], ranks, data)


def everything(ranks: Ranks, folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {name: trained(name, ranks) for name in RECIPES}
    found["streamed"] = trained("plain", ranks, images(streamed=True))
    found["foreign"] = trained("plain", ranks, Foreign())
    norm = network(norm=True)
    train(norm, RECIPES["uneven"], ranks, machine=Machine(batch_parts=int(folder.name) if ranks.is_alone else 1))
    found["norm"] = {"weights": weights(norm)}
    found["looked at"] = looked_at(ranks)
    found["whole"], found["resumed"] = (resumed(ranks, folder, cut_off=cut_off) for cut_off in (False, True))
    found["out of memory"] = out_of_memory(ranks)
    if not ranks.is_alone:
        found["failed"] = failed(ranks)
    return found


if __name__ == "__main__":
    os.environ.update(VARIABLES)  # noqa: F821  (given by launched.forked)
    torch.set_num_threads(1)
    place = Path(FOLDER)  # noqa: F821
    with joined() as own:
        result = everything(own, place)
        torch.save(result, place / f"{own.rank}.pt")
        own.agree("end")
