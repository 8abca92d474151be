# The dataset: one table per split, and an Arrow file of it that trainings map into memory. With
# shards, `dataset_gather` writes the Arrow files. Later trainings do not read audio.


rule dataset:
    input:
        key=key("dataset", "dataset", "dataset"),
        utterances=SHARD,
        words=rules.align.output.words,
        emotion=rules.label.output.emotion,
        vad=rules.label.output.vad,
        tokens=rules.tokenize.output.tokens,
        policy_text=tokenizer_files(config["dataset"]["policy_text"]),
        codec_text=tokenizer_files(config["dataset"]["codec_text"]),
    output:
        train="<root>/dataset/{shard}train.parquet",
        dev="<root>/dataset/{shard}dev.parquet",
        test="<root>/dataset/{shard}test.parquet",
        rejected="<root>/dataset/{shard}rejected.parquet",
        mapped=(
            []
            if len(SHARDS) > 1
            else [
                f"<root>/dataset/{{shard}}{name}.arrow"
                for name in ("train", "dev", "test")
            ]
        ),
        record="<root>/dataset/{shard}record_dataset.json",
    log:
        "<logs>/dataset/{shard}dataset.log",
    benchmark:
        "<benchmarks>/dataset/{shard}dataset.tsv"
    priority: 2  # every training waits for it
    conda:
        "../envs/hpro.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        root=root_of,
        shard=shard_of,
    message:
        "dataset: joining tables into one file per split {params.shard}"
    shell:
        "hpro dataset --root {params.root:q} --params {input.key:q} {params.shard:q}"
        " 2>&1 | tee {log:q}"


rule phase_dataset:
    input:
        DATASET,
        TRAIN,
        DEV,
        TEST,
