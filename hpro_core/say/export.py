"""`hpro export`: one folder with a policy and all that it needs to speak on another machine."""

import shutil
from collections.abc import Iterable
from pathlib import Path

import yaml

from hpro_core.errors import HproError
from hpro_core.io import read_text, replacing, write_json, write_text
from hpro_core.new_folder import check_new
from hpro_core.params import Synthesis
from hpro_core.policy.cosyvoice2 import CosyVoice2LM
from hpro_core.policy.llm_file import QWEN_FOLDER, write_llm
from hpro_core.policy.sft import load_policy
from hpro_core.say.policy_folder import (
    COSYVOICE2,
    EMBEDDED,
    SETTINGS,
    TOKENIZER,
    PolicyFolder,
    write_sums,
)
from hpro_core.speech.stage import load_tokenizer
from hpro_core.speech.vocoder import load_vocoder
from hpro_core.train.checkpoint import MODEL_FILES

COSYVOICE2_FILES = ("speech_tokenizer_v2.onnx", "campplus.onnx", "flow.pt", "hift.pt")
"""Files of a CosyVoice2-0.5B folder that speech needs beside the language model."""


def export(source: PolicyFolder, settings: Synthesis, card: str, base: str, out: Path) -> None:
    """Write an exported folder; SHA256SUMS is its last file.

    The folder has the policy (config.json, model.safetensors, for CosyVoice2 also llm.pt), the
    tokenizer with its decoder (tokenizer/), the vocoder (vocoder/), the sampling settings
    (settings.yaml) and the model card (README.md), with the description of the base (BASE.md) if
    the run started from one that has it.

    Args:
        source: a policy of a run.
        settings: section `synthesis` of the run.
        card: text of the model card.
        base: setting `base` of the run: folder of the base, or empty.
        out: folder to write, new or empty.

    Raises:
        HproError: `out` has files, a file of the policy or tokenizer is missing or does not fit,
            or the disk is full.
    """
    check_new(out)
    policy = load_policy(source.policy)
    if source.kind == EMBEDDED:
        load_tokenizer(source.tokenizer)
        files: Iterable[str] = MODEL_FILES
    else:
        files = _cosyvoice2_files(source.tokenizer)
    _copy(source.policy, out, MODEL_FILES)
    _copy(source.tokenizer, out / TOKENIZER, files)
    vocoder = source.tokenizer.parent / "vocoder"
    if source.kind == EMBEDDED and vocoder.is_dir():
        griffin_lim = load_vocoder(vocoder) is None
        _copy(vocoder, out / "vocoder", ["config.json"] if griffin_lim else MODEL_FILES)
    if isinstance(policy, CosyVoice2LM):
        write_json(out / TOKENIZER / "config.json", {"kind": COSYVOICE2})
        write_llm(policy, out / "llm.pt")
    text = yaml.safe_dump({"synthesis": settings.model_dump()}, sort_keys=True)
    write_text(out / SETTINGS, text)
    write_text(out / "README.md", card)
    if base and (about := Path(base) / "README.md").is_file():
        write_text(out / "BASE.md", read_text(about))
    write_sums(out)


def _cosyvoice2_files(folder: Path) -> list[str]:
    """Names of the files of CosyVoice2 that speech needs; the Qwen folder without its weights."""
    if missing := [name for name in COSYVOICE2_FILES if not (folder / name).is_file()]:
        raise HproError(
            f"{folder / missing[0]} does not exist: copy it from the CosyVoice2-0.5B model folder"
        )
    qwen = [path for path in sorted((folder / QWEN_FOLDER).glob("*")) if path.is_file()]
    texts = [path for path in qwen if path.suffix in (".json", ".txt")]
    return [*COSYVOICE2_FILES, *(f"{QWEN_FOLDER}/{path.name}" for path in texts)]


def _copy(source: Path, target: Path, names: Iterable[str]) -> None:
    for name in names:
        if not (source / name).is_file():
            raise HproError(f"{source / name} does not exist: run the stage that writes it first")
        with replacing(target / name) as partial:
            shutil.copyfile(source / name, partial)
