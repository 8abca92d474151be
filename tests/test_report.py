"""The report of a small made-up run: figures are those of its tables, nothing is fetched."""

import base64
import io
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import yaml
from snakemake.utils import update_config

from hpro_core import dataset
from hpro_core.analysis.breakdown import CONFUSION_COLUMNS
from hpro_core.analysis.reward_vs_judges import TERM_NAMES
from hpro_core.analysis.scores import (
    BROUGHT_METRICS,
    METRICS,
    PROSODY_METRICS,
    SPEECH_METRICS,
)
from hpro_core.analysis.statistics import Interval
from hpro_core.constants import EMOTIONS
from hpro_core.errors import HproError
from hpro_core.params import Dataset, Label, Report, read_section
from hpro_core.report import figures, limitations, paper, results, stage, training
from hpro_core.report.names import METRIC_MEANINGS
from hpro_core.report.provenance import git_revision
from hpro_core.report.samples import diff_words
from hpro_core.tables import (
    EMOTION_POSTERIORS,
    GENERATED_TOKENS,
    REJECTED,
    SCORES,
    SPEECH_TOKENS,
    SYNTHESIS,
    UTTERANCES,
    WORD_VAD,
    WORDS,
    rejected,
    write_table,
)
from tests.recorded import record

SYSTEMS = {
    "comparison": ["recordings", "tokenrecon", "sft", "hpro"],
    "progressive": ["sft", "frame", "word", "hpro"],
    "ablation": ["no_content", "diffro", "joint", "hpro"],
}
ALL_SYSTEMS = list(dict.fromkeys(name for names in SYSTEMS.values() for name in names))
SETS = ("acted", "controlled")
N_UTTERANCES = 8
SHIPPED = Path(__file__).parents[1] / "params.yaml"
SENTENCE = "You could not pilot a paper bag!"
WORDS_OF_IT = "you could not pilot a paper bag"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("results") / "made_up")


def make_run(root):
    """Everything that a report needs, for eight utterances per corpus."""
    rng = np.random.default_rng(0)
    ids = {name: [f"{name}_{i}" for i in range(N_UTTERANCES)] for name in SETS}
    write_corpus(root, ids, rng)
    dataset.build(
        root, Dataset(policy_text="phones", codec_text="phones", max_rejected_fraction=0.5)
    )
    write_tables(root, rng)
    for number, system in enumerate(ALL_SYSTEMS):
        write_eval(root, system, ids, number, rng)
    for name in (
        "speech/tokenizer", "speech/vocoder", "codec/content", "codec/style", "policy/sft/seed0",
    ):  # fmt: skip
        write_curves(root / name, ["loss", "mel_l1"], rng)
    for name in ALL_SYSTEMS[3:]:
        write_curves(root / f"policy/{name}/seed0", ["loss"], rng)
    write_curves(root / "policy/hpro/seed0", ["loss", "kl", "cp", "sp", "asr", "wvad", "ser"], rng)
    pulls = {"kl": {"share": 0.0}, "cp": {"share": 0.254}, "sp": {"share": 0.746}}
    told = {"terms": pulls, "warnings": ["the term kl is dead"]}
    write_json(root / "policy/hpro/seed0/gradient_norms.json", told)
    watched = {"kept_step": 40, "alarms": {"60": "the reward rises while judges fall"}}
    write_json(root / "policy/hpro/seed0/metrics.json", watched)
    write_json(root / "judge/metrics.json", {"wer": {"value": 0.05, "lo": 0.04, "hi": 0.06}})
    write_json(root / "align/accuracy.json", {"controlled": {"median_ms": 7.5, "n": 60}})
    write_params(root, "weak", "weak")
    return root


