"""The paper's teacher of emotions: emotion2vec_plus_large.

Published weights, from the model's own folder, and FunASR's own model class, an optional package
(docs/labels.md). Letters: N utterances, T samples, C classes.
"""

import importlib
import re
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hpro_core.constants import EMOTIONS, SAMPLE_RATE_HZ
from hpro_core.engine.checkpoint import check_magnitudes
from hpro_core.errors import HproError
from hpro_core.io import fingerprint, read_pt, read_text, read_yaml
from hpro_core.label.files import EMOTION2VEC
from hpro_core.label.teachers import Read, SpokenUtterance
from hpro_core.label.weak import read_audio

ORIGIN = "emotion2vec/emotion2vec_plus_large"
SHORTEST_S = 0.1
"""Shorter utterances are refused (ours): the convolutions need 25 ms for their first frame."""

_UNKNOWN = "<unk>"  # of tokens.txt: the class that EMOTIONS calls unknown
_SILENCED = "unuse"  # tokens that begin so never get a probability (FunASR)
_SCOPE = "d2v_model."  # what fine-tuning put before the names of the encoder
# For pre-training alone, and not in the published file: the decoder that rebuilds masked frames,
# which FunASR's class has, and the average that was its teacher.
_DECODER = "modality_encoders.AUDIO.decoder."
_AVERAGE = "_ema"
_REPEATS = re.compile(r"\]\s*\*\s*\d{1,2}(?!\d)")
_LAYERS = re.compile(r"[\d\s()\[\],+*]+")


class Emotion2vecPosteriors:
    """The posterior of nine emotions, of each utterance as a whole."""

    def __init__(self, folder: Path, device: torch.device, read: Read = read_audio):
        """
        Args:
            folder: model.pt, config.yaml, tokens.txt.
            device: where the model runs, in float32.
            read: gives the samples of an utterance.

        Raises:
            HproError: the package or a file is missing, a file is broken or of another model, or
                weights are missing or unexpected.
        """
        for name in EMOTION2VEC:
            if not (folder / name).is_file():
                raise HproError(
                    f"{folder / name} is not a file: get the whole folder of {ORIGIN}, and name it "
                    "in params.yaml"
                )
        self.folder = folder
        self._read = read
        self.tokens = read_text(folder / "tokens.txt", f"get the whole folder of {ORIGIN}").split()
        self._class_of = class_names(self.tokens, folder / "tokens.txt")
        self.classes = tuple(self._class_of.values())
        self.identity: dict[str, object] = {
            "teacher": ORIGIN,
            "files": fingerprint(*(folder / name for name in EMOTION2VEC)),
            "code": fingerprint(*sorted(Path(__file__).parent.glob("*.py"))),
        }
        self._device = device
        self._model = _model(folder, len(self.tokens)).to(device).eval()

    def posteriors(self, utterances: Sequence[SpokenUtterance]) -> np.ndarray:
        """See `EmotionTeacher`; one at a time, as published: nothing is padded.

        Raises:
            HproError: an audio file is missing, unreadable, not 16 kHz mono or too short, or the
                model puts out no probabilities.
        """
        return np.stack([self._posterior(utterance) for utterance in utterances])

    @torch.inference_mode()
    def _posterior(self, utterance: SpokenUtterance) -> np.ndarray:
        samples_T = self._read(utterance)
        if len(samples_T) < SHORTEST_S * SAMPLE_RATE_HZ:
            raise HproError(
                f"{utterance.utt_id}: {utterance.audio} lasts {len(samples_T)} samples, and "
                f"{SHORTEST_S} s are needed: raise corpus.min_duration_s in params.yaml"
            )
        results, _ = self._model.inference(
            [torch.from_numpy(samples_T)],
            key=[utterance.utt_id],
            tokenizer=SimpleNamespace(token_list=self.tokens),
            device=self._device,
            granularity="utterance",
            extract_embedding=False,
        )
        said = dict(zip(results[0]["labels"], results[0]["scores"], strict=True))
        if set(said) != set(self._class_of) or not np.isfinite(list(said.values())).all():
            raise HproError(
                f"{utterance.utt_id}: {self.folder} makes of {utterance.audio} {said}, which are "
                f"no probabilities of {', '.join(self._class_of)}: get the folder again"
            )
        return np.array([said[token] for token in self._class_of])


