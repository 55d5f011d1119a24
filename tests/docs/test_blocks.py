"""Every code block of the README and the docs works as it stands, in small: pages.py says what is done with each kind."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

import triaxis
from triaxis.config import config_from_plain
from triaxis.models.cifar import resnet

pages = runpy.run_path(str(Path(__file__).with_name("pages.py")))
ROOT, PAGES = pages["ROOT"], pages["pages"]()
WITH_BLOCKS = [path for path in PAGES if any(block.language != "text" for block in pages["blocks"](path))]
NOTEBOOKS = pages["notebooks"]()
# The README trains a base model that was given, and the tutorial one of its own; the other pages share a run whose base model was trained.
OWN_RUN = {"README.md", "docs/tutorial.md"}
# Run with what they need by other tests: (page, language).
ELSEWHERE = {("README.md", "python"): "tests/integration/test_examples.py"}
LONGEST = 120
# A notebook that is written from a page, which is run.
WRITTEN = {"examples/notebooks/clothing.ipynb"}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def make_pictures(folder: Path) -> None:
    """Three classes of 20 pictures each that differ in colour, also as three splits; some pictures, and weights to start from."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(("cat", "dog", "fox")):
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(20):
            pixels = rng.integers(0, 120, (16, 18, 3))
            pixels[:, :, label] += 100
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "photos" / name / f"{number}.png")
    for split in ("train", "validation", "test"):
        shutil.copytree(folder / "photos", folder / "clothing" / split)
    for name in ("cat.jpg", "hat.jpg", "shoes.jpg"):
        shutil.copy(folder / "photos" / "cat" / "0.png", folder / name)
    torch.save(resnet(8, num_classes=3).state_dict(), folder / "trained.pth")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures in which Get started was followed up to its run."""
    folder = tmp_path_factory.mktemp("finished")
    make_pictures(folder)
    (page,) = [path for path in PAGES if path.name == "get_started.md"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for block in pages["blocks"](page):
            if block.language == "sh" and re.search(r"^triaxis (init|run) ", block.text):
                pages["run_block"](block, {})
        pages["run_command"](["triaxis", "export", "runs/photos", "--format", "pt2"])
    shutil.copytree(folder / "runs" / "photos", folder / "runs" / "demo")
    return folder


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of one page's reader, as the current one."""
    page = request.getfixturevalue("path")
    folder = tmp_path / "place"
    if name_of(page) in OWN_RUN:
        make_pictures(folder)
    else:
        shutil.copytree(request.getfixturevalue("finished"), folder)
    if "triaxis init" in page.read_text():
        (folder / "triaxis.yaml").unlink(missing_ok=True)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    return folder


def given() -> dict[str, Any]:
    """What a reader has: a trained model, its data and a configuration."""
    labels = torch.arange(48) % 3
    data = TensorDataset(torch.randn(48, 3, 16, 16) + labels.view(-1, 1, 1, 1), labels)
    short = {"epochs": 1, "batch_size": 16}
    small = {"threads": 1, "precision": "fp32", "finetune": short, "collect": {"recipe": short, "num_trials": 4}}
    config = config_from_plain({**small, "profile": {"batches": [1], "repeats": 3}})
    model = resnet(14, width=0.5, num_classes=3)
    return {"__name__": "__main__", "triaxis": triaxis, "model": model, "splits": [data] * 3, "config": config}


@pytest.mark.parametrize("path", WITH_BLOCKS, ids=name_of)
@pytest.mark.usefixtures("place")
def test_the_blocks_of_a_page_run(path: Path) -> None:
    names = given()
    for block in pages["blocks"](path):
        if block.reason is None and (block.page, block.language) not in ELSEWHERE:
            try:
                pages["run_block"](block, names)
            except Exception as error:
                error.add_note(f"in the block at {block.page}:{block.line}")
                raise


@pytest.mark.parametrize("path", [path for path in NOTEBOOKS if name_of(path) not in WRITTEN], ids=name_of)
def test_the_cells_of_a_notebook_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_pictures(tmp_path / "place")
    monkeypatch.chdir(tmp_path / "place")
    shown: list[Any] = []
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=shown.append, SVG=Path, IFrame=lambda src, **_: Path(src)))
    names: dict[str, Any] = {"__name__": "__main__"}
    for cell in pages["cells"](path):
        try:
            pages["run_block"](cell, names)
        except Exception as error:
            error.add_note(f"in cell {cell.line} of {cell.page}")
            raise
    assert shown and all(path.is_file() for path in shown)


def test_the_notebook_of_the_tutorial_is_written_from_it() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "notebook.py"))
    stored = script["NOTEBOOK"].read_text(encoding="utf-8")
    assert json.loads(stored) == script["notebook"](script["PAGE"].read_text(encoding="utf-8")), "python scripts/notebook.py"
    # What the notebook runs is what the page runs, so that testing the page tests both.
    blocks = [block for block in pages["blocks"](script["PAGE"]) if block.reason is None and block.language != "text"]
    run = [(block.language, block.text) for block in blocks if block.language != "yaml" or pages["FILE"].match(block.text)]
    assert [(cell.language, cell.text) for cell in pages["cells"](script["NOTEBOOK"])] == run


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_a_notebook_is_one(path: Path) -> None:
    found = json.loads(path.read_text(encoding="utf-8"))
    assert (found["nbformat"], found["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in found["cells"]}) == len(found["cells"])
    for cell in found["cells"]:
        wanted = {"cell_type", "id", "metadata", "source"} | ({"execution_count", "outputs"} if cell["cell_type"] == "code" else set())
        assert set(cell) == wanted
        assert name_of(path) in WRITTEN or not cell.get("outputs"), "outputs are stripped, or come from the page"


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_a_block_says_its_language_and_why_it_is_not_run(path: Path) -> None:
    blocks = pages["blocks"](path)
    assert 2 * len(blocks) == len(re.findall(r"^ *```", path.read_text(), re.M))
    for block in blocks:
        assert block.language in pages["LANGUAGES"], f"{block.page}:{block.line}"
        assert block.reason is None or len(block.reason.split()) > 3, f"{block.page}:{block.line}: say why"


def test_what_runs_elsewhere_does() -> None:
    for (page, _), test in ELSEWHERE.items():
        assert page in (ROOT / test).read_text()


@pytest.mark.parametrize("path", [path for path in PAGES if path.name != "CHANGELOG.md"], ids=name_of)
def test_no_line_is_long(path: Path) -> None:
    lines = enumerate(_without_outputs(path.read_text()).splitlines(), 1)
    long = [f"{number}: {len(line)}" for number, line in lines if len(line) > LONGEST and not line.lstrip().startswith("|")]
    assert not long, f"{name_of(path)}: wrap lines {', '.join(long)}"


def _without_outputs(text: str) -> str:
    """Blank what a program printed, which nobody can wrap."""
    return re.sub(r"^```text\n.*?^```$", lambda block: "\n" * block[0].count("\n"), text, flags=re.M | re.S)