def write_corpus(root, ids, rng):
    splits = ["train", "train", "train", "dev", "test", "test", "test", "judge"]
    every = [(name, i, split) for name in SETS for i, split in zip(ids[name], splits, strict=True)]
    n_words = len(WORDS_OF_IT.split())
    table = [
        (
            i,
            name,
            "ann",
            SENTENCE,
            WORDS_OF_IT,
            f"corpus/{name}/audio/{i}.wav",
            1.4,
            split,
            i,
            None,
            None,
        )
        for name, i, split in every
    ]
    utterances = pd.DataFrame(table, columns=list(UTTERANCES.columns))
    write_table(utterances, root / "corpus/utterances.parquet", UTTERANCES)
    for name in SETS:
        mine = utterances[utterances["corpus"] == name]
        write_table(mine, root / f"corpus/{name}/utterances.parquet", UTTERANCES)
        lost = rejected([(f"{name}_x", "longer than 9 s")], "corpus-read")
        write_table(lost, root / f"corpus/{name}/rejected.parquet", REJECTED)
    lost = rejected([("acted_x", "longer than 9 s")], "corpus-read")
    write_table(lost, root / "corpus/rejected.parquet", REJECTED)
    words = [
        (i, w, word, 0.2 * w, 0.2 * w + 0.2, 1.0)
        for _, i, _ in every
        for w, word in enumerate(WORDS_OF_IT.split())
    ]
    write_table(frame(words, WORDS), root / "align/words.parquet", WORDS)
    write_table(rejected([], "align"), root / "align/rejected.parquet", REJECTED)
    vad = [(i, w, *rng.uniform(0.2, 0.8, 3)) for _, i, _ in every for w in range(n_words)]
    write_table(frame(vad, WORD_VAD), root / "label/word_vad.parquet", WORD_VAD)
    emotion = frame([(i, *np.full(9, 1 / 9)) for _, i, _ in every], EMOTION_POSTERIORS)
    assert list(emotion.columns[1:]) == list(EMOTIONS)
    write_table(emotion, root / "label/emotion_posteriors.parquet", EMOTION_POSTERIORS)
    tokens = [(i, np.arange(35, dtype=np.int16), np.ones(3, np.float32)) for _, i, _ in every]
    write_table(frame(tokens, SPEECH_TOKENS), root / "speech/speech_tokens.parquet", SPEECH_TOKENS)


def write_tables(root, rng):
    (root / "tables").mkdir(parents=True)
    for name, systems in SYSTEMS.items():
        rows = []
        for system in systems:
            for test_set in SETS:
                row = {
                    "system": system,
                    "test_set": test_set,
                    "n": 3,
                    "n_wvad": 2.0,
                    "n_checked": 1,
                    "seeds": 1,
                }
                for metric in METRICS:
                    value = rng.uniform(0.1, 0.9)
                    row |= {
                        metric: value,
                        f"{metric}_lo": value - 0.05,
                        f"{metric}_hi": value + 0.05,
                    }
                rows.append(row)
        pd.DataFrame(rows).to_csv(root / f"tables/{name}.csv", index=False)
    for what, groups in (("emotion", ["happy", "sad"]), ("speaker", ["ann"])):
        rows = [
            {"system": "sft", "test_set": "controlled", what: group, "n": 2, "seeds": 1}
            | {metric: rng.uniform(0.1, 0.9) for metric in METRICS}
            for group in groups
        ]
        pd.DataFrame(rows).to_csv(root / f"tables/by_{what}.csv", index=False)
    every = dict.fromkeys(name for names in SYSTEMS.values() for name in names)
    policies = [name for name in every if name not in ("recordings", "tokenrecon", "sft")]
    gaps = [
        (system, test_set, metric, 3, value := rng.normal(0, 0.1), value - 0.15, value + 0.15)
        for system in policies
        for test_set in SETS
        for metric in METRICS
    ]
    columns = ["system", "test_set", "metric", "n", "above_sft", "lo", "hi"]
    pd.DataFrame(gaps, columns=columns).to_csv(root / "tables/differences.csv", index=False)
    confused = [("sft", "controlled", "happy", 3, 0, 0, 1, 2, 0, 0, 0, 0, 0)]
    table = pd.DataFrame(confused, columns=list(CONFUSION_COLUMNS))
    table.to_csv(root / "tables/confusion.csv", index=False)


