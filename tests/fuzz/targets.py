"""Every reader of the project, on the artefacts that it reads."""

import dataclasses
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import torch
from torch import nn

from hpro_core import dataset, io, preflight, records, shards, tables
from hpro_core import params as p
from hpro_core.align import accuracy, mfa_aligner, mfa_models, mfa_quality, textgrid
from hpro_core.analysis import reward_vs_judges
from hpro_core.analysis import tables as result_tables
from hpro_core.codec.model import CodecConfig
from hpro_core.codec.released import UnstoredSettings, import_codec
from hpro_core.codec.text_decoder import TextDecoder
from hpro_core.codec.training import load_codec
from hpro_core.codec.whisper import load_whisper_decoder
from hpro_core.constants import EMOTIONS
from hpro_core.corpus import audio, check
from hpro_core.corpus import stage as corpus_stage
from hpro_core.corpus.readers import queen_file
from hpro_core.corpus.readers.registry import PUBLISHED
from hpro_core.errors import HproError
from hpro_core.judges import affect, affect_training
from hpro_core.judges.audio_lists import read_list
from hpro_core.judges.nisqa import Nisqa
from hpro_core.judges.panel import ReferenceRecordings
from hpro_core.judges.provenance import common_provenance
from hpro_core.judges.scoreq import Scoreq
from hpro_core.judges.utmos import Utmos
from hpro_core.judges.wavlm import WavlmSpeakerEncoder
from hpro_core.judges.whisper import WhisperTranscripts
from hpro_core.label.audeering import AudeeringWordVad
from hpro_core.label.emotion2vec import Emotion2vecPosteriors
from hpro_core.label.exact import ExactLabels
from hpro_core.label.result_cache import read_shard, write_shard
from hpro_core.label.teachers import AlignedUtterance
from hpro_core.listening.analyse import results as listening_results
from hpro_core.listening.answers import read_sessions
from hpro_core.listening.design import read_design
from hpro_core.plan import cost_table, durations
from hpro_core.plan.jobs import Job
from hpro_core.plan.settings import read_settings
from hpro_core.policy.llm_file import read_llm, write_llm
from hpro_core.policy.sft import load_policy, rewarded_steps, save_policy
from hpro_core.pretrained import base, weights
from hpro_core.pretrained.packing import pack
from hpro_core.pretrained.sentences import known_sentences
from hpro_core.report import counts, figures, listen, results, samples, training
from hpro_core.report import stage as report
from hpro_core.report.measured import measurements
from hpro_core.say import policy_folder, sentences
from hpro_core.speech import crops
from hpro_core.speech.cosyvoice2 import CamPlus
from hpro_core.speech.stage import load_tokenizer
from hpro_core.speech.vocoder import load_vocoder
from hpro_core.synthesis import imported
from hpro_core.synthesis.stage import load_decoder
from hpro_core.text.tokenizers import load_frontend
from hpro_core.train.checkpoint import save_model
from hpro_core.train.facts import facts_of
from tests.fuzz import artefacts, containers, mutators, sounds
from tests.fuzz.mutators import Change
from tests.published import StandIn

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Target:
    """A reader and the files that it reads.

    Attributes:
        name: for the report.
        group: folder of the artefacts.
        files: patterns of the files that are changed, below the group.
        read: reads them, given the folder of the group; gives a value that `oracle.equal` knows.
        again: writes the value into a folder and reads it back.
        refusals: what the reader documents beside `HproError`.
        writes: patterns of what the reader may write below the group.
        names: what a refusal may name instead of a file of the group.
        starts: processes that it may start.
        guarded: checksums cover the files, so that a change that fits no checksum changes nothing.
        hashes: it reads whole files to compare their SHA-256, which takes as long as they are.
        weight: how often it comes, compared with others.
    """

    name: str
    group: str
    files: tuple[str, ...]
    read: Callable[[Path], object]
    again: Callable[[Any, Path], object] | None = None
    refusals: tuple[type[Exception], ...] = (HproError,)
    writes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    starts: tuple[str, ...] = ()
    guarded: bool = False
    hashes: bool = False
    weight: int = 2


