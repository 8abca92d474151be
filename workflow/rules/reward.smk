# Reward optimisation: one training per variant of params.yaml, each from the policy that it names.


def start(wildcards):
    """The folder of the policy that a variant starts from."""
    return f"{ROOT}/policy/{parent(wildcards.variant)}/seed{wildcards.seed}"


rule reward:
    input:
        key=key(
            "reward_{variant}", "reward", "reward", "variants.{variant}", "compute"
        ),
        train=rules.dataset.output.train,
        dev=rules.dataset.output.dev,
        codec=rules.codec_style.output.model,
        codec_config=rules.codec_style.output.config,
        reference=rules.sft.output.model,
        reference_config=rules.sft.output.config,
        start=lambda wildcards: f"{start(wildcards)}/model.safetensors",
        start_config=lambda wildcards: f"{start(wildcards)}/config.json",
    output:
        model="<root>/policy/{variant}/seed{seed}/model.safetensors",
        config="<root>/policy/{variant}/seed{seed}/config.json",
        curves="<root>/policy/{variant}/seed{seed}/training.csv",
        metrics="<root>/policy/{variant}/seed{seed}/metrics.json",
        board=directory("<root>/policy/{variant}/seed{seed}/tensorboard"),
    log:
        "<logs>/reward/{variant}_seed{seed}.log",
    benchmark:
        "<benchmarks>/reward/{variant}_seed{seed}.tsv"
    conda:
        "../envs/hpro.yaml"
    threads: THREADS
    resources:
        gpu=1,
        mem_mb=lambda wildcards, attempt: 6000 * attempt,
        runtime=lambda wildcards, attempt: 1440 * attempt,
    message:
        "reward: optimising {wildcards.variant}, seed {wildcards.seed}"
    shell:
        "hpro reward {wildcards.variant} --seed {wildcards.seed} --root {ROOT}"
        " --params {input.key}"
        " --work {WORK}/reward_{wildcards.variant}/seed{wildcards.seed} 2>&1 | tee {log}"


rule phase_policy:
    input:
        expand(
            "<root>/policy/{run}/model.safetensors",
            run=dict.fromkeys(
                [
                    *runs(s for s in wanted_systems() if s in POLICIES),
                    *existing_runs("policy/{system}/seed{seed}/model.safetensors"),
                ]
            ),
        ),
