"""The commands on models and their files."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from triaxis.cli import show
from triaxis.cli.frame import err, out, print_json

ProtectOption = Annotated[
    list[str] | None, typer.Option("--protect", metavar="MODULE", help="Cut nothing of this module, a path or glob; may be repeated.")
]
PruneOnlyOption = Annotated[
    list[str] | None, typer.Option("--prune-only", metavar="MODULE", help="Cut only this module, a path or glob; may be repeated.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for another program.")]


def init(
    model: Annotated[str, typer.Option("--model", "-m", help="Such as timm:resnet18.")] = "cifar:resnet20",
    data: Annotated[str, typer.Option("--data", "-d", help="Such as imagefolder:PATH.")] = "digits",
    weights: Annotated[str | None, typer.Option("--weights", "-w", help="'pretrained' or a checkpoint file; else it is trained.")] = None,
    budget: Annotated[str, typer.Option("--budget", "-b", help="Such as macs=50%.")] = "macs=50%",
    protect: ProtectOption = None,
    prune_only: PruneOnlyOption = None,
    file: Annotated[Path, typer.Option("--file", "-f", help="Where to write.")] = Path("triaxis.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
) -> None:
    """Write a complete, commented configuration to start from, after a look at the data.

    Example: `triaxis init --model timm:resnet18 --weights trained.pth --data imagefolder:photos`
    """
    from triaxis.cli.start import starting_config
    from triaxis.errors import ConfigError
    from triaxis.store.files import write_text

    if file.exists() and not force:
        raise ConfigError(f"{file} must not exist yet: choose another with --file, or replace it with --force.")
    write_text(file, starting_config(model, data, budget, weights, protect or (), prune_only or ()))
    out.print(escape(f"wrote {file}; go on with: triaxis run {shlex.quote(str(file))}"), soft_wrap=True)


def inspect(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Such as timm:resnet18, or a configuration file.", show_default=False)],
    input_px: Annotated[int | None, typer.Option("--input", min=4, help="Side in pixels; the model's own.")] = None,
    channels: Annotated[int | None, typer.Option("--channels", min=1, help="Channels of the pictures; 3.")] = None,
    classes: Annotated[int | None, typer.Option("--classes", min=2, help="Number of classes; the configuration's, or 10.")] = None,
    keep: Annotated[str | None, typer.Option("--keep", metavar="depth=0.7,...", help="Show the plan of this cut.")] = None,
    save: Annotated[Path | None, typer.Option("--save", metavar="DIR", help="Write the cut model there.")] = None,
    weights: Annotated[str | None, typer.Option("--weights", help="'pretrained' or a checkpoint file.")] = None,
    protect: ProtectOption = None,
    prune_only: PruneOnlyOption = None,
    example_input: Annotated[
        str | None, typer.Option("--example-input", metavar="MODULE:FUNCTION", help="Makes a model's arguments of a batch of pictures.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what can be cut: axes, blocks, channel groups, sides, costs, and what stops an axis. Needs no training.

    Examples: `triaxis inspect timm:resnet18 --input 224 --keep depth=0.7,width=0.7,resolution=0.75`, `triaxis inspect triaxis.yaml`
    """
    from triaxis.cli.inspection import parse_keep, print_inspection, what_is_named

    ratios = parse_keep(keep)
    named = what_is_named(
        model,
        side_px=input_px,
        in_channels=channels,
        num_classes=classes,
        weights=weights,
        protect=protect,
        prune_only=prune_only,
        example_input=example_input,
    )
    from triaxis.deliver.inspect import inspect_model

    found = inspect_model(**named, keep=ratios, save=save)
    print_json(found) if as_json else print_inspection(found)


def export(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="Run directory.", show_default=False)],
    format_: Annotated[str, typer.Option("--format", "-f", help="safetensors, pt2, onnx or onnx-int8.")] = "onnx",
    with_preprocessing: Annotated[bool, typer.Option("--with-preprocessing", help="Fold the input's normalisation in.")] = False,
) -> None:
    """Write the compressed model in another format, checked against the live one.

    Example: `triaxis export runs/demo --format onnx`
    """
    if format_ == "onnx-int8":
        path = _quantised(run_dir, with_preprocessing)
    else:
        from triaxis.deliver.bundle import export_run

        path = export_run(run_dir, format_, with_preprocessing=with_preprocessing)
    out.print(f"wrote {escape(str(path))}", soft_wrap=True)


def _quantised(run_dir: Path, with_preprocessing: bool) -> Path:
    """Write the INT8 file and print its numbers beside those of fp32."""
    from triaxis.errors import ConfigError
    from triaxis.stages.quantise import quantise_run
    from triaxis.store.directory import RunDirectory
    from triaxis.store.files import read_json

    if with_preprocessing:
        raise ConfigError("onnx-int8 takes normalised images: leave --with-preprocessing out, or take the format onnx.")
    path = quantise_run(run_dir)
    summary_file = RunDirectory(run_dir).summary_file
    if summary_file.exists():
        out.print(show.int8_table(read_json(summary_file)))
    return path


