# Result tables of a run, with the paper's figures beside them, and claims: statistical tests of all
# systems of the tables over several seeds (config/claims.yaml).
BREAKDOWNS = ["by_emotion", "by_speaker", "confusion"]


rule tables:
    input:
        key=key(
            "tables",
            "tables",
            "tables",
            "external",
            "seeds",
            "evaluate",
            settings={**config, "tables": TABLES},
        ),
        metrics=of_runs("eval", table_systems(), "metrics.json"),
        scores=of_runs("eval", table_systems(), "scores.parquet"),
        emotion=of_runs("eval", table_systems(), "emotion_posteriors.parquet"),
        utterances=rules.corpus_split.output.utterances,
    output:
        report(
            expand("<root>/tables/{table}.csv", table=TABLES),
            caption="../report/tables.rst",
            category="Tables",
        ),
        expand("<root>/tables/{table}.md", table=TABLES),
        "<root>/tables/differences.csv",
        expand("<root>/tables/{table}.csv", table=BREAKDOWNS),
        directory("<root>/tables/metrics"),
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
            "external",
            "seeds",
            "evaluate",
            settings={**config, "tables": {**TABLES, "ablation": VARIANTS}},
        ),
        metrics=of_runs("eval", [*table_systems(), *VARIANTS], "metrics.json"),
        scores=of_runs("eval", [*table_systems(), *VARIANTS], "scores.parquet"),
        emotion=of_runs(
            "eval", [*table_systems(), *VARIANTS], "emotion_posteriors.parquet"
        ),
        utterances=rules.corpus_split.output.utterances,
    output:
        report(
            expand("<root>/tables_all/{table}.csv", table=TABLES),
            caption="../report/tables.rst",
            category="Tables",
        ),
        expand("<root>/tables_all/{table}.md", table=TABLES),
        "<root>/tables_all/differences.csv",
        expand("<root>/tables_all/{table}.csv", table=BREAKDOWNS),
        directory("<root>/tables_all/metrics"),
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


rule claims:
    input:
        key=key("claims", "claims", "tables", "seeds", "claims", "variants", "reward"),
        scores=judged_scores,
        rewards=of_runs("policy", table_systems(VARIANTS), "training.csv"),
    output:
        "docs/claims.csv",
        "docs/claims_tests.csv",
        "docs/claims_rewards.csv",
        "docs/claims.md",
    log:
        "<logs>/claims/claims.log",
    benchmark:
        "<benchmarks>/claims/claims.tsv"
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
        "claims: tests against SFT over seeds and utterances"
    shell:
        "hpro claims --root {params.root:q} --params {input.key:q} --out {params.out:q}"
        " 2>&1 | tee {log:q}"


rule phase_tables:
    input:
        rules.tables.output,
