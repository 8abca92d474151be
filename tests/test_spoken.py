"""What a policy in training speaks for the trackers, and that no result depends on it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from hpro_core import params as p
from hpro_core.errors import HproError
from hpro_core.io import JOURNAL, write_json
from hpro_core.judges import spoken
from hpro_core.judges.spoken import DECODER, JUDGE, DevSpeech
from hpro_core.policy.sft import make_policy, sft_terms
from hpro_core.reward.probe import SentenceScores
from hpro_core.train.batching import Example, Sampler
from hpro_core.train.loop import Loop, fit
from hpro_core.train.run import Run
from hpro_core.train.trackers import Spoken
from tests.rank_training import POLICY
from tests.results import run_in, write_dataset
from workflow.scripts.code_hash import code_files, code_hash

REPO = Path(__file__).parents[1]
STEPS = 4


@pytest.fixture(scope="module")
def audio() -> p.Audio:
    synthesis = p.read_section(REPO / "params.yaml", "synthesis", p.Synthesis)
    return p.Audio(every=2, sentences=2, synthesis=synthesis)


@pytest.fixture
def run(examples: list[Example], tmp_path: Path) -> Run:
    """A run whose decoder and judge are made, and know the corpus of the examples."""
    made = run_in(tmp_path)
    write_dataset(tmp_path, examples[:4], examples[4:])
    for name in (*DECODER, *JUDGE):
        write_json(tmp_path / name, {"trained_on": {e.corpus: 1 for e in examples}})
    return made


@pytest.fixture(autouse=True)
def models(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder whose audio is constant, and a judge of two words with one error."""

    def decode(tokens: list[np.ndarray], prompts: list[Example]) -> list[np.ndarray]:
        assert len(tokens) == len(prompts)
        return [np.full(640 * len(t), 0.25, dtype=np.float32) for t in tokens]

    def judge(*_: Any) -> Any:
        return lambda example, samples_T: SentenceScores(1, 2, None, 0.75)

    monkeypatch.setattr(spoken, "load_decoder", lambda root, device: decode)
    monkeypatch.setattr(spoken, "SentenceJudge", judge)


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def policy_of(examples: list[Example]) -> Any:
    torch.manual_seed(0)
    return make_policy(POLICY, examples)


def train(examples: list[Example], folder: Path, speak: Any = None) -> dict[str, Any]:
    """A short fine-tuning with dropout and noise; its weights, curves and last random number."""
    policy, sampler = policy_of(examples), Sampler(examples, 3, seed=0)
    policy.set_dropout(0.1)
    loop = Loop("sft, seed 0", STEPS, 0, folder / "out", folder / "work", log_every=2, dev_every=2,
                ema=0.9, audio_every=2)  # fmt: skip
    fit(policy, torch.optim.Adam(policy.parameters(), lr=1e-3),
        lambda batch: sft_terms(policy, batch, 0.3, 0.5), sampler.batch_at,
        lambda: {"random": float(torch.rand(1))}, loop,
        speak=(lambda: speak(policy)) if speak else None)  # fmt: skip
    return {
        "weights": {name: value.clone() for name, value in policy.state_dict().items()},
        "curves": (folder / "out/training.csv").read_bytes(),
        "random": torch.rand(3),
    }


def assert_same(first: dict[str, Any], second: dict[str, Any]) -> None:
    assert first["curves"] == second["curves"]
    assert torch.equal(first["random"], second["random"])
    for name, weight in first["weights"].items():
        assert torch.equal(weight, second["weights"][name]), name


@pytest.mark.usefixtures("one_thread")
def test_speaking_changes_no_bit_of_a_training(
    examples: list[Example], run: Run, audio: p.Audio, tmp_path: Path
) -> None:
    speak = DevSpeech(run, audio, [], Path("weights"))

    def disturbing(policy: nn.Module) -> Iterator[Spoken]:
        assert not policy.training
        torch.manual_seed(99)
        torch.rand(7)
        torch.set_num_threads(2)
        JOURNAL.read.add(tmp_path / "judge.bin")
        yield from speak(policy)

    silent = train(examples, tmp_path / "silent")
    spoken_of = train(examples, tmp_path / "spoken", disturbing)
    assert_same(silent, spoken_of)
    assert torch.get_num_threads() == 1
    assert tmp_path / "judge.bin" not in JOURNAL.read
    board = EventAccumulator(str(tmp_path / "spoken/out/tensorboard")).Reload()
    heard = board.Tags()["audio"]
    assert heard == [f"spoken/{example.utt_id}" for example in speak.sentences]
    assert [event.step for event in board.Audio(heard[0])] == [0, 2, 4]
    assert {event.value for event in board.Scalars("spoken/wer")} == {0.5}
    assert {event.value for event in board.Scalars("spoken/emo_sim")} == {0.75}
    quiet = EventAccumulator(str(tmp_path / "silent/out/tensorboard")).Reload()
    assert quiet.Tags()["audio"] == []