def write_eval(root, system, ids, number, rng):
    folder = root / "eval" / system / "seed0"
    (folder / "audio").mkdir(parents=True)
    made, scores, vad = [], [], []
    for name in SETS:
        for i in ids[name][4:7]:
            audio = f"eval/{system}/seed0/audio/{i}.wav"
            tone = 0.1 * np.sin(2 * np.pi * (150 + 20 * number) * np.arange(16000) / 16000)
            soundfile.write(root / audio, tone, 16000)
            made.append((i, name, "ann", SENTENCE, WORDS_OF_IT, audio, 1.0, None, 25, i[-1] != "4"))
            judged = ("you could not pile it a paper", 3, 2, 7, 0.4, 0.9, 3.1, 3.3, 0.8)
            prosody = (0.5, 0.6, 0.7, 0, 1, 1, None, None, None)
            scores.append((i, name, *judged, *prosody))
            vad += [(i, w, *rng.uniform(0.2, 0.8, 3)) for w in range(7)]
    write_table(frame(made, SYNTHESIS), folder / "synthesis.parquet", SYNTHESIS)
    write_table(frame(scores, SCORES), folder / "scores.parquet", SCORES)
    record(root, folder / "scores.parquet", system, 0)
    who = {"judges": {"asr": "an ear, sha256 ab"}, "judged_by_teachers": {"emo_sim": "a teacher"}}
    write_json(folder / "metrics.json", who)
    if system != "diffro":
        write_table(frame(vad, WORD_VAD), folder / "word_vad.parquet", WORD_VAD)
        words = [
            (row[0], w, word, 0.1 * w, 0.1 * w + 0.1, None)
            for row in made
            for w, word in enumerate(WORDS_OF_IT.split())
        ]
        write_table(frame(words, WORDS), folder / "words.parquet", WORDS)
        tokens = [(row[0], rng.integers(0, 6561, 25).astype(np.int16)) for row in made]
        write_table(frame(tokens, GENERATED_TOKENS), folder / "tokens.parquet", GENERATED_TOKENS)


