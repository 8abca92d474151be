"""Which sentences a listening test has, and who rates what in which order.

A Latin square: over one cycle of raters, every sentence is rated in every system equally often, and
each rater hears a sentence once per part and every system equally often. The sequence of systems
follows a Williams design.

Source: E. J. Williams 1949, "Experimental designs balanced for the estimation of residual effects
of treatments".
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

PARTS = ("naturalness", "emotion", "preference")
"""Parts of a test: MOS-N, MOS-E, and A/B preference."""

CHECKS = {"naturalness": 2, "emotion": 2, "preference": 1}
"""Attention checks of each part (ours)."""

MAX_TONES = 5
"""Most tones of a check: the largest answer of a rating, and the number of checks of all parts."""

Trial = tuple[str, ...]
"""Clips of a trial: one, or the two of a preference."""


def balanced(strata: Sequence[str], n: int, seed: int) -> list[int]:
    """Choose `n` items, as equally as possible from each stratum.

    Args:
        strata: stratum of each item.
        n: number of items; all are chosen if there are fewer.
        seed: seed of the choice.

    Returns:
        Places of the chosen items, those of one stratum together, in random order inside.
    """
    generator = np.random.default_rng([seed, 0])
    waiting: dict[str, list[int]] = defaultdict(list)
    for place in generator.permutation(len(strata)):
        waiting[strata[place]].append(int(place))
    taken: dict[str, int] = dict.fromkeys(sorted(waiting), 0)
    for _ in range(min(n, len(strata))):
        open_strata = [name for name in taken if taken[name] < len(waiting[name])]
        taken[min(open_strata, key=lambda name: taken[name])] += 1
    return [place for name, count in taken.items() for place in waiting[name][:count]]


def williams(n: int) -> list[list[int]]:
    """Return the rows of a Williams design for `n` treatments.

    Over the rows, every treatment is once (even `n`) or twice (odd `n`) in each place, and follows
    each other one equally often.
    """
    first = [0]
    for step in range(1, n):
        first.append((first[-1] + (step if step % 2 else -step)) % n)
    rows = [[(each + shift) % n for each in first] for shift in range(n)]
    return rows if n % 2 == 0 else [*rows, *(row[::-1] for row in rows)]


@dataclass(frozen=True)
class Orders:
    """Sessions of a test: the trials of each rater.

    Attributes:
        blocks: blocks of sentences; a rater gets one block.
        parts: some of `PARTS`, in their order.
        n_systems: number of systems that are rated.
        pairs: systems that are compared; empty without a preference.
        seed: seed of the orders.
    """

    blocks: Sequence[Sequence[int]]
    parts: Sequence[str]
    n_systems: int
    pairs: Sequence[tuple[int, int]]
    seed: int

    @property
    def n_sessions(self) -> int:
        """Number of raters after which the cycle is complete and begins again."""
        shifts = 2 * self.n_systems
        if "preference" in self.parts:
            shifts = math.lcm(shifts, 2 * len(self.pairs))
        return len(self.blocks) * shifts

    def parts_of(self, session: int) -> list[str]:
        """Order of the parts: the two ratings alternate over raters, the preference is last."""
        _, shift = self._place(session)
        swapped = (session + shift // self.n_systems) % 2  # each sentence and system in both orders
        parts = list(self.parts)
        if parts[:2] == ["naturalness", "emotion"] and swapped:
            parts[:2] = parts[1::-1]
        return parts

    def ratings(self, session: int, part: str, asked: Sequence[int]) -> list[tuple[int, int]]:
        """Return the sentence and system of each trial of a rated part.

        Args:
            session: number of the session, from 0.
            part: one of the first two of `PARTS`.
            asked: sentences that the part has.
        """
        block, shift = self._place(session)
        generator = self._generator(session, part)
        wanted = set(asked)
        queues: list[list[int]] = [[] for _ in range(self.n_systems)]
        of_block = [sentence for sentence in self.blocks[block] if sentence in wanted]
        offset = PARTS.index(part)  # a rater does not hear the same clip in both parts
        for place, sentence in enumerate(of_block):
            queues[(place + shift + offset) % self.n_systems].append(sentence)
        queues = [list(generator.permutation(queue)) for queue in queues]
        rows = williams(self.n_systems)
        trials: list[tuple[int, int]] = []
        group = shift
        while any(queues):
            for system in rows[group % len(rows)]:
                if queues[system]:
                    trials.append((int(queues[system].pop()), system))
            group += 1
        return trials

    def preferences(self, session: int) -> list[tuple[int, int, int]]:
        """Return the sentence, first and second system of each comparison, in random order."""
        block, shift = self._place(session)
        trials = []
        for place, sentence in enumerate(self.blocks[block]):
            first, second = self.pairs[(place + shift) % len(self.pairs)]
            if (place // len(self.pairs) + shift // len(self.pairs)) % 2:
                first, second = second, first
            trials.append((sentence, first, second))
        order = self._generator(session, "preference").permutation(len(trials))
        return [trials[each] for each in order]

    def with_checks(
        self, session: int, part: str, trials: Sequence[Trial], checks: Sequence[Trial]
    ) -> list[Trial]:
        """Insert attention checks: one in each of equal stretches of a part, never first."""
        generator = self._generator(session, f"checks of {part}")
        bounds = np.linspace(0, len(trials), len(checks) + 1).round().astype(int)
        places = [
            int(generator.integers(min(low + 1, high), high + 1)) for low, high in pairwise(bounds)
        ]
        out = list(trials)
        for place, check in sorted(zip(places, checks, strict=True), reverse=True):
            out.insert(place, check)
        return out

    def tones(self, session: int) -> dict[str, list[int]]:
        """Return the numbers of tones, 1 to `MAX_TONES`, of the checks of each part."""
        numbers = self._generator(session, "tones").permutation(MAX_TONES) + 1
        n_checks = [CHECKS[part] for part in self.parts]
        *split, _spare = np.split(numbers, np.cumsum(n_checks))
        return {part: found.tolist() for part, found in zip(self.parts, split, strict=True)}

    def _place(self, session: int) -> tuple[int, int]:
        """Block of a session, and its shift in the Latin square."""
        return session % len(self.blocks), session // len(self.blocks)

    def _generator(self, session: int, purpose: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, 1, session, *purpose.encode()])


def in_blocks(chosen: Sequence[int], per_rater: int) -> list[list[int]]:
    """Split chosen items, ordered by stratum, into equal blocks of up to `per_rater` items.

    Each has of a stratum what the others have, within one.
    """
    n = -(-len(chosen) // per_rater)
    return [list(chosen[first::n]) for first in range(n)]