def test_sentences_have_text_emotion_and_scores(
    examples: list[Example], run: Run, audio: p.Audio
) -> None:
    policy = policy_of(examples).eval()
    speak = DevSpeech(run, audio, [], Path("weights"))
    first, second = list(speak(policy)), list(speak(policy))
    assert [len(each.samples_T) for each in first] == [len(each.samples_T) for each in second]
    assert len(first) == audio.sentences
    for sentence, example in zip(first, speak.sentences, strict=True):
        assert sentence.caption.startswith(f"**{example.text}** (")
        assert "word errors 1 of 2; wVAD-CCC no words found, EMO-SIM 0.75" in sentence.caption
        assert sentence.scores == {"wer": 0.5, "wvad_ccc": 0.0, "emo_sim": 0.75}
        assert sentence.name in {e.utt_id for e in examples[4:]}


def test_a_training_does_not_wait_for_decoder_and_judge(
    examples: list[Example], run: Run, audio: p.Audio, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (DECODER[1], JUDGE[0]):
        (run.root / name).unlink()
    policy = policy_of(examples).eval()
    speak = DevSpeech(run, audio, [], Path("weights"))
    assert list(speak(policy)) == list(speak(policy)) == []
    assert capsys.readouterr().out == "audio: none until the decoder of speech tokens is made\n"
    (run.root / DECODER[1]).touch()
    assert [each.scores for each in speak(policy)] == [{}, {}]
    assert "audio: without scores: the affect judge is not made" in capsys.readouterr().out


def test_sentences_are_of_corpora_that_the_judge_knows(
    examples: list[Example], run: Run, audio: p.Audio
) -> None:
    write_json(run.root / JUDGE[1], {"trained_on": {"other": 1}})
    speak = DevSpeech(run, audio, [], Path("weights"))
    assert [each.scores for each in speak(policy_of(examples).eval())] == [{}, {}]


def test_a_policy_without_a_token_is_silent_not_an_error(
    examples: list[Example],
    run: Run,
    audio: p.Audio,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from hpro_core.policy.sampling import GeneratedTokens

    def nothing(*_: Any) -> list[GeneratedTokens]:
        none: Tensor = torch.zeros(0, dtype=torch.int64)
        return [GeneratedTokens(none, True), GeneratedTokens(torch.tensor([1, 2]), False)]

    monkeypatch.setattr(spoken, "sample_batch", nothing)
    speak = DevSpeech(run, audio, [], Path("weights"))
    (heard,) = speak(policy_of(examples))
    assert heard.name == speak.sentences[1].utt_id
    assert heard.caption.endswith("; not ended by the policy")
    assert f"audio: {speak.sentences[0].utt_id}: no speech token" in capsys.readouterr().out


def test_the_option_is_checked() -> None:
    whole = {
        "every": 2,
        "sentences": 2,
        "synthesis": p.read_yaml(REPO / "params.yaml")["synthesis"],
    }
    assert p.read_audio(json.dumps(whole)).every == 2
    with pytest.raises(HproError, match=r"--dev-audio: every: input should be greater than"):
        p.read_audio(json.dumps(whole | {"every": 0}))
    with pytest.raises(HproError, match=r"--dev-audio: invalid JSON"):
        p.read_audio("{")


@pytest.mark.parametrize("command", ["sft", "reward", "tokenizer"])
def test_no_training_depends_on_code_that_only_shows_it(command: str) -> None:
    """With probes, `reward-watched` depends on the judges, since they choose its checkpoint."""
    files = code_files(REPO, command)
    judges = [name for name in files if name.startswith("hpro_core/judges/")]
    assert judges in ([], ["hpro_core/judges/__init__.py"])  # a docstring
    assert "hpro_core/train/trackers.py" not in files
    assert "hpro_core/train/loop.py" in files
    assert len(code_hash(REPO, command)) == 64
