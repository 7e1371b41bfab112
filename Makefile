# Every target installs what it needs into .venv first; nothing is installed twice.
VENV ?= .venv
PY := $(VENV)/bin/python
UV := $(VENV)/bin/uv
READY := $(VENV)/.ready
PYTHON ?= python3
UV_VERSION := 0.13.9
# On two cores: half of the time tests wait, for processes that start or are killed.
JOBS ?= 3
FAULTS := tests/client/test_network_faults.py tests/server/state/test_troubles.py tests/server/models/test_damaged.py tests/server/test_degradation.py
CYCLONEDX_VERSION := 7.5.0
AZURITE_VERSION := 3.35.0
# uv brings certificates of its own; behind a proxy with another authority the system's are needed.
SYSTEM_CERTS := $(if $(wildcard /etc/ssl/certs/ca-certificates.crt),--system-certs)
UV_OPTIONS := --quiet --python $(PY) $(SYSTEM_CERTS)

# Without bytecode `import airflow.sdk` takes several times as long.
unexport PYTHONDONTWRITEBYTECODE
# Airflow's own settings must not leak in from the developer's shell.
unexport AIRFLOW_HOME

.DEFAULT_GOAL := help

.PHONY: help
help: ## what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

$(READY): requirements.lock setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; $$($(PYTHON) --version) was found. Say PYTHON=/path/to/python3.11."; exit 1; }
	@test -x $(PY) || $(PYTHON) -m venv $(VENV) \
		|| { echo "No virtual environment could be made: install python3-venv."; exit 1; }
	@echo "Installing the locked dependencies into $(VENV) ..."
	@$(PY) -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION) \
		&& $(UV) pip install $(UV_OPTIONS) --compile-bytecode --require-hashes -r requirements.lock \
		&& $(UV) pip install $(UV_OPTIONS) --no-deps --editable . \
		|| { echo "The installation failed: see the message above. Are the package registries reachable?"; exit 1; }
	@touch $@

.PHONY: install
install: $(READY) ## install everything into .venv

.PHONY: demo
demo: $(READY) ## watch a DAG retrain a model for five days (DATA=file.csv for your own data)
	@$(PY) -m demo $(if $(DATA),--data "$(DATA)") $(DEMO_ARGS)

.PHONY: serve
serve: $(READY) ## run the server on port 8080 (PORT=, DATA_DIR=)
	@echo "The connection for your Airflow will be in $(or $(DATA_DIR),.serve)/airflow_connections.json"
	@$(VENV)/bin/azureml-classic-server --data-dir $(or $(DATA_DIR),.serve) --port $(or $(PORT),8080)

.PHONY: programs
programs: ## install the programs that tests start and pip does not have (Azurite; needs Node.js)
	@npm install --silent --no-audit --no-fund --prefix .programs azurite@$(AZURITE_VERSION)

.PHONY: test
test: $(READY) ## run the tests (10 minutes)
	@$(PY) -m pytest -n $(JOBS) --ignore tests/standalone --ignore tests/targets -m "not long"

.PHONY: whole
whole: $(READY) ## the same, and those that kill or wait for half a minute each; before a release (15 minutes)
	@$(PY) -m pytest -n $(JOBS) --ignore tests/standalone --ignore tests/targets

.PHONY: standalone
standalone: $(READY) ## kill the processes of a real Airflow, and backfill on it (5 minutes)
	@$(PY) -m pytest -n 0 --timeout 1800 --ignore tests/standalone/test_soak.py tests/standalone

.PHONY: soak
soak: export SOAK_SECONDS ?= 120
soak: $(READY) ## 5,000 waits in one triggerer while the server restarts each minute, and all verbs (7 minutes; SOAK_SECONDS=1800)
	@$(PY) -m pytest -n 0 tests/standalone/test_soak.py
	@$(PY) -m pytest -n 0 tests/server/test_histories.py -k grows

TARGETS := mlflow azureml azureml-server
.PHONY: targets
targets: $(READY) ## load exports with MLflow, MLServer and Azure ML, in environments of their own (1.5 GB, 3 minutes)
	@for name in $(TARGETS); do \
		test -x $(VENV)-$$name/bin/python || $(UV) venv --quiet --python $(PY) $(VENV)-$$name; \
		$(UV) pip install --quiet --python $(VENV)-$$name/bin/python $(SYSTEM_CERTS) -r tests/targets/$$name.txt || exit 1; \
	done
	@$(PY) -m pytest -n 0 tests/targets

