# The dataset: one table per split. From here on no training reads audio.


rule dataset:
    input:
        key=key("dataset", "dataset", "dataset"),
        utterances=rules.corpus_split.output.utterances,
        words=rules.align.output.words,
        emotion=rules.label.output.emotion,
        vad=rules.label.output.vad,
        tokens=rules.tokenize.output.tokens,
        policy_text=tokenizer_files(config["dataset"]["policy_text"]),
        codec_text=tokenizer_files(config["dataset"]["codec_text"]),
    output:
        train="<root>/dataset/train.parquet",
        dev="<root>/dataset/dev.parquet",
        test="<root>/dataset/test.parquet",
        rejected="<root>/dataset/rejected.parquet",
    log:
        "<logs>/dataset/dataset.log",
    benchmark:
        "<benchmarks>/dataset/dataset.tsv"
    conda:
        "../envs/hpro.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        root=root_of,
    message:
        "dataset: joining tables, one file per split"
    shell:
        "hpro dataset --root {params.root} --params {input.key} 2>&1 | tee {log}"


rule phase_dataset:
    input:
        rules.dataset.output,
