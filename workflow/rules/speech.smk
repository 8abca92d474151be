# Speech tokens: a tokenizer with its decoder, and the tokens of every utterance.
# CosyVoice2's models are published and not trained; `tokenizer_published` writes their paths.

PUBLISHED = config["speech"]["preset"] == "cosyvoice2"
DECODER = [f"{ROOT}/speech/tokenizer/config.json"]
if not PUBLISHED:
    DECODER = [f"{ROOT}/speech/tokenizer/model.safetensors", *DECODER]
TOKENIZER = [] if PUBLISHED else DECODER
TOKENIZER_CURVES = []
VOCODER_CURVES = []
ISTFT = not PUBLISHED and config["vocoder"]["method"] == "istft"
# What the decoder of speech tokens needs besides: the vocoder, or CosyVoice2's flow and vocoder
SOUND = []
if not PUBLISHED:
    SOUND = [f"{ROOT}/speech/vocoder/config.json"]
if ISTFT:
    SOUND = [f"{ROOT}/speech/vocoder/model.safetensors", *SOUND]

if not PUBLISHED and not config["base"]:

    rule tokenizer:
        input:
            key=key("tokenizer", "tokenizer", "speech", "compute"),
            utterances=rules.corpus_split.output.utterances,
            words=WORDS,
            labels=LABELS,
            audio=of_sets("audio.sha256"),
        output:
            model="<root>/speech/tokenizer/model.safetensors",
            config="<root>/speech/tokenizer/config.json",
            curves="<root>/speech/tokenizer/training.csv",
            board=directory("<root>/speech/tokenizer/tensorboard"),
            record="<root>/speech/tokenizer/record_tokenizer.json",
        log:
            "<logs>/speech/tokenizer.log",
        benchmark:
            "<benchmarks>/speech/tokenizer.tsv"
        priority: 1  # before the judges: all other trainings wait for it
        conda:
            "../envs/hpro.yaml"
        threads: THREADS
        resources:
            gpu=1,
            mem_mb=lambda wildcards, attempt: 6000 * attempt,
            runtime=lambda wildcards, attempt: 480 * attempt,
        params:
            root=root_of,
            work=f"{WORK}/tokenizer",
            tracking=tracking,
        message:
            "tokenizer: training tokenizer and decoder"
        shell:
            "hpro tokenizer --root {params.root:q} --params {input.key:q}"
            " --work {params.work:q} --threads {threads} {params.tracking:q} 2>&1 | tee {log:q}"

    TOKENIZER_CURVES = [rules.tokenizer.output.curves]


if PUBLISHED:
    TOKENIZER = user_files(
        config["speech"]["path"], "speech_tokenizer_v2.onnx", "campplus.onnx"
    )
    SOUND = user_files(config["speech"]["path"], "flow.pt", "hift.pt")

    rule tokenizer_published:
        input:
            key=key("tokenizer_published", "tokenizer-published", "speech"),
        output:
            DECODER,
            "<root>/speech/tokenizer/record_tokenizer-published.json",
        log:
            "<logs>/speech/tokenizer_published.log",
        benchmark:
            "<benchmarks>/speech/tokenizer_published.tsv"
        conda:
            "../envs/hpro.yaml"
        threads: 1
        resources:
            mem_mb=lambda wildcards, attempt: 2000 * attempt,
            runtime=lambda wildcards, attempt: 10 * attempt,
        params:
            root=root_of,
        message:
            "tokenizer: configuring CosyVoice2's published models"
        shell:
            "hpro tokenizer-published --root {params.root:q} --params {input.key:q}"
            " 2>&1 | tee {log:q}"


rule tokenize:
    input:
        key=key("tokenize", "tokenize", "speech", "compute"),
        utterances=SHARD,
        audio=of_sets("audio.sha256"),
        tokenizer=TOKENIZER,
    output:
        tokens="<root>/speech/{shard}speech_tokens.parquet",
        record="<root>/speech/{shard}record_tokenize.json",
    log:
        "<logs>/speech/{shard}tokenize.log",
    benchmark:
        "<benchmarks>/speech/{shard}tokenize.tsv"
    priority: 2  # the dataset waits for it
    conda:
        "../envs/hpro.yaml"
    threads: 1  # runs at the same time as `label`
    resources:
        gpu=1,
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,
    params:
        root=root_of,
        shard=shard_of,
    message:
        "tokenize: speech tokens and speaker embeddings of every utterance {params.shard}"
    shell:
        "hpro tokenize --root {params.root:q} --params {input.key:q} --threads {threads}"
        " {params.shard:q} 2>&1 | tee {log:q}"


if ISTFT and not config["base"]:

    rule vocoder:
        input:
            key=key("vocoder", "vocoder", "vocoder", "compute"),
            utterances=rules.corpus_split.output.utterances,
            audio=of_sets("audio.sha256"),
            tokenizer=TOKENIZER,
            tokens=[f"{ROOT}/speech/{shard}speech_tokens.parquet" for shard in SHARDS],
        output:
            SOUND,
            curves="<root>/speech/vocoder/training.csv",
            board=directory("<root>/speech/vocoder/tensorboard"),
            record="<root>/speech/vocoder/record_vocoder.json",
        log:
            "<logs>/speech/vocoder.log",
        benchmark:
            "<benchmarks>/speech/vocoder.tsv"
        conda:
            "../envs/hpro.yaml"
        threads: 1  # runs at the same time as other trainings
        resources:
            gpu=1,
            mem_mb=lambda wildcards, attempt: 4000 * attempt,
            runtime=lambda wildcards, attempt: 480 * attempt,
        params:
            root=root_of,
            work=f"{WORK}/vocoder",
            tracking=tracking,
        message:
            "vocoder: training the vocoder"
        shell:
            "hpro vocoder --root {params.root:q} --params {input.key:q}"
            " --work {params.work:q} --threads {threads} {params.tracking:q} 2>&1 | tee {log:q}"

    VOCODER_CURVES = [rules.vocoder.output.curves]

elif not PUBLISHED and not ISTFT:

    rule vocoder:
        input:
            key=key("vocoder", "vocoder", "vocoder", "compute"),
        output:
            SOUND,
            "<root>/speech/vocoder/record_vocoder.json",
        log:
            "<logs>/speech/vocoder.log",
        benchmark:
            "<benchmarks>/speech/vocoder.tsv"
        conda:
            "../envs/hpro.yaml"
        threads: 1
        resources:
            mem_mb=lambda wildcards, attempt: 1000 * attempt,
            runtime=lambda wildcards, attempt: 10 * attempt,
        params:
            root=root_of,
            work=f"{WORK}/vocoder",
        message:
            "vocoder: Griffin-Lim"
        shell:
            "hpro vocoder --root {params.root:q} --params {input.key:q}"
            " --work {params.work:q} 2>&1 | tee {log:q}"


rule phase_speech:
    input:
        TOKENIZER_CURVES,
        VOCODER_CURVES,
        [] if PUBLISHED else SOUND,
        [f"<root>/speech/{shard}speech_tokens.parquet" for shard in SHARDS],
        DECODER,