.PHONY: crash
crash: $(READY) ## kill servers, trainings, PostgreSQL, Azurite and Airflow's processes 350 times under load (60 minutes; CRASH_SEED=, HISTORY_SEED=)
	@CRASH_KILLS=100 $(PY) -m pytest -n 0 --timeout 1800 tests/server/test_crash.py -k sqlite
	@CRASH_KILLS=30 $(PY) -m pytest -n 0 --timeout 1800 tests/server/test_crash.py -k postgresql
	@HISTORY_ROUNDS=200 $(PY) -m pytest -n 0 --timeout 7200 tests/server/test_histories.py
	@AIRFLOW_ROUNDS=20 $(PY) -m pytest -n 0 --timeout 7200 tests/standalone/test_histories.py

.PHONY: faults
faults: $(READY) ## break the network, the disk and the requests, briefly (also part of the tests)
	@$(PY) -m pytest -n $(JOBS) $(FAULTS)

.PHONY: faults-long
faults-long: $(READY) ## the same at every byte, and with a million inputs more (40 minutes)
	@FAULTS_LONG=1 $(PY) -m pytest -n $(JOBS) --timeout 7200 $(FAULTS) tests/server/test_fuzz.py \
		tests/server/web/test_microbatch.py

.PHONY: walks
walks: $(READY) ## train, update, kill, overtake and roll back in any order (WALKS=1000, 15 minutes)
	@AZUREML_CLASSIC_WALKS=$(or $(WALKS),1000) $(PY) -m pytest -n 0 --timeout 14400 tests/server/test_walks.py

.PHONY: simulate
simulate: $(READY) ## retrain for days, and run servers, on a virtual clock with faults at any step (HOURS=10000, minutes)
	@$(PY) -m tests.simulation --hours $(or $(HOURS),10000)

.PHONY: mends
mends: $(READY) ## take each mend of order, loss, repetition, restart and time out, and see that a seed finds it (an hour)
	@$(PY) -m tests.simulation.undone

MUTMUT_VERSION := 3.8.1
.PHONY: mutants
mutants: $(READY) ## change the code a little, thousands of times, and list what quick tests do not notice (ROOMS="fleet retraining.proof")
	@test -d $(VENV)-mutants/mutmut || $(UV) pip install $(UV_OPTIONS) --target $(VENV)-mutants mutmut==$(MUTMUT_VERSION)
	@$(PY) -m tests.mutation $(ROOMS)

.PHONY: celery
celery: $(READY) ## watch a fleet on two Celery workers, with PostgreSQL and Redis of its own (WAYS=, KILL=1)
	@test -x $(VENV)-celery/bin/celery || $(UV) venv --quiet --python $(PY) $(VENV)-celery
	@$(UV) pip install --quiet --python $(VENV)-celery/bin/python $(SYSTEM_CERTS) --compile-bytecode --require-hashes \
		-r requirements.lock -r demo/celery/requirements.lock
	@$(UV) pip install --quiet --python $(VENV)-celery/bin/python --no-deps --editable .
	@$(VENV)-celery/bin/python -m demo.celery $(if $(KILL),--kill) $(WAYS)

.PHONY: quick
quick: $(READY) ## run the quick tests
	@$(PY) -m pytest -n 2 --ignore tests/standalone --ignore tests/targets -m "not slow and not long"

.PHONY: coverage
coverage: $(READY) ## list the lines and branches that no test runs (TESTS= for some of them only)
	@$(PY) -m pytest -n $(JOBS) --ignore tests/standalone --ignore tests/targets $(TESTS) --cov

.PHONY: format
format: $(READY) ## format the code
	@$(VENV)/bin/ruff format . && $(VENV)/bin/ruff check --fix .

.PHONY: check
check: $(READY) ## format, lint, types, then the tests
	@$(VENV)/bin/ruff format --check . && $(VENV)/bin/ruff check . && $(VENV)/bin/mypy
	@$(MAKE) --no-print-directory test

