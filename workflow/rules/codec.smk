# HD-Emo, the codec whose frozen heads give the rewards: stage A content, stage B style; or, with
# codec.checkpoint, the authors' released weights.

CODEC = [f"{ROOT}/codec/style/{name}" for name in MODEL]
CODEC_CURVES = []
# Ours: `released` took 5 GB on a CPU (docs/performance.md); `paper` has 2.3 times its weights.
CODEC_MB = 6000 if config["codec"]["preset"] in ("embedded", "miniature") else 12000

if config["codec"]["checkpoint"]:

    rule codec_released:
        input:
            key=key("codec_released", "codec-released", "codec"),
            checkpoint=config["codec"]["checkpoint"],
        output:
            model="<root>/codec/style/model.safetensors",
            config="<root>/codec/style/config.json",
            record="<root>/codec/style/record_codec-released.json",
        log:
            "<logs>/codec/released.log",
        benchmark:
            "<benchmarks>/codec/released.tsv"
        conda:
            "../envs/hpro.yaml"
        threads: 1
        resources:
            mem_mb=lambda wildcards, attempt: 8000 * attempt,
            runtime=lambda wildcards, attempt: 30 * attempt,
        params:
            root=root_of,
        message:
            "codec: reading the authors' weights"
        shell:
            "hpro codec-released {input.checkpoint:q} --root {params.root:q} --params {input.key:q}"
            " 2>&1 | tee {log:q}"

elif not config["base"]:

    rule codec_content:
        input:
            key=key("codec_content", "codec-content", "codec.content", "compute"),
            train=TRAIN,
            dev=DEV,
            whisper=user_files(
                config["codec"]["whisper"], "config.json", "model.safetensors"
            ),
        output:
            model="<root>/codec/content/model.safetensors",
            config="<root>/codec/content/config.json",
            curves="<root>/codec/content/training.csv",
            board=directory("<root>/codec/content/tensorboard"),
            record="<root>/codec/content/record_codec-content.json",
        log:
            "<logs>/codec/content.log",
        benchmark:
            "<benchmarks>/codec/content.tsv"
        conda:
            "../envs/hpro.yaml"
        threads: 1  # runs at the same time as sft
        resources:
            gpu=1,
            nodes=1,
            mem_mb=training_mb(workflow, CODEC_MB),
            runtime=lambda wildcards, attempt: 1440 * attempt,
        params:
            root=root_of,
            work=f"{WORK}/codec_content",
            tracking=tracking,
        message:
            "codec, stage A: training content tokens"
        shell:
            "launch {resources.gpu} {resources.nodes} hpro codec-content --root {params.root:q}"
            " --params {input.key:q} --work {params.work:q} --threads {threads}"
            " {params.tracking:q} 2>&1 | tee {log:q}"

    rule codec_style:
        input:
            key=key("codec_style", "codec-style", "codec.style", "compute"),
            train=TRAIN,
            dev=DEV,
            content=rules.codec_content.output.model,
            content_config=rules.codec_content.output.config,
        output:
            model="<root>/codec/style/model.safetensors",
            config="<root>/codec/style/config.json",
            curves="<root>/codec/style/training.csv",
            board=directory("<root>/codec/style/tensorboard"),
            record="<root>/codec/style/record_codec-style.json",
        log:
            "<logs>/codec/style.log",
        benchmark:
            "<benchmarks>/codec/style.tsv"
        conda:
            "../envs/hpro.yaml"
        threads: 1  # runs at the same time as sft
        resources:
            gpu=1,
            nodes=1,
            mem_mb=training_mb(workflow, CODEC_MB),
            runtime=lambda wildcards, attempt: 1440 * attempt,
        params:
            root=root_of,
            work=f"{WORK}/codec_style",
            tracking=tracking,
        message:
            "codec, stage B: training style tokens, emotion and word-level V/A/D heads"
        shell:
            "launch {resources.gpu} {resources.nodes} hpro codec-style --root {params.root:q}"
            " --params {input.key:q} --work {params.work:q} --threads {threads}"
            " {params.tracking:q} 2>&1 | tee {log:q}"

    CODEC_CURVES = [
        rules.codec_content.output.curves,
        rules.codec_style.output.curves,
    ]


rule phase_codec:
    input:
        CODEC,
        CODEC_CURVES,