CHANGES: Mapping[str, Change] = {
    ".json": mutators.of_json, ".jsonl": mutators.of_json_lines, ".yaml": mutators.of_yaml,
    ".csv": mutators.of_csv, ".tsv": mutators.of_csv, ".wav": sounds.of_wav,
    ".flac": sounds.of_flac, ".mp3": sounds.of_mp3, ".ogg": sounds.of_ogg, ".1c": sounds.of_queen,
    ".safetensors": containers.of_safetensors, ".npy": containers.of_npy, ".zip": containers.of_zip,
    ".whl": containers.of_zip, ".gz": containers.of_tar, ".pt": containers.of_pt,
    ".bin": containers.of_pt, ".parquet": containers.of_parquet, ".arrow": containers.of_arrow,
    ".onnx": mutators.of_bytes,
}  # fmt: skip
"""By the end of a file's name; all other files are text."""


def change_of(path: Path) -> Change:
    """The changes that fit a file."""
    return CHANGES.get(path.suffix, mutators.of_text)


def one_line(lines: Iterable[str]) -> list[str]:
    """Lines that are printed; each has to be one, without control characters."""
    found = list(lines)
    for line in found:
        assert line.isprintable(), f"printed as it is: {line[:200]!r}"
    return found


def weights_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return dict(model.state_dict())


# --- formats -------------------------------------------------------------------------------------


def _formats() -> Iterator[Target]:
    def json_again(value: dict, folder: Path) -> object:
        io.write_json(folder / "b.json", value)
        return io.read_json(folder / "b.json")

    def csv_again(value: pd.DataFrame, folder: Path) -> object:
        io.write_csv_table(value, folder / "b.csv")
        return _csv(folder / "b.csv")

    def npy_again(value: np.ndarray, folder: Path) -> object:
        io.write_npy(folder / "b.npy", value)
        return io.read_npy(folder / "b.npy", np.uint64, 1)

    def st_again(value: dict, folder: Path) -> object:
        io.write_safetensors(folder / "b.safetensors", value)
        return io.read_safetensors(folder / "b.safetensors")

    def wav_again(value: np.ndarray, folder: Path) -> object:
        audio.write_wav(folder / "b.wav", value)
        again = io.read_wav(folder / "b.wav", 16_000)
        assert len(again) == len(value)
        assert np.abs(again - value).max() < 2e-4
        return value

    def target(name: str, file: str, read: Callable[[Path], object], again=None) -> Target:
        return Target(f"io: {name}", "formats", (file,), lambda f: read(f / file), again)

    yield target("json", "a.json", io.read_json, json_again)
    yield target("yaml", "a.yaml", io.read_yaml)
    yield target("text", "a.yaml", io.read_text)
    yield target("csv", "a.csv", _csv, csv_again)
    yield target("npy", "a.npy", lambda f: io.read_npy(f, np.uint64, 1), npy_again)
    yield target("zip", "a.zip", lambda f: io.read_zip_members(f, None, 10**6, "get it again"))
    yield target("safetensors", "a.safetensors", io.read_safetensors, st_again)
    yield target("published safetensors", "a.safetensors",
                 lambda f: io.read_safetensors(f, own=False))  # fmt: skip
    yield target("tensors", "a.safetensors", _tensors)
    yield target("pt", "a.pt", lambda f: io.read_pt(f, "get it again"))
    yield target("wav", "a.wav", lambda f: io.read_wav(f, 16_000), wav_again)


def _csv(path: Path) -> pd.DataFrame:
    return io.read_csv_table(path, io.CURVES, ("split", "term"))


def _tensors(path: Path) -> object:
    io.safetensors_header(path)
    return {name: value.clone() for name, value in io.read_safetensors_torch(path).items()}


# --- corpora -------------------------------------------------------------------------------------


def _corpora() -> Iterator[Target]:
    for file in (
        "pcm.wav",
        "float.wav",
        "extensible.wav",
        "law.wav",
        "adpcm.wav",
        "a.flac",
        "a.mp3",
        "a.ogg",
    ):
        yield Target(
            f"audio: {file}", "sounds", (file,), lambda f, file=file: audio.decode_file(f / file),
            refusals=(audio.Unusable,), weight=3,
        )  # fmt: skip
    for name in PUBLISHED:
        yield Target(
            f"corpus: {name}", f"corpora/{name}", ("**/*",), lambda f, name=name: _checked(f, name)
        )
    yield Target(
        "corpus: csv", "csv", ("metadata.csv", "0.wav"), lambda f: _checked(f, "csv"), weight=4
    )
    yield Target(
        "corpus: csv, read", "csv", ("metadata.csv", "0.wav"), _read_corpus, writes=("out/**",),
        names=("own",),
    )  # fmt: skip
    for name, read in (("dialogue", queen_file.dialogue), ("scenes", queen_file.cut_scenes)):
        yield Target(
            f"corpus: the game's {name}", "game", ("queen.1c",),
            lambda f, read=read: [dataclasses.astuple(each) for each in read(f / "queen.1c")],
        )  # fmt: skip


