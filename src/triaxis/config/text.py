"""The configuration as text for people: every setting with the sentence that describes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from triaxis.config import Config, walk_keys

COMMENT_COLUMN = 40


def commented_yaml(config: Config, notes: Mapping[str, str] | None = None) -> str:
    """Return the whole configuration as YAML with one comment for each setting.

    Args:
        config: What to write.
        notes: Key path to a remark that stands above the setting, such as why it was chosen.
    """
    return "\n".join(_lines(config.to_plain(), "", notes or {}, dict(walk_keys()))).lstrip("\n") + "\n"


def _lines(plain: Mapping[str, Any], prefix: str, notes: Mapping[str, str], words: Mapping[str, str]) -> Iterator[str]:
    indent = "  " * prefix.count(".")
    is_after_section = False
    for key, item in plain.items():
        path = f"{prefix}{key}"
        is_section = isinstance(item, dict) and bool(item)
        if (is_section or is_after_section) and not prefix:
            yield ""
        is_after_section = is_section
        if path in notes:
            yield f"{indent}# {notes[path]}"
        if is_section:
            yield f"{indent}# {words[path]}"
            yield f"{indent}{key}:"
            yield from _lines(item, f"{path}.", notes, words) if path != "model.args" else (f"{indent}  {line}" for line in _dump(item))
        else:
            yield _commented(f"{indent}{key}: {_on_one_line(item)}", words[path])


def _commented(setting: str, words: str) -> str:
    """Return a setting with its comment; YAML takes a # for a comment only where a space stands before it."""
    return f"{setting.ljust(COMMENT_COLUMN - 1)} # {words}"


def _on_one_line(item: Any) -> str:
    """Return the YAML of a text, a number, a list or an empty mapping; only double quotes keep a line break on one line."""
    lines = _dump(item)
    return lines[0] if len(lines) == 1 else " ".join(_dump(item, '"'))


def _dump(item: Any, style: str | None = None) -> list[str]:
    """Return the YAML lines of one value, never wrapped."""
    text = yaml.safe_dump(item, default_flow_style=not isinstance(item, dict), width=float("inf"), default_style=style)
    return text.removesuffix("...\n").splitlines()


REPRODUCES = """## What reproduces

Two trainings on a CPU give the same weights to the last bit where all of this is the same: configuration and data,
versions of torch and triaxis, kind of processor, number of threads, and mode, which is precision and memory format. On
another number of threads sums are taken in another order, which changes the last digits, in fp32 too, and then every
later number a little. How threads wait for each other changes nothing, and neither does an interruption of the run.
`environment` in `summary.json` says on what a run was trained.

* **Rules.** With `threads: N` and `precision: fp32` (or `bf16`) two runs of the same file give the same numbers. The
  memory format is then `channels_last`, and nothing is timed.
* **`threads: null`** times training steps of the base model on all cores, half of them and one, in turns, and takes the
  fewest threads that reach 90 % of the best speed.
* **`precision: auto`** is fp32 and `channels_last`, unless bf16 or the other memory format makes over 20 % more steps a
  second, timed in turns.
* Both choices are made once for a run and stored. Two runs of the same file may choose differently.
* The stored number of threads changes in one case: the speed falls below half of the best seen in a training, or of the
  first measurement when a run goes on, and another number makes over 20 % more steps a second. `log.txt` says so.
* A batch that does not fit in memory is trained in parts, whose gradients are added up. The step stays that of the
  whole batch, but batch norm takes its statistics from one part at a time, as with a smaller batch. The number of parts
  is kept for the run, and stored as `batch_parts` in `environment`.
* Latency is measured on `threads`, or on all cores where that is null.

## Beside other processes

The threads of PyTorch's maths library wait for each other after every operation, by default in a loop that keeps the core
busy. Where another process holds the core of one of them, training can so become a hundred times slower. The command
`triaxis` therefore sets `OMP_WAIT_POLICY=PASSIVE`, which changes no number, unless that, `GOMP_SPINCOUNT` or
`KMP_BLOCKTIME` is set already; and it warns where other processes take over 20 % of the machine. A program that imports
triaxis has to set the variable itself, before it imports torch: `import os; os.environ["OMP_WAIT_POLICY"] = "PASSIVE"`.
Beside other work, `threads: 1` is the safe choice for small networks.
"""


def config_reference() -> str:
    """Return the Markdown of docs/configuration.md; a test keeps the file equal to it."""
    return f"""# Configuration

A run is described by one YAML file. Every setting has a default, so that an empty file is a valid one. The file below is all
defaults. `triaxis init` writes such a file for your model and your images.

* A key that is not below is refused, and the nearest right one is named. So is a value of the wrong type or out of range.
  All mistakes of a file are named at once; of one recipe's numbers, the first.
* `model: timm:resnet18` is short for `model: {{name: timm:resnet18}}`, and `data: imagefolder:PATH` for
  `data: {{source: imagefolder:PATH}}`. `budget` takes one budget, or a list of budgets that hold together.
* Missing keys of `base`, `collect.recipe`, `collect.shared` and `finetune` take the defaults of their own section, shown below.
* Paths are relative to the directory in which the command is given.
* `imagefolder:PATH` holds a folder of pictures for each class, or splits that do: `train` or `training`; `val`, `valid`,
  `validation`, `dev` or `eval`; `test` or `testing`; in any case of letters. What a folder holds decides, so that a class
  may be called `train`; the classes found are printed. Pictures of 16 bits are scaled, and floats in [0, 1]; other ranges
  are refused with the file's name.
* Data sets that a function makes hold pixels (uint8 or PIL images), which `data.mean` and `data.std` normalise, or floats
  that are normalised already: then these two say by what, which `triaxis predict` and `export --with-preprocessing` need.
* The whole tree is written to `RUN/config.yaml`. On an old run only `export`, `collect.executor`, `collect.workers`,
  `collect.cluster`, `data.workers`, `data.memory`, `data.download`, `progress` and `save_minutes` may change, since they do
  not touch the numbers. Anything else is refused.

{REPRODUCES}
```yaml
{commented_yaml(Config())}```

This page is written from the code: `python -m triaxis.config.text > docs/configuration.md`.
"""


if __name__ == "__main__":
    print(config_reference(), end="")
