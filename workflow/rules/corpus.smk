# Corpora: audio at 16 kHz, one table of utterances, and splits.


rule corpus_read:
    input:
        key=key("corpus_read_{set}", "corpus-read", "corpus.sets.{set}"),
    output:
        utterances="<root>/corpus/{set}/utterances.parquet",
        rejected="<root>/corpus/{set}/rejected.parquet",
        audio=directory("<root>/corpus/{set}/audio"),
        sums="<root>/corpus/{set}/audio.sha256",
        record="<root>/corpus/{set}/record_corpus-read.json",
    log:
        "<logs>/corpus/read_{set}.log",
    benchmark:
        "<benchmarks>/corpus/read_{set}.tsv"
    wildcard_constraints:
        set="|".join(sorted(set(SETS) - set(CONTROLLED))) or NO_MATCH,
    conda:
        "../envs/hpro.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
    params:
        root=root_of,
    message:
        "corpus {wildcards.set}: reading raw recordings"
    shell:
        "(hpro corpus-read {wildcards.set:q} --root {params.root:q} --params {input.key:q}"
        " && checksums {output.audio:q} {output.sums:q}) 2>&1 | tee {log:q}"


rule corpus_render:
    input:
        key=key(
            "corpus_render_{set}", "corpus-render", "corpus.sets.{set}", "controlled"
        ),
    output:
        utterances="<root>/corpus/{set}/utterances.parquet",
        rejected="<root>/corpus/{set}/rejected.parquet",
        words="<root>/corpus/{set}/truth_words.parquet",
        vad="<root>/corpus/{set}/truth_vad.parquet",
        emotion="<root>/corpus/{set}/truth_emotion.parquet",
        again="<root>/corpus/{set}/again_words.parquet",
        audio=directory("<root>/corpus/{set}/audio"),
        sums="<root>/corpus/{set}/audio.sha256",
        record="<root>/corpus/{set}/record_corpus-render.json",
    log:
        "<logs>/corpus/render_{set}.log",
    benchmark:
        "<benchmarks>/corpus/render_{set}.tsv"
    wildcard_constraints:
        set="|".join(CONTROLLED) or NO_MATCH,
    conda:
        "../envs/hpro.yaml"
    threads: THREADS
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        root=root_of,
    message:
        "corpus {wildcards.set}: rendering speech with exact labels"
    shell:
        "(hpro corpus-render {wildcards.set:q} --root {params.root:q} --params {input.key:q}"
        " --threads {threads}"
        " && checksums {output.audio:q} {output.sums:q}) 2>&1 | tee {log:q}"


rule corpus_split:
    input:
        key=key("corpus_split", "corpus-split", "corpus", "base", "shards"),
        utterances=of_sets("utterances.parquet"),
        rejected=of_sets("rejected.parquet"),
        base=user_files(config["base"], SENTENCES),
    output:
        utterances="<root>/corpus/utterances.parquet",
        rejected="<root>/corpus/rejected.parquet",
        shards=[f"<root>/corpus/{shard}utterances.parquet" for shard in SHARDS if shard],
        record="<root>/corpus/record_corpus-split.json",
    log:
        "<logs>/corpus/split.log",
    benchmark:
        "<benchmarks>/corpus/split.tsv"
    conda:
        "../envs/hpro.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 20 * attempt,
    params:
        root=root_of,
    message:
        "corpora: merging and assigning splits by scene and sentence"
    shell:
        "hpro corpus-split --root {params.root:q} --params {input.key:q} 2>&1 | tee {log:q}"


rule phase_corpus:
    input:
        rules.corpus_split.output,
        of_sets("audio.sha256"),
