"""What users type is pinned: a change here is a change for them, and belongs in CHANGELOG.md."""

from __future__ import annotations

import typer.main

import triaxis
from triaxis.cli import app

PUBLIC_NAMES = [
    "Budget",
    "Config",
    "KeepRatios",
    "Point",
    "PrunePlan",
    "Recipe",
    "Result",
    "Solution",
    "Splits",
    "Surgeon",
    "TriaxisError",
    "compress",
    "fit",
    "from_datasets",
    "frontier",
    "inspect_model",
    "load",
    "load_config",
    "predict_files",
    "push_to_hub",
    "solve",
]

COMMANDS = {
    "run": ["CONFIG", "--out", "-o", "--effort", "--hours", "--executor", "--address", "--protect", "--prune-only"],
    "init": [
        *("--model", "-m", "--data", "-d", "--weights", "-w", "--budget", "-b"),
        *("--protect", "--prune-only", "--file", "-f", "--force"),
    ],
    "plan": ["CONFIG", "--effort", "--json"],
    "status": ["RUN", "--watch", "-w", "--json"],
    "open": ["RUN", "--port", "--browser"],
    "collect": ["RUN", "--trials"],
    "fit": ["RUN|POINTS.csv", "--predict", "--budget", "-b", "--json"],
    "solve": ["RUN", "--budget", "-b", "--json"],
    "frontier": ["RUN", "--metric", "--num", "--json"],
    "prune": ["RUN", "--budget", "-b"],
    "report": ["RUN...", "--out", "-o"],
    "inspect": [
        *("MODEL", "--input", "--channels", "--classes", "--keep", "--save", "--weights"),
        *("--protect", "--prune-only", "--example-input", "--json"),
    ],
    "export": ["RUN", "--format", "-f", "--with-preprocessing"],
    "predict": ["RUN/compressed", "IMAGE...", "--top", "--allow-code", "--out", "-o", "--json"],
    "bench": ["RUN", "--batch", "--runtime", "--backend", "--json"],
    "push": ["RUN", "ORG/NAME", "--license", "--private"],
    "doctor": ["--measure", "--json"],
}


def test_public_names() -> None:
    assert triaxis.__all__ == sorted(triaxis.__all__) == PUBLIC_NAMES
    for name in PUBLIC_NAMES:
        assert getattr(triaxis, name) is not None


def test_commands_and_their_options() -> None:
    found = {}
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        if name != "study":
            is_option = {p: p.param_type_name == "option" for p in command.params}
            found[name] = [word for p in command.params for word in (p.opts if is_option[p] else [p.metavar])]
    assert found == COMMANDS