def class_names(tokens: Sequence[str], path: Path) -> dict[str, str]:
    """The token of each class and its name in EMOTIONS, in the order of the tokens.

    Args:
        tokens: such as "生气/angry"; the last, "<unk>", is the class `unknown`.
        path: of tokens.txt, for the error.

    Raises:
        HproError: the names are not those of EMOTIONS, each once.
    """
    used = [token for token in tokens if not token.startswith(_SILENCED)]
    names = ["unknown" if token == _UNKNOWN else token.split("/")[-1] for token in used]
    if sorted(names) != sorted(EMOTIONS):
        raise HproError(
            f"{path} names {', '.join(names)}, and {', '.join(EMOTIONS)} are needed: get the file "
            f"of {ORIGIN}"
        )
    return dict(zip(used, names, strict=True))


def _model(folder: Path, n_tokens: int) -> Any:
    """FunASR's model with the published weights, each that it uses and no other."""
    emotion2vec = _package("funasr.models.emotion2vec.model").Emotion2vec
    path, cure = folder / "config.yaml", f"get the file of {ORIGIN}"
    sizes, weights = _sizes(path), _weights(folder / "model.pt")
    counted = {"embed_dim": sizes.get("embed_dim"), "depth, layers": sizes.get("depth")}
    shapes = {name: value.shape for name, value in weights.items()}
    check_magnitudes(path, counted, shapes, cure)
    try:
        model = emotion2vec(model_conf=sizes, vocab_size=n_tokens)
        model.modality_encoders["AUDIO"].decoder = None
    except Exception as error:  # FunASR checks no value
        detail = f"{type(error).__name__}: {str(error)[:300]}"
        raise HproError(f"{path}: these sizes make no model ({detail}): {cure}") from error
    try:
        model.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:400]
        raise HproError(
            f"{folder / 'model.pt'} does not fit its config.yaml ({detail}): get both from {ORIGIN}"
        ) from error
    return model


def _sizes(path: Path) -> Any:
    """The entry `model_conf` of config.yaml."""
    values = read_yaml(path, f"get the file of {ORIGIN}")
    omegaconf = _package("omegaconf")
    try:
        config = omegaconf.OmegaConf.create(values)
        if config.get("model") != "Emotion2vec" or "model_conf" not in config:
            raise HproError(f"{path} describes no Emotion2vec model: get the file of {ORIGIN}")
        layers = str(config.model_conf.modalities.audio.feature_encoder_spec)
    except (omegaconf.errors.OmegaConfBaseException, AttributeError, ValueError) as error:
        raise HproError(f"{path}: {str(error)[:200]}: get the file of {ORIGIN}") from error
    if not _are_layers(layers):  # FunASR runs it as Python
        raise HproError(f"{path}: feature_encoder_spec is {layers[:80]!r}, not a list of layers")
    return config.model_conf


def _are_layers(text: str) -> bool:
    """Whether a text is a sum of short lists of numbers, such as "[(512, 10, 5)] * 4"."""
    repeats = _REPEATS.findall(text)
    few = len(repeats) == text.count("*") <= 4
    return bool(_LAYERS.fullmatch(text)) and few and len(text) < 1000


def _weights(path: Path) -> dict[str, Tensor]:
    """The weights in a file of fairseq, named as FunASR's class names them."""
    state = read_pt(path, f"get it from {ORIGIN}, or save nothing but its entry 'model'")
    weights = state.get("model", state) if isinstance(state, dict) else None
    if not isinstance(weights, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in weights.items()
    ):
        raise HproError(f"{path} holds no weights by name: get it from {ORIGIN}")
    named = {name.removeprefix(_SCOPE): value for name, value in weights.items()}
    return {
        name: value
        for name, value in named.items()
        if name != _AVERAGE and not name.startswith(_DECODER)
    }


def _package(name: str) -> Any:
    """An optional package, or the sentence that says how to get it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise HproError(
            f"params.yaml asks for emotion2vec, and the optional package {name.split('.')[0]} "
            f"or one that it needs is not installed ({error.name}): say pip install -e "
            "'.[emotion2vec]' and pip install --no-deps funasr==1.4.16 (docs/labels.md)"
        ) from error
