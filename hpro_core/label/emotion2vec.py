"""Teacher of emotions (paper): emotion2vec_plus_large.

The published weights are loaded from the model's folder into the model class of FunASR, an optional
package (docs/labels.md). Letters: N utterance, T sample, C class.
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
from hpro_core.errors import HproError
from hpro_core.io import fingerprint, read_pt, read_text, read_yaml
from hpro_core.label.files import EMOTION2VEC
from hpro_core.label.teachers import AlignedUtterance, Read
from hpro_core.label.weak import read_audio
from hpro_core.train.checkpoint import check_magnitudes

ORIGIN = "emotion2vec/emotion2vec_plus_large"
MIN_DURATION_S = 0.1
"""Shorter utterances are rejected (ours): the convolutions need 25 ms for their first frame."""

_UNKNOWN = "<unk>"  # token of the class `unknown` of EMOTIONS
_SILENCED = "unuse"  # prefix of tokens that never get a probability (FunASR)
_SCOPE = "d2v_model."  # prefix that fine-tuning added to the names of the encoder
# Used in pre-training only, and not in the published file: the decoder that reconstructs masked
# frames, which FunASR's class has, and the averaged teacher.
_DECODER = "modality_encoders.AUDIO.decoder."
_AVERAGE = "_ema"
_REPEATS = re.compile(r"\]\s*\*\s*\d{1,2}(?!\d)")
_LAYERS = re.compile(r"[\d\s()\[\],+*]+")


class Emotion2vecPosteriors:
    """`EmotionTeacher` that predicts the posterior of nine emotions of a whole utterance."""

    def __init__(self, folder: Path, device: torch.device, read: Read = read_audio):
        """
        Args:
            folder: model.pt, config.yaml, tokens.txt.
            device: device of the model, which runs in float32.
            read: returns the samples of an utterance.

        Raises:
            HproError: the package or a file is missing, a file is broken or of another model, or
                weights are missing or unexpected.
        """
        for name in EMOTION2VEC:
            if not (folder / name).is_file():
                raise HproError(
                    f"{folder / name} does not exist: download the whole folder of {ORIGIN} and "
                    "set its path in params.yaml"
                )
        self.folder = folder
        self._read = read
        self.tokens = read_text(
            folder / "tokens.txt", f"download the whole folder of {ORIGIN}"
        ).split()
        self._class_of = class_names(self.tokens, folder / "tokens.txt")
        self.classes = tuple(self._class_of.values())
        self.identity: dict[str, object] = {
            "teacher": ORIGIN,
            "files": fingerprint(*(folder / name for name in EMOTION2VEC)),
            "code": fingerprint(*sorted(Path(__file__).parent.glob("*.py"))),
        }
        self._device = device
        self._model = _model(folder, len(self.tokens)).to(device).eval()

    def posteriors(self, utterances: Sequence[AlignedUtterance]) -> np.ndarray:
        """Predict the emotion posteriors, see `EmotionTeacher`.

        Utterances are processed one by one, as published, so there is no padding.

        Raises:
            HproError: an audio file is missing, unreadable, not 16 kHz mono or too short, or the
                outputs of the model are not probabilities of its classes.
        """
        return np.stack([self._posterior(utterance) for utterance in utterances])

    @torch.inference_mode()
    def _posterior(self, utterance: AlignedUtterance) -> np.ndarray:
        samples_T = self._read(utterance)
        if len(samples_T) < MIN_DURATION_S * SAMPLE_RATE_HZ:
            raise HproError(
                f"{utterance.utt_id}: {utterance.audio} has {len(samples_T)} samples, but "
                f"{MIN_DURATION_S} s are needed: raise corpus.min_duration_s in params.yaml"
            )
        results, _ = self._model.inference(
            [torch.from_numpy(samples_T)],
            key=[utterance.utt_id],
            tokenizer=SimpleNamespace(token_list=self.tokens),
            device=self._device,
            granularity="utterance",
            extract_embedding=False,
        )
        score_of = dict(zip(results[0]["labels"], results[0]["scores"], strict=True))
        if set(score_of) != set(self._class_of) or not np.isfinite(list(score_of.values())).all():
            raise HproError(
                f"{utterance.utt_id}: the output of {self.folder} for {utterance.audio} is "
                f"{score_of}, "
                f"not probabilities of {', '.join(self._class_of)}: download the folder again"
            )
        return np.array([score_of[token] for token in self._class_of])


def class_names(tokens: Sequence[str], path: Path) -> dict[str, str]:
    """Map the token of each class to its name in EMOTIONS, in the order of the tokens.

    A token is like "生气/angry"; "<unk>" is the class `unknown`. `path` is that of tokens.txt.

    Raises:
        HproError: the names are not those of EMOTIONS, each once.
    """
    used = [token for token in tokens if not token.startswith(_SILENCED)]
    names = ["unknown" if token == _UNKNOWN else token.split("/")[-1] for token in used]
    if sorted(names) != sorted(EMOTIONS):
        raise HproError(
            f"{path} names {', '.join(names)}, but {', '.join(EMOTIONS)} are needed: use the file "
            f"of {ORIGIN}"
        )
    return dict(zip(used, names, strict=True))


def _model(folder: Path, n_tokens: int) -> Any:
    """Build FunASR's model and load the published weights strictly, without the unused ones."""
    emotion2vec = _package("funasr.models.emotion2vec.model").Emotion2vec
    path, hint = folder / "config.yaml", f"use the file of {ORIGIN}"
    sizes, weights = _sizes(path), _weights(folder / "model.pt")
    counted = {"embed_dim": sizes.get("embed_dim"), "depth, layers": sizes.get("depth")}
    shapes = {name: value.shape for name, value in weights.items()}
    check_magnitudes(path, counted, shapes, hint)
    try:
        model = emotion2vec(model_conf=sizes, vocab_size=n_tokens)
        model.modality_encoders["AUDIO"].decoder = None
    except Exception as error:  # FunASR does not validate its values
        detail = f"{type(error).__name__}: {str(error)[:300]}"
        raise HproError(
            f"{path}: no model can be built with these sizes ({detail}): {hint}"
        ) from error
    try:
        model.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:400]
        raise HproError(
            f"{folder / 'model.pt'} does not fit its config.yaml ({detail}): use both files of "
            f"{ORIGIN}"
        ) from error
    return model