def _checked(folder: Path, reader: str) -> object:
    about, contents = check.check(folder, _limits("", "csv"), reader)
    one_line(check.format_report(about, contents))
    return dataclasses.astuple(contents)


def _limits(path: str, reader: str) -> p.Corpus:
    chosen = {"own": p.CorpusSet(reader=reader, path=path)}
    return p.Corpus(sets=chosen, min_duration_s=0.1, max_duration_s=9.0, max_rejected_fraction=1.0)


def _read_corpus(folder: Path) -> object:
    corpus_stage.read(folder / "out", "own", _limits(str(folder), "csv"))
    made = folder / "out/corpus/own"
    wavs = {path.name: io.read_wav(path, 16_000) for path in sorted(made.glob("audio/*.wav"))}
    return wavs, tables.read_table(made / "utterances.parquet", tables.UTTERANCES)


# --- settings ------------------------------------------------------------------------------------


def _settings() -> Iterator[Target]:
    yield Target(
        "settings: of a run", "settings", ("params.yaml", "other.yaml"),
        lambda f: read_settings(f / "params.yaml", [f / "other.yaml"]).model_dump(), weight=8,
    )  # fmt: skip
    yield Target("settings: of a stage", "settings", ("sft.yaml",), _sections, weight=4)
    yield Target(
        "settings: variants", "settings", ("params.yaml",),
        lambda f: {k: v.model_dump() for k, v in p.read_variants(f / "params.yaml").items()},
    )  # fmt: skip
    yield Target("plan: seconds of a job", "measures", ("sft.tsv",),
                 lambda f: durations.benchmark_s(f / "sft.tsv"))  # fmt: skip
    yield Target("plan: runs", "measures", ("runs.csv",),
                 lambda f: durations.last_whole_run(f / "runs.csv", 9))  # fmt: skip
    yield Target(
        "weights: wheel", "archives", ("*.whl",),
        lambda f: _list(
            weights._members(f / "a_package-1.0-py3-none-any.whl", ["inside/net.bin"])
        ),
    )  # fmt: skip
    yield Target(
        "weights: source archive", "archives", ("*.gz",),
        lambda f: _list(weights._members(f / "a_package-1.0.tar.gz", ["inside/net.bin"])),
    )  # fmt: skip
    yield Target(
        "preflight", "preflight",
        ("csv/*", "base/**/*", "audeering/*", "differences.yaml", "esd/**/*.txt"), _preflight,
        hashes=True, weight=6,
    )  # fmt: skip


def _list(found: Any) -> list[bytes]:
    return list(found.values()) if isinstance(found, Mapping) else list(found)


def _sections(folder: Path) -> object:
    path = folder / "sft.yaml"
    kinds = (("sft", p.Sft), ("policy", p.Policy), ("compute", p.Compute))
    return [p.read_section(path, name, kind).model_dump() for name, kind in kinds]


def _preflight(folder: Path) -> object:
    settings = read_settings(artefacts.REPO / "params.yaml", [folder / "differences.yaml"])
    jobs = [Job("policy", "sft", 1)]  # not counted by Snakemake: readers start no process
    with mock.patch.object(cost_table, "jobs_of", return_value=jobs):
        found = preflight.checks(settings, folder / "weights")
    one_line(preflight.format_checks(found))
    return [(c.status, c.what, c.finding) for c in found if c.what not in ("disk", "GPU")]


# --- models --------------------------------------------------------------------------------------


