# Synthesis of the test sentences, and judges that were no reward.


rule synthesise:
    input:
        key=key("synthesise", "synthesise", "synthesis", "compute"),
        train=rules.dataset.output.train,
        test=rules.dataset.output.test,
        utterances=rules.corpus_split.output.utterances,
        audio=of_sets("audio.sha256"),
        models=spoken_by,
        sound=SOUND,
    output:
        table="<root>/eval/{system}/seed{seed}/synthesis.parquet",
        audio=directory("<root>/eval/{system}/seed{seed}/audio"),
        sums="<root>/eval/{system}/seed{seed}/audio.sha256",
    log:
        "<logs>/evaluate/synthesise_{system}_seed{seed}.log",
    benchmark:
        "<benchmarks>/evaluate/synthesise_{system}_seed{seed}.tsv"
    conda:
        "../envs/hpro.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=lambda wildcards, attempt: 4000 * LARGE * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
    params:
        root=root_of,
    message:
        "synthesise: test sentences by {wildcards.system}, seed {wildcards.seed}"
    shell:
        "(mkdir -p {output.audio}"
        " && hpro synthesise {wildcards.system} --seed {wildcards.seed} --root {params.root}"
        " --params {input.key} --threads {threads}"
        " && checksums {output.audio} > {output.sums}) 2>&1 | tee {log}"


if not config["base"]:

    rule judge_train:
        input:
            key=key("judge_train", "judge-train", "evaluate"),
            utterances=rules.corpus_split.output.utterances,
            words=rules.align.output.words,
            emotion=of_sets("truth_emotion.parquet", CONTROLLED),
            vad=of_sets("truth_vad.parquet", CONTROLLED),
            audio=of_sets("audio.sha256"),
        output:
            model="<root>/judge/model.safetensors",
            config="<root>/judge/config.json",
        log:
            "<logs>/evaluate/judge_train.log",
        benchmark:
            "<benchmarks>/evaluate/judge_train.tsv"
        conda:
            "../envs/hpro.yaml"
        threads: THREADS
        resources:
            mem_mb=lambda wildcards, attempt: 4000 * attempt,
            runtime=lambda wildcards, attempt: 120 * attempt,
        params:
            root=root_of,
        message:
            "judges: training on utterances that nothing else sees"
        shell:
            "hpro judge-train --root {params.root} --params {input.key} --threads {threads}"
            " 2>&1 | tee {log}"


rule judge_recordings:
    input:
        key=key("judge_recordings", "judge-recordings", "evaluate"),
        judge=[f"{ROOT}/judge/model.safetensors", f"{ROOT}/judge/config.json"],
        utterances=rules.corpus_split.output.utterances,
        words=rules.align.output.words,
        emotion=of_sets("truth_emotion.parquet", CONTROLLED),
        vad=of_sets("truth_vad.parquet", CONTROLLED),
        again=of_sets("again_words.parquet", CONTROLLED),
        audio=of_sets("audio.sha256"),
    output:
        metrics="<root>/judge/metrics.json",
        emotion="<root>/judge/recordings/emotion_posteriors.parquet",
        vad="<root>/judge/recordings/word_vad.parquet",
    log:
        "<logs>/evaluate/judge_recordings.log",
    benchmark:
        "<benchmarks>/evaluate/judge_recordings.tsv"
    conda:
        "../envs/hpro.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        root=root_of,
    message:
        "judges: hearing the recordings that systems are compared with"
    shell:
        "hpro judge-recordings --root {params.root} --params {input.key} --threads {threads}"
        " 2>&1 | tee {log}"


rule judge:
    input:
        key=key("judge", "judge", "evaluate"),
        judge=rules.judge_recordings.input.judge,
        recorded=rules.judge_recordings.output,
        utterances=rules.corpus_split.output.utterances,
        words=rules.align.output.words,
        recordings=of_sets("audio.sha256"),
        table=rules.synthesise.output.table,
        audio=rules.synthesise.output.sums,
    output:
        scores="<root>/eval/{system}/seed{seed}/scores.parquet",
        vad="<root>/eval/{system}/seed{seed}/word_vad.parquet",
        metrics="<root>/eval/{system}/seed{seed}/metrics.json",
    log:
        "<logs>/evaluate/judge_{system}_seed{seed}.log",
    benchmark:
        "<benchmarks>/evaluate/judge_{system}_seed{seed}.tsv"
    conda:
        "../envs/hpro.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
    params:
        root=root_of,
    message:
        "judge: {wildcards.system}, seed {wildcards.seed}"
    shell:
        "hpro judge {wildcards.system} --seed {wildcards.seed} --root {params.root}"
        " --params {input.key} --threads {threads} 2>&1 | tee {log}"


rule phase_evaluate:
    input:
        of_runs("eval", wanted(), "metrics.json"),
        existing("eval", "metrics.json"),
        existing("eval", "synthesis.parquet"),
