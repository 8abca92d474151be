# The shipped base: tokenizer, codec, judge and the initial policy of fine-tuning are unpacked from
# the folder of the setting `base` and not trained. `make base` creates such a folder.

if config["base"]:
    for model, place in MODELS.items():
        if model == "vocoder" and not ISTFT:
            continue

        rule:
            name:
                f"base_{model}"
            input:
                key=key(f"base_{model}", "base-take"),
                base=[f"{config['base']}/{name}" for name in BASE_FILES],
            output:
                [f"<root>/{place}/{name}" for name in MODEL],
                f"<root>/{place}/record_base-take.json",
            log:
                f"<logs>/base/{model}.log",
            benchmark:
                f"<benchmarks>/base/{model}.tsv"
            conda:
                "../envs/hpro.yaml"
            threads: 1
            resources:
                mem_mb=lambda wildcards, attempt: 2000 * attempt,
                runtime=lambda wildcards, attempt: 10 * attempt,
            params:
                root=root_of,
                base=lambda wildcards, input: os.path.commonpath(input.base),
                model=model,
            message:
                "base: unpacking the trained {params.model}"
            shell:
                "hpro base-take {params.model:q} --base {params.base:q} --root {params.root:q}"
                " 2>&1 | tee {log:q}"

else:

    rule base_make:
        input:
            key=key("base_make", "base-make"),
            utterances=rules.corpus_split.output.utterances,
            tokenizer=TOKENIZER,
            vocoder=SOUND,
            codec=CODEC,
            judge=[f"{ROOT}/judge/{name}" for name in MODEL],
            policy=policy_files("sft", SEEDS[0]),
        output:
            [f"<root>/base/{name}" for name in BASE_FILES],
        log:
            "<logs>/base/make.log",
        benchmark:
            "<benchmarks>/base/make.tsv"
        conda:
            "../envs/hpro.yaml"
        threads: 1
        resources:
            mem_mb=lambda wildcards, attempt: 2000 * attempt,
            runtime=lambda wildcards, attempt: 10 * attempt,
        params:
            root=root_of,
            policy=lambda wildcards, input: os.path.dirname(input.policy[0]),
            out=lambda wildcards, output: os.path.dirname(output[-1]),
        message:
            "base: packing the models of this run"
        shell:
            "hpro base-make {params.out:q} --policy {params.policy:q} --root {params.root:q}"
            " 2>&1 | tee {log:q}"
