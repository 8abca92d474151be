# make run: set up and run everything. make test: set up and test. Both do only what is not done yet.
SHELL := /bin/bash
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

# Setup: TORCH=cpu leaves CUDA out, and stays so for this .venv; INSTALLER=pip does without uv.
TORCH ?= $(or $(shell cat $(VENV)/.torch 2>/dev/null),default)
INSTALLER ?= uv
SETUP = TORCH=$(TORCH) INSTALLER=$(INSTALLER) workflow/scripts/setup.sh $(VENV)
digest = $(TORCH)-$(shell cat $(1) pyproject.toml hpro_core/pretrained/weights.csv | sha256sum | cut -c1-16)
STAMP := $(VENV)/.setup-$(call digest,requirements.txt)
DEV_STAMP := $(VENV)/.setup-dev-$(call digest,requirements.txt requirements-dev.txt)

$(if $(findstring :,$(CURDIR)),$(error the path of the project has a ':', at which PATH is split: \
	rename the folder $(CURDIR)))

# CONFIG: one or several files of differences from params.yaml, the last one wins.
missing := $(filter-out $(wildcard $(CONFIG)),$(CONFIG))
$(if $(missing),$(error CONFIG: there is no $(missing)))
snakemake_with = snakemake --cores all$(if $(strip $(1)), --configfile $(strip $(1)))
CHOSEN := $(addprefix --configfile ,$(CONFIG))

.PHONY: setup setup-dev run plan ablations claims voices base pull test test-all slow faults fuzz lint types docs \
	ci bench schema pins clean
.NOTPARALLEL:

setup: $(STAMP)       ## packages and weights of a run; TORCH=cpu: without CUDA; INSTALLER=pip: without uv

$(STAMP):
	$(SETUP) requirements.txt
	rm -f $(VENV)/.setup-*
	touch $@

setup-dev: $(DEV_STAMP)   ## and what tests, lint and type checks need

$(DEV_STAMP):
	$(SETUP) requirements-dev.txt
	rm -f $(VENV)/.setup-*
	touch $(STAMP) $@

run: setup            ## raw speech to report, the embedded default; another: make run CONFIG=config/paper.yaml
	$(call snakemake_with,$(CONFIG))

plan: setup           ## what a run costs and what it lacks: make plan CONFIG=config/paper.yaml
	hpro plan $(CHOSEN)
	hpro preflight $(CHOSEN)

ablations: setup      ## every variant of params.yaml, in results/<run>/tables_all
	$(call snakemake_with,$(CONFIG)) -- all all_ablations

claims: setup         ## five seeds of every variant, tested against SFT: docs/claims.md; hours, resumable
	$(call snakemake_with,config/claims.yaml $(CONFIG)) -- claims

data/raw/queen/queen.1c:  ## all of the acted speech, from a Debian package: docs/corpora.md
	workflow/scripts/queen.sh $@

data/raw/hedgewars/metadata.csv:  ## labelled shouts of a game, from its Debian package: docs/judges.md
	python3 workflow/scripts/game_voices.py $(@D)

data/raw/nexuiz/metadata.csv:     ## the same of another game
	python3 workflow/scripts/game_voices.py $(@D)

data/raw/announcements/metadata.csv: | setup  ## one speaker that nothing was trained on: docs/corpora.md
	python -m workflow.scripts.announcements $(@D)

data/raw/synthesisers/metadata.csv: | setup   ## seven voices of flite and espeak-ng: docs/corpora.md
	python -m workflow.scripts.synthesisers $(@D)

voices: setup data/raw/queen/queen.1c data/raw/synthesisers/metadata.csv \
	data/raw/announcements/metadata.csv  ## the base on voices it was not trained on: docs/speech_tokens.md
	$(call snakemake_with,config/voices.yaml $(CONFIG))

base: setup data/raw/queen/queen.1c data/raw/hedgewars/metadata.csv   ## trains the models of data/base anew, from nothing
	$(call snakemake_with,config/base.yaml $(CONFIG)) --config run=base \
		--set-threads sft=1 judge_train=1 label=2 -- base_make tables
	cp -r results/base/base/. data/base/
	find data/base -name 'record_*.json' -delete
	hpro judge-grade data/raw/hedgewars --base data/base
	cp results/base/tables/comparison.csv data/base/figures.csv

pull: setup           ## the run of dvc.lock from the DVC remote; takes no CONFIG, since DVC reads params.yaml alone
	$(if $(CONFIG),$(error pull: dvc.lock is of params.yaml alone, so run it without CONFIG))
	workflow/scripts/pull.sh

pytest_with = OMP_NUM_THREADS=1 pytest --dist loadfile --no-loadscope-reorder

test: setup-dev       ## unit tests, and a miniature of the whole workflow
	$(pytest_with) --numprocesses 2 -m "not slow and not full"

# Three processes on two cores: one of them waits for SLURM.
test-all: setup-dev   ## the tests that `make test` leaves out, but for the slow ones
	$(pytest_with) --numprocesses 3 -m "full and not slow"

slow: setup-dev       ## one step of every training at the paper's size: 5 minutes, 20 GB
	pytest -m slow

fuzz: setup-dev       ## mutated files for every reader: make fuzz N=10000 SEED=1; docs/reliability.md
	python tests/fuzz/run.py --number $(or $(N),10000) --seed $(or $(SEED),1)

lint: setup-dev
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow/rules
	snakemake --lint

types: setup-dev
	mypy
	mypy workflow/scripts
	mypy benchmarks/bench.py

faults: setup-dev     ## N runs disturbed at points drawn by SEED, restarted, compared: docs/reliability.md; resumable
	python -m tests.faults.run --trials $(or $(N),200) --seed $(or $(SEED),1)

docs: setup-dev       ## docs/settings.md, the schema, and docs/ as a site: open site/index.html
	python -m workflow.scripts.settings_reference
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet

ci: lint types test test-all docs

bench: setup          ## cost of each stage per unit of work, against a straightforward way: docs/performance.md
	python benchmarks/bench.py --json benchmarks/bench.json --markdown docs/performance.md

schema: setup         ## after a change of hpro_core/params.py or params.yaml: schema for editors, docs/settings.md
	python -m workflow.scripts.settings_reference

pins: setup-dev       ## after a change of the dependencies in pyproject.toml; OPTIONS=--upgrade renews all
	workflow/scripts/pins.sh $(OPTIONS)

clean:                ## checkpoints, logs, measures of jobs and caches; results stay
	rm -rf work logs site .mypy_cache .pytest_cache .ruff_cache
	[ ! -d benchmarks ] || find benchmarks -name '*.tsv' -delete
