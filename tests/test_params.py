"""Settings: what the project ships is valid, and what is wrong is named in one line."""

from pathlib import Path

import pytest
import yaml
from snakemake.utils import update_config, validate

from hpro_core import params as p
from hpro_core.errors import HproError

SHIPPED = Path(__file__).parents[1] / "params.yaml"


def changed(tmp_path, dotted, value):
    """The shipped settings, all trained from nothing, with one entry changed."""
    settings = yaml.safe_load(SHIPPED.read_text()) | {"base": ""}
    inner = settings
    *path, last = dotted.split(".")
    for name in path:
        inner = inner[name]
    inner[last] = value
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump(settings))
    return file


@pytest.mark.parametrize("name", ["acted", "base", "claims", "voices"])
def test_the_shipped_differences_are_valid_and_have_a_run_of_their_own(name):
    whole = yaml.safe_load(SHIPPED.read_text())
    file = SHIPPED.parent / "config" / f"{name}.yaml"
    update_config(whole, yaml.safe_load(file.read_text()))
    assert p.validate_section(whole, p.Params, file).run == name


def test_the_shipped_settings_are_valid_and_complete():
    settings = p.validate_section(p.read_yaml(SHIPPED), p.Params, SHIPPED)
    assert settings.reward.word.weights.asr == 5.0
    assert set(settings.tables.ablation) >= {"diffro", "no_content", "joint"}


