# Reward optimisation: one training per variant of params.yaml, from the variant's start policy.
# With reward.probe_every, judges evaluate probes during training and select the checkpoint.

PROBED = config["reward"]["probe_every"] > 0
REWARD = "reward-watched" if PROBED else "reward"


rule reward:
    input:
        key=key(
            "reward_{variant}",
            REWARD,
            "reward.{stage}",
            "variants.{variant}",
            "compute",
            *(["synthesis"] if PROBED else []),
        ),
        train=TRAIN,
        dev=DEV,
        codec=CODEC,
        reference=rules.sft.output.model,
        reference_config=rules.sft.output.config,
        start=start_of,
        watching=(
            [
                f"{ROOT}/judge/model.safetensors",
                f"{ROOT}/judge/config.json",
                *DECODER,
                *SOUND,
            ]
            if PROBED
            else []
        ),
    output:
        model="<root>/policy/{variant}/seed{seed}/model.safetensors",
        config="<root>/policy/{variant}/seed{seed}/config.json",
        curves="<root>/policy/{variant}/seed{seed}/training.csv",
        metrics="<root>/policy/{variant}/seed{seed}/metrics.json",
        gradient_norms="<root>/policy/{variant}/seed{seed}/gradient_norms.json",
        board=directory("<root>/policy/{variant}/seed{seed}/tensorboard"),
        record=f"<root>/policy/{{variant}}/seed{{seed}}/record_{REWARD}.json",
    log:
        "<logs>/reward/{variant}_seed{seed}.log",
    benchmark:
        "<benchmarks>/reward/{variant}_seed{seed}.tsv"
    priority: 1  # before judging: others start from this policy
    conda:
        "../envs/hpro.yaml"
    threads: 1  # two concurrent trainings use two cores better than one training with two threads
    resources:
        gpu=1,
        nodes=1,
        mem_mb=training_mb(workflow, 6000 * MEMORY_FACTOR),
        runtime=lambda wildcards, attempt: 1440 * attempt,
    params:
        root=root_of,
        work=f"{WORK}/reward_{{variant}}/seed{{seed}}",
        tracking=policy_tracking,
    message:
        "reward: optimising {wildcards.variant}, seed {wildcards.seed}"
    shell:
        "launch {resources.gpu} {resources.nodes} "
        "hpro "
        + REWARD
        + " {wildcards.variant:q} --seed {wildcards.seed:q} --root {params.root:q}"
        " --params {input.key:q}"
        " --work {params.work:q} --threads {threads} {params.tracking:q} 2>&1 | tee {log:q}"


rule phase_policy:
    input:
        of_runs("policy", table_systems(POLICIES), "model.safetensors"),
        existing("policy", "model.safetensors"),