def write_curves(folder, terms, rng):
    rows = [
        (step, split, term, 3 / (1 + step / 50) + rng.normal(0, 0.05))
        for term in terms
        for split, every in (("train", 20), ("dev", 100))
        for step in range(every, 401, every)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(rows, columns=["step", "split", "term", "value"])
    table.to_csv(folder / "training.csv", index=False)


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_params(root, vad_teacher, emotion_teacher):
    settings = yaml.safe_load(SHIPPED.read_text())
    settings["label"] |= {"vad_teacher": vad_teacher, "emotion_teacher": emotion_teacher}
    settings |= {"run": "made_up", "base": ""}
    (root / "params.yaml").write_text("# <settings>\n" + yaml.safe_dump(settings))


def cells_of(line):
    """Content of each <td> of a row."""
    return re.findall(r"<td[^>]*>(.*?)</td>", line, flags=re.DOTALL)


def frame(rows, schema):
    return pd.DataFrame(rows, columns=list(schema.columns))


def build(root, n_samples=2):
    path = stage.build(root, Report(samples=n_samples), root / "params.yaml")
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(finished):
    return build(finished)


@pytest.fixture(scope="module")
def other_page(finished, tmp_path_factory):
    """Of older tables, without measured word times, with published teachers and exact labels."""
    root = shutil.copytree(finished, tmp_path_factory.mktemp("other") / "made_up")
    for name in results.TABLES:
        os.utime(root / f"tables/{name}.csv", (0, 86400))
    (root / "align/accuracy.json").unlink()
    write_params(root, "audeering", "emotion2vec")
    (root / "corpus/controlled/truth_vad.parquet").touch()
    return build(root, 1)


@pytest.mark.parametrize("name", results.TABLES)
def test_every_figure_is_that_of_the_table(finished, page, name):
    for row in pd.read_csv(finished / f"tables/{name}.csv").to_dict("records"):
        table = page.split(f'data-table="{name}" data-test-set="{row["test_set"]}"')[1]
        line = table.split(f'data-system="{row["system"]}"')[1].split("</tr>")[0]
        cells = [re.sub(r' <small class="paper">.*?</small>', "", c) for c in cells_of(line)]
        for place, metric in ((2, "wer"), (3, "wer_check")):
            wer = [f"{100 * row[metric + end]:.1f}" for end in ("", "_lo", "_hi")]
            assert cells[place] == f"{wer[0]} <small>[{wer[1]}, {wer[2]}]</small>"
        ccc = [f"{row[key]:.3f}" for key in ("wvad_ccc", "wvad_ccc_lo", "wvad_ccc_hi")]
        assert cells[4] == f"{ccc[0]} <small>[{ccc[1]}, {ccc[2]}]</small>"
        assert cells[0] == "3 <small>2, 1</small>"
        assert cells[6].startswith(f"{row['dnsmos']:.2f} <small>")
        assert len(cells) == 2 + len(SPEECH_METRICS)
        line = table.split(f'data-prosody="{row["system"]}"')[1].split("</tr>")[0]
        cells = cells_of(line)
        assert cells[1].startswith(f"{row['f0_corr']:.3f} <small>[{row['f0_corr_lo']:.3f}, ")
        assert len(cells) == 1 + len(PROSODY_METRICS)


def test_groups_and_confusion_are_those_of_their_tables(finished, page):
    for what in ("emotion", "speaker"):
        rows = pd.read_csv(finished / f"tables/by_{what}.csv").to_dict("records")
        assert page.count(f'<tr data-group="{what}"') == len(rows)
        for row in rows:
            start = f'data-test-set="controlled" data-name="{row[what]}" data-of="sft">'
            [line] = page.split(f'<tr data-group="{what}" {start}')[1:]
            cells = cells_of(line.split("</tr>")[0])
            assert cells[0] == "2"
            assert cells[1] == f"{100 * row['wer']:.1f}"
            assert cells[4] == f"{row['f0_corr']:.3f}"
    [line] = page.split('<tr data-confusion="sft" data-test-set="controlled"')[1:]
    assert line.startswith(' data-emotion="happy">')
    row = line.split("</tr>")[0]
    named = dict(re.findall(r'<td data-label="(\w+)"[^>]*>(.*?)</td>', row))
    assert named == {"fearful": "1", "happy": "<strong>2</strong>", "n": "3"}  # the others are 0


def test_groups_by_length_are_those_of_the_scores(page):
    """All sentences of the fixture have seven words, and three errors."""
    lines = page.split('<tr data-group="length"')[1:]
    assert len(lines) == len(SETS) * len(ALL_SYSTEMS)
    for line in lines:
        assert 'data-name="5 to 8 words"' in line
        cells = cells_of(line.split("</tr>")[0])
        assert cells[:4] == ["3", f"{100 * 3 / 7:.1f}", "0.400", "0.900"]


def test_a_run_without_emotions_has_no_such_tables(finished, tmp_path):
    root = shutil.copytree(finished, tmp_path / "made_up")
    for name in ("by_emotion", "confusion"):
        path = root / f"tables/{name}.csv"
        path.write_text(path.read_text().splitlines()[0] + "\n")
    page = build(root)
    assert "By speaker</summary>" in page
    assert "By emotion</summary>" not in page
    assert "Confusion of emotions" not in page


def test_every_metric_has_a_column_and_a_plot(page):
    assert tuple(figures.METRIC_NAMES) == (*METRICS, *BROUGHT_METRICS)
    for metric in METRICS:
        name = figures.METRIC_NAMES[metric]
        tables = re.findall(r"<table[^>]* data-table=.*?</table>", page, flags=re.DOTALL)
        tables += re.findall(r"<caption>[^<]*: prosody</caption>.*?</table>", page, flags=re.DOTALL)
        heads = [table for table in tables if f'<th scope="col">{name}</th>' in table]
        assert len(heads) == len(results.TABLES) * len(SETS)
        plots = page.split('<section id="results">')[1].split("</section>")[0]
        assert plots.count(f'<p class="panel-title">{name}</p><svg') == len(SETS)


def test_the_paper_stands_beside_it(page):
    table = page.split('data-table="progressive" data-test-set="controlled"')[1]
    line = table.split('data-system="word"')[1].split("</tr>")[0]
    said = re.findall(r'<small class="paper">paper (.*?)</small>', line)
    assert said == ["4.0", "0.350", "0.653", "3.70"]
    assert "not comparable in absolute terms" in page
    assert "cosyvoice3 4.9 / 0.275" in re.sub(r"\s+", " ", page)


def test_a_page_that_fetches_nothing(page):
    """What it loads is in it; the audio of other sentences is beside it, as scripts."""
    assert not re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', page)
    scripts = re.findall(r"<script([^>]*)>(.*?)</script>", page, flags=re.DOTALL)
    for attributes, code in scripts:
        assert "src" not in attributes
        if not attributes:
            assert not re.findall(r"https?:(?!//www\.w3\.org/)|fetch\(|XMLHttp|import\b", code)
    assert "@import" not in page
    assert "url(" not in page.split("</style>")[0]
    assert page.count("<audio") == 2 * len(SETS) * len(ALL_SYSTEMS)
    assert page.count("data:audio/mpeg;base64,") == page.count("<audio")


def read_index(page):
    [found] = re.findall(r'id="sentence-index">(.*?)</script>', page, flags=re.DOTALL)
    return json.loads(found)


def read_sentence(path):
    text = path.read_text(encoding="utf-8")
    assert text.startswith("hproSentence(")
    return json.loads(text.removeprefix("hproSentence(").removesuffix(");\n"))


def test_the_browser_has_every_sentence_and_score(finished, page):
    index = read_index(page)
    assert [system["name"] for system in index["systems"]] == stage.order_systems(ALL_SYSTEMS)
    entries = {entry["id"]: entry for entry in index["sentences"]}
    assert set(entries) == {f"{name}_{i}" for name in SETS for i in (4, 5, 6)}
    keys = [metric["key"] for metric in index["metrics"]]
    for entry in entries.values():
        scores = dict(zip(keys, entry["scores"], strict=True))
        assert scores["wer"] == [0.429] * len(ALL_SYSTEMS)
        assert scores["wvad_ccc"] == [0.4] * len(ALL_SYSTEMS)
        assert entry["emotionKind"] == "weak label"
        assert entry["text"] == SENTENCE
    files = {path.stem for path in (finished / "report/sentences").glob("*.js")}
    assert files | set(index["embedded"]) == set(entries)
    assert not files & set(index["embedded"])


def test_a_sentence_beside_the_page_has_all_that_the_player_shows(finished, page):
    [name, *_] = sorted(path.stem for path in (finished / "report/sentences").glob("*.js"))
    content = read_sentence(finished / f"report/sentences/{name}.js")
    assert content["words"] == WORDS_OF_IT.split()
    labels = pd.read_parquet(finished / "label/word_vad.parquet")
    expected = labels[labels["utt_id"] == name].sort_values("word_index")
    assert np.allclose(content["label"], expected[["valence", "arousal", "dominance"]], atol=6e-4)
    assert content["labelKind"] == "weak label"
    takes = {take["system"]: take for take in content["takes"]}
    assert list(takes) == stage.order_systems(ALL_SYSTEMS)
    assert takes["diffro"]["vad"] is takes["diffro"]["times"] is None
    assert len(takes["hpro"]["vad"]) == len(content["words"])
    assert takes["hpro"]["times"][1] == [0.1, 0.2]
    for number, system in enumerate(ALL_SYSTEMS):  # tones of 150 Hz and more
        heard = [f0 for f0 in takes[system]["f0"] if f0 is not None]
        assert np.median(heard) == pytest.approx(150 + 20 * number, rel=0.03)
        audio, rate = soundfile.read(io.BytesIO(base64.b64decode(takes[system]["audio"])))
        assert (rate, len(audio)) == (16000, 16000)


def test_sentences_of_an_earlier_report_are_removed(finished):
    left = finished / "report/sentences/old_1.js"
    left.parent.mkdir(parents=True, exist_ok=True)
    left.touch()
    build(finished)
    assert not left.exists()


def test_the_first_screen_compares_with_the_baseline(finished, page):
    first = page.split('<section id="summary">')[1].split("</section>")[0]
    assert "No difference between hpro and sft is shown: there is one training seed" in first
    gaps = pd.read_csv(finished / "tables/differences.csv")
    rows = gaps[(gaps["system"] == "hpro") & (gaps["test_set"] == "controlled")]
    table = first.split('data-comparison="hpro" data-test-set="controlled"')[1].split("</table>")[0]
    assert table.count("<tr data-metric=") == len(rows) == len(METRICS)
    for row in rows.to_dict("records"):
        line = table.split(f'data-metric="{row["metric"]}"')[1].split("</tr>")[0]
        ends = [row[end] for end in ("above_sft", "lo", "hi")]
        digits, scale = (1, 100) if row["metric"] in figures.PERCENT else (3, 1)
        value, lo, hi = (f"{scale * end:+.{digits}f}" for end in ends)
        assert cells_of(line)[6] == f"{value} [{lo}, {hi}]"
        shown = ends[1] > 0 or ends[2] < 0
        assert ("no difference shown" in cells_of(line)[7]) == (not shown)
    assert "about 1 " in re.sub(r"\s+", " ", first)  # of 22 intervals


def test_names_of_svg_elements_do_not_clash(page):
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"url\(#([^)]+)\)", page)) <= set(ids)