FULL_POLICY = {"preset": "cosyvoice2", "path": "CosyVoice2-0.5B", "dropout": 0.0}
SOME, MINE = {"start": "sft", "stage": "word"}, {"reader": "csv", "path": "mine"}
WRONG = [
    ("report.smaples", 3, r"report.smaples: is not a setting; did you mean samples\?$"),
    ("shard", 3, r"shard: is not a setting; did you mean shards\?$"),
    ("xyzzy", 3, r"xyzzy: is not a setting; correct a misspelling or remove it$"),
    ("corpus.sets.acted.readr", "csv", r"acted.readr: is not a setting; did you mean reader\?$"),
    ("corpus.sets.acted.reader", "cvs", r"reader: input should be .*'cvs'; did you mean csv\?$"),
    ("codec.style.step", 1, r"codec.style.step: is not a setting; did you mean steps\?$"),
    ("reward.word.temperatur", 1.0, r"is not a setting; did you mean temperature\?$"),
    ("variants.hpro.override", {"frame_nrom": "l1"}, r"not a setting; did you mean frame_norm\?$"),
    ("variants.word.start", "farme", r"no policy 'farme' \(.*\); did you mean frame\?$"),
    ("sft.leave_out", ["acetd"], r"correct or remove the name; did you mean acted\?$"),
    ("sft.steps", -1, r"sft.steps: input should be greater than or equal to 1, not -1"),
    ("sft.steps", "many", r"sft.steps: input should be a valid integer, not 'many'"),
    ("reward.word.weights.wvad", "tiny", r"wvad: input should be a valid number, not 'tiny'"),
    ("align.backend", "ear", r"align.backend: input should be .* not 'ear'"),
    ("variants.word.start", "farme", r"variants.word.start: no policy 'farme' \(sft, .*frame"),
    ("variants.frame.start", "hpro", r"variants.frame.start: circular, frame from hpro from "),
    ("seeds", [0, 1, 0], r"seeds: \[0, 1, 0\] has a duplicate"),
    ("compute.device", "gpu", r"compute.device: string should match pattern .*auto.cpu.cuda"),
    ("tables.ablation", ["joint", "no_frames"], r"tables.ablation: no system 'no_frames'"),
    ("synthesis.min_ratio", 5.0, r"synthesis: min_ratio: 5.0 is not below max_ratio 5.0"),
    ("tables.ablation", [], r"tables.ablation: list should have at least 1 item"),
    ("seeds", [-1], r"seeds.0: input should be greater than or equal to 0, not -1"),
    ("variants.base", SOME, r"variants.base: is already a folder of the run"),
    ("variants.no kl", SOME, r"variants.no kl: use letters, digits, '_' and '-' only"),
    ("corpus.sets.shards", MINE, r"corpus: sets.shards: is already a folder of the run"),
    ("corpus.sets.-mine", MINE, r"corpus: sets.-mine: use letters, digits, '_' and '-' only"),
    (
        "corpus.sets.acted.speakers",
        "bob",
        r"corpus.sets.acted.speakers: input should be a valid list, not 'bob'",
    ),
    (
        "corpus.sets.mine",
        MINE | {"speakers": ["ann"], "leave_out_speakers": ["bea"]},
        r"corpus.sets.mine: speakers and leave_out_speakers are both given: remove one of them",
    ),
    (
        "corpus.sets.controlled.leave_out_speakers",
        ["heart"],
        r"corpus.sets.controlled: the reader controlled has no speakers to choose",
    ),
    ("corpus.sets.acted.split", "dev", r"acted.split: input should be '', 'train', 'judge' or"),
    ("corpus.sets.mine", MINE | {"texts": "csv"}, r"corpus.sets.mine: texts is for the reader c"),
    (
        "corpus.sets.mine",
        MINE | {"reader": "controlled", "texts": "csv"},
        r"corpus.sets.mine: the texts of a corpus are .*: add split: train",
    ),
    ("corpus", None, r"corpus: input should be a valid dictionary"),
    ("speech.preset", "cosyvoice2", r"speech.path: name the folder CosyVoice2-0.5B"),
    ("dataset.policy_text", "qwen", r"dataset.policy_text: set phones for this policy.preset"),
    ("policy.preset", "cosyvoice2", r"policy.path: name the folder CosyVoice2-0.5B"),
    ("policy", FULL_POLICY, r"speech.preset: set cosyvoice2 for policy.preset cosyvoice2"),
    ("codec.whisper", "whisper-small", r"codec.whisper: codec.preset embedded trains from scratch"),
    ("dataset.codec_text", "whisper", r"dataset.codec_text: set phones for codec.preset embedded"),
    ("codec.preset", "released", r"dataset.codec_text: this codec uses Whisper's tokens"),
    ("codec.checkpoint", "model.pt", r"speech.preset: set cosyvoice2 for the authors' codec"),
    ("variants.sft", SOME, r"variants.sft: the name is reserved"),
    ("variants.frame.drop", ["sp", "cp"], r"variants.frame.drop: no reward of its stage is left"),
    ("controlled.utterances", 80, r"controlled.utterances: is not a setting"),
    ("controlled.test", 4, r"controlled.test: input should be greater than or equal to 5, not 4"),
    ("evaluate.judge_epochs", 0, r"evaluate.judge_epochs: input should be greater than or equal"),
    ("base", None, r"base: input should be a valid string, not None"),
    ("sft.leave_out", ["acetd"], r"sft.leave_out: corpus.sets has no 'acetd' \(acted, contr"),
    ("reward.leave_out", ["acted", "mine"], r"reward.leave_out: corpus.sets has no 'mine'"),
    ("codec.content.leave_out", ["x"], r"codec.content.leave_out: corpus.sets has no 'x'"),
    ("codec.style.leave_out", ["x"], r"codec.style.leave_out: corpus.sets has no 'x'"),
    ("reward.probe_every", 10, r"reward.probe_every: 1 probes in 12 steps, but hacking_patience"),
    (
        "reward.word.weights.wvda",
        0.1,
        r"reward.word.weights: wvda: is no reward term \(kl, sp, cp, asr, wvad, ser.*mean wvad\?",
    ),
    ("reward.word.weights.pitch", 0.1, r"pitch: is no reward term \(kl, sp, cp, asr, wvad, ser\)"),
    ("variants.hpro.override", {"frame_nrom": "l1"}, r"hpro.override.frame_nrom: is not a setting"),
    ("variants.hpro.override", {"frame_norm": "l3"}, r"frame_norm: input should be 'l1' or 'mse'"),
    ("variants.hpro.override", {"steps": 0}, r"hpro.override.steps: input should be greater than"),
    ("variants.hpro.override", {"top_k": None}, r"override.top_k: input should be a valid integer"),
    ("variants.hpro.override", {"weights": {"sre": 1.0}}, r"weights: sre: is no .* mean ser\?"),
    (
        "variants.hpro.override",
        {"weights": {"ser": -1.0}},
        r"override.weights.ser: input should",
    ),
    ("variants.hpro.override", {"temperature": 0.0}, r"hpro.override.temperature: input should be"),
    ("variants.hpro.override", {"leave_out": []}, r"leave_out: is the same for all variants: set"),
    ("variants.hpro.override", {"redraws": 1}, r"redraws: is now called gumbel_rao_samples"),
    (
        "variants.no_wvad.override",
        {"weights": {"wvad": 1.0}},
        r"variants.no_wvad: override.weights.wvad: drop has it too",
    ),
    (
        "variants.diffro.override",
        {"temperature": 2.0},
        r"variants.diffro: override.temperature: the variant has a temperature too",
    ),
    (
        "variants.frame.override",
        {"weights": {"sp": 0.0, "cp": 0.0}},
        r"variants.frame.override.weights: no reward of its stage is left",
    ),
]