def _models() -> Iterator[Target]:
    def policy_again(value: tuple, folder: Path) -> object:
        _, _, policy = value
        save_policy(folder / "b", policy)
        again = load_policy(folder / "b")
        return value[0], weights_of(again), again

    def policy(folder: Path) -> tuple:
        found = load_policy(folder)
        return dataclasses.asdict(found.config), weights_of(found), found

    def codec_again(value: tuple, folder: Path) -> object:
        save_model(folder / "b", value[1], {"model": value[0]})
        again = load_codec(folder / "b")
        return dataclasses.asdict(again.config), again

    for name in ("policy", "qwen"):
        yield Target(f"model: {name}", "models", (f"{name}/*",),
                     lambda f, name=name: policy(f / name), policy_again, weight=6)  # fmt: skip
    yield Target("model: steps of a policy", "models", ("policy/config.json",),
                 lambda f: rewarded_steps(f / "policy"))  # fmt: skip
    yield Target("model: codec", "models", ("codec/*",), lambda f: _sized(load_codec(f / "codec")),
                 codec_again, weight=6)  # fmt: skip
    yield Target("model: tokenizer", "models", ("tokenizer/*",),
                 lambda f: _sized(load_tokenizer(f / "tokenizer")), weight=6)  # fmt: skip
    yield Target("model: vocoder", "models", ("vocoder/*",),
                 lambda f: _vocoder(f / "vocoder"), weight=6)  # fmt: skip
    yield Target("model: decoder of a run", "models", ("root/speech/*/config.json",),
                 lambda f: callable(load_decoder(f / "root", CPU)))  # fmt: skip
    yield Target("model: affect judge", "models", ("judge/*",), _judge, weight=6)
    yield Target("affect judge: scales", "models", ("scales.json",), _scales)
    yield Target("model: packed", "models", ("tokenizer/*",), _packed, writes=("packed/*",))
    yield Target("say: sentences", "say", ("sentences.csv",), _sentences, names=("r.wav",))
    yield Target("say: exported", "say", ("exported/**/*",), _exported, hashes=True)
    for name in ("list.csv", "meta.lst", "emergent.jsonl", "emergent.parquet"):
        yield Target(f"judge --audio: {name}", "external", (name,),
                     lambda f, name=name: _listed(f / name))  # fmt: skip
    yield Target("listening: design", "listening", ("design.json",),
                 lambda f: read_design(f / "design.json").model_dump(), guarded=True)  # fmt: skip
    yield Target("listening: answers", "listening", ("1.csv", "2.json"), _answered, weight=6)
    yield Target("external: import", "external", ("import.json",), _imported)
    for name in base.MODELS:
        yield Target(
            f"base: {name}", "base", (f"base/{name}/*", "base/SHA256SUMS"),
            lambda f, name=name: _taken(f, name), writes=("root/**",), guarded=True,
            hashes=True, weight=3,
        )  # fmt: skip
    yield Target(
        "base: sentences", "base", ("base/sentences.npy",),
        lambda f: known_sentences(f / "base", pd.Series(["word 1", "word x"])),
    )  # fmt: skip
    yield Target("checkpoints", "checkpoints", ("work/*",), _resumed, writes=("work/*", "out/**"),
                 guarded=True, hashes=True, weight=10)  # fmt: skip


def _sentences(folder: Path) -> object:
    found = sentences.read_sentences(folder / "sentences.csv")
    sentences.check(found, policy_folder.EMBEDDED)
    one_line(sentences.notes(found))
    return [{name: str(value) for name, value in vars(each).items()} for each in found]


def _listed(path: Path) -> object:
    return [
        {**{name: str(value) for name, value in vars(each).items()}, "problem": each.problem}
        for each in read_list(path)
    ]


def _answered(folder: Path) -> object:
    design = read_design(folder / "design.json")
    sessions, notes = read_sessions([folder / "1.csv", folder / "2.json"], design)
    one_line(notes)
    return listening_results(design, sessions, max_failed=5)


def _imported(folder: Path) -> object:
    return imported.without_audio(folder), imported.import_note(folder, "theirs")


def _exported(folder: Path) -> object:
    found = policy_folder.open_policy(folder / "exported")
    settings = p.read_section(found.settings, "synthesis", p.Synthesis)
    return settings.model_dump(), weights_of(load_policy(found.policy))


def _sized(model: Any) -> tuple:
    return dataclasses.asdict(model.config), model


def _vocoder(folder: Path) -> object:
    found = load_vocoder(folder)
    return "griffin_lim" if found is None else _sized(found)