.PHONY: lock
lock: $(READY) ## renew requirements.lock from setup.cfg
	@$(UV) pip compile --quiet $(SYSTEM_CERTS) setup.cfg --extra dev --universal --python-version 3.11 --generate-hashes --no-annotate \
		--upgrade --custom-compile-command "make lock" -o requirements.lock

.PHONY: bench
bench: $(READY) ## measure beside the peers (25 minutes; ROWS=, RESUME=1, DAYS=)
	@UV=$(UV) $(PY) -m benchmarks $(ROWS) $(if $(RESUME),--resume) $(if $(DAYS),--days $(DAYS)); status=$$?; $(PY) -m benchmarks.report && exit $$status

.PHONY: docs
docs: $(READY) ## renew the parts of the documents that come from the code
	@$(PY) docs/render.py

.PHONY: estimators
estimators: $(READY) ## train each estimator of docs/estimators.md on each kind of data, and renew its table (3 minutes)
	@OMP_NUM_THREADS=1 $(PY) docs/estimators.py

.PHONY: rehearsals
rehearsals: $(READY) ## measure how well a rehearsal tells ruined models, and renew docs/rehearsal.md (5 minutes)
	@OMP_NUM_THREADS=1 $(PY) docs/rehearsals.py

.PHONY: damages
damages: $(READY) ## hurt endpoints in twenty ways, and renew docs/damages.md (10 minutes)
	@OMP_NUM_THREADS=1 $(PY) docs/damages.py

.PHONY: matrix
matrix: $(READY) ## test other Airflows, Pythons and dependencies, and renew docs/install.md (an hour; ONLY="3.3 3.12 lowest")
	@ONLY="$(ONLY)" $(PY) docs/matrix.py

.PHONY: revision
revision: $(READY) ## write the next revision of the database from tables.py (MESSAGE="what it changes")
	@$(PY) -c 'import sys; from airflow_provider_azureml_classic.server.state.schema import new_revision; \
		new_revision(sys.argv[1])' "$(or $(MESSAGE),$(error Say MESSAGE="what it changes"))"
	@$(VENV)/bin/ruff format --quiet airflow_provider_azureml_classic/server/state/migrations

.PHONY: screenshots
screenshots: $(READY) ## renew the pictures in docs/images (needs chromium)
	@$(PY) docs/screenshots.py && $(PY) docs/airflow_pictures.py

.PHONY: site
site: $(READY) ## build the documentation site into .site/html, strictly and without the network (an environment of its own)
	@test -x $(VENV)-site/bin/mkdocs || $(UV) venv --quiet --python $(PY) $(VENV)-site
	@$(UV) pip install --quiet --python $(VENV)-site/bin/python $(SYSTEM_CERTS) -r docs/site/requirements.txt
	@$(PY) docs/site/prepare.py && NO_MKDOCS_2_WARNING=1 $(VENV)-site/bin/mkdocs build --quiet --strict -f docs/site/mkdocs.yml
	@echo "Look at it: $(PY) -m http.server --bind 127.0.0.1 --directory .site/html 8000"

.PHONY: pictures
pictures: $(READY) ## draw docs/images/architecture.svg, and record the demo as docs/images/demo.svg
	@$(PY) docs/pictures.py

.PHONY: wheel
wheel: $(READY) sbom ## build the distribution files into dist/
	@$(UV) build $(UV_OPTIONS)

.PHONY: sbom
sbom: $(READY) ## list what the package depends on, with licences, in dist/sbom.cdx.json (CycloneDX)
	@test -x $(VENV)-sbom/bin/cyclonedx-py || $(UV) venv --quiet --python $(PY) $(VENV)-sbom
	@$(UV) pip install --quiet --python $(VENV)-sbom/bin/python $(SYSTEM_CERTS) cyclonedx-bom==$(CYCLONEDX_VERSION)
	@mkdir -p dist && $(VENV)-sbom/bin/cyclonedx-py environment --output-reproducible \
		--output-file dist/sbom.cdx.json $(PY)

.PHONY: clean
clean: ## remove what the other targets made
	rm -rf $(VENV) $(VENV)-celery $(VENV)-sbom $(VENV)-mutants .mutants.json $(VENV)-site $(VENV)-matrix .site .programs .bench .demo .demo.lock .serve build dist *.egg-info .mypy_cache \
		.ruff_cache .pytest_cache .hypothesis .coverage*
