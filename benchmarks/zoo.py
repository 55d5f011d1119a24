"""Cut every model of a list along each axis and all three, check the cuts, and write docs/supported_models.md.

    python benchmarks/zoo.py [--sample] [--only NAME ...] [--no-onnx] [--again]

Weights are random and shaken, so that a wrong cut shows in the output. Results are kept in benchmarks/results/zoo.json as they
come: a run that was stopped goes on where it was, and the page is written from what is there.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from triaxis.errors import TriaxisError
from triaxis.metrics.macs import COUNTED, count_macs, count_params, work
from triaxis.models.zoos import build
from triaxis.surgery.cut import apply
from triaxis.surgery.cut.sides import follows
from triaxis.surgery.find.layout import loss_of
from triaxis.surgery.proof import disagreement, shaken
from triaxis.surgery.surgeon import Surgeon
from triaxis.tasks.outputs import difference, named_tensors
from triaxis.values import AXES, PrunePlan

ROOT = Path(__file__).parent.parent
RESULTS, PAGE = ROOT / "benchmarks/results/zoo.json", ROOT / "docs/supported_models.md"
TOLERANCE = 1e-4
RELOAD_TOLERANCE = 1e-6
SIDE_PX = 96
SIDES_PX = {
    "cifar": 32,
    "detection": 128,
    "torchvision:ssdlite320_mobilenet_v3_large": 320,
    "torchvision:retinanet_resnet50_fpn": 128,
    "torchvision:fcos_resnet50_fpn": 128,
    "timm:hrnet_w18_small": 128,
    "timm:coatnet_0_rw_224": 224,
    "timm:inception_v4": 128,
    "timm:inception_v3": 128,
    "torchvision:alexnet": 128,
    "torchvision:inception_v3": 299,
    "timm:botnet26t_256": 256,
    "timm:mobilenetv4_hybrid_medium": 128,
    "timm:test_vit": 160,
    "timm:vit_tiny_patch16_224": 224,
    "timm:deit_tiny_patch16_224": 224,
    "timm:deit_tiny_distilled_patch16_224": 224,
    "timm:deit3_small_patch16_224": 224,
    "timm:vit_relpos_small_patch16_224": 224,
    "timm:beit_base_patch16_224": 224,
    "timm:eva02_tiny_patch14_224": 224,
    "timm:swin_tiny_patch4_window7_224": 224,
    "torchvision:swin_t": 224,
    "torchvision:vit_b_32": 224,
    "timm:swinv2_tiny_window8_256": 256,
    "timm:cait_xxs24_224": 224,
    "timm:xcit_nano_12_p16_224": 224,
    "timm:maxvit_pico_rw_256": 256,
    "timm:coatnet_nano_rw_224": 224,
    "timm:mobilevit_xxs": 256,
    "timm:mobilevitv2_050": 256,
    "timm:efficientformer_l1": 224,
    "timm:efficientformerv2_s0": 224,
    "timm:hiera_tiny_224": 224,
    "timm:davit_tiny": 224,
    "timm:tiny_vit_5m_224": 224,
    "timm:levit_128s": 224,
    "timm:nextvit_small": 224,
    "timm:mixer_s32_224": 224,
    "timm:twins_svt_small": 224,
    "timm:convit_tiny": 224,
    "timm:pit_ti_224": 224,
    "timm:visformer_tiny": 224,
    "timm:resmlp_12_224": 224,
    "timm:vit_wee_patch16_reg1_gap_256": 256,
    "timm:vit_pwee_patch16_reg1_gap_256": 256,
    "timm:vit_dwee_patch16_reg1_gap_256": 256,
    "timm:vit_little_patch16_reg4_gap_256": 256,
    "timm:vit_xsmall_patch16_clip_224": 224,
    "timm:vit_small_patch32_224": 224,
    "timm:volo_d1_224": 224,
    "timm:nest_tiny": 224,
    "timm:mvitv2_tiny": 224,
}
FAMILIES = {
    "ResNet": "cifar:resnet20 torchvision:resnet18 torchvision:resnet50 timm:resnet18d timm:resnetv2_50 timm:seresnet18",
    "ResNeXt, Wide ResNet": "torchvision:resnext50_32x4d torchvision:wide_resnet50_2",
    "DenseNet": "cifar:densenet40 torchvision:densenet121",
    "VGG, AlexNet": "torchvision:vgg11_bn torchvision:alexnet",
    "MobileNet": "torchvision:mobilenet_v2 torchvision:mobilenet_v3_small timm:mobilenetv4_conv_small timm:mobilenetv4_hybrid_medium",
    "EfficientNet": "torchvision:efficientnet_b0 timm:tf_efficientnetv2_b0 timm:tinynet_e",
    "RegNet": "torchvision:regnet_x_400mf timm:regnety_002 timm:regnetz_005",
    "SqueezeNet": "torchvision:squeezenet1_1",
    "MNASNet, FBNet": "torchvision:mnasnet0_5 timm:fbnetc_100",
    "ShuffleNet": "torchvision:shufflenet_v2_x1_0",
    "Inception": "torchvision:googlenet timm:inception_v3",
    "ConvNeXt": "torchvision:convnext_tiny timm:convnextv2_atto",
    "DLA": "timm:dla34",
    "HRNet": "timm:hrnet_w18_small",
    "CSP": "timm:cspresnet50 timm:darknet53",
    "VoVNet": "timm:vovnet39a timm:ese_vovnet19b_dw",
    "GhostNet": "timm:ghostnet_100",
    "Selective kernel, ResNeSt": "timm:skresnet18 timm:resnest14d",
    "Res2Net": "timm:res2net50_26w_4s",
    "Normalizer-free": "timm:nf_resnet50 timm:nfnet_l0 timm:eca_nfnet_l0",
    "MixNet": "timm:mixnet_s",
    "TResNet": "timm:tresnet_m",
    "ECA": "timm:ecaresnet50d",
    "RexNet": "timm:rexnet_100",
    "RepVGG, RepViT": "timm:repvgg_a0 timm:repvit_m0_9",
    "RDNet": "timm:rdnet_tiny",
    "SelecSLS": "timm:selecsls42",
    "GerNet": "timm:gernet_s",
    "LCNet": "timm:lcnet_050",
    "Xception": "timm:xception41",
    "DPN": "timm:dpn68",
    "StarNet": "timm:starnet_s1",
    "PoolFormer, EdgeNeXt": "timm:poolformer_s12 timm:edgenext_xx_small",
    "With attention": "timm:coatnet_0_rw_224 timm:botnet26t_256",
    "ViT": "timm:test_vit timm:vit_tiny_patch16_224 torchvision:vit_b_32 timm:vit_relpos_small_patch16_224",
    "ViT with registers, averages or CLIP": "timm:vit_wee_patch16_reg1_gap_256 timm:vit_pwee_patch16_reg1_gap_256 "
    "timm:vit_dwee_patch16_reg1_gap_256 timm:vit_little_patch16_reg4_gap_256 timm:vit_xsmall_patch16_clip_224 timm:vit_small_patch32_224",
    "DeiT": "timm:deit_tiny_patch16_224 timm:deit_tiny_distilled_patch16_224 timm:deit3_small_patch16_224",
    "BEiT, EVA": "timm:beit_base_patch16_224 timm:eva02_tiny_patch14_224",
    "Swin": "timm:swin_tiny_patch4_window7_224 torchvision:swin_t timm:swinv2_tiny_window8_256",
    "CaiT, XCiT": "timm:cait_xxs24_224 timm:xcit_nano_12_p16_224",
    "PVT, Twins": "timm:pvt_v2_b0 timm:twins_svt_small",
    "VOLO, NesT, MViT": "timm:volo_d1_224 timm:nest_tiny timm:mvitv2_tiny",
    "MaxViT, CoAtNet": "timm:maxvit_pico_rw_256 timm:coatnet_nano_rw_224",
    "MobileViT": "timm:mobilevit_xxs timm:mobilevitv2_050",
    "EfficientFormer": "timm:efficientformer_l1 timm:efficientformerv2_s0",
    "EfficientViT": "timm:efficientvit_b0 timm:efficientvit_m0",
    "Hiera, DaViT": "timm:hiera_tiny_224 timm:davit_tiny",
    "FastViT, TinyViT": "timm:fastvit_t8 timm:tiny_vit_5m_224",
    "LeViT, NextViT": "timm:levit_128s timm:nextvit_small",
    "PiT, ConViT, Visformer": "timm:pit_ti_224 timm:convit_tiny timm:visformer_tiny",
    "ConvMixer, MLP-Mixer": "timm:convmixer_768_32 timm:mixer_s32_224 timm:resmlp_12_224",
    "MetaFormer": "timm:caformer_s18 timm:poolformerv2_s12",
    "FCN, DeepLabV3": "torchvision:fcn_resnet50 torchvision:deeplabv3_resnet50 torchvision:deeplabv3_mobilenet_v3_large",
    "LR-ASPP": "torchvision:lraspp_mobilenet_v3_large",
    "Detectors": "torchvision:ssdlite320_mobilenet_v3_large torchvision:retinanet_resnet50_fpn torchvision:fcos_resnet50_fpn "
    "detection:ssdlite detection:retinanet detection:fcos",
    "U-Net": "unet:basic unet:resnet18 unet:mobilenetv3_small_100 unet:efficientnet_b0",
}
SAMPLE = (
    "torchvision:mobilenet_v3_small",
    "torchvision:resnet18",
    "timm:test_convnext",
    "timm:test_nfnet",
    "timm:test_byobnet",
    "cifar:densenet16",
)


def smaller_plans(surgeon: Surgeon) -> dict[str, PrunePlan]:
    """Return one plan along each open axis and one along all of them."""
    shallow = surgeon.identity()
    wanted = max(1, sum(b.is_removable for b in surgeon.anatomy.blocks) // 2)
    while (choice := surgeon.removable(shallow)) and len(shallow.removed_blocks) < wanted:
        shallow = surgeon.plan(removed_blocks=(*shallow.removed_blocks, choice[-1]))
    cuts: dict[str, dict[str, Any]] = {
        "depth": {"removed_blocks": shallow.removed_blocks},
        "width": {"width": 0.5},
        "resolution": {"side_px": surgeon.sides_px()[-1]},
    }
    cuts = {axis: cut for axis, cut in cuts.items() if axis in surgeon.anatomy.open_axes}
    cuts["all"] = {key: value for cut in cuts.values() for key, value in cut.items()}
    return {name: surgeon.plan(**cut) for name, cut in cuts.items()}


def planned_macs(surgeon: Surgeon, plan: PrunePlan) -> int:
    """Return the MACs that follow from the plan's integers: kept weights x output positions of the base model at that side."""
    lost = loss_of(plan, surgeon.layout(plan.removed_blocks)).positions
    kept = apply.complement(lost, apply.tensors_of(surgeon.base))
    gone = tuple(f"{path}." for b in surgeon.blocks if b.name in plan.removed_blocks for path in b.modules)
    whole = surgeon.cut(surgeon.plan(side_px=plan.side_px))
    shape = (surgeon.anatomy.in_channels, plan.side_px, plan.side_px)
    own = work(surgeon.cut(plan), shape)
    uses = own.positions
    total = sum(own.products.values())
    for name, layer in whole.named_modules():
        if isinstance(layer, COUNTED) and not f"{name}.".startswith(gone or ("\0",)):
            sizes = [len(kept.get(f"{name}.weight", {}).get(d, range(n))) for d, n in enumerate(layer.weight.shape)]
            total += torch.Size(sizes).numel() * uses.get(name, 0)
    return total


