# Claims: statistical tests of all systems of the tables over several seeds (config/claims.yaml).


rule claims:
    input:
        key=key("claims", "claims", "tables", "seeds", "claims", "variants", "reward"),
        scores=judged,
        rewards=of_runs("policy", wanted(VARIANTS), "training.csv"),
    output:
        "docs/claims.csv",
        "docs/claims_tests.csv",
        "docs/claims_rewards.csv",
        "docs/claims.md",
    log:
        "<logs>/claims/claims.log",
    benchmark:
        "<benchmarks>/claims/claims.tsv"
    conda:
        "../envs/hpro.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        root=root_of,
        out=lambda wildcards, output: os.path.dirname(output[0]),
    message:
        "claims: tests against SFT over seeds and utterances"
    shell:
        "hpro claims --root {params.root:q} --params {input.key:q} --out {params.out:q}"
        " 2>&1 | tee {log:q}"
