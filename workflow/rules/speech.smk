# Speech tokens: a tokenizer with its way back to sound, and the tokens of every utterance.
# CosyVoice2's are published: nothing is trained then, and `tokenize` says where they are.

PUBLISHED = config["speech"]["preset"] == "cosyvoice2"
DECODER = [f"{ROOT}/speech/tokenizer/config.json"]
if not PUBLISHED:
    DECODER = [f"{ROOT}/speech/tokenizer/model.safetensors", *DECODER]
TOKENIZER = [] if PUBLISHED else DECODER
TOKENIZER_CURVES = []
SOUND = []

if not PUBLISHED and not config["base"]:

    rule tokenizer:
        input:
            key=key("tokenizer", "tokenizer", "speech", "compute"),
            utterances=rules.corpus_split.output.utterances,
            words=rules.align.output.words,
            labels=[rules.label.output.emotion, rules.label.output.vad],
            audio=of_sets("audio.sha256"),
        output:
            model="<root>/speech/tokenizer/model.safetensors",
            config="<root>/speech/tokenizer/config.json",
            curves="<root>/speech/tokenizer/training.csv",
            board=directory("<root>/speech/tokenizer/tensorboard"),
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
        message:
            "tokenizer: training speech -> tokens -> speech"
        shell:
            "hpro tokenizer --root {params.root} --params {input.key}"
            " --work {params.work} --threads {threads} 2>&1 | tee {log}"

    TOKENIZER_CURVES = [rules.tokenizer.output.curves]


if PUBLISHED:
    TOKENIZER = brought(
        config["speech"]["path"], "speech_tokenizer_v2.onnx", "campplus.onnx"
    )
    SOUND = brought(config["speech"]["path"], "flow.pt", "hift.pt")


rule tokenize:
    input:
        key=key("tokenize", "tokenize", "speech", "compute"),
        utterances=rules.corpus_split.output.utterances,
        audio=of_sets("audio.sha256"),
        tokenizer=TOKENIZER,
    output:
        DECODER if PUBLISHED else [],
        tokens="<root>/speech/speech_tokens.parquet",
    log:
        "<logs>/speech/tokenize.log",
    benchmark:
        "<benchmarks>/speech/tokenize.tsv"
    conda:
        "../envs/hpro.yaml"
    threads: THREADS
    resources:
        gpu=1,
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,
    params:
        root=root_of,
    message:
        "tokenize: speech tokens and speaker embeddings of every utterance"
    shell:
        "hpro tokenize --root {params.root} --params {input.key} --threads {threads} 2>&1 | tee {log}"


rule phase_speech:
    input:
        TOKENIZER_CURVES,
        rules.tokenize.output,
