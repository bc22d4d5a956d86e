# Longshore. `make` lists the targets. A fresh Debian 12 or 13 machine needs only git and make; as root, `make demo` installs the rest.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# pytest arguments, e.g. make test ARGS="tests/lab -x"
ARGS ?=
# Two processes share the tests; tests/conftest.py says which stay together.
SIDE_BY_SIDE := --numprocesses 2 --dist loadgroup --no-loadscope-reorder
# make demo KEEP=1 leaves the demo running; MODE=nftables (or iptables) is the proxy's mode in it.
KEEP ?=
MODE ?= iptables

.DEFAULT_GOAL := help
.PHONY: help demo demo-cluster demo-ha test test-vm test-cluster unit loopback lint docs bench bench-kubelet bench-cluster bench-node-api bench-kube-proxy deb clean venv deps lock

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: deps venv ## Three pods, a Service, failures and recovery on this machine; leaves nothing behind (KEEP=1: leaves it running).
	@$(BIN)/python -m lab.demo --mode $(MODE) $(if $(KEEP),--keep)

demo-cluster: deps venv ## This machine becomes a Kubernetes cluster and is itself again; the first time builds the control plane (six minutes) and metrics-server (three).
	@$(BIN)/python -m lab.control_plane_build
	@$(BIN)/python -m lab.metrics_server
	@$(BIN)/python -m lab.demo --cluster --mode $(MODE) $(if $(KEEP),--keep)

demo-ha: deps venv ## Three control planes; the one that leads etcd is killed while a client and kubectl go on, and comes back.
	@$(BIN)/python -m lab.control_plane_build
	@$(BIN)/python -m lab.demo_ha

# Each file at the same time as the others: a machine that boots, or waits for its pods, leaves the processors to them.
# The kernel of such a machine may crash by itself, whatever runs on it: the files that failed for nothing else run once more.
RUN_VM := $(BIN)/pytest tests/vm --numprocesses 3 --dist loadfile --durations=0 $(ARGS)
TEST_VM := $(BIN)/python -m lab.package && $(BIN)/python -m lab.vm_image && { $(RUN_VM) || $(RUN_VM) --after-crash; }

# Beside what the first tests need, the control plane is built and the machines' disk made, each once. Who wants them says it when
# that failed: tests/cluster is skipped then, test-vm fails.
test: deps venv ## Every test, as root: real containerd (1.x and 2.x), real kernel, real iptables; with ARGS all but test-vm.
	@$(if $(ARGS),,{ $(BIN)/python -m lab.control_plane_build; $(BIN)/python -m lab.metrics_server; $(BIN)/python -m lab.vm_image; } &) $(BIN)/python -m lab.build && $(BIN)/python -m lab.package; status=$$?; wait; exit $$status
	@status=0; $(BIN)/pytest $(SIDE_BY_SIDE) --ignore=tests/vm $(ARGS) || status=$$?; \
	$(if $(ARGS),,{ $(TEST_VM); } || status=$$?;) exit $$status

unit: venv ## The fast tests, which need no root.
	@$(BIN)/pytest tests/unit --numprocesses auto $(ARGS)

loopback: venv ## The tests with real processes, sockets and time that need no root.
	@$(BIN)/pytest tests/loopback --numprocesses auto $(ARGS)

test-vm: deps venv ## A node's life on four machines at a time: systemd, reboot, upgrade, reset; the end of make test.
	@$(TEST_VM)

test-cluster: deps venv ## The tests with a real API server; etcd and the control plane are built once.
	@$(BIN)/python -m lab.control_plane_build
	@$(BIN)/python -m lab.metrics_server
	@$(BIN)/pytest tests/cluster $(ARGS)

lint: venv ## ruff, mypy --strict and the import contracts.
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports

docs: venv ## Write docs/pod-support.md from the code's table and tests/cases/pod-support.yaml.
	@$(BIN)/python -m lab.pod_support

bench: deps venv ## The measurements of docs/benchmarks.md, as ratios within one run.
	@$(BIN)/python -m lab.build
	@$(BIN)/python -m bench $(ARGS)

bench-kubelet: deps venv ## Beside the real kubelet, built from its Go modules at the first time (docs/benchmarks.md).
	@$(BIN)/python -m bench.kubelet $(ARGS)

bench-cluster: deps venv ## Beside the real kubelet once more, as nodes of a real control plane.
	@$(BIN)/python -m lab.control_plane_build
	@$(BIN)/python -m bench.cluster $(ARGS)

bench-node-api: deps venv ## The API on port 10250 beside the kubelet's; ARGS="--pods 10 --sessions 200" is the short way.
	@$(BIN)/python -m lab.control_plane_build
	@$(BIN)/python -m bench.node_api $(ARGS)

bench-kube-proxy: deps venv ## Beside the real kube-proxy, built likewise; ARGS="--services 1000" is the short way.
	@$(BIN)/python -m bench.kube_proxy $(ARGS)

deb: ## The Debian package for this distribution, into dist/ (docs/packaging.md); installs its own build dependencies.
	@lab/deps.sh deb
	@debian/make-deb

clean: ## Remove what a killed demo left, and caches.
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m lab.demo --clean && $(BIN)/python -m lab.demo_ha --clean; fi
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
	@find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

deps: ## Install what is missing of Debian's packages (root).
	@lab/deps.sh

venv: $(VENV)/.complete ## The virtual environment, from requirements.lock.

$(VENV)/.complete: requirements.lock pyproject.toml
	@pkg-config --exists libsystemd 2>/dev/null || { echo "cannot build systemd-python: needs libsystemd; run \`make deps\` as root" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --use-pep517 --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	--no-emit-index-url --no-emit-find-links

lock: venv ## Resolve pyproject.toml again: requirements.lock for work here, requirements-run.lock for the package.
	$(COMPILE) --extra dev --extra ansible --output-file requirements.lock pyproject.toml
	$(COMPILE) --constraint requirements.lock --output-file requirements-run.lock pyproject.toml
