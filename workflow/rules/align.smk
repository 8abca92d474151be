# Forced alignment: where each word begins and ends.


rule align:
    input:
        key=key("align", "align", "align"),
        utterances=rules.corpus_split.output.utterances,
        audio=of_sets("audio.sha256"),
    output:
        words="<root>/align/words.parquet",
        rejected="<root>/align/rejected.parquet",
        textgrids=directory("<root>/align/textgrids"),
    log:
        "<logs>/align/align.log",
    benchmark:
        "<benchmarks>/align/align.tsv"
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
    message:
        "align: word boundaries by {config[align][backend]}"
    shell:
        "hpro align --root {params.root} --params {input.key} --threads {threads} 2>&1 | tee {log}"


rule align_check:
    input:
        key=key("align_check", "align-check"),
        reference=TEXTGRIDS,
        utterances=rules.corpus_split.output.utterances,
        words=rules.align.output.words,
        truth=of_sets("truth_words.parquet", CONTROLLED),
    output:
        accuracy="<root>/align/accuracy.json",
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
    message:
        "align: comparing word boundaries with the references that exist"
    shell:
        "hpro align-check --root {params.root} {input.reference} 2>&1 | tee {log}"


rule phase_align:
    input:
        rules.align.output.words,
        rules.align.output.rejected,
        rules.align_check.output if TEXTGRIDS else [],
