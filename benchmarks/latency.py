"""How far the cost model, latency budgets and INT8 can be trusted on this machine.

    python benchmarks/latency.py [--quick] [--only model budgets int8 choice] [--seconds 0.3]

* model: for three networks and three runtimes, predicted against measured latency ratios on cuts outside the sample, idle and
  with another process on the other core. Asked for: median at most 5 %, 90th percentile 10 %; under load 10 % and 20 %.
* budgets: untrained networks are pruned to a latency budget; each is measured again in a new process. Asked for: 20 of 20
  within 3 %.
* int8: accuracy and speed-up of INT8 on a base model and on its pruned form. Asked for: at most 0.3 points more on the pruned one.
* choice: at 50 and 30 % of the latency on ONNX Runtime, the cut chosen by latency against the one chosen by MACs at equal
  measured latency. Asked for: better val accuracy.

Everything that decides is measured in turns with the base model. Run it on a machine that does nothing else; --quick takes small
networks and few cuts, to see that the benchmark works.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from triaxis.config import Config, load_config
from triaxis.deliver.load import load
from triaxis.errors import InfeasibleBudgetError
from triaxis.metrics.gauge import Gauge
from triaxis.metrics.latency import LatencyMetric, device_name
from triaxis.metrics.runtimes import make_runtime
from triaxis.metrics.table import count_costs, with_measured
from triaxis.models.weights import load_model
from triaxis.stages.pipeline import run
from triaxis.store.checkpoints import load_into
from triaxis.store.directory import RunDirectory
from triaxis.store.files import read_json, write_json, write_text
from triaxis.surgery.surgeon import Surgeon
from triaxis.values import BudgetSpec

CPU = torch.device("cpu")
RESULTS = Path(__file__).with_name("results")
RUNTIMES = ("eager", "onnxruntime", "openvino")
NETWORKS = (("timm:resnet18", 224), ("timm:mobilenetv3_small_100", 224), ("timm:efficientnet_b0", 224))
QUICK_NETWORKS = (("cifar:resnet8", 16),)
# It ends with the process that started it, even if that was killed.
BUSY = "import os; parent = os.getppid()\nwhile os.getppid() == parent: sum(range(100_000))"

RUN = """
model: {model}
data: {source: digits, side_px: 16}
seed: {seed}
budget: "{budget}"
base: {{epochs: {base}, batch_size: 64, crop_px: 1, flip: false}}
collect:
  recipe: {{epochs: {short}, batch_size: 64, crop_px: 1, flip: false}}
  num_trials: {trials}
