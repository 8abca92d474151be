# The supervised policy: text and speaker -> speech tokens. It is the start of all reward trainings.


rule sft:
    input:
        key=key("sft", "sft", "policy", "sft", "compute"),
        train=TRAIN,
        dev=DEV,
        start=user_files(
            config["policy"]["path"], "llm.pt", "CosyVoice-BlankEN/config.json"
        ),
        base=[f"{ROOT}/policy/base/{name}" for name in MODEL if config["base"]],
    output:
        model="<root>/policy/sft/seed{seed}/model.safetensors",
        config="<root>/policy/sft/seed{seed}/config.json",
        curves="<root>/policy/sft/seed{seed}/training.csv",
        metrics="<root>/policy/sft/seed{seed}/metrics.json",
        board=directory("<root>/policy/sft/seed{seed}/tensorboard"),
        record="<root>/policy/sft/seed{seed}/record_sft.json",
    log:
        "<logs>/policy/sft_seed{seed}.log",
    benchmark:
        "<benchmarks>/policy/sft_seed{seed}.tsv"
    priority: 2  # every reward training waits for it
    conda:
        "../envs/hpro.yaml"
    threads: 1  # as for rewards; judge_recordings runs at the same time
    resources:
        gpu=1,
        nodes=1,
        mem_mb=training_mb(workflow, 6000 * MEMORY_FACTOR),
        runtime=lambda wildcards, attempt: 1440 * attempt,
    params:
        root=root_of,
        work=f"{WORK}/sft/seed{{seed}}",
        tracking=policy_tracking,
        start=["--start", f"{ROOT}/policy/base"] if config["base"] else [],
    message:
        "policy: supervised fine-tuning, seed {wildcards.seed}"
    shell:
        "launch {resources.gpu} {resources.nodes} hpro sft --seed {wildcards.seed:q}"
        " --root {params.root:q} --params {input.key:q} --work {params.work:q} --threads {threads}"
        " {params.start:q} {params.tracking:q} 2>&1 | tee {log:q}"
