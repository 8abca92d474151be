# An HTML page with figures, tables and audio samples; the audio of most sentences is beside it.


rule report:
    input:
        key=key("report", "report", *(name for name in config if name != "tracking")),
        tables=rules.tables.output,
        curves=[
            *TOKENIZER_CURVES,
            *VOCODER_CURVES,
            *CODEC_CURVES,
            *of_runs("policy", table_systems(POLICIES), "training.csv"),
        ],
        scores=rules.tables.input.scores,
        judged=rules.tables.input.metrics,
        audio=of_runs("eval", table_systems(), "audio.sha256"),
        spoken=of_runs("eval", table_systems(), "synthesis.parquet"),
        utterances=rules.corpus_split.output.utterances,
        words=WORDS,
        codec=CODEC,
        labels=LABELS,
        dataset=DATASET,
        alignment=rules.align_check.output if TEXTGRIDS else [],
        judge=rules.judge_recordings.output,
        vad=of_runs("eval", table_systems(), "word_vad.parquet"),
        times=of_runs("eval", table_systems(), "words.parquet"),
        tokens=of_runs("eval", table_systems(SYSTEMS), "tokens.parquet"),
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
        directory("<root>/report/sentences"),
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
