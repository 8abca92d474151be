# Labels: an emotion posterior for each utterance, valence, arousal and dominance for each word.
# The paper's two teachers are published models of the user; the embedded ones need no GPU.
from hpro_core.label.files import affect_models

LABEL = SETTINGS.label
TEACHERS = [
    str(path)
    for path in affect_models(
        (LABEL.emotion_teacher, LABEL.vad_teacher), LABEL.emotion2vec, LABEL.audeering
    )
]
PUBLISHED_TEACHER = bool(TEACHERS)
LABEL_MB, LABEL_MINUTES = (12000, 1440) if PUBLISHED_TEACHER else (4000, 240)


rule label:
    input:
        key=key("label", "label", "label", "compute"),
        utterances=SHARD,
        words=rules.align.output.words,
        audio=of_sets("audio.sha256"),
        truth=[
            of_sets(f"truth_{kind}.parquet", CONTROLLED)
            for kind in ("words", "vad", "emotion")
        ],
        teachers=TEACHERS,
    output:
        emotion="<root>/label/{shard}emotion_posteriors.parquet",
        vad="<root>/label/{shard}word_vad.parquet",
        record="<root>/label/{shard}record_label.json",
    log:
        "<logs>/label/{shard}label.log",
    benchmark:
        "<benchmarks>/label/{shard}label.tsv"
    priority: 2  # the dataset waits for it
    conda:
        "../envs/hpro.yaml"
    threads: THREADS if PUBLISHED_TEACHER else 1
    resources:
        gpu=1 if PUBLISHED_TEACHER else 0,
        mem_mb=lambda wildcards, attempt: LABEL_MB * attempt,
        runtime=lambda wildcards, attempt: LABEL_MINUTES * attempt,
    params:
        root=root_of,
        work=lambda wildcards: f"{WORK}/label/{wildcards.shard}".rstrip("/"),
        shard=shard_of,
    message:
        "label: emotion and word-level affect {params.shard}"
    shell:
        "hpro label --root {params.root:q} --params {input.key:q}"
        " --work {params.work:q} --threads {threads} {params.shard:q} 2>&1 | tee {log:q}"


rule phase_label:
    input:
        LABELS,
