# Result tables with the paper's figures, and an HTML page with figures, tables and audio samples.


rule tables:
    input:
        key=key("tables", "tables", "tables", "seeds", "evaluate"),
        metrics=of_runs("eval", wanted(), "metrics.json"),
        scores=of_runs("eval", wanted(), "scores.parquet"),
    output:
        report(
            expand("<root>/tables/{table}.csv", table=TABLES),
            caption="../report/tables.rst",
            category="Tables",
        ),
        expand("<root>/tables/{table}.md", table=TABLES),
        "<root>/tables/differences.csv",
        "<root>/tables/record_tables.json",
    log:
        "<logs>/report/tables.log",
    benchmark:
        "<benchmarks>/report/tables.tsv"
    conda:
        "../envs/hpro.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        root=root_of,
    message:
        "tables: means over seeds with 95 % intervals"
    shell:
        "hpro tables --root {params.root:q} --params {input.key:q} 2>&1 | tee {log:q}"


rule tables_all:
    input:
        key=key(
            "tables_all",
            "tables",
            "tables",
            "seeds",
            "evaluate",
            settings={**config, "tables": {**TABLES, "ablation": VARIANTS}},
        ),
        metrics=of_runs("eval", [*wanted(), *VARIANTS], "metrics.json"),
        scores=of_runs("eval", [*wanted(), *VARIANTS], "scores.parquet"),
    output:
        report(
            expand("<root>/tables_all/{table}.csv", table=TABLES),
            caption="../report/tables.rst",
            category="Tables",
        ),
        expand("<root>/tables_all/{table}.md", table=TABLES),
        "<root>/tables_all/differences.csv",
        "<root>/tables_all/record_tables.json",
    log:
        "<logs>/report/tables_all.log",
    benchmark:
        "<benchmarks>/report/tables_all.tsv"
    conda:
        "../envs/hpro.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        root=root_of,
        out=lambda wildcards, output: os.path.dirname(output[0]),
    message:
        "tables: all variants of params.yaml"
    shell:
        "hpro tables --root {params.root:q} --params {input.key:q} --out {params.out:q}"
        " 2>&1 | tee {log:q}"


rule report:
    input:
        key=key("report", "report", *config),
        tables=rules.tables.output,
        curves=[
            *TOKENIZER_CURVES,
            *CODEC_CURVES,
            *of_runs("policy", wanted(POLICIES), "training.csv"),
        ],
        scores=rules.tables.input.scores,
        judged=rules.tables.input.metrics,
        audio=of_runs("eval", wanted(), "audio.sha256"),
        spoken=of_runs("eval", wanted(), "synthesis.parquet"),
        utterances=rules.corpus_split.output.utterances,
        words=WORDS,
        labels=LABELS,
        dataset=DATASET,
        alignment=rules.align_check.output if TEXTGRIDS else [],
        judge=rules.judge_recordings.output,
        vad=of_runs("eval", wanted(), "word_vad.parquet"),
        rejected=[
            rules.corpus_split.output.rejected,
            UNALIGNED,
            *of_sets("rejected.parquet"),
        ],
    output:
        report(
            "<root>/report/index.html",
            caption="../report/index.rst",
            category="Report",
        ),
        "<root>/report/record_report.json",
    log:
        "<logs>/report/report.log",
    benchmark:
        "<benchmarks>/report/report.tsv"
    conda:
        "../envs/hpro.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        root=root_of,
    message:
        "report: {output}"
    shell:
        "hpro report --root {params.root:q} --params {input.key:q} 2>&1 | tee {log:q}"


rule phase_report:
    input:
        rules.tables.output,
        rules.report.output,
