# One command per chore; each works from a fresh clone with nothing but Python >= 3.11 and make.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: install demo test lint docs release-check zoo soak bench-cifar clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"triaxis needs Python 3.11 or newer, got {sys.version.split()[0]}: make install PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

demo: install
	$(BIN)/triaxis run examples/digits.yaml --out runs/demo

test: lint
	$(BIN)/pytest --numprocesses logical --maxprocesses 8 --dist loadfile $(ARGS)

docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

release-check: install
	$(BIN)/python scripts/release_check.py $(ARGS)

lint: install
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

zoo: install
	$(BIN)/python benchmarks/zoo.py

soak: install
	$(BIN)/python benchmarks/soak.py $(ARGS)

bench-cifar: install
	@test -n "$(DATA)" || { echo "make bench-cifar DATA=PATH must name CIFAR-10, as an image folder or as torchvision keeps it" >&2; exit 2; }
	$(BIN)/python benchmarks/cifar.py --data "$(DATA)" $(ARGS)

clean:
	rm -rf .venv runs .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build dist src/*.egg-info