def test_sections_and_counts(page):
    for name in ("results", "reading", "listen", "training", "judges", "alignment", "weak"):
        assert f'<section id="{name}">' in page
    line = page.split('data-stage="read acted"')[1].split("</tr>")[0]
    assert cells_of(line)[:3] == ["9", "8", "1"]
    assert "1 longer than 9 s" in line
    line = page.split('data-stage="split"')[1].split("</tr>")[0]
    assert cells_of(line)[:3] == ["16", "16", "0"]
    assert "does not add up" not in page
    times = page.split('<section id="alignment">')[1].split("</section>")[0]
    assert re.search(r"<caption>controlled</caption>\s*<tbody>.*median_ms</th><td>7.5<", times)
    assert "0.05 [0.04, 0.06]" in page
    assert '<th scope="row">asr</th><td>an ear</td>' in page
    hashes = page.split("SHA-256 of their weights</summary>")[1].split("</details>")[0]
    assert '<th scope="row">asr</th><td>an ear, sha256 ab</td>' in hashes
    assert "EMO-SIM is not independent here: a teacher judged it" in page
    assert "<summary>policy/hpro</summary>" in page
    line = page.split("Share of each weighted term")[1].split("</table>")[0]
    assert '<th scope="row">hpro</th><td data-label="seed">0</td>' in line
    assert '<td data-label="cp">25.4 %</td>' in line
    assert "the term kl is dead; step 60: the reward rises while judges fall" in line
    assert '<td data-label="kept step">40</td>' in line
    assert "One training seed only" in page
    assert "they do not include the variance over training seeds" in page
    assert "Embedded judges chose the kept step of hpro " in page
    assert "# &lt;settings&gt;" in page
    assert "run: made_up" in page
    assert "snakemake --cores all -- results/made_up/eval/joint/seed0/metrics.json" in page
    assert "main {" in page.split("</style>")[0]
    assert "without word affect: diffro" in page


