"""A miniature of the whole workflow: the real `hpro` on a handful of sentences, in minutes."""

import csv
import shutil
from collections import Counter
from pathlib import Path

import yaml

from tests.workflow.project import REPO, Project

SCENES = ("sparky1", "sparky2", "sparky5", "sparky6", "sparky7", "tam2", "tam3", "tam4",
          "faye3", "faye4", "faye5", "faye6")  # fmt: skip
CLIPS = 4  # of each scene
ON_ONE_CORE = """
set-threads: {tokenizer: 1, tokenize: 1, sft: 1, judge_train: 1}
"""
"""For the default profile: steps this small lose more to a second thread than they gain."""


def miniature(folder: Path, *more: Path) -> Project:
    """A copy of the project with miniature settings and a small excerpt; nothing has run yet.

    Args:
        folder: where to put it.
        more: settings on top of miniature.yaml.
    """
    made = Project.copied(folder)
    for settings in (Path(__file__).with_name("miniature.yaml"), *more):
        _merge_settings(made.folder / "params.yaml", settings)
    with (made.folder / "profiles/default/config.yaml").open("a", encoding="utf-8") as profile:
        profile.write(ON_ONE_CORE)
    _cut_corpus(made.folder / "data/raw/amazon_queen/metadata.csv")
    _external_system(made.folder)
    assert (REPO / "weights").is_dir(), "run `make setup`: the judges' weights are missing"
    (made.folder / "weights").symlink_to(REPO / "weights")
    return made


def _merge_settings(path: Path, differences: Path) -> None:
    """Put differences on top of params.yaml, section by section."""
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    small = yaml.safe_load(differences.read_text(encoding="utf-8"))
    for section, values in small.items():
        merged = {**settings[section], **values} if isinstance(values, dict) else values
        settings[section] = merged
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")


def _cut_corpus(path: Path) -> None:
    """Keep the first clips of a few scenes, none of the hero's."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    seen: Counter[str] = Counter()
    kept = []
    for row in rows:
        if row["dialogue"] in SCENES and row["speaker"] != "joe" and seen[row["dialogue"]] < CLIPS:
            seen[row["dialogue"]] += 1
            kept.append(row)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(kept)


def _external_system(project: Path) -> None:
    """An external system: MP3 files of the acted sentences, nothing of the rendered ones."""
    raw = project / "data/raw/amazon_queen"
    folder = project / "data/external/clips"
    folder.mkdir(parents=True)
    with (raw / "metadata.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            source = raw / row["audio"]
            shutil.copy(source, folder / f"acted_{row['utt_id']}{source.suffix}")