def _sizes(path: Path) -> Any:
    """Read the entry `model_conf` of config.yaml."""
    values = read_yaml(path, f"use the file of {ORIGIN}")
    omegaconf = _package("omegaconf")
    try:
        config = omegaconf.OmegaConf.create(values)
        if config.get("model") != "Emotion2vec" or "model_conf" not in config:
            raise HproError(
                f"{path} does not describe an Emotion2vec model: use the file of {ORIGIN}"
            )
        layers = str(config.model_conf.modalities.audio.feature_encoder_spec)
    except (omegaconf.errors.OmegaConfBaseException, AttributeError, ValueError) as error:
        raise HproError(f"{path}: {str(error)[:200]}: use the file of {ORIGIN}") from error
    if not _are_layers(layers):  # FunASR evaluates it as Python
        raise HproError(f"{path}: feature_encoder_spec is {layers[:80]!r}, not a list of layers")
    return config.model_conf


def _are_layers(text: str) -> bool:
    """Return whether a text is a sum of short lists of numbers, such as "[(512, 10, 5)] * 4"."""
    repeats = _REPEATS.findall(text)
    few = len(repeats) == text.count("*") <= 4
    return bool(_LAYERS.fullmatch(text)) and few and len(text) < 1000


def _weights(path: Path) -> dict[str, Tensor]:
    """Read the weights of a fairseq file under the names of FunASR's class."""
    state = read_pt(path, f"download it from {ORIGIN}, or save only its entry 'model'")
    weights = state.get("model", state) if isinstance(state, dict) else None
    if not isinstance(weights, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in weights.items()
    ):
        raise HproError(f"{path} holds no weights by name: download it from {ORIGIN}")
    named = {name.removeprefix(_SCOPE): value for name, value in weights.items()}
    return {
        name: value
        for name, value in named.items()
        if name != _AVERAGE and not name.startswith(_DECODER)
    }


def _package(name: str) -> Any:
    """Import an optional package, or raise an error with the installation command."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise HproError(
            f"params.yaml selects emotion2vec, but the optional package {name.split('.')[0]} "
            f"or one that it needs is not installed ({error.name}): run pip install -e "
            "'.[emotion2vec]' and pip install --no-deps funasr==1.4.16 (docs/labels.md)"
        ) from error