def test_the_same_results_give_the_same_bytes(finished, page):
    assert build(finished) == page


def test_affect_that_is_not_judged_is_empty_with_its_reason(finished, tmp_path):
    root = shutil.copytree(finished, tmp_path / "made_up")
    for name in results.TABLES:
        table = pd.read_csv(root / f"tables/{name}.csv")
        affect = [c for c in table if c.startswith(("wvad_ccc", "emo_sim"))]
        table.loc[table["test_set"] == "acted", affect] = np.nan
        table.to_csv(root / f"tables/{name}.csv", index=False)
    reason = "No wVAD-CCC and EMO-SIM on acted: the judge does not know it."
    for path in sorted(root.glob("eval/*/seed0/scores.parquet")):
        scores = pd.read_parquet(path)
        scores.loc[scores["corpus"] == "acted", ["wvad_ccc", "emo_sim"]] = np.nan
        write_table(scores, path, SCORES)
        record(root, path, path.parts[-3], 0)
        who = {"judges": {"asr": "an ear"}, "judged_by_teachers": {}}
        write_json(path.with_name("metrics.json"), who | {"affect_notes": {"acted": reason}})
    page = build(root)
    assert f'<p class="caution">{reason}</p>' in page
    said = re.sub(r"<svg.*?</svg>|data:audio[^\"]*", "", page, flags=re.DOTALL)
    assert not re.search(r"\bnan\b", said, flags=re.IGNORECASE)
    table = page.split('data-table="comparison" data-test-set="acted"')[1].split("</table>")[0]
    line = table.split('data-system="hpro"')[1].split("</tr>")[0]
    cells = [re.sub(r' <small class="paper">.*?</small>', "", cell) for cell in cells_of(line)]
    assert cells[4] == cells[5] == "– <small></small>"
    assert "CCC –, SIM –" in page
    assert page.count("not judged</text>") == 2  # in the plot of `acted`
    tables = results.read_tables(root)
    orderings = results.ordering_results(tables)
    metrics = {name: {r.claim.metric for r in orderings if r.test_set == name} for name in SETS}
    assert metrics == {"acted": {"wer"}, "controlled": {"wer", "wvad_ccc", "emo_sim"}}


def test_the_date_is_that_of_the_results(other_page):
    assert "1970-01-02 00:00 UTC" in other_page


@pytest.mark.parametrize(
    ("path", "command"),
    [
        ("tables/ablation.csv", "hpro tables"),
        pytest.param("judge/metrics.json", "hpro judge-recordings", marks=pytest.mark.full),
        ("eval/word/seed0/synthesis.parquet", "hpro synthesise word --seed 0"),
        ("eval/word/seed0/scores.parquet", "hpro judge word --seed 0"),
        pytest.param("codec/style/training.csv", "hpro codec-style", marks=pytest.mark.full),
        pytest.param(
            "dataset/rejected.parquet",
            "dataset/rejected.parquet does not exist",
            marks=pytest.mark.full,
        ),
        ("eval/hpro/seed0/audio/acted_4.wav", "acted_4.wav"),
    ],
)
def test_what_is_missing_is_named_with_its_command(finished, path, command):
    hidden = finished / f"{path}.hidden"
    os.replace(finished / path, hidden)
    try:
        with pytest.raises(HproError, match=re.escape(command)):
            build(finished, 3)
    finally:
        os.replace(hidden, finished / path)