def _judge(folder: Path) -> object:
    judge = affect.load(folder / "judge")
    frames_FC = np.random.default_rng(0).normal(size=(30, affect.N_CHANNELS)).astype(np.float32)
    heard = [judge.judge(name, frames_FC, [(0.0, 0.1), (0.1, 0.3)]) for name in judge.trained_on]
    return list(judge.trained_on), weights_of(judge), heard


def _scales(folder: Path) -> object:
    scales = affect.read_scales(folder / affect.SCALES)
    return {
        name: (scale.splits, scale.recordings, scale.scale_2C.tolist())
        for name, scale in scales.items()
    }


def _packed(folder: Path) -> object:
    pack(folder / "tokenizer", folder / "packed")
    return io.read_safetensors(folder / "packed/model.safetensors")


def _taken(folder: Path, name: str) -> object:
    base.unpack_model(folder / "base", name, folder / "root")
    place = folder / "root" / base.MODELS[name]
    load = {
        "tokenizer": load_tokenizer,
        "vocoder": load_vocoder,
        "codec": load_codec,
        "policy": load_policy,
        "judge": affect.load,
    }
    return weights_of(load[name](place))


def _resumed(folder: Path) -> object:
    """A training that goes on from what is there, or starts anew: the weights are the same."""
    model = artefacts.small_network()
    artefacts.training(model, folder / "work", folder / "out", 40)
    return weights_of(model)


# --- tables --------------------------------------------------------------------------------------

_TABLES = {
    "corpus/utterances": tables.UTTERANCES, "align/words": tables.WORDS,
    "corpus/rejected": tables.REJECTED, "label/word_vad": tables.WORD_VAD,
    "label/emotion_posteriors": tables.EMOTION_POSTERIORS,
    "speech/speech_tokens": tables.SPEECH_TOKENS, "dataset/train": tables.DATASET,
    "eval/sft/seed0/synthesis": tables.SYNTHESIS, "eval/sft/seed0/scores": tables.SCORES,
}  # fmt: skip
_EVALUATE = p.Evaluate(
    judge_epochs=1, judge_learning_rate=1e-3, check_every=1, dnsmos_windows=1, bootstrap_samples=5,
    seed=0,
)  # fmt: skip


def _tables() -> Iterator[Target]:
    for name, schema in _TABLES.items():
        yield Target(
            f"table: {name}", "run", (f"{name}.parquet",),
            lambda f, name=name, schema=schema: _table(f / f"{name}.parquet", schema),
            lambda value, f, schema=schema: _table_again(value, f, schema), weight=4,
        )  # fmt: skip
    yield Target(
        "dataset: built", "run",
        ("corpus/utterances.parquet", "align/words.parquet", "label/*.parquet", "speech/*.parquet"),
        _built, writes=("dataset/*",), names=("dataset",), weight=4,
    )  # fmt: skip
    yield Target("dataset: mapped", "run", ("dataset/train.*",), _mapped, weight=10)
    for stage, more in (("align", ("corpus/**/*.parquet",)), ("label", ())):
        yield Target(
            f"shards: gathered, {stage}", "sharded", (f"{stage}/shards/**/*", *more),
            lambda f, stage=stage: _gathered(f, stage), writes=(f"{stage}/*",), names=(stage,),
        )  # fmt: skip
    yield Target("shards: of a teacher", "sharded", ("labels/*",), _shard, _shard_again)
    yield Target("labels: of words", "run", ("align/words.parquet", "label/*.parquet"),
                 lambda f: crops.labelled_words(f), names=("label",))  # fmt: skip
    yield Target("labels: exact", "run", ("corpus/controlled/truth_*",), _exact)
    yield Target(
        "judgements of recordings", "run", ("judge/recordings/*", "align/words.parquet"), _recorded
    )
    yield Target("results: tables", "run", ("eval/sft/seed0/*.*", "eval/hpro/seed0/metrics.json",
                 "policy/hpro/seed0/metrics.json"), _result_tables, writes=("out/**",), weight=4,
                 names=("sft", "hpro"), hashes=True)  # fmt: skip
    yield Target(
        "results: rewards", "run", ("policy/hpro/seed0/*",),
        lambda f: reward_vs_judges.shares(reward_vs_judges.read_terms(f, {"hpro": "sft"}, [0])),
    )  # fmt: skip
    yield Target("records: verify", "run", ("eval/sft/seed0/*.*", "eval/hpro/seed0/*.json"),
                 _verified, hashes=True, weight=6)  # fmt: skip
    yield Target(
        "records: check", "run",
        ("eval/sft/seed0/record_judge.json", "eval/sft/seed0/scores.parquet"),
        lambda f: records.check(f, f / "eval/sft/seed0/scores.parquet", "sft", 0), hashes=True,
    )  # fmt: skip