@pytest.mark.parametrize(("dotted", "value", "message"), WRONG)
def test_a_wrong_setting_is_named_with_its_value(tmp_path, dotted, value, message):
    file = changed(tmp_path, dotted, value)
    with pytest.raises(HproError, match=rf"params.yaml: .*{message}"):
        p.validate_section(p.read_yaml(file), p.Params, file)


def test_an_override_has_no_defaults_that_snakemake_would_set():
    settings = yaml.safe_load(SHIPPED.read_text())
    settings["variants"]["hpro"]["override"] = {"frame_norm": "mse", "weights": {"asr": 2.0}}
    validate(settings, SHIPPED.parent / "workflow/schemas/params.schema.json")
    assert settings["variants"]["hpro"]["override"] == {
        "frame_norm": "mse",
        "weights": {"asr": 2.0},
    }
    assert "override" not in settings["variants"]["word"]
    variants = p.validate_section(settings, p.Params, SHIPPED).variants
    assert variants["hpro"].model_dump()["override"] == settings["variants"]["hpro"]["override"]


@pytest.mark.parametrize(("old", "new"), p.RENAMED.items())
def test_a_former_name_of_a_setting_has_an_error_with_the_new_one(tmp_path, old, new):
    settings = yaml.safe_load(SHIPPED.read_text())
    sections = [settings["corpus"]["splits"], *settings.values()]
    place = next(each for each in sections if isinstance(each, dict) and new in each)
    place[old] = place.pop(new)
    with pytest.raises(HproError, match=rf"{old}: is now called {new}: rename it"):
        p.validate_section(settings, p.Params, SHIPPED)


def test_a_missing_file_section_or_variant_is_named(tmp_path):
    with pytest.raises(HproError, match=r"nowhere.yaml does not exist: correct it"):
        p.read_yaml(tmp_path / "nowhere.yaml")
    empty = tmp_path / "empty.yaml"
    empty.write_text("")
    with pytest.raises(HproError, match="has no settings"):
        p.read_yaml(empty)
    empty.write_text("sft: [")
    with pytest.raises(HproError, match=r"empty.yaml, line 1: "):
        p.read_yaml(empty)
    empty.write_text("run: x")
    with pytest.raises(HproError, match="section 'sft' is missing"):
        p.read_section(empty, "sft", p.Sft)
    with pytest.raises(HproError, match=r"setting 'seeds' is missing"):
        p.read_plain(empty, "seeds", list)
    empty.write_text("seeds: [-1]")
    with pytest.raises(HproError, match=r"empty.yaml: seeds: input should be greater"):
        p.read_plain(empty, "seeds", list)
    assert p.read_plain(SHIPPED, "shards", int) == 1
    with pytest.raises(HproError, match=r"no variant 'hpor' \(known: .*hpro"):
        p.read_variant(SHIPPED, "hpor")


def test_an_extract_may_lack_the_other_stages_but_not_its_own(tmp_path):
    file = changed(tmp_path, "reward.word", None)
    reward = p.read_section(file, "reward", p.Reward)
    assert p.require_section(reward, "frame", p.RewardStage).temperature == 2.0
    with pytest.raises(HproError, match=r"reward.word is missing"):
        p.require_section(reward, "word", p.RewardStage)


@pytest.mark.parametrize(
    ("section", "change"),
    [
        ("speech", {"preset": "cosyvoice2", "path": "CosyVoice2-0.5B"}),
        ("policy", {"preset": "cosyvoice2", "path": "CosyVoice2-0.5B"}),
        ("policy", {"preset": "miniature"}),
        ("codec", {"preset": "released"}),
        ("codec", {"checkpoint": "model.pt"}),
    ],
)
def test_a_base_fits_the_embedded_models_alone(tmp_path, section, change):
    settings = yaml.safe_load(SHIPPED.read_text()) | {"base": "data/base"}
    file = tmp_path / "params.yaml"
    assert p.validate_section(settings, p.Params, file).base == "data/base"
    settings[section] |= change
    with pytest.raises(HproError, match=r"base: its models are embedded ones: set it to ''"):
        p.validate_section(settings, p.Params, file)


