"""`hpro corpus-split`: merges all corpora of a run and assigns each utterance to one split.

Letters: G group (scene or sentence), S speaker, E emotion label (no label is one of them).
"""

from collections import Counter
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from hpro_core import shards, tables
from hpro_core.constants import SPLITS
from hpro_core.corpus.recording import Fault
from hpro_core.corpus.usable import check_faults
from hpro_core.errors import HproError
from hpro_core.params import WholeCorpus
from hpro_core.pretrained.sentences import known_sentences

STAGE = "corpus-split"
Counts: TypeAlias = "np.ndarray | csr_array"
TRIES, MIN_TRIES = 2000, 20
"""Random orders of the groups that are tried for each split: the maximum, and the minimum for many
groups, whose random choices differ less (ours)."""
GROUPS_TRIED = 20_000_000
"""Largest product of tries and groups (ours): a million groups are split in a minute."""
MAX_DENSE_CELLS = 1_000_000
"""Count matrices of up to this many cells are dense, which is faster at this size."""
OVER_TEST_LIMIT = "test set is full"
"""Reason for a prescribed test utterance above `max_test_utterances`; no fault of the corpus."""
MIN_TEST, MAX_SMALL_TEST = 12, 0.2
"""Number of test utterances of a small set without groups: at least the first, but at most the
second as a fraction of the set (ours). Means over fewer utterances are not informative."""
SPLIT_PRIORITY = ("test", "dev", "judge", "train")
"""Priority of splits: the first of them keeps a sentence that occurs in several."""


def split(root: Path, settings: WholeCorpus, base: Path | None = None, n_shards: int = 1) -> None:
    """Merge all sets, assign splits, and write `root`/corpus/{utterances,rejected}.parquet.

    No group and no normalised sentence is in two splits. A test set has at most
    `max_test_utterances`, and every speaker in it has another utterance in test or train. A set
    that is all in one split excludes utterances that another set of its reader contains, and
    groups that are in another split of that set. In a set that is all test, the speakers have
    equally many utterances as far as possible.

    Args:
        root: results folder of the run, with all sets read.
        settings: section `corpus`.
        base: trained models from which the run starts; sentences of their training data are
            excluded from dev and test.
        n_shards: number of shards; more than one are also written (hpro_core.shards).

    Raises:
        HproError: a set was not read yet or has too few groups; a prescribed split cuts a group; a
            split is empty; the rejected fraction exceeds `max_rejected_fraction`; a set for
            training adds no utterance; there are fewer speakers than shards.
    """
    read = {
        name: tables.read_table(root / "corpus" / name / "utterances.parquet", tables.UTTERANCES)
        for name in _ordered(settings)
    }
    assigned = [
        _assigned(table, name, settings, np.random.default_rng([settings.splits.seed, index]))
        for index, (name, table) in enumerate(read.items())
    ]
    entered = pd.concat(assigned, ignore_index=True)
    _check_ids(entered)
    left_out = _left_out(entered, settings)
    entered = entered[~entered.utt_id.isin(left_out)]
    lost = _known(entered, base) if base else {}
    lost |= rejected(entered[~entered.utt_id.isin(lost)], settings)
    kept = entered[~entered.utt_id.isin(lost)]
    _check_shares(entered, lost, settings)
    _check_splits(kept, settings)
    earlier = [
        tables.read_table(root / "corpus" / name / "rejected.parquet", tables.REJECTED)
        for name in settings.sets
    ]
    here = tables.rejected((left_out | lost).items(), STAGE)
    all_lost = pd.concat([*earlier, here], ignore_index=True)
    tables.write_table(kept, root / "corpus" / "utterances.parquet", tables.UTTERANCES)
    tables.write_table(all_lost, root / "corpus" / "rejected.parquet", tables.REJECTED)
    shards.write(root, kept, n_shards)
    print(summary(kept).to_string())