def _table(path: Path, schema: Any) -> object:
    tables.check_columns(path, schema)
    first = next(iter(schema.columns))
    names = tables.distinct(path, first)
    some = sorted(names)[:2]
    kept = tables.read_table(path, schema, only={first: some})
    count = tables.count_rows(path)
    return tables.read_table(path, schema), sorted(names), kept, count


def _table_again(value: tuple, folder: Path, schema: Any) -> object:
    tables.write_table(value[0], folder / "b.parquet", schema)
    return _table(folder / "b.parquet", schema)


def _built(folder: Path) -> object:
    settings = p.Dataset(policy_text="phones", codec_text="phones", max_rejected_fraction=0.9)
    dataset.build(folder, settings)
    return [
        tables.read_table(folder / f"dataset/{n}.parquet", tables.DATASET) for n in ("train", "dev")
    ]


def _mapped(folder: Path) -> object:
    found = dataset.load(folder / "dataset/train.parquet")
    less = dataset.load(folder / "dataset/train.parquet", ["acted"])
    return [vars(each) for each in found], dataclasses.asdict(facts_of(found)), len(less)


def _gathered(folder: Path, stage: str) -> object:
    shards.gather(folder, stage, 2)
    schemas = shards.TABLES[stage]
    return [tables.read_table(folder / stage / f"{n}.parquet", s) for n, s in schemas.items()]


def _shard(folder: Path) -> object:
    return read_shard(folder / "labels/00000.parquet", artefacts.IDENTITY)


def _shard_again(value: pd.DataFrame | None, folder: Path) -> object:
    if value is None:
        return None
    write_shard(value, folder / "b.parquet", "x")
    return read_shard(folder / "b.parquet", "x")


def _exact(folder: Path) -> object:
    corpus = folder / "corpus/controlled"
    utterances = tables.read_table(folder / "corpus/utterances.parquet", tables.UTTERANCES)
    known = affect_training.read_labels(folder, utterances)
    teacher = ExactLabels(corpus)
    spoken = [
        AlignedUtterance(row.utt_id, "", "", tuple(row.words.split()), np.empty((0, 2)), Path())
        for row in utterances[utterances.corpus == "controlled"].itertuples()
    ]
    words = tables.read_table(folder / "align/words.parquet", tables.WORDS)
    truth = tables.read_table(corpus / "truth_words.parquet", tables.WORDS)
    compared = accuracy.summary(accuracy.compare_words(words, truth)[0], "x")
    return (
        known.posteriors,
        known.vad,
        teacher.posteriors(spoken),
        teacher.word_vad(spoken),
        compared,
    )


def _recorded(folder: Path) -> object:
    found = ReferenceRecordings(folder)
    name = "acted_4"
    return found.audio(name), found.spans(name), found.posterior(name), found.vad(name)


def _result_tables(folder: Path) -> object:
    rows = {name: [*artefacts.SYSTEMS] for name in results.TABLES}
    result_tables.write_tables(folder, p.Tables(**rows), [0], _EVALUATE, folder / "out")
    paths = [folder / f"eval/{name}/seed0/metrics.json" for name in artefacts.SYSTEMS]
    common_provenance(paths)
    made = sorted(path for path in (folder / "out").rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_text() for path in made}


def _verified(folder: Path) -> object:
    n, problems = records.verify(folder)
    return n, one_line(problems)


# --- report --------------------------------------------------------------------------------------


