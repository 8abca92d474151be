# Synthesis of the test sentences by every system of the tables, and import of other systems' audio.


rule synthesise:
    input:
        key=key("synthesise", "synthesise", "synthesis", "compute"),
        train=TRAIN,
        test=TEST,
        utterances=rules.corpus_split.output.utterances,
        audio=of_sets("audio.sha256"),
        models=synthesis_models,
        sound=SOUND,
    output:
        table="<root>/eval/{system}/seed{seed}/synthesis.parquet",
        tokens="<root>/eval/{system}/seed{seed}/tokens.parquet",
        audio=directory("<root>/eval/{system}/seed{seed}/audio"),
        sums="<root>/eval/{system}/seed{seed}/audio.sha256",
        record="<root>/eval/{system}/seed{seed}/record_synthesise.json",
    log:
        "<logs>/evaluate/synthesise_{system}_seed{seed}.log",
    benchmark:
        "<benchmarks>/evaluate/synthesise_{system}_seed{seed}.tsv"
    wildcard_constraints:
        system="|".join(SYSTEMS),
    conda:
        "../envs/hpro.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=lambda wildcards, attempt: 4000 * MEMORY_FACTOR * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
    params:
        root=root_of,
    message:
        "synthesise: test sentences by {wildcards.system}, seed {wildcards.seed}"
    shell:
        "(mkdir -p {output.audio:q}"
        " && hpro synthesise {wildcards.system:q} --seed {wildcards.seed:q} --root {params.root:q}"
        " --params {input.key:q} --threads {threads}"
        " && checksums {output.audio:q} {output.sums:q}) 2>&1 | tee {log:q}"


rule import_audio:
    input:
        key=key("import_audio_{external}", "import-audio", "external.{external}"),
        sentences=f"<root>/eval/recordings/seed{SEEDS[0]}/synthesis.parquet",
    output:
        table="<root>/eval/{external}/seed{seed}/synthesis.parquet",
        audio=directory("<root>/eval/{external}/seed{seed}/audio"),
        sums="<root>/eval/{external}/seed{seed}/audio.sha256",
        outcome="<root>/eval/{external}/seed{seed}/import.json",
        record="<root>/eval/{external}/seed{seed}/record_import-audio.json",
    log:
        "<logs>/evaluate/import_audio_{external}_seed{seed}.log",
    benchmark:
        "<benchmarks>/evaluate/import_audio_{external}_seed{seed}.tsv"
    wildcard_constraints:
        seed=SEEDS[0],
    conda:
        "../envs/hpro.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        root=root_of,
    message:
        "import: audio of {wildcards.external}"
    shell:
        "(hpro import-audio {wildcards.external:q} --seed {wildcards.seed:q} --root {params.root:q}"
        " --params {input.key:q}"
        " && checksums {output.audio:q} {output.sums:q}) 2>&1 | tee {log:q}"
