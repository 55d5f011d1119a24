"""The code blocks of the pages and the cells of the notebooks, and how each kind is run in a folder of its own.

| block | what is done with it |
|---|---|
| python | run, all blocks of a page in one namespace; one that begins with ``# path/name.py`` becomes that file |
| sh | `triaxis` commands are run in this process, in small; of `make`, `pip` and benchmarks it is checked that they exist |
| yaml | read as a configuration |
| toml | parsed |
| text | a drawing or an output: not run |

A block that cannot run says why in a comment before it: ``<!-- not run: REASON -->``. Of a notebook, a cell of lines with ``!`` or
``%pip`` is sh, one with ``%%writefile NAME`` becomes that file, and every other is python.
"""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from typer.testing import CliRunner

from triaxis.cli import app
from triaxis.config import load_config

ROOT = Path(__file__).parents[2]
GENERATED = ("docs/commands.md", "docs/configuration.md", "docs/supported_models.md")
FENCE = re.compile(
    r"(?:^<!-- not run: (?P<reason>.*?) -->\n)?^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.M | re.S
)
FILE = re.compile(r"# ([\w/]+\.\w+)\n")
WRITTEN = re.compile(r"%%writefile ([\w/]+\.\w+)\n")
LANGUAGES = {"python", "sh", "yaml", "toml", "text"}
# A large network is a small one here, and every training is short.
SMALLER = {"timm:resnet18": "cifar:resnet8", "latency=3ms": "latency=90%", "latency=50%": "latency=90%", "latency=40%": "latency=95%"}
SHORT = {"epochs": 1, "batch_size": 16}


@dataclass(frozen=True)
class Block:
    """One fenced block of a page; `reason` says why it is not run, if it is not."""

    page: str
    line: int
    language: str
    text: str
    reason: str | None


def pages() -> list[Path]:
    """Return the pages that people write."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")]
    return sorted(path for path in found if str(path.relative_to(ROOT)) not in GENERATED)


def notebooks() -> list[Path]:
    """Return the notebooks that people open."""
    return sorted(ROOT.glob("examples/**/*.ipynb"))


def cells(path: Path) -> list[Block]:
    """Return the code cells of a notebook in their order; `line` is the number of the cell."""
    found = []
    for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
        text = "".join(cell["source"])
        if cell["cell_type"] != "code":
            continue
        language, written = "python", WRITTEN.match(text)
        if written:
            language, text = {"py": "python"}.get(written[1].rpartition(".")[2], "yaml"), f"# {written[1]}\n{text[written.end() :]}"
        elif re.match(r"[!%]", text):
            language, text = "sh", re.sub(r"^[!%]", "", text, flags=re.M)
        found.append(Block(page=str(path.relative_to(ROOT)), line=number, language=language, text=text + "\n", reason=None))
    return found


def blocks(path: Path) -> list[Block]:
    """Return the blocks of a page in their order."""
    text = path.read_text(encoding="utf-8")
    return [
        Block(
            page=str(path.relative_to(ROOT)),
            line=text[: match.start("indent")].count("\n") + 1,
            language=match["language"],
            text=re.sub(rf"^{match['indent']}", "", match["text"], flags=re.M),
            reason=match["reason"],
        )
        for match in FENCE.finditer(text)
    ]


def run_block(block: Block, names: dict[str, Any]) -> None:
    """Run one block in the current directory.

    Args:
        block: What to run.
        names: The namespace of the page's Python.
    """
    named = FILE.match(block.text)
    if named:
        Path(named[1]).parent.mkdir(parents=True, exist_ok=True)
        Path(named[1]).write_text(block.text, encoding="utf-8")
    if block.language == "python" and not named:
        exec(compile("\n" * block.line + block.text, block.page, "exec"), names)
    elif block.language == "python":
        compile(block.text, block.page, "exec")
    elif block.language == "yaml":
        Path("block.yaml").write_text(block.text, encoding="utf-8")
        load_config(Path("block.yaml"))
    elif block.language == "toml":
        tomllib.loads(block.text)
    elif block.language == "sh":
        for words in commands(block.text):
            run_command(words)


def commands(text: str) -> Iterator[list[str]]:
    """Return the words of each line, without comments."""
    for line in text.replace("\\\n", " ").splitlines():
        if words := shlex.split(line, comments=True):
            yield words


def run_command(words: list[str]) -> None:
    """Run a command of triaxis in small, or check that another one names what exists."""
    if words[0] == "triaxis":
        small = [SMALLER.get(word, word) for word in words[1:]]
        small += ["--no-measure"] if words[1] == "doctor" else []
        if words[1] in ("run", "plan"):
            shorten(Path(words[2]))
        done = CliRunner().invoke(app, small, env={"COLUMNS": "160"})
        assert done.exit_code == 0, f"{shlex.join(words)}\n{done.output}\n{done.exception!r}"
    elif words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.M), f"make has no {words[1]}"
    elif words[:2] == ["pip", "install"]:
        extras = re.search(r"\[([\w,]+)\]", words[-1])
        known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        assert set(extras[1].split(",") if extras else ()) <= set(known), words[-1]
    elif words[0] == "python" and (ROOT / words[1]).is_file():
        program = (ROOT / words[1]).read_text()
        assert all(f'"{word}"' in program for word in words[2:] if word.startswith("--")), f"{words[1]} must know {words[2:]}"
    else:
        raise AssertionError(f"nobody knows how to check {shlex.join(words)!r}: teach tests/docs, or say why it is not run")


def shorten(path: Path) -> None:
    """Make a configuration train for seconds and not for hours."""
    plain = load_config(path).to_plain()
    for recipe in (plain["base"], plain["finetune"], plain["collect"]["recipe"]):
        recipe.update(SHORT)
    if plain["model"]["name"] in SMALLER:
        plain["model"].update(name=SMALLER[plain["model"]["name"]], args={})
        plain["data"]["side_px"] = None
    plain["budget"] = [SMALLER.get(text, text) for text in plain["budget"]]
    plain["collect"].update(num_trials=4, block_images=16, calibrate_images=16, min_width=0.5, min_resolution=0.75)
    # Of ONNX Runtime each of sixty cuts would be written as a file, which takes a second or two.
    plain["profile"].update(batches=[1], repeats=3, runtime="eager")
    plain["export"].update(formats=["safetensors"])  # writing the others takes seconds; each is written where a page uses it
    plain.update(threads=1, precision="fp32")
    path.write_text(yaml.safe_dump(plain))
