"""The shipped base: pretrained models from which a run starts (data/base/README.md).

It has one folder for each of five models: the speech tokenizer with its decoder, the vocoder, the
codec, the policy, and the affect judge. Beside them are hashes of all training sentences, and
SHA256SUMS. The Snakefile imports these names, so torch and pandera are imported inside the
functions.
"""

from pathlib import Path

import numpy as np

from hpro_core.errors import HproError
from hpro_core.io import SUMS, read_text, sha256_of, write_checksums, write_npy
from hpro_core.pretrained.sentences import SENTENCES, sentence_hashes

MODELS = {
    "tokenizer": "speech/tokenizer",
    "vocoder": "speech/vocoder",
    "codec": "codec/style",
    "policy": "policy/base",
    "judge": "judge",
}
"""Folder in the base -> folder of this model in a run."""
FILES = (
    *(f"{name}/{file}" for name in MODELS for file in ("model.safetensors", "config.json")),
    SENTENCES,
)
"""Files listed in SHA256SUMS."""


def unpack_model(base: Path, model: str, root: Path) -> None:
    """Unpack a model of a base, a key of MODELS, into the results folder of a run.

    Raises:
        HproError: the model is unknown, or a file is missing, broken, or differs from SHA256SUMS.
    """
    from hpro_core.pretrained.packing import unpack

    if model not in MODELS:
        raise HproError(f"a base has no model {model!r}; it has: {', '.join(MODELS)}")
    check(base)
    unpack(base / model, root / MODELS[model])


def pack_base(root: Path, policy: Path, out: Path) -> None:
    """Pack the models of a run and one of its policies as a base; a README.md there is kept."""
    from hpro_core.pretrained.packing import pack
    from hpro_core.tables import UTTERANCES, read_table

    for name, place in MODELS.items():
        pack(policy if name == "policy" else root / place, out / name)
    utterances = read_table(root / "corpus" / "utterances.parquet", UTTERANCES)
    trained_on = utterances.loc[utterances["split"].isin(("train", "judge")), "words"]
    write_npy(out / SENTENCES, np.unique(sentence_hashes(trained_on)))
    write_checksums(out, FILES)


def check(base: Path) -> None:
    """Compare the files of a base with SHA256SUMS.

    Raises:
        HproError: a file is missing or differs.
    """
    sums = base / SUMS
    if not sums.is_file():
        raise HproError(f"{sums} does not exist: name a base in params.yaml, or set base to ''")
    expected = read_checksums(sums)
    for file in FILES:
        if not (base / file).is_file():
            raise HproError(f"{base / file} is missing: restore it (git checkout {base})")
        if sha256_of(base / file) != expected.get(file):
            raise HproError(f"{base / file} differs from its hash in {sums}: restore it")


def read_checksums(sums: Path) -> dict[str, str]:
    """Read a list in the format of sha256sum: file -> hash."""
    lines = [line.partition("  ") for line in read_text(sums, "restore it").splitlines()]
    return {file: digest for digest, _, file in lines}