PUBLISHED = {"emotion": "emotion2vec", "emotion2vec": "e2v", "vad": "audeering", "audeering": "a"}
PROBED = {"probe_every": 10, "steps": 40}


@pytest.mark.parametrize(
    ("mine", "changes", "fits"),
    [
        ({}, {}, True),
        ({"split": "train"}, {}, True),
        ({"split": "judge"}, {}, True),
        ({}, {"base": ""}, True),
        ({}, {"evaluate": PUBLISHED}, True),
        ({}, {"evaluate": PUBLISHED | {"vad": "embedded"}}, True),
        ({}, {"reward": PROBED}, True),
        ({}, {"evaluate": PUBLISHED, "reward": PROBED | {"leave_out": ["mine"]}}, True),
        ({}, {"reward": PROBED | {"leave_out": ["acted", "controlled"]}}, False),
        ({"split": "train"}, {"reward": PROBED | {"leave_out": ["acted", "controlled"]}}, False),
        ({}, {"reward": PROBED | {"leave_out": ["controlled"]}}, False),
        ({}, {"base": "", "reward": PROBED | {"leave_out": ["acted"]}}, True),
        ({}, {"base": "", "reward": PROBED | {"leave_out": ["acted", "controlled"]}}, False),
    ],
)
def test_a_test_set_that_the_judge_of_a_base_does_not_know_needs_no_more_settings(
    mine, changes, fits
):
    settings = yaml.safe_load(SHIPPED.read_text())
    settings["base"] = str(SHIPPED.parent / "data/base")
    settings["corpus"]["sets"]["mine"] = {"reader": "csv", "path": "mine"} | mine
    for section, values in changes.items():
        settings[section] = settings[section] | values if isinstance(values, dict) else values
    if fits:
        assert p.validate_section(settings, p.Params, SHIPPED).corpus.sets["mine"].reader == "csv"
    else:
        says = r"reward.probe_every: .* knows controlled, .* of them \((acted, )?mine\): set it to"
        with pytest.raises(HproError, match=says):
            p.validate_section(settings, p.Params, SHIPPED)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"trained_on": [1, 2]}', None])
def test_a_judge_that_does_not_say_what_it_knows_is_left_to_who_takes_it(tmp_path, content):
    (tmp_path / "judge").mkdir()
    if content is not None:
        (tmp_path / "judge/config.json").write_text(content)
    settings = yaml.safe_load(SHIPPED.read_text()) | {"base": str(tmp_path)}
    assert p.validate_section(settings, p.Params, SHIPPED).base == str(tmp_path)


def test_models_of_full_size_fit_each_other(tmp_path):
    settings = yaml.safe_load(SHIPPED.read_text()) | {"base": ""}
    settings["speech"] |= {"preset": "cosyvoice2", "path": "CosyVoice2-0.5B"}
    settings["policy"] = FULL_POLICY
    file = tmp_path / "params.yaml"

    def check() -> p.Params:
        file.write_text(yaml.safe_dump(settings))
        return p.validate_section(p.read_yaml(file), p.Params, file)

    with pytest.raises(HproError, match=r"policy_text: name the folder CosyVoice-BlankEN"):
        check()
    settings["dataset"]["policy_text"] = "CosyVoice2-0.5B/CosyVoice-BlankEN"
    settings["policy"]["dropout"] = 0.1
    with pytest.raises(HproError, match=r"policy.dropout: set 0.0 for cosyvoice2"):
        check()
    settings["policy"]["dropout"] = 0.0
    with pytest.raises(HproError, match=r"sft.emotion_weight: set 0.0 for policy.preset"):
        check()
    settings["sft"] |= {"guided_attention_weight": 0.0, "emotion_weight": 0.0}
    with pytest.raises(HproError, match=r"synthesis.max_ratio: 5.0 speech tokens per text token"):
        check()
    settings["synthesis"]["max_ratio"] = 20.0
    settings["codec"]["preset"] = "released"
    settings["dataset"]["codec_text"] = "whisper-small"
    with pytest.raises(
        HproError, match=r"codec.guided_attention_weight: guided attention needs phones"
    ):
        check()
    settings["codec"] |= {"guided_attention_weight": 0.0, "whisper": "whisper-small"}
    assert check().policy.path == "CosyVoice2-0.5B"