def summary(utterances: pd.DataFrame) -> pd.DataFrame:
    """Return utterances, minutes, speakers and groups of each set and split."""
    by_split = utterances.groupby(["corpus", "split"])
    return pd.DataFrame(
        {
            "utterances": by_split.size(),
            "minutes": (by_split.duration_s.sum() / 60).round(1),
            "speakers": by_split.speaker.nunique(),
            "groups": by_split.group.nunique(),
        }
    )


def rejected(entered: pd.DataFrame, settings: WholeCorpus) -> dict[str, str]:
    """Return utt_id -> reason: the test set is full, a repeated sentence, or no reference."""
    lost: dict[str, str] = {}
    limit = settings.splits.max_test_utterances
    for name, table in entered[entered.split == "test"].groupby("corpus"):
        rng = np.random.default_rng([settings.splits.seed, len(table)])
        if settings.sets[str(name)].split == "test":
            chosen = _equally_by_speaker(table, limit, rng)
        else:
            chosen = rng.permutation(table.utt_id.to_numpy())[:limit].tolist()
        lost |= dict.fromkeys(sorted(set(table.utt_id) - set(chosen)), OVER_TEST_LIMIT)
    within = entered[~entered.utt_id.isin(lost)]
    lost |= _repeats(within)
    return lost | tables.without_reference(within[~within.utt_id.isin(lost)])


def _equally_by_speaker(table: pd.DataFrame, limit: int, rng: np.random.Generator) -> list[str]:
    """Up to `limit` random utterances, equally many of each speaker as far as possible.

    A speaker has none or at least two of them, since the reference of each is another one.
    """
    order = table.loc[rng.permutation(table.index)]
    speaker_N = pd.factorize(order.speaker)[0]
    turn_N = (order.groupby("speaker").cumcount() - 1).clip(lower=0)  # the first two count as one
    chosen = order.iloc[np.lexsort((speaker_N, turn_N))[:limit]]
    number_N = chosen.groupby("speaker").speaker.transform("size")
    total_N = chosen.speaker.map(table.speaker.value_counts())
    return chosen.utt_id[(number_N > 1) | (total_N == 1)].tolist()


def _ordered(settings: WholeCorpus) -> list[str]:
    """The sets, those for training last, so that they do not affect the splits of the others."""
    return sorted(settings.sets, key=lambda name: settings.sets[name].split)


def _left_out(entered: pd.DataFrame, settings: WholeCorpus) -> dict[str, str]:
    """Utterances that a single-split set shares with other sets of its reader -> reason.

    They do not count as rejected. Sets of `csv` and sets of rendered texts are not compared: their
    ids and groups are independent.

    Raises:
        HproError: no utterance of a set is left.
    """
    lost: dict[str, str] = {}
    earlier: dict[str, list[str]] = {}
    for name in _ordered(settings):
        chosen = settings.sets[name]
        others = earlier.setdefault(chosen.reader, [])
        if chosen.split and chosen.reader != "csv" and not chosen.texts:
            for other in others:
                lost |= _shared(entered, name, other)
            _report_left_out(lost, entered.utt_id[entered.corpus == name], name)
        others.append(name)
    return lost


def _report_left_out(lost: dict[str, str], ids: pd.Series, name: str) -> None:
    reasons = Counter(lost[utt_id] for utt_id in ids if utt_id in lost)
    if reasons.total() == len(ids):
        raise HproError(f"corpus {name!r} adds nothing to other sets: remove it from corpus.sets")
    counts = ", ".join(f"{n} {reason}" for reason, n in reasons.most_common())
    print(f"{name}: left out {reasons.total()} of {len(ids)}: {counts or 'none'}")


def _shared(entered: pd.DataFrame, name: str, other: str) -> dict[str, str]:
    """Utterances that another set contains, or whose group is in another split of that set."""
    own, others = (entered[entered.corpus == each] for each in (name, other))
    ids = others.utt_id.str.removeprefix(f"{other}_")
    read = own.utt_id.str.removeprefix(f"{name}_").isin(ids)
    elsewhere = own.group.isin(others.group[others.split != own.split.iloc[0]])
    reasons = dict.fromkeys(own.utt_id[elsewhere], f"same group as in another split of set {other}")
    return reasons | dict.fromkeys(own.utt_id[read], f"read already in set {other}")


