# HPRO, from raw speech to a judged report: targets only. The rules are in workflow/rules, one file
# per phase; every setting is in params.yaml.
from snakemake.logging import logger
from snakemake.utils import min_version

from hpro_core.plan.bill import announced
from hpro_core.plan.live import QUIET_JOBS, follow
from hpro_core.plan.settings import without_null_sets

min_version("9.27")


configfile: "params.yaml"


# A --configfile leaves out a corpus of params.yaml by null.
config.update(without_null_sets(config))


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
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/base.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/claims.smk"


rule all:
    default_target: True
    input:
        rules.phase_report.input,


rule all_ablations:
    input:
        rules.tables_all.output,


# Not in the processes of a cluster's jobs: what a full-size run costs, the key files, the progress.
if workflow.is_main_process:
    announced(SETTINGS)
    KEYS.write(rule.shellcmd for rule in workflow.rules)
    if follow(workflow, logger, SETTINGS.run):
        shell.prefix(QUIET_JOBS)