def problems_of(surgeon: Surgeon, plan: PrunePlan, onnx: bool) -> list[str]:
    """Return what is wrong with one cut."""
    images = torch.randn(2, surgeon.anatomy.in_channels, plan.side_px, plan.side_px)
    cut, found = surgeon.cut(plan), []
    with torch.no_grad():
        output, expected = cut(images), surgeon.base(torch.randn(2, surgeon.anatomy.in_channels, *[surgeon.anatomy.base_side_px] * 2))
    shapes, wanted = (tuple(tuple(part.shape) for part in named_tensors(raw).values()) for raw in (output, expected))
    if not follows(shapes, wanted):
        found.append(f"output {shapes} instead of {wanted}")
    shape = (surgeon.anatomy.in_channels, plan.side_px, plan.side_px)
    base_macs = count_macs(surgeon.base, (shape[0], *[surgeon.anatomy.base_side_px] * 2))
    if not count_macs(cut, shape) == planned_macs(surgeon, plan) < base_macs:
        found.append(f"{count_macs(cut, shape)} MACs, planned {planned_macs(surgeon, plan)}, base {base_macs}")
    difference = disagreement(cut, surgeon.masked(plan), images, plain_norms=bool(surgeon.tracer.inexact))
    if not difference < TOLERANCE:
        found.append(f"differs from the masked model by {difference:.1e}")
    if not (difference := disagreement(_reloaded(surgeon, plan, cut), cut, images)) < RELOAD_TOLERANCE:
        found.append(f"differs after a reload by {difference:.1e}")
    if onnx and not (difference := _onnx_difference(cut, images, output)) < TOLERANCE:
        found.append(f"ONNX differs by {difference:.1e}")
    return found + _backward_problems(surgeon.cut(plan), images)