def _known(entered: pd.DataFrame, base: Path) -> dict[str, str]:
    """Dev and test utterances whose sentence is in the base's training data -> reason."""
    held_out = entered[entered.split.isin(("dev", "test"))]
    known = held_out[known_sentences(base, held_out.words)]
    return dict.fromkeys(known.utt_id, "the base was trained on this sentence")


def _repeats(kept: pd.DataFrame) -> dict[str, str]:
    """Utterances whose sentence is in a split of higher priority (`SPLIT_PRIORITY`) -> reason."""
    owner: dict[str, str] = {}
    for claim in SPLIT_PRIORITY:
        for words in kept.words[kept.split == claim]:
            owner.setdefault(words, claim)
    return {
        utt_id: f"same sentence as in {owner[words]}"
        for utt_id, words, label in zip(kept.utt_id, kept.words, kept.split, strict=True)
        if owner[words] != label
    }


def _assigned(
    table: pd.DataFrame, name: str, settings: WholeCorpus, rng: np.random.Generator
) -> pd.DataFrame:
    """The table of one set with its splits filled in, each by whole groups of train."""
    if settings.sets[name].split:
        return table.assign(split=settings.sets[name].split)
    splits, n = settings.splits, len(table)
    n_test = splits.test_fraction * n
    prescribed = bool((table.split != "").any())
    if not prescribed and table.group.nunique() == n:
        table = table.assign(group=_first_of_sentence(table))
        n_test = max(n_test, min(MIN_TEST, MAX_SMALL_TEST * n))
    if problem := groups_problem(table, name):
        raise HproError(problem)
    wanted = {
        "test": min(n_test, splits.max_test_utterances),
        "dev": splits.dev_fraction * n,
        "judge": splits.judge_fraction * n,
    }
    if not prescribed:
        table = table.assign(split="train")
    elif (table.split == "judge").any():
        return table
    for label in ["judge"] if prescribed else wanted:  # no publisher prescribes a judge split
        train = table[table.split == "train"]
        if train.group.nunique() < 2:
            if prescribed:
                return table
            raise HproError(f"corpus {name!r}: the fractions of corpus.splits leave train empty")
        group_N = pd.factorize(train.group, sort=True)[0]
        counts = (_counted(group_N, train.speaker), _counted(group_N, train.emotion.fillna("")))
        chosen = choose_groups(*counts, max(1, round(wanted[label])), rng)
        moved = train.index[np.isin(group_N, chosen)]
        table = table.assign(split=table.split.mask(table.index.isin(moved), label))
    return table


def _first_of_sentence(table: pd.DataFrame) -> pd.Series:
    """Groups of a set without groups: the first utterance of each sentence.

    A sentence is in one split only, so its repetitions in other splits would be rejected.
    """
    return table.groupby("words", sort=False).group.transform("first")


def groups_problem(table: pd.DataFrame, name: str) -> str:
    """Return why a set cannot be split by groups or keep its prescribed splits; empty if it can.

    The table has the columns `group` and `split` of a set that is not all in one split.
    """
    if (table.split != "").any():
        straddling = table.groupby("group").split.nunique()
        cut = straddling.index[straddling > 1].tolist()
        return f"corpus {name!r}: group {cut[0]!r} is in several prescribed splits" if cut else ""
    n_groups = table.group.nunique()
    if n_groups < len(SPLITS):
        return f"corpus {name!r} has {n_groups} groups: {len(SPLITS)} are needed, one per split"
    return ""


