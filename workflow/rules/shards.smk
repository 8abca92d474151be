# The tables of all shards of a stage in one each, where the corpora are cut (`shards` in params.yaml).
if len(SHARDS) > 1:
    from hpro_core.shards import TABLES as OF_SHARDS

    for stage, names in OF_SHARDS.items():
        # Its own command: only the dataset's depends on the code that trainings read it with
        command = "gather-dataset" if stage == "dataset" else "gather"
        named = "" if stage == "dataset" else f" {stage}"

        rule:
            name:
                f"{stage}_gather"
            input:
                key=key(
                    f"{stage}_gather", command, "shards", *({stage} & config.keys())
                ),
                tables=[
                    f"<root>/{stage}/{shard}{name}.parquet"
                    for name in names
                    for shard in SHARDS
                ],
            output:
                [f"<root>/{stage}/{name}.parquet" for name in names],
                [path for path in [*TRAIN, *DEV, *TEST] if path.endswith(".arrow")]
                if stage == "dataset"
                else [],
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
                "{params.stage}: all shards in one table each"
            shell:
                f"hpro {command}{named} --root {{params.root}} --params {{input.key}}"
                " 2>&1 | tee {log}"
