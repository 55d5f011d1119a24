"""The hub: share a compressed model as safetensors, a plan and a card that is written from the run; fetch one back (extra ``[hub]``).

Nothing that could run code is sent or fetched: no pickle, no ``.pt2``. The card names no directory of this machine.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import yaml

from triaxis.config import Config
from triaxis.deliver.plan_file import read_description
from triaxis.errors import ConfigError, MissingDependencyError
from triaxis.store.directory import RunDirectory
from triaxis.store.files import read_json
from triaxis.values.score import said, score_of

PREFIX = "hub:"
NAME = re.compile(r"(?P<repo>\w[\w.-]*/\w[\w.-]*?)(?:@(?P<revision>[\w./-]+))?")
NEEDED = ("plan.json", "model.safetensors")
SHARED = (*NEEDED, "model.onnx", "model_from_pixels.onnx")


def push_to_hub(run_dir: str | Path, repo: str, *, license: str | None = None, private: bool = False) -> str:
    """Send the compressed model of a finished run to the hub, with a model card, and return the address of the commit.

    You must be logged in, as the hub's own command does it, or have set the hub's token in the environment.

    Args:
        run_dir: A finished run.
        repo: Such as ``org/name``; made if it does not exist.
        license: Of the weights, as the hub names it, such as ``mit``; the card says nothing of it if None.
        private: Whether a new repository is private.

    Raises:
        ConfigError: The run has no compressed model, the name has the wrong form, or the hub refuses.
        MissingDependencyError: The extra is not installed.
    """
    hub, name = _hub(), _parsed(repo)[0]
    run = RunDirectory(run_dir)
    with tempfile.TemporaryDirectory() as folder:
        stage(run, Path(folder), name, license)
        api = hub.HfApi()
        try:
            api.create_repo(name, private=private, exist_ok=True)
            sent = api.upload_folder(repo_id=name, folder_path=folder, commit_message="A compressed model, sent by triaxis")
        except Exception as error:  # noqa: BLE001 - the hub raises whatever its HTTP client raises
            raise ConfigError(f"{name} must be a repository that you may write, got: {_first_line(error)}.") from None
    return str(sent)


def fetch(name: str) -> Path:
    """Return the local copy of a compressed folder that ``hub:org/name`` or ``hub:org/name@revision`` names.

    Raises:
        ConfigError: The name has the wrong form, or the hub has no such model for you.
        MissingDependencyError: The extra is not installed.
    """
    repo, revision = _parsed(name.removeprefix(PREFIX))
    hub = _hub()
    try:
        return Path(hub.snapshot_download(repo, revision=revision, allow_patterns=list(NEEDED)))
    except Exception as error:  # noqa: BLE001 - as above
        raise ConfigError(f"{name} must be a model that you may read, got: {_first_line(error)}.") from None


def stage(run: RunDirectory, folder: Path, repo: str, license: str | None = None) -> None:
    """Put into a folder what is sent: the model's files and ``README.md``, the card.

    Raises:
        ConfigError: The run has no compressed model.
        PlanError: A field of its ``plan.json`` is wrong.
    """
    description, summary = read_description(run.compressed), read_json(run.summary_file)
    for name in SHARED:
        if (run.compressed / name).exists():
            shutil.copy(run.compressed / name, folder / name)
    (folder / "README.md").write_text(model_card(run.config(), description, summary, repo, license), encoding="utf-8")


def model_card(config: Config, description: dict[str, Any], summary: dict[str, Any], repo: str, license: str | None = None) -> str:
    """Return the card: what it was cut from, how far, on which data, and what was measured.

    Args:
        config: Of the run.
        description: What ``plan.json`` holds.
        summary: What ``summary.json`` holds.
        repo: ``org/name``, for the lines that load it.
        license: Of the weights.
    """
    task = description.get("task", "classification")
    kind = "image-segmentation" if task == "segmentation" else "image-classification"
    head = {"library_name": "triaxis", "pipeline_tag": kind, "tags": ["pruning", "model-compression"]}
    front = yaml.safe_dump({**head, **({"license": license} if license else {})}, sort_keys=False)
    name, cut = description["source"]["name"] or "a network of the author's own", summary["solution"]
    side = description["input"][1]
    rows = said("\n".join(f"| {row} |" for row in _rows(summary["base"], summary["compressed"])), score_of(task))
    return f"""---
{front}---

# {repo.partition("/")[2]}

This is `{name}`, pruned with triaxis along depth, width and input resolution. It takes images of {side} px and knows
{len(description["class_names"]) or description["source"]["num_classes"]} classes.

| | base model | this model |
|---|---|---|
{rows}

* **Cut:** {cut["depth"]:.2f} of the blocks, {cut["width"]:.2f} of the channels, {cut["resolution"]:.2f} of the side. The budget
  was {", ".join(config.budget)}.
* **Data:** {_data(config.data.source)}. The test split was opened once, after all choices.
* **Latency** was measured on the author's machine ({summary.get("environment", {}).get("device", "unknown")}).
  One training was run, so differences of less than a point may be chance.

```python
import triaxis

model = triaxis.load("{PREFIX}{repo}")
```

`plan.json` says what was cut and how pixels are normalised. `model.safetensors` holds the weights. There is no pickle.
"""


def _rows(base: dict[str, Any], cut: dict[str, Any]) -> list[str]:
    known = [name for name in ("test_accuracy", "val_accuracy") if cut.get(name) is not None and base.get(name) is not None]
    rows = [f"{name.replace('_', ' ')} | {100 * base[name]:.2f} % | {100 * cut[name]:.2f} %" for name in known]
    rows += [f"{words} | {base[key]:,} | {cut[key]:,}" for key, words in (("macs", "MACs"), ("params", "parameters"))]
    for batch, ms in cut.get("latency_ms", {}).items():
        rows.append(f"latency at batch {batch} | {base['latency_ms'][batch]:.3g} ms | {ms:.3g} ms")
    return rows


def _data(source: str) -> str:
    """Name the data without the directories in which they lay; a function of the author's own is named as it is."""
    kind, _, place = source.partition(":")
    return f"image folders called `{Path(place).name}`" if kind == "imagefolder" else f"`{kind}`"


def _parsed(name: str) -> tuple[str, str | None]:
    found = NAME.fullmatch(name)
    if not found:
        raise ConfigError(f"A model on the hub must be called ORGANISATION/NAME, such as my-team/small-resnet, got {name!r}.")
    return found["repo"], found["revision"]


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise MissingDependencyError("The hub needs the package huggingface_hub: install it with pip install 'triaxis[hub]'.") from None
    return huggingface_hub


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
