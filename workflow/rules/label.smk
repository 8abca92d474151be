# Labels: an emotion posterior for each utterance, valence, arousal and dominance for each word.


rule label:
    input:
        key=key("label", "label", "label"),
        utterances=rules.corpus_split.output.utterances,
        words=rules.align.output.words,
        audio=of_sets("audio.sha256"),
        truth=[
            of_sets(f"truth_{kind}.parquet", CONTROLLED)
            for kind in ("words", "vad", "emotion")
        ],
    output:
        emotion="<root>/label/emotion_posteriors.parquet",
        vad="<root>/label/word_vad.parquet",
    log:
        "<logs>/label/label.log",
    benchmark:
        "<benchmarks>/label/label.tsv"
    conda:
        "../envs/hpro.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
    params:
        root=root_of,
    message:
        "label: emotion and word-level affect"
    shell:
        "hpro label --root {params.root} --params {input.key} 2>&1 | tee {log}"


rule phase_label:
    input:
        rules.label.output,