@pytest.mark.parametrize(
    ("name", "key", "odd"),
    [
        ("gradient_norms.json", "terms", None),
        ("gradient_norms.json", "terms", [1]),
        ("gradient_norms.json", "terms", {"kl": {}}),
        ("gradient_norms.json", "terms", {"kl": {"share": "much"}}),
        ("gradient_norms.json", "warnings", "one"),
        ("gradient_norms.json", "warnings", [1]),
        ("metrics.json", "alarms", ["60"]),
        ("metrics.json", "alarms", {"60": 1}),
        ("metrics.json", "kept_step", "40"),
    ],
)
def test_what_a_training_wrote_oddly_is_named(finished, name, key, odd, tmp_path):
    folder = tmp_path / "policy/hpro/seed0"
    shutil.copytree(finished / "policy/hpro/seed0", folder)
    path = folder / name
    write_json(path, {**json.loads(path.read_text()), key: odd})
    with pytest.raises(
        HproError, match=rf"{name}.*delete \S*/policy/hpro/seed0 and run Snakemake again"
    ):
        training.reward_diagnostics(tmp_path, ["sft", "hpro"], [0])


def test_curves_are_those_of_this_run(tmp_path):
    for name in ("speech/tokenizer", "policy/gone/seed0", "policy/sft/seed0", "policy/sft/seed9"):
        write_curves(tmp_path / name, ["loss"], np.random.default_rng(0))
    found = figures.training_files(tmp_path, {"policy/sft": "hpro sft"}, [0])
    assert found == {"policy/sft": [tmp_path / "policy/sft/seed0/training.csv"]}
    with pytest.raises(HproError, match=r"sft/seed1/training\.csv does not exist: run `hpro sft`"):
        figures.training_files(tmp_path, {"policy/sft": "hpro sft"}, [0, 1])


@pytest.mark.parametrize(
    ("changes", "trained"),
    [
        ({"base": ""}, {"speech/tokenizer", "speech/vocoder", "codec/content", "codec/style"}),
        (
            {"base": "", "vocoder": {"method": "griffin_lim"}},
            {"speech/tokenizer", "codec/content", "codec/style"},
        ),
        ({"base": "data/base"}, set()),
        (
            {"base": "", "codec": {"checkpoint": "model.pt"}},
            {"speech/tokenizer", "speech/vocoder"},
        ),
        ({"base": "", "speech": {"preset": "cosyvoice2"}}, {"codec/content", "codec/style"}),
    ],
)
def test_what_a_base_or_a_publisher_trained_has_no_curves_here(tmp_path, changes, trained):
    settings = yaml.safe_load(SHIPPED.read_text())
    update_config(settings, changes)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(settings))
    found = stage.training_commands(tmp_path / "params.yaml", ["sft", "hpro"])
    assert set(found) == {*trained, "policy/sft", "policy/hpro"}
    assert stage.training_commands(tmp_path / "params.yaml", []).keys() == trained
    assert (found["policy/sft"], found["policy/hpro"]) == ("hpro sft", "hpro reward hpro")


def test_word_times_without_reference_are_said_to_be_unmeasured(page, other_page):
    for said in (
        "Not measured: run <code>hpro align-check</code>",
        "Word times were not compared with reference times",
    ):
        assert said in other_page
        assert said not in page


@pytest.mark.parametrize(
    ("vad", "emotion", "words", "utterances"),
    [
        ("weak", "weak", "weak formulas over word norms", "a weak formula over that"),
        ("audeering", "emotion2vec", "audeering's model", "emotion2vec"),
        ("audeering", "weak", "audeering's model", "a weak formula over that"),
        ("weak", "emotion2vec", "weak formulas over word norms", "emotion2vec"),
    ],
)
def test_weak_points_name_the_teachers(finished, tmp_path, vad, emotion, words, utterances):
    write_params(tmp_path, vad, emotion)
    label = read_section(tmp_path / "params.yaml", "label", Label)
    points = "".join(limitations.limitations(finished, results.read_tables(finished), label))
    assert f"affect of words by {words}" in points
    assert f"emotion by {utterances}" in points


def test_labels_beside_traces_are_those_of_the_teacher(page, other_page):
    assert "the labels of the recording (by weak formulas over word norms" in page
    said = "the labels of the recording (exact on controlled, by audeering&#39;s model elsewhere)"
    assert said in other_page
    assert "weak formula" not in other_page