def put(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Load tensors by name; the model's own dictionary goes along for the version marks that some classes ask for."""
    full = model.state_dict()
    full.update({name: tensor for name, tensor in state.items() if name in full})
    model.load_state_dict(full)


def _reloaded(surgeon: Surgeon, plan: PrunePlan, cut: nn.Module) -> nn.Module:
    with tempfile.TemporaryDirectory() as folder:
        save_file({k: v.contiguous() for k, v in cut.state_dict().items()}, Path(folder) / "model.safetensors")
        again = surgeon.cut(PrunePlan.from_json(json.loads(json.dumps(plan.to_json()))))
        put(again, load_file(Path(folder) / "model.safetensors"))
    return again


def _onnx_difference(cut: nn.Module, images: Tensor, output: Any) -> float:
    from triaxis.metrics.runtimes.onnx import run_onnx, write_onnx

    with tempfile.TemporaryDirectory() as folder:
        again = run_onnx(write_onnx(Path(folder) / "model.onnx", cut, tuple(images.shape[1:])))(images)
    return difference(again, output)


def _backward_problems(cut: nn.Module, images: Tensor) -> list[str]:
    out = named_tensors(cut.train()(images)).values()
    torch.stack([t.float().mean() for t in out if t.requires_grad]).sum().backward()
    without = [name for name, p in cut.named_parameters() if p.requires_grad and p.grad is None]
    return [f"no gradient for {without[0]}"] if without else []


def examine(name: str, onnx: bool) -> dict[str, Any]:
    """Return one model's row: what is open, what each cut achieves, and every problem."""
    torch.manual_seed(0)
    model = build(name, {}, 10)
    put(model, shaken(model))
    side = SIDES_PX.get(name) or SIDES_PX.get(name.partition(":")[0]) or SIDE_PX
    started = time.process_time()
    surgeon = Surgeon.examine(model, side_px=side)
    row: dict[str, Any] = {"side_px": side, "seconds": round(time.process_time() - started, 1), "cuts": {}, "problems": []}
    anatomy, base_macs = surgeon.anatomy, count_macs(surgeon.base, (3, side, side))
    row |= {
        "closed": dict(anatomy.closed),
        "blocks": f"{len(anatomy.blocks)} {', '.join(sorted({b.kind for b in anatomy.blocks}))}".strip(),
        "channels": sum(g.num_channels for g in anatomy.groups),
        "whole": len(anatomy.whole) - 1,
        "params": count_params(surgeon.base),
        "ends": {"depth": 0, "width": len(surgeon.width_levels()), "resolution": anatomy.sides_px[-1]},
    }
    for cut, plan in smaller_plans(surgeon).items():
        shape = (anatomy.in_channels, plan.side_px, plan.side_px)
        row["problems"] += [f"{cut}: {problem}" for problem in problems_of(surgeon, plan, onnx and cut == "all")]
        row["cuts"][cut] = {"ratios": plan.achieved.as_tuple(), "macs": count_macs(surgeon.cut(plan), shape) / base_macs}
    row["onnx"] = onnx
    return row


def guarded(name: str, onnx: bool, examine: Callable[[str, bool], dict[str, Any]] = examine) -> dict[str, Any]:
    """Return a model's row, or one that holds the error."""
    try:
        return examine(name, onnx)
    except (TriaxisError, RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        return {"problems": [f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"], "closed": {}, "cuts": {}}


def page(rows: dict[str, dict[str, Any]]) -> str:
    """Return the table as Markdown."""
    families = {name: family for family, names in FAMILIES.items() for name in names.split()}
    tested = {name: row for name, row in rows.items() if name in families}
    shown = [
        f"| {families[n]} | `{n}` | {' | '.join(_cell(r, axis) for axis in (*AXES, 'all'))} | {_verdict(r)} |" for n, r in tested.items()
    ]
    opened = {axis: sum(axis not in r["closed"] and not r["problems"] for r in tested.values()) for axis in AXES}
    reasons = [f"* `{n}`, {axis}: {reason}" for n, r in tested.items() for axis, reason in r["closed"].items()]
    reasons += [f"* `{n}`: {problem}" for n, r in tested.items() for problem in r["problems"]]
    counts = ", ".join(f"{axis} on {opened[axis]}" for axis in AXES)
    return "\n".join(
        [
            "# Supported models",
            "",
            "Written by `make zoo` (benchmarks/zoo.py); do not edit. Any classifier of torchvision or timm, torchvision's models of",
            "segmentation and detectors of one stage, or your own network may be tried with `triaxis inspect`: the list is open.",
            "",
            f"{len(tested)} models of {len({families[n] for n in tested})} families were cut along each open axis and along all of them;",
            f"open and right: {counts}.",
            "Each cut was run forward and backward, its MACs counted and compared with the plan's, its outputs compared with those of the",
            "masked base model (where a norm's statistics depend on how many channels there are, without those statistics), saved and",
            "reloaded; with `onnx` it was also compared with its ONNX file.",
            "",
            "A cell holds the keep ratio that was cut to (half the blocks, width 0.5, the smallest side) and, in brackets, the MACs left.",
            "",
            "| family | model | depth | width | resolution | all | checks |",
            "|---|---|---|---|---|---|---|",
            *shown,
            "",
            "## What is closed, and why",
            "",
            *(reasons or ["Nothing: every axis is open on every model above."]),
            "",
        ]
    )


def _cell(row: dict[str, Any], axis: str) -> str:
    if axis in row["closed"]:
        return "closed"
    cut = row["cuts"].get(axis)
    if cut is None:
        return ""
    ratios = dict(zip(AXES, cut["ratios"], strict=True))
    shown = f"{ratios[axis]:.2f} " if axis in ratios else ""
    return f"{shown}({100 * cut['macs']:.0f} %)"


def _verdict(row: dict[str, Any]) -> str:
    return "see below" if row["problems"] else "pass, onnx" if row.get("onnx") else "pass"


def main(arguments: list[str] | None = None) -> int:
    """Run the models asked for; return 1 if any cut is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample", action="store_true", help="six small models, nothing is written")
    parser.add_argument("--only", nargs="*", default=[], help="these models")
    parser.add_argument("--no-onnx", action="store_true")
    parser.add_argument("--again", action="store_true", help="also models whose result is there")
    options = parser.parse_args(arguments)
    names = list(SAMPLE) if options.sample else options.only or [n for names in FAMILIES.values() for n in names.split()]
    rows: dict[str, dict[str, Any]] = json.loads(RESULTS.read_text()) if RESULTS.exists() and not options.sample else {}
    for name in names:
        if name not in rows or options.again:
            rows[name] = guarded(name, not options.no_onnx)
            print(f"{name}: {'; '.join(rows[name]['problems']) or 'pass'} {rows[name]['closed'] or ''}", flush=True)
            if not options.sample:
                RESULTS.parent.mkdir(exist_ok=True)
                RESULTS.write_text(json.dumps(rows, indent=1, sort_keys=True))
                PAGE.write_text(page({n: rows[n] for names in FAMILIES.values() for n in names.split() if n in rows}))
    return int(any(rows[name]["problems"] for name in names))


if __name__ == "__main__":
    sys.exit(main())
