# Forced alignment: start and end of each word.
from hpro_core.align.mfa_models import local_models, published_models


# On the machine where Snakemake runs: compute nodes may have no internet.
rule align_models:
    input:
        key=key("align_models", "align-models", "align"),
        given=[model.name for model in local_models(SETTINGS.align)],
    output:
        models="<root>/align/mfa_models.csv",
        record="<root>/align/record_align-models.json",
    log:
        "<logs>/align/models.log",
    benchmark:
        "<benchmarks>/align/models.tsv"
    localrule: True
    conda:
        "../envs/mfa.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 1000 * attempt,
        runtime=lambda wildcards, attempt: 20 * attempt,
    params:
        root=root_of,
    message:
        "align: models of the Montreal Forced Aligner"
    shell:
        "hpro align-models --root {params.root:q} --params {input.key:q} 2>&1 | tee {log:q}"


rule align:
    input:
        key=key("align", "align", "align"),
        given=[model.name for model in local_models(SETTINGS.align)],
        models=rules.align_models.output if published_models(SETTINGS.align) else [],
        utterances=SHARD,
        audio=of_sets("audio.sha256"),
    output:
        words="<root>/align/{shard}words.parquet",
        rejected="<root>/align/{shard}rejected.parquet",
        textgrids=directory("<root>/align/{shard}textgrids"),
        record="<root>/align/{shard}record_align.json",
    log:
        "<logs>/align/{shard}align.log",
    benchmark:
        "<benchmarks>/align/{shard}align.tsv"
    conda:
        "../envs/mfa.yaml"
        if config["align"]["backend"] == "mfa"
        else "../envs/hpro.yaml"
    threads: THREADS
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
    params:
        root=root_of,
        shard=shard_of,
        # Word times of the split `judge` are needed only to train a judge; a base includes one.
        leave_out=["--leave-out", "judge"] if config["base"] else [],
    message:
        "align: word boundaries by {config[align][backend]} {params.shard}"
    shell:
        "hpro align --root {params.root:q} --params {input.key:q} --threads {threads}"
        " {params.shard:q} {params.leave_out:q} 2>&1 | tee {log:q}"


rule align_check:
    input:
        key=key("align_check", "align-check"),
        references=list(TEXTGRIDS.values()),
        utterances=rules.corpus_split.output.utterances,
        words=WORDS,
        truth=of_sets("truth_words.parquet", CONTROLLED),
    output:
        accuracy="<root>/align/accuracy.json",
        record="<root>/align/record_align-check.json",
    log:
        "<logs>/align/check.log",
    benchmark:
        "<benchmarks>/align/check.tsv"
    conda:
        "../envs/hpro.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 20 * attempt,
    params:
        root=root_of,
        references=[f"{name}={grids}" for name, grids in TEXTGRIDS.items()],
        exact=[word for name in CONTROLLED for word in ("--exact", name)],
    message:
        "align: comparing word boundaries with references"
    shell:
        "hpro align-check --root {params.root:q} {params.references:q} {params.exact:q}"
        " 2>&1 | tee {log:q}"


rule phase_align:
    input:
        WORDS,
        UNALIGNED,
        [f"<root>/align/{shard}textgrids" for shard in SHARDS],
        rules.align_check.output if TEXTGRIDS else [],