def predict(
    model_dir: Annotated[Path, typer.Argument(metavar="RUN/compressed", help="Compressed model.", show_default=False)],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files.", show_default=False)],
    top: Annotated[int, typer.Option("--top", min=1, help="Classes or boxes to print for each image.")] = 5,
    allow_code: Annotated[
        bool, typer.Option("--allow-code", help="Run the function that makes the base model; for folders you trust.")
    ] = False,
    out_dir: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Segmentation: where masks are written.")] = Path("masks"),
    as_json: JsonOption = False,
) -> None:
    """Try the result by hand: the most probable classes of some images, the boxes that a detector finds, or masks as PNG files.

    Examples: `triaxis predict runs/demo/compressed cat.jpg`, `triaxis predict runs/streets/compressed *.jpg --out masks`
    """
    from triaxis.deliver.plan_file import read_description
    from triaxis.deliver.predict import predict_files

    task = read_description(model_dir).get("task")
    if task == "segmentation":
        _predict_masks(model_dir, images, out_dir, allow_code, as_json)
        return
    if task == "detection":
        _predict_boxes(model_dir, images, top, allow_code, as_json)
        return
    found = predict_files(model_dir, images, top=top, allow_code=allow_code)
    if as_json:
        print_json(found)
        return
    for image, classes in found.items():
        show.rows((image, "probability"), [(name, show.percent(probability)) for name, probability in classes])


def _predict_boxes(model_dir: Path, images: list[Path], top: int, allow_code: bool, as_json: bool) -> None:
    from triaxis.deliver.boxes import find_boxes

    found = find_boxes(model_dir, images, top=top, allow_code=allow_code)
    if as_json:
        print_json({image: [box._asdict() for box in boxes] for image, boxes in found.items()})
        return
    for image, boxes in found.items():
        rows = [(box.name, show.percent(box.score), " ".join(f"{number:.0f}" for number in box.box)) for box in boxes]
        show.rows((image, "score", "x1 y1 x2 y2"), rows)


def _predict_masks(model_dir: Path, images: list[Path], out_dir: Path, allow_code: bool, as_json: bool) -> None:
    """Write masks, and print which classes are in each."""
    from triaxis.deliver.masks import predict_masks

    found = predict_masks(model_dir, images, out_dir, allow_code=allow_code)
    if as_json:
        print_json(found)
        return
    for written in found.values():
        show.rows((written["mask"], "of the pixels"), [(name, show.percent(share)) for name, share in written["classes"]])


def bench(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="Run directory.", show_default=False)],
    batch: Annotated[list[int] | None, typer.Option("--batch", min=1, help="Batch size; may be repeated; 1, 8 and 64.")] = None,
    runtime: Annotated[
        list[str] | None,
        typer.Option("--runtime", "--backend", help="eager, compile, onnxruntime, openvino, also onnxruntime-1t, -int8; may be repeated."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure base and compressed model side by side on this machine: latency, throughput, memory.

    Example: `triaxis bench runs/demo --batch 1 --batch 64`
    """
    from triaxis.deliver.measure import bench_run

    found = bench_run(run_dir, batches=tuple(batch or (1, 8, 64)), runtimes=tuple(runtime) if runtime else None)
    if as_json:
        print_json(found)
    elif found:
        names = ("runtime", "batch", "ms, base → cut", "speed-up", "images/s", "MB")
        show.rows(names, [_bench_row(row) for row in found])
    else:
        err.print("nothing was measured: no runtime is installed")


def _bench_row(row: dict[str, Any]) -> tuple[str, ...]:
    """Base model and cut in one cell for each number, so that the table fits on a terminal of 80 characters."""
    keys = ("ms", "images_per_s", "memory_mb")
    times, images, memory = (f"{_short(row[f'base_{key}'])} → {_short(row[f'compressed_{key}'])}" for key in keys)
    return row["runtime"], str(row["batch"]), times, f"{row['speedup']:.2f} x", images, memory


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def push(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="Run directory.", show_default=False)],
    repo: Annotated[str, typer.Argument(metavar="ORG/NAME", help="Repository on the hub; made if missing.", show_default=False)],
    license_: Annotated[str | None, typer.Option("--license", help="Of the weights, such as mit; for the card.")] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
) -> None:
    """Send the compressed model to the hub, with a card written from the run. Needs the extra hub, and that you are logged in.

    Example: `triaxis push runs/demo my-team/small-resnet --license mit`
    """
    from triaxis.deliver.hub import PREFIX, push_to_hub

    push_to_hub(run_dir, repo, license=license_, private=private)
    out.print(f"sent; load it with triaxis.load({f'{PREFIX}{repo}'!r})", soft_wrap=True)
