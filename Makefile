# make run: set up and run everything. make test: set up and test. Both do only what is not done yet.
SHELL := /bin/bash
VENV := .venv
PINS := $(shell cat requirements.txt pyproject.toml hpro_core/weights.csv | sha256sum | cut -c1-16)
STAMP := $(VENV)/.setup-$(PINS)
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

CHOSEN := $(if $(CONFIG),--configfile $(CONFIG))

.PHONY: setup run plan ablations claims base pull test slow lint types ci schema pins clean

setup: $(STAMP)

$(STAMP):
	workflow/scripts/setup.sh $(VENV)
	rm -f $(VENV)/.setup-*
	touch $@

run: setup            ## raw speech to report, the embedded default
	snakemake --cores all

plan: setup           ## what a run costs and what it lacks: make plan CONFIG=config/paper.yaml
	hpro plan $(CHOSEN)
	hpro preflight $(CHOSEN)

ablations: setup      ## every variant of params.yaml, in results/<run>/tables_all
	snakemake --cores all -- all all_ablations

claims: setup         ## five seeds of every variant, tested against SFT: docs/claims.md; hours, resumable
	snakemake --cores all --configfile config/claims.yaml -- claims

data/raw/queen/queen.1c:  ## all of the acted speech, from a Debian package: docs/corpora.md
	workflow/scripts/queen.sh $@

base: setup data/raw/queen/queen.1c   ## trains the models of data/base anew, from nothing
	snakemake --cores all --set-threads sft=1 judge_train=1 label=2 --configfile config/base.yaml -- base_make tables
	cp -r results/base/base/. data/base/
	cp results/base/tables/comparison.csv data/base/figures.csv

pull: setup           ## the run of dvc.lock from the DVC remote
	workflow/scripts/pull.sh

test: setup           ## all tests, a miniature of the whole workflow among them; one process waits for SLURM
	OMP_NUM_THREADS=1 pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

slow: setup           ## one step of every training at the paper's size: 5 minutes, 20 GB
	pytest -m slow

lint: setup
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow/rules
	snakemake --lint

types: setup
	mypy
	mypy workflow/scripts

ci: lint types test

schema: setup         ## after a change of hpro_core/params.py
	hpro params-schema > workflow/schemas/params.schema.json

pins: setup           ## after a change of the dependencies in pyproject.toml
	pip-compile --quiet --strip-extras --extra dev --no-emit-index-url --no-emit-find-links \
		--no-emit-trusted-host --output-file requirements.txt pyproject.toml

clean:                ## checkpoints, logs and caches; results stay
	rm -rf work logs benchmarks .mypy_cache .pytest_cache .ruff_cache
