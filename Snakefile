# Targets of the HPRO workflow, from raw speech to a report. The rules are in workflow/rules, one
# file per phase; all settings are in params.yaml.
import os
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.utils import min_version

from hpro_core.errors import HproError
from hpro_core.plan.cost_table import print_costs
from hpro_core.plan.jobs import JOBS_FILE, listing_of_workflow, write_listing
from hpro_core.plan.live import show_progress
from hpro_core.plan.live_run import guard_run
from hpro_core.plan.request import guard_request
from hpro_core.plan.run_record import RunRecorder
from hpro_core.plan.settings import PARAMS, settings_of_workflow
from hpro_core.process import QUIET_SHELL_PREFIX, SHELL_PREFIX

min_version("9.27")

# Instead of `configfile:`, which parses 1e-05 as text and accepts duplicate settings.
try:
    values, SETTINGS = settings_of_workflow(workflow)
except HproError as error:
    raise WorkflowError(str(error)) from None
config.clear()
config.update(values)
if workflow.is_main_process:
    workflow.configfiles.append(str(PARAMS))  # for Snakemake's report


include: "workflow/rules/common.smk"
include: "workflow/rules/corpus.smk"
include: "workflow/rules/align.smk"
include: "workflow/rules/label.smk"
include: "workflow/rules/speech.smk"
include: "workflow/rules/dataset.smk"
include: "workflow/rules/shards.smk"
include: "workflow/rules/codec.smk"
include: "workflow/rules/policy.smk"
include: "workflow/rules/reward.smk"
include: "workflow/rules/synthesis.smk"
include: "workflow/rules/judges.smk"
include: "workflow/rules/pretrained.smk"
include: "workflow/rules/analysis.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        rules.phase_report.input,
        missing_records,


rule all_ablations:
    input:
        rules.tables_all.output,


shell.prefix(SHELL_PREFIX)
# In the main process only, not in those of cluster jobs: cost of a run, key files, progress.
if JOBS_FILE in os.environ:  # `hpro plan`
    write_listing(Path(os.environ[JOBS_FILE]), listing_of_workflow(workflow))
elif workflow.is_main_process:
    print_costs(SETTINGS, workflow)
    keys = KEYS.contents(rule.shellcmd for rule in workflow.rules)
    guard_run(
        workflow, SETTINGS.run, config, lambda: write_changed(keys), WorkflowError
    )
    guard_request(workflow, SETTINGS, WorkflowError)
    logger.addHandler(RunRecorder(workflow, SETTINGS.run))
    if show_progress(workflow, logger, SETTINGS.run):
        shell.prefix(QUIET_SHELL_PREFIX)
