# Concatenates the tables of all shards of a stage, if `shards` in params.yaml is above one.
if len(SHARDS) > 1:
    from hpro_core.shards import TABLES as OF_SHARDS

    for stage in sorted(OF_SHARDS.keys() - {"dataset"}):

        rule:
            name:
                f"{stage}_gather"
            input:
                key=key(
                    f"{stage}_gather", "gather", "shards", *({stage} & config.keys())
                ),
                tables=of_shards(stage, OF_SHARDS[stage]),
            output:
                [f"<root>/{stage}/{name}.parquet" for name in OF_SHARDS[stage]],
                f"<root>/{stage}/record_gather.json",
            log:
                f"<logs>/{stage}/gather.log",
            benchmark:
                f"<benchmarks>/{stage}/gather.tsv"
            conda:
                "../envs/hpro.yaml"
            threads: 1
            resources:
                mem_mb=lambda wildcards, attempt: 4000 * attempt,
                runtime=lambda wildcards, attempt: 60 * attempt,
            params:
                root=root_of,
                stage=stage,
            message:
                "{params.stage}: concatenating the tables of all shards"
            shell:
                "hpro gather {params.stage:q} --root {params.root:q} --params {input.key:q}"
                " 2>&1 | tee {log:q}"

    # A separate command: it alone depends on the code by which trainings read the dataset.
    rule dataset_gather:
        input:
            key=key("dataset_gather", "gather-dataset", "shards", "dataset"),
            tables=of_shards("dataset", OF_SHARDS["dataset"]),
        output:
            [f"<root>/dataset/{name}.parquet" for name in OF_SHARDS["dataset"]],
            [path for path in [*TRAIN, *DEV, *TEST] if path.endswith(".arrow")],
            "<root>/dataset/record_gather-dataset.json",
        log:
            "<logs>/dataset/gather.log",
        benchmark:
            "<benchmarks>/dataset/gather.tsv"
        conda:
            "../envs/hpro.yaml"
        threads: 1
        resources:
            mem_mb=lambda wildcards, attempt: 4000 * attempt,
            runtime=lambda wildcards, attempt: 60 * attempt,
        params:
            root=root_of,
        message:
            "dataset: concatenating the tables of all shards"
        shell:
            "hpro gather-dataset --root {params.root:q} --params {input.key:q} 2>&1 | tee {log:q}"