def _report() -> Iterator[Target]:
    yield Target("report: tables", "run", ("tables/*.csv",), _report_tables, weight=4)
    curves = "policy/sft/seed0/training.csv"
    yield Target(
        "report: curves", "run", (curves,),
        lambda f: figures.training_curves([figures.read_curves("sft", [f / curves])]),
    )  # fmt: skip
    yield Target(
        "report: trainings", "run", ("policy/hpro/seed0/*.json",),
        lambda f: [*map(dataclasses.asdict, training.reward_diagnostics(f, ["sft", "hpro"], [0]))],
        weight=4,
    )  # fmt: skip
    figures_of_words = "align/accuracy.json"
    yield Target(
        "report: measurements", "run", (figures_of_words,),
        lambda f: measurements(f / figures_of_words, "hpro align-check"),
    )  # fmt: skip
    yield Target(
        "report: counts", "run", ("corpus/**/*.parquet", "align/*.parquet", "dataset/*.parquet"),
        lambda f: ([tuple(each) for each in counts.stage_counts(f)], counts.split_counts(f)),
    )  # fmt: skip
    yield Target(
        "report: samples", "run",
        ("eval/sft/seed0/*.parquet", "eval/sft/seed0/audio/*", "label/*.parquet",
         "corpus/utterances.parquet", "align/words.parquet"),
        _samples, writes=("report/*",), names=("sft", "sentence"), weight=1,
    )  # fmt: skip
    yield Target(
        "report: whole", "run", ("**/*.json", "**/*.csv", "params.yaml"), _whole_report,
        writes=("report/*",), starts=("git",), names=("sft", "hpro"), weight=1,
    )  # fmt: skip


def _report_tables(folder: Path) -> object:
    found = results.read_tables(folder)
    found_results = results.ordering_results(found)
    return found, [tuple(each) for each in found_results], results.summary(found_results, "acted")


def _samples(folder: Path) -> object:
    systems = [samples.load_system(folder, name, 0) for name in ("recordings", "sft")]
    labels = listen.Labels("weak label", "weak label", [])
    return dataclasses.asdict(listen.write_browser(folder, systems, 1, labels))


def _whole_report(folder: Path) -> object:
    path = report.build(folder, p.Report(samples=1), folder / "params.yaml")
    return path.read_text(encoding="utf-8")


# --- other projects' files -----------------------------------------------------------------------


def _alignments() -> Iterator[Target]:
    for file in ("a.TextGrid", "short.TextGrid"):
        yield Target(f"TextGrid: {file}", "alignments", (file,),
                     lambda f, file=file: textgrid.read_words(f / file), weight=4)  # fmt: skip
    yield Target(
        "TextGrids in a zip", "alignments", ("grids.zip", "words.parquet"), _compared, weight=4
    )
    yield Target("MFA: its figures", "alignments", ("alignment_analysis.csv",),
                 lambda f: mfa_quality.read_analysis(f / "alignment_analysis.csv"))  # fmt: skip
    yield Target("MFA: dictionary", "alignments", ("english.dict",),
                 lambda f: sorted(mfa_aligner._entries(f / "english.dict")))  # fmt: skip
    yield Target("MFA: models", "alignments", ("english.dict", "acoustic.zip"), _mfa_models,
                 writes=("out/**",), names=("align.mfa",))  # fmt: skip


def _compared(folder: Path) -> object:
    words = tables.read_table(folder / "words.parquet", tables.WORDS)
    pairs, found = accuracy.compare_textgrids(words, folder / "grids.zip", "set_")
    return pairs.tolist(), found


def _mfa_models(folder: Path) -> object:
    settings = p.Align(
        backend="mfa", mfa_acoustic_model=str(folder / "acoustic.zip"), mfa_g2p_model="",
        mfa_dictionary=str(folder / "english.dict"), mfa_min_log_likelihood=None,
        mfa_max_duration_deviation=None, mfa_command="mfa", max_rejected_fraction=0.1,
    )  # fmt: skip
    mfa_models.download_models(folder / "out", settings)
    return (folder / "out/align/mfa_models.csv").read_text()


