"""Model card of an exported policy, filled from the run.

Sections follow Mitchell et al. 2019 ("Model Cards for Model Reporting").
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hpro_core.analysis.scores import SPEECH_METRICS
from hpro_core.corpus.readers.registry import READERS
from hpro_core.io import check_type, read_json
from hpro_core.judges.provenance import read_provenance
from hpro_core.params import Corpus, Label
from hpro_core.report.counts import split_counts
from hpro_core.report.provenance import git_revision, versions
from hpro_core.say.policy_folder import EMBEDDED, PolicyFolder

_RENDERED = "controlled: rendered with exact labels by hpro (docs/corpora.md)", "Apache-2.0"
_OWN = "a folder of your own", "not known to hpro: state it here before you pass the model on"

_CONDITIONS = {
    EMBEDDED: "phones of an English text, and the speaker embedding of a reference. There is no "
    "input for an emotion, which follows from the text.",
    "cosyvoice2": "CosyVoice2's text tokens, and optionally a recording with its text or an "
    "instruction in words. The run trained without prompts and instructions; that these work is a "
    "property of the published CosyVoice2.",
}

_USE = """\
## Intended use

Research on rewards for emotional text-to-speech: to listen to what a training changed, and to
compare systems under the conditions below.

## Misuse

The model imitates the voice of a reference recording, and its training raised how emotional the
speech is judged to be. **Do not clone the voice of a person without their documented consent.** Do
not present the output as a recording of that person; do not use it to deceive, to put pressure on
people by feigned distress or anger, for calls under a false identity, or to pass speaker
verification. Label the audio as synthetic where it is published. Emotional speech in a familiar
voice is more convincing than neutral speech, and the policy has no filter for texts or voices and
no watermark.
"""


def model_card(source: PolicyFolder, corpus: Corpus, label: Label, base: str) -> str:
    """Write the model card of a policy of a run.

    Args:
        source: a policy of a run.
        corpus: section `corpus` of the run's settings.
        label: section `label`.
        base: setting `base`.

    Raises:
        HproError: a table or a file with metrics is broken.
    """
    if source.run is None:
        raise ValueError(f"{source.policy} is no policy of a run")
    config = read_json(source.policy / "config.json")
    system, seed = source.policy.resolve().parent.name, source.policy.resolve().name
    parts = [
        f"# {config.get('variant', system)}, {seed} of run {source.run.resolve().name}",
        "A text-to-speech policy of [hpro](https://arxiv.org/abs/2606.28249), exported by "
        '`hpro export`. Speak with it: `hpro say "Text." --reference ref.wav --policy FOLDER`.',
        "\n".join(_model(source, config)),
        "## Data\n\n" + "\n".join(_data(source.run, corpus, base)),
        "## Labels\n\n" + _teachers(label),
        "## Metrics\n\n" + "\n".join(_metrics(source.run, system, seed)),
        _USE.rstrip(),
        "## Limits\n\n" + "\n".join(_limits(source.kind, label)),
        "## Made with\n\n" + "\n".join(_versions()),
    ]
    return "\n\n".join(parts) + "\n"


def _model(source: PolicyFolder, config: Mapping[str, Any]) -> Iterator[str]:
    yield "## Model\n"
    yield f"- Kind: {source.kind}. Input: {_CONDITIONS[source.kind]}"
    sizes = check_type(config.get("model"), dict[str, Any], f"{source.policy}/config.json, model")
    yield "- Sizes: " + ", ".join(f"{name} {value}" for name, value in sizes.items())
    if "rewarded_steps" in config:
        yield f"- Reward steps: {config['rewarded_steps']}"
    if "weights" in config:
        weights = check_type(
            config["weights"], dict[str, float], f"{source.policy}/config.json, weights"
        )
        yield "- Reward weights: " + ", ".join(f"{name} {w:g}" for name, w in weights.items())
    yield "- Licence of the code: Apache-2.0. That of the weights depends on the data below."
    if source.kind != EMBEDDED:
        yield "- Start: CosyVoice2-0.5B; its licence applies to the files in tokenizer/ too."


def _data(run: Path, corpus: Corpus, base: str) -> Iterator[str]:
    yield "| set | corpus | licence |"
    yield "|---|---|---|"
    for name, settings in corpus.sets.items():
        if settings.reader == "controlled":
            title, licence = _RENDERED
            if settings.texts:
                title += f"; sentences of {READERS[settings.texts].INFO.title}"
        elif settings.reader == "csv":
            title, licence = _OWN
        else:
            info = READERS[settings.reader].INFO
            title, licence = info.title, info.licence
        yield f"| {name} | {title} | {licence} |"
    yield "\n| set | split | utterances | minutes | speakers |"
    yield "|---|---|---|---|---|"
    for row in split_counts(run).to_dict("records"):
        yield (
            f"| {row['corpus']} | {row['split'] or 'none'} | {row['utterances']} | "
            f"{row['minutes']:.1f} | {row['speakers']} |"
        )
    if base:
        yield (
            "\nThe run started from a base: tokenizer and first policy were trained before. Their "
            "data are in BASE.md (the base's own README.md)."
        )


def _teachers(label: Label) -> str:
    return (
        "Of `controlled` the labels are exact. Of all other speech they are estimates of teachers: "
        f"affect of words by `{label.vad_teacher}`, emotion by `{label.emotion_teacher}` "
        "(docs/labels.md)."
    )


def _metrics(run: Path, system: str, seed: str) -> Iterator[str]:
    path = run / "eval" / system / seed / "metrics.json"
    if not path.is_file():
        yield "This policy was not judged: `hpro judge` writes its metrics."
        return
    again = "run `hpro judge` again for this system and seed"
    stored = check_type(
        read_json(path, again).get("test_sets"), dict[str, dict[str, Any]], f"{path}, test_sets",
        again,
    )  # fmt: skip
    yield "Brackets: 95 % bootstrap intervals over the utterances of one seed. They are of the"
    yield "test sentences of the run, with other utterances of the speaker as references.\n"
    yield (
        "| test set | utterances | " + " | ".join(f"`{metric}`" for metric in SPEECH_METRICS) + " |"
    )
    yield "|---|---|" + "---|" * len(SPEECH_METRICS)
    for name, values in stored.items():
        cells = [
            _cell(values.get(metric), f"{path}, {name}, {metric}") for metric in SPEECH_METRICS
        ]
        yield f"| {name} | {values.get('n', '')} | " + " | ".join(cells) + " |"
    yield "\nWER is a fraction, and lower is better. Judges:\n"
    provenance = read_provenance(path)
    for what, model in sorted(provenance.judges.items()):
        yield f"- {what}: {model}"
    for note in provenance.affect_notes.values():
        yield f"\n{note}"


def _cell(value: object, where: str) -> str:
    """Format a metric with its interval; a metric that was not computed is a dash."""
    if value is None:
        return "–"
    entry = check_type(value, dict[str, float | None], where)
    numbers = [entry.get(name) for name in ("value", "lo", "hi")]
    found = [number for number in numbers if number is not None and np.isfinite(number)]
    return "–" if len(found) < 3 else f"{found[0]:.3f} [{found[1]:.3f}, {found[2]:.3f}]"


def _limits(kind: str, label: Label) -> Iterator[str]:
    if kind == EMBEDDED:
        yield (
            "- A small model with a small decoder at 16 kHz: it sounds muffled, and words that its "
            "data rarely have are hardly intelligible. Compare the word error rates above."
        )
    yield "- English only. Texts of up to 60 words, references of 0.8 to 30 s."
    yield "- One seed: the metrics say nothing of the variance between trainings."
    if "weak" in (label.vad_teacher, label.emotion_teacher):
        yield "- Weak teachers labelled the speech that is not `controlled`."
    yield "- The judges are models. There was no listening test."
    yield "- Speakers, accents and emotions outside the data above were not tested."


def _versions() -> Iterator[str]:
    yield f"- revision of hpro at the export: {git_revision()}"
    for name in ("python", "torch", "torchaudio", "numpy", "hibari-tts"):
        yield f"- {name} {versions()[name]}"