def _counted(group_N: np.ndarray, value: pd.Series) -> Counts:
    """Number of utterances of each value in each group, int (G, values)."""
    value_N, values = pd.factorize(value, sort=True)
    ones_N = np.ones(len(value), dtype=np.int64)
    shape = (group_N.max() + 1, len(values))
    counts = csr_array((ones_N, (group_N, value_N)), shape=shape)
    return counts.toarray() if np.prod(shape) <= MAX_DENSE_CELLS else counts


def choose_groups(
    counts_GS: Counts, counts_GE: Counts, wanted: int, rng: np.random.Generator
) -> list[int]:
    """Choose groups for one split: the best of up to `TRIES` random fillings.

    Criteria in order: fewest speakers without a remaining group, at least 90 % full, most speakers,
    emotion distribution nearest to that of all groups, most utterances.

    Args:
        counts_GS: utterances of each speaker in each group, int (G, S); sparse if it is large.
        counts_GE: utterances of each emotion in each group, int (G, E).
        wanted: largest number of utterances of the split; only a smallest group that is larger
            exceeds it.
        rng: source of the random orders.

    Returns:
        Row indices, at least one and never all.
    """
    size_G = counts_GS.sum(axis=1)
    total_S, total_E = counts_GS.sum(axis=0), counts_GE.sum(axis=0)

    def merit(chosen: list[int]) -> tuple[float, ...]:
        taken_S, taken_E = counts_GS[chosen].sum(axis=0), counts_GE[chosen].sum(axis=0)
        n = int(taken_S.sum())
        used_up = int(((taken_S == total_S) & (total_S > 0)).sum())
        emotion_gap = float(np.abs(taken_E / n - total_E / total_E.sum()).max())
        return -used_up, n >= 0.9 * wanted, int((taken_S > 0).sum()), -emotion_gap, n

    tries = max(MIN_TRIES, min(TRIES, GROUPS_TRIED // len(size_G)))
    return max((_random_filling(size_G, wanted, rng) for _ in range(tries)), key=merit)


def _random_filling(size_G: np.ndarray, wanted: int, rng: np.random.Generator) -> list[int]:
    chosen: list[int] = []
    room = wanted
    for group in rng.permutation(len(size_G)):
        if size_G[group] <= room and len(chosen) < len(size_G) - 1:
            chosen.append(int(group))
            room -= size_G[group]
        if not room:
            break
    return chosen or [int(size_G.argmin())]


def _check_ids(entered: pd.DataFrame) -> None:
    """Refuse equal utt_ids, such as `b_c` of the set `a` and `c` of the set `a_b`."""
    twice = entered[entered.utt_id.duplicated(keep=False)]
    if len(twice):
        names = " and ".join(sorted(set(twice.corpus)))
        raise HproError(
            f"the sets {names} both have {twice.utt_id.iloc[0]!r}: rename one in corpus.sets"
        )


def _check_shares(entered: pd.DataFrame, lost: dict[str, str], settings: WholeCorpus) -> None:
    for name in settings.sets:
        ids = entered.utt_id[entered.corpus == name]
        faults = [
            Fault(utt_id, lost[utt_id], utt_id)
            for utt_id in ids
            if lost.get(utt_id, OVER_TEST_LIMIT) != OVER_TEST_LIMIT
        ]
        check_faults(faults, len(ids), settings.max_rejected_fraction, name)


def _check_splits(kept: pd.DataFrame, settings: WholeCorpus) -> None:
    for label in SPLITS:
        if not (kept.split == label).any():
            raise HproError(
                f"split {label!r} has no utterance: add a corpus that is split by fractions, or "
                "one for this split alone (corpus.sets.<set>.split), or prescribe it (reader csv)"
            )
    for name, chosen in settings.sets.items():
        tested = (kept.split == "test") & (kept.corpus == name)
        if chosen.split in ("", "test") and not tested.any():
            raise HproError(
                f"corpus {name!r} has no test utterance: each set needs some, unless it is only "
                f"for training or judges (corpus.sets.{name}.split: train or judge)"
            )