def _teachers() -> Iterator[Target]:
    for name, file in (("audeering", "model.safetensors"), ("audeering_bin", "pytorch_model.bin")):
        yield Target(
            f"teacher: {name}", "teachers", (f"{name}/*.json", f"{name}/{file}"),
            lambda f, name=name: _audeering(f, name), weight=4,
        )  # fmt: skip
    yield Target("teacher: emotion2vec", "teachers", ("emotion2vec/*",), _emotion2vec, weight=4)
    yield Target("judge: WavLM", "teachers", ("wavlm/*",), _wavlm, names=("clip.wav",), weight=4)
    for name, judge in (
        ("utmos.pt", lambda path: Utmos(path, CPU)),
        ("nisqa.tar", lambda path: Nisqa(path, CPU)),
        ("scoreq.onnx", lambda path: Scoreq(path, 1)),
    ):
        yield Target(
            f"judge: {name}", "teachers", (name,),
            lambda f, name=name, judge=judge: judge(f / name).predict([_clip(f)]), weight=2,
        )  # fmt: skip
    yield Target("judge: Whisper", "teachers", ("whisper.pt",), _whisper, weight=3)
    yield Target(
        "codec: Whisper's decoder", "teachers",
        ("whisper_hf/config.json", "whisper_hf/model.safetensors"), _whisper_decoder,
    )  # fmt: skip
    yield Target("CosyVoice2: llm.pt", "cosyvoice2", ("llm.pt", "CosyVoice-BlankEN/config.json"),
                 _llm, _llm_again, weight=4)  # fmt: skip
    yield Target("CosyVoice2: campplus.onnx", "cosyvoice2", ("campplus.onnx",), _campplus)
    yield Target(
        "codec: released", "cosyvoice2", ("model.pt",), _released, writes=("out/*",), weight=2
    )
    yield Target(
        "tokenizers", "cosyvoice2", ("qwen_text/*", "whisper_text/*"), _tokenizers, weight=4
    )


def _clip(folder: Path) -> AlignedUtterance:
    spans = np.array([[0.0, 0.2], [0.2, 0.5]])
    return AlignedUtterance("clip", "ann", "a b", ("a", "b"), spans, folder / "clip.wav")


def _audeering(folder: Path, name: str) -> object:
    teacher = AudeeringWordVad(folder / name, 1, 2, CPU)
    return teacher.dimensions, weights_of(teacher._model), teacher.word_vad([_clip(folder)])


def _emotion2vec(folder: Path) -> object:
    module = ModuleType("funasr.models.emotion2vec.model")
    module.Emotion2vec = StandIn  # type: ignore[attr-defined]
    sys.modules.setdefault(module.__name__, module)
    teacher = Emotion2vecPosteriors(folder / "emotion2vec", CPU)
    assert set(teacher.classes) == set(EMOTIONS)
    return teacher.classes, teacher.posteriors([_clip(folder)])


def _wavlm(folder: Path) -> object:
    return WavlmSpeakerEncoder(folder / "wavlm", CPU).predict([_clip(folder)])


def _whisper(folder: Path) -> object:
    return weights_of(WhisperTranscripts(folder / "whisper.pt", 1, CPU)._model)


def _whisper_decoder(folder: Path) -> object:
    sizes = CodecConfig(
        width=16, text_vocabulary=70, text_width=16, text_blocks=1, text_heads=2, text_hidden=16,
        text_positions=40,
    )  # fmt: skip
    torch.manual_seed(0)
    decoder = TextDecoder(sizes.width, sizes.text_sizes, sizes.memory_positions).eval()
    load_whisper_decoder(folder / "whisper_hf", decoder)
    return weights_of(decoder)


def _llm(folder: Path) -> object:
    policy = read_llm(folder)
    return dataclasses.asdict(policy.config), policy


def _llm_again(value: tuple, folder: Path) -> object:
    write_llm(value[1], folder / "llm.pt")
    stored = io.read_pt(folder / "llm.pt", "x")
    assert isinstance(stored, dict)
    table = weights_of(value[1])["speech_embedding.weight"]
    assert torch.equal(stored["speech_embedding.weight"], table)
    return value


def _campplus(folder: Path) -> object:
    samples_T = np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32)
    return CamPlus.load(folder, 1).x_vector(samples_T, "clip")


def _released(folder: Path) -> object:
    codec = import_codec(folder / "model.pt", folder / "out", UnstoredSettings(text_heads=4))
    return weights_of(codec)


def _tokenizers(folder: Path) -> object:
    reads = load_frontend(str(folder / "qwen_text"), str(folder / "whisper_text"))
    return reads.policy("Good day!", "good day"), reads.codec("Good day!", "good day")


TARGETS: tuple[Target, ...] = (
    *_formats(), *_corpora(), *_settings(), *_models(), *_tables(), *_report(), *_alignments(),
    *_teachers(),
)  # fmt: skip