finetune: {{epochs: {final}, batch_size: 64, crop_px: 1, flip: false}}
profile: {{runtime: {runtime}, batches: [1]}}
export: {{formats: {formats}}}
""".replace("data: {source: digits, side_px: 16}", "data: {{source: digits, side_px: 16}}")


@contextmanager
def load_on(count: int) -> Iterator[None]:
    """Keep so many cores busy with processes that do nothing but count."""
    started = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def order_of(surgeon: Surgeon) -> list[str]:
    """Return the removable blocks, the last ones first: any order will do for costs."""
    order: list[str] = []
    while left := surgeon.removable(surgeon.plan(removed_blocks=tuple(order))):
        order.append(left[-1])
    return order


def cost_model(name: str, side_px: int, runtimes: Sequence[str], busy: int, seconds: float) -> list[dict[str, Any]]:
    """Return for each runtime the errors of predicted latency ratios on cuts outside the sample."""
    network = load_model(name, {}, 10).model.eval()
    surgeon = Surgeon.examine(network, side_px=side_px, in_channels=3, min_width=0.25, min_resolution=0.5)
    order = order_of(surgeon)
    table = count_costs(surgeon, order, min_depth=0.3, in_channels=3)
    rows = []
    for runtime in runtimes:
        gauge = Gauge(LatencyMetric(make_runtime(runtime, CPU), 1), surgeon.base, (3, side_px, side_px))
        with load_on(busy):
            full = with_measured(table, surgeon, order, gauge, in_channels=3, seconds=seconds, advance=lambda share, note: None)
        median, tail = full.errors["latency_ms"]
        asked = (0.10, 0.20) if busy else (0.05, 0.10)
        rows.append(
            {
                "network": name,
                "side_px": side_px,
                "runtime": runtime,
                "busy": busy,
                "median_error": median,
                "error_90": tail,
                "spread": full.spread["latency_ms"],
                "is_reached": median <= asked[0] and tail <= asked[1],
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    return rows


def config_of(folder: Path, **chosen: Any) -> Config:
    """Return the configuration of one run."""
    usual = {"base": 1, "short": 1, "final": 1, "trials": 4, "seed": 0, "runtime": "eager", "formats": "[safetensors]"}
    path = folder / "run.yaml"
    path.write_text(RUN.format(**{**usual, **chosen}))
    return load_config(path)


def pair_of(directory: RunDirectory) -> tuple[tuple[nn.Module, tuple[int, ...]], tuple[nn.Module, tuple[int, ...]]]:
    """Return base and compressed model of a finished run with their input shapes."""
    config, description = directory.config(), read_json(directory.compressed / "plan.json")
    source = description["source"]
    base = load_model(config.model.name, config.model.args, source["num_classes"]).model
    load_into(base, directory.checkpoint("base"))
    channels = source["in_channels"]
    return (base.eval(), (channels, source["side_px"], source["side_px"])), (load(directory.compressed), tuple(description["input"]))


def share_of(directory: Path, runtime: str, seconds: float) -> float:
    """Return the compressed model's latency over the base model's, measured now."""
    (base, base_shape), (cut, cut_shape) = pair_of(RunDirectory(directory))
    return Gauge(LatencyMetric(make_runtime(runtime, CPU), 1), base, base_shape).measure(cut, cut_shape, seconds=seconds).ratio


def share_in_a_new_process(directory: Path, runtime: str, seconds: float) -> float:
    """Return `share_of`, measured by another process."""
    words = [sys.executable, __file__, "--measure", str(directory), "--runtimes", runtime, "--seconds", str(seconds)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env={**os.environ})
    return float(done.stdout.splitlines()[-1])


def budgets(count: int, runtime: str, model: str, limit: float, seconds: float) -> dict[str, Any]:
    """Return how many of the delivered models are within 3 % of their budget when another process measures them."""
    shares = []
    for seed in range(count):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            config = config_of(folder, model=model, seed=seed, runtime=runtime, budget=f"latency={limit:.0%}")
            run(config, folder / "run")
            shares.append(share_in_a_new_process(folder / "run", runtime, seconds))
    held = sum(share <= 1.03 * limit for share in shares)
    return {"runtime": runtime, "model": model, "limit": limit, "shares": shares, "held": held, "is_reached": held == count}


def int8(epochs: int, model: str) -> dict[str, Any]:
    """Return what INT8 costs and gains on a network as it is and on its pruned form."""
    found: dict[str, Any] = {"model": model}
    with tempfile.TemporaryDirectory() as name:
        for kind, budget in (("base", "macs=100%"), ("pruned", "macs=50%")):
            folder = Path(name) / kind
            folder.mkdir()
            chosen = {"base": epochs, "short": max(1, epochs // 5), "final": max(1, epochs // 3)}
            config = config_of(folder, model=model, budget=budget, formats="[safetensors, onnx-int8]", **chosen)
            done = run(config, folder / "run").summary["int8"]
            found[kind] = {
                "loss_points": 100 * (done["val_accuracy_fp32"] - done["val_accuracy"]),
                "speed_up": 1 / done["latency_ratio"],
                "kept_in_fp32": done["kept_in_fp32"],
            }
    return found | {"is_reached": found["pruned"]["loss_points"] <= found["base"]["loss_points"] + 0.3}


def choice(epochs: int, model: str, limit: float, seconds: float) -> dict[str, Any]:
    """Return val accuracies at equal measured latency: of the cut chosen by latency, and of one chosen by MACs.

    The budget in MACs is narrowed down by bisection until its cut measures no more than the latency budget.
    """
    runtime, spec = "onnxruntime", BudgetSpec(metric="latency_ms@onnxruntime", fraction=limit)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        chosen = {"base": epochs, "short": max(1, epochs // 5), "final": max(1, epochs // 3), "trials": 9}
        config = config_of(folder, model=model, runtime=runtime, budget=f"latency@onnxruntime={limit:.0%}", **chosen)
        out = folder / "run"
        try:
            own = run(config, out, budgets=[spec])
        except InfeasibleBudgetError as error:  # a small network's calls cost what its layers do not
            return {"model": model, "limit": limit, "refused": str(error)}
        own_share = share_of(out, runtime, seconds)
        low, high, rival = 0.0, 1.0, None
        for _ in range(5):
            middle = (low + high) / 2
            other = run(config, out, budgets=[BudgetSpec(metric="macs", fraction=middle)])
            share = share_of(out, runtime, seconds)
            if share <= max(limit, own_share):
                low, rival = middle, (middle, share, other.verification.compressed.val_accuracy)
            else:
                high = middle
    ours = own.verification.compressed.val_accuracy
    row: dict[str, Any] = {"model": model, "limit": limit, "by_latency": ours, "by_latency_share": own_share}
    if rival is not None:
        row |= {"macs_budget": rival[0], "by_macs_share": rival[1], "by_macs": rival[2], "is_reached": ours >= rival[2]}
    return row


def parts(asked: argparse.Namespace) -> dict[str, Callable[[], Any]]:
    """Return what can be measured, by name."""
    networks, small = (QUICK_NETWORKS, "cifar:resnet8") if asked.quick else (NETWORKS, "cifar:resnet20")
    epochs, seconds = (1, 0.05) if asked.quick else (20, asked.seconds)
    deep = (small,) if asked.quick else (small, "cifar:resnet20", "timm:mobilenetv3_small_050")
    return {
        "model": lambda: [
            row for busy in (0, 1) for name, side in networks for row in cost_model(name, side, asked.runtimes, busy, seconds)
        ],
        "budgets": lambda: budgets(1 if asked.quick else 20, "eager", small, 0.9 if asked.quick else 0.6, seconds),
        "int8": lambda: int8(epochs, small),
        "choice": lambda: [
            choice(epochs, name, limit, seconds) for name in dict.fromkeys(deep) for limit in ((0.9,) if asked.quick else (0.5, 0.3))
        ],
    }


def markdown(result: dict[str, Any]) -> str:
    """Return the result as a page."""
    lines = [
        "# Latency",
        "",
        f"{result['device']}, {result['threads']} threads, torch {result['torch']}, onnxruntime {result['onnxruntime']}.",
    ]
    lines += ["Quick: small networks and few cuts; the numbers mean nothing." if result["quick"] else ""]
    for name, found in result["parts"].items():
        rows = found if isinstance(found, list) else [found]
        keys = list(dict.fromkeys(key for row in rows for key in row))
        lines += ["", f"## {name}", "", f"| {' | '.join(keys)} |", f"|{'---|' * len(keys)}"]
        lines += [f"| {' | '.join(_text(row.get(key)) for key in keys)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _text(item: Any) -> str:
    if isinstance(item, bool):
        return "yes" if item else "no"
    if isinstance(item, dict):
        return ", ".join(f"{key} {_text(part)}" for key, part in item.items())
    if isinstance(item, list):
        return ", ".join(map(_text, item)) or "none"
    return f"{item:.3g}" if isinstance(item, float) else "" if item is None else str(item)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small networks and few cuts")
    parser.add_argument("--only", nargs="+", choices=("model", "budgets", "int8", "choice"), help="these parts and no others")
    parser.add_argument("--runtimes", nargs="+", default=RUNTIMES)
    parser.add_argument("--seconds", type=float, default=0.3, help="for one measured cut")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.measure:
        print(share_of(asked.measure, asked.runtimes[0], asked.seconds))
        return 0
    found = {name: measure() for name, measure in parts(asked).items() if not asked.only or name in asked.only}
    result = {
        "quick": asked.quick,
        "device": device_name(CPU),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        **{name: version(name) for name in ("onnxruntime", "triaxis")},
        "parts": found,
    }
    name = "latency-quick" if asked.quick else "latency"
    write_json(asked.out / f"{name}.json", result)
    write_text(asked.out / f"{name}.md", markdown(result))
    print(asked.out / f"{name}.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