def test_every_claim_holds_in_the_papers_own_figures():
    for claim in paper.CLAIMS:
        rows = paper.PAPER_VALUES[claim.table]
        column = paper.METRICS.index(claim.metric)
        difference = rows[claim.better][column] - rows[claim.worse][column]
        assert (difference < 0) == (claim.metric in paper.LOWER_IS_BETTER)
        assert difference != 0


@pytest.mark.parametrize(
    ("metric", "better", "worse", "expected"),
    [
        ("emo_sim", (0.8, 0.7, 0.9), (0.5, 0.4, 0.6), results.SAME_APART),
        ("emo_sim", (0.6, 0.4, 0.8), (0.5, 0.3, 0.7), results.SAME),
        ("emo_sim", (0.5, 0.3, 0.7), (0.6, 0.4, 0.8), results.OTHER),
        ("emo_sim", (0.2, 0.1, 0.3), (0.6, 0.4, 0.8), results.OTHER_APART),
        ("emo_sim", (0.5, 0.3, 0.7), (0.5, 0.4, 0.6), results.EQUAL),
        ("wer", (0.2, 0.1, 0.3), (0.6, 0.4, 0.8), results.SAME_APART),
        ("wer", (0.6, 0.4, 0.8), (0.2, 0.1, 0.3), results.OTHER_APART),
    ],
)
def test_directions(metric, better, worse, expected):
    claim = paper.Claim("progressive", metric, "hpro", "sft", "")
    assert results.direction(claim, Interval(*better), Interval(*worse)) == expected


def test_orderings_are_counted_and_none_is_called_shown():
    claim = paper.Claim("progressive", "emo_sim", "hpro", "sft", "")
    figure = Interval(0.5, 0.4, 0.6)
    towards = [results.SAME_APART, results.SAME, results.SAME, results.EQUAL, results.OTHER]
    found = [results.OrderingResult(claim, "acted", figure, figure, each) for each in towards]
    assert results.summary(found, "acted") == (
        "On acted, of 5 orderings of the paper, 3 have the same direction here (1 of them with "
        "intervals that do not overlap), 1 the opposite direction (0), and 1 no difference."
    )
    assert "no pair of systems" in results.summary(found, "controlled")


def test_weak_points_of_several_seeds_are_others(finished):
    tables = {name: table.assign(seeds=3) for name, table in results.read_tables(finished).items()}
    label = read_section(finished / "params.yaml", "label", Label)
    points = " ".join(limitations.limitations(finished, tables, label))
    assert "too narrow for few seeds" in points
    assert "One training seed" not in points


def test_marks_of_what_was_heard():
    assert diff_words("you could pilot", "you could pilot") == [("equal", "you could pilot")]
    assert diff_words("a paper bag", "a piper bag now") == [
        ("equal", "a"),
        ("substitute", "piper"),
        ("equal", "bag"),
        ("insert", "now"),
    ]
    assert diff_words("a paper bag", "a bag") == [
        ("equal", "a"),
        ("delete", "paper"),
        ("equal", "bag"),
    ]
    assert diff_words("a bag", "") == [("delete", "a bag")]


def test_what_a_run_writes_is_no_uncommitted_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files = [Path("dvc.lock"), Path("results/embedded/tables/ablation.csv"), Path("code.py")]
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("1")
    for command in (["init"], ["add", "."], [*identity, "commit", "--message", "test"]):
        subprocess.run(["git", *command], check=True, capture_output=True)
    revision = git_revision()
    assert re.fullmatch("[0-9a-f]{40}", revision)
    for file in files[:2]:
        file.write_text("2")
    assert git_revision() == revision
    files[2].write_text("2")
    assert git_revision() == f"{revision} (with uncommitted changes)"


def test_every_name_on_the_first_screen_is_explained(finished, page):
    explained = page.split('id="names"')[1].split("</details>")[0]
    names = set(re.findall(r'<th scope="row">([^<]+)</th>', explained))
    assert names >= {*ALL_SYSTEMS, *SETS, *TERM_NAMES}
    assert names >= {figures.METRIC_NAMES[metric] for metric in (*SPEECH_METRICS, *PROSODY_METRICS)}
    assert set(METRIC_MEANINGS) == set(figures.METRIC_NAMES)
    assert "joint</th><td>sft trained further with the rewards of the sentence stage<" in explained
    assert "without sp, wvad, ser" not in explained  # no_emotion is not in this run
