# Evaluation of the synthesised test sentences by judges that are not used as rewards.
# The embedded judges need no GPU; published ones are models that the user provides.
from hpro_core.judges import files as judges

PUBLISHED_AFFECT = [str(path) for path in judges.affect_judge_files(SETTINGS.evaluate)]
PUBLISHED_GRADED = [  # on recordings
    *PUBLISHED_AFFECT,
    *map(str, judges.quality_judge_files(SETTINGS.evaluate).values()),
]
PUBLISHED_JUDGES = [
    str(path) for path in judges.published_judge_files(SETTINGS.evaluate)
]
JUDGE = []
if not judges.all_affect_published(SETTINGS.evaluate):
    JUDGE = [f"{ROOT}/judge/{name}" for name in MODEL]


if not config["base"]:

    rule judge_train:
        input:
            key=key("judge_train", "judge-train", "evaluate"),
            utterances=rules.corpus_split.output.utterances,
            words=WORDS,
            emotion=of_sets("truth_emotion.parquet", CONTROLLED),
            vad=of_sets("truth_vad.parquet", CONTROLLED),
            audio=of_sets("audio.sha256"),
        output:
            model="<root>/judge/model.safetensors",
            config="<root>/judge/config.json",
            record="<root>/judge/record_judge-train.json",
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
            "judges: training on the split `judge`"
        shell:
            "hpro judge-train --root {params.root:q} --params {input.key:q} --threads {threads}"
            " 2>&1 | tee {log:q}"


rule judge_recordings:
    input:
        key=key(
            "judge_recordings",
            "judge-recordings",
            "evaluate",
            "compute",
            "label",
            "codec.checkpoint",
        ),
        judge=JUDGE,
        published=PUBLISHED_GRADED,
        utterances=rules.corpus_split.output.utterances,
        words=WORDS,
        emotion=of_sets("truth_emotion.parquet", CONTROLLED),
        vad=of_sets("truth_vad.parquet", CONTROLLED),
        again=of_sets("again_words.parquet", CONTROLLED),
        audio=of_sets("audio.sha256"),
    output:
        metrics="<root>/judge/metrics.json",
        emotion="<root>/judge/recordings/emotion_posteriors.parquet",
        vad="<root>/judge/recordings/word_vad.parquet",
        scales="<root>/judge/recordings/scales.json",
        record="<root>/judge/record_judge-recordings.json",
    log:
        "<logs>/evaluate/judge_recordings.log",
    benchmark:
        "<benchmarks>/evaluate/judge_recordings.tsv"
    conda:
        "../envs/hpro.yaml"
    threads: THREADS if PUBLISHED_GRADED else 1
    resources:
        gpu=1 if PUBLISHED_GRADED else 0,
        mem_mb=lambda wildcards, attempt: (12000 if PUBLISHED_GRADED else 4000)
        * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        root=root_of,
        work=f"{WORK}/judge_recordings",
    message:
        "judges: evaluating the reference recordings"
    shell:
        "hpro judge-recordings --root {params.root:q} --params {input.key:q}"
        " --work {params.work:q} --threads {threads}"
        " 2>&1 | tee {log:q}"


rule judge:
    input:
        key=key("judge", "judge", "evaluate", "compute", "label", "codec.checkpoint"),
        judge=JUDGE,
        published=PUBLISHED_JUDGES,
        recorded=rules.judge_recordings.output,
        utterances=rules.corpus_split.output.utterances,
        words=WORDS,
        recordings=of_sets("audio.sha256"),
        table=rules.synthesise.output.table,
        audio=rules.synthesise.output.sums,
    output:
        scores="<root>/eval/{system}/seed{seed}/scores.parquet",
        emotion="<root>/eval/{system}/seed{seed}/emotion_posteriors.parquet",
        vad="<root>/eval/{system}/seed{seed}/word_vad.parquet",
        words="<root>/eval/{system}/seed{seed}/words.parquet",
        metrics="<root>/eval/{system}/seed{seed}/metrics.json",
        record="<root>/eval/{system}/seed{seed}/record_judge.json",
    log:
        "<logs>/evaluate/judge_{system}_seed{seed}.log",
    benchmark:
        "<benchmarks>/evaluate/judge_{system}_seed{seed}.tsv"
    conda:
        "../envs/hpro.yaml"
    threads: THREADS if PUBLISHED_JUDGES else 1
    resources:
        gpu=1 if PUBLISHED_JUDGES else 0,
        mem_mb=lambda wildcards, attempt: (24000 if PUBLISHED_JUDGES else 4000)
        * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
    params:
        root=root_of,
        work=f"{WORK}/judge_{{system}}_seed{{seed}}",
    message:
        "judge: {wildcards.system}, seed {wildcards.seed}"
    shell:
        "hpro judge {wildcards.system:q} --seed {wildcards.seed:q} --root {params.root:q}"
        " --params {input.key:q} --work {params.work:q} --threads {threads} 2>&1 | tee {log:q}"


rule phase_judge:
    input:
        [f"{ROOT}/judge/{name}" for name in MODEL if JUDGE or PROBED],
        rules.judge_recordings.output,


rule phase_eval:
    input:
        of_runs("eval", table_systems(), "metrics.json"),
        existing("eval", "metrics.json"),
        existing("eval", "synthesis.parquet"),
