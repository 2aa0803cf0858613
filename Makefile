# make sample    pictures from the shipped demo model, into runs/sample
# make serve     the demo model as a server, on http://127.0.0.1:8000
# make test      everything but the next two   make lint     ruff and pyright
# make browser   the server's page in Chromium
# make parity    against PyTorch               make bench    ratios against PyTorch (QUICK=1 for a smoke run)
# make demo      train the demo from nothing, or go on where it stopped (DEMO=cpu or DEMO=gpu)
# The first four make .venv when it is missing; PYTHON=python3.12 picks another interpreter.

PYTHON ?= python3
DEMO ?= cpu
WORKDIR ?= runs/demo-$(DEMO)
# Where torch has no CPU build on the default index: make parity PIP_FLAGS="--index-url <an index of CPU builds>"
PIP_FLAGS ?=

ifeq (,$(filter cpu gpu,$(DEMO)))
$(error DEMO is cpu or gpu, not $(DEMO))
endif
CONFIG := configs/demo$(if $(filter gpu,$(DEMO)),_gpu).py

VENV := .venv
RUN := $(VENV)/bin/python
INSTALL := $(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
PINS := requirements.txt constraints.txt pyproject.toml
# One arena that never gives memory back: page faults cost 15 % of a training step on a CPU otherwise.
MALLOC := GLIBC_TUNABLES=glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=17179869184:glibc.malloc.arena_max=1

# A device for each of two cores: a little faster than threads within an operation, with the same numbers.
DEVICES := $(if $(filter cpu,$(DEMO)),XLA_FLAGS=--xla_force_host_platform_device_count=2)

# Compiling fills one core: files of tests go to as many processes as there are cores, up to four, in the order of
# tests/conftest.py.
WORKERS := --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: sample serve test lint browser parity bench demo wheel
.DELETE_ON_ERROR:

sample: $(VENV)/.installed
	$(RUN) sample.py --checkpoint demo --prompts-file docs/prompts.txt --outdir runs/sample --grid

serve: $(VENV)/.installed-serve
	$(RUN) -m dalle3_jax serve $(ARGS)

# Compiling takes most of the time, and the tests' programs are too small to gain from being optimised: a quarter of the
# time of optimised ones, half of it by the two flags (MLIR pipelines for fused kernels; modules split for parallel code).
QUICK_COMPILATION := JAX_DISABLE_MOST_OPTIMIZATIONS=1 \
  XLA_FLAGS="--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"

# Sources are compiled once for all of its processes, also where the environment asks that none be kept.
test: $(VENV)/.installed-dev
	PYTHONDONTWRITEBYTECODE= $(QUICK_COMPILATION) JAX_PLATFORMS=cpu $(RUN) -m pytest $(WORKERS) $(ARGS)

lint: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright

browser: $(VENV)/.installed-browser
	$(QUICK_COMPILATION) JAX_PLATFORMS=cpu $(RUN) -m pytest tests/browser $(ARGS)

parity: $(VENV)/.installed-parity
	JAX_PLATFORMS=cpu $(RUN) -m pytest tests/parity $(ARGS)

bench: $(VENV)/.installed-parity
	$(MALLOC) JAX_PLATFORMS=cpu $(RUN) -m benchmarks $(if $(QUICK),--quick) $(ARGS)

demo: $(VENV)/.installed-$(DEMO)
	$(MALLOC) $(DEVICES) $(RUN) train.py --config $(CONFIG):vae --workdir $(WORKDIR)
	$(MALLOC) $(DEVICES) $(RUN) train.py --config $(CONFIG):names --workdir $(WORKDIR)
	$(MALLOC) $(DEVICES) $(RUN) train.py --config $(CONFIG):places --workdir $(WORKDIR)
	$(MALLOC) $(DEVICES) $(RUN) train.py --config $(CONFIG):layout --workdir $(WORKDIR)
	$(MALLOC) $(DEVICES) $(RUN) train.py --config $(CONFIG):recall --workdir $(WORKDIR)
	$(MALLOC) $(DEVICES) $(RUN) train.py --config $(CONFIG):drawing --workdir $(WORKDIR)
	$(MALLOC) $(DEVICES) $(RUN) train.py --config $(CONFIG):base --workdir $(WORKDIR)
	$(MALLOC) $(DEVICES) $(RUN) train.py --config $(CONFIG):decoder --workdir $(WORKDIR)
	$(MALLOC) $(DEVICES) $(RUN) train.py --config $(CONFIG):distill --workdir $(WORKDIR)
	$(MALLOC) $(DEVICES) $(RUN) train.py --config $(CONFIG):refiner --workdir $(WORKDIR)
	$(MALLOC) $(DEVICES) $(RUN) train.py --config $(CONFIG):distill_refiner --workdir $(WORKDIR)
	$(RUN) -m dalle3_jax export $(WORKDIR)/base dalle3_jax/releases/demo \
	  --add $(WORKDIR)/distill --add $(WORKDIR)/distill_refiner

wheel: $(VENV)/.installed-dev
	rm -rf build/lib
	$(RUN) -m build --wheel --outdir dist .

$(VENV)/.created:
	@$(PYTHON) -c "import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))" || \
	{ echo "error: Python 3.11 to 3.13 is needed, and $(PYTHON) is not one: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(PINS) | $(VENV)/.created
	$(INSTALL) --requirement requirements.txt
	$(INSTALL) --no-deps --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(INSTALL) --editable ".[dev]"
	@touch $@

$(VENV)/.installed-serve: $(VENV)/.installed
	$(INSTALL) --editable ".[serve]"
	@touch $@

# Debian's Chromium where it is there or may be installed, else the build that Playwright fetches.
$(VENV)/.installed-browser: $(VENV)/.installed-dev
	$(INSTALL) --editable ".[dev,browser]"
	command -v chromium >/dev/null || \
	{ [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; } || \
	$(RUN) -m playwright install --with-deps chromium
	@touch $@

$(VENV)/.installed-parity: $(VENV)/.installed-dev
	$(INSTALL) $(PIP_FLAGS) torch
	$(INSTALL) --editable ".[dev,parity]"
	@touch $@

$(VENV)/.installed-cpu: $(VENV)/.installed
	@touch $@

$(VENV)/.installed-gpu: $(VENV)/.installed
	$(INSTALL) --editable ".[cuda]"
	@touch $@
