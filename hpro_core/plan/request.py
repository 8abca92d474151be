"""Checks of a request before Snakemake builds its graph: targets, base and tracker.

Snakemake's own errors for them name a rule and its outputs, but neither the setting nor a close
name.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hpro_core.errors import HproError, did_you_mean
from hpro_core.params import SEEDLESS, Params
from hpro_core.pretrained.base import FILES, SUMS
from hpro_core.train.trackers import check_tracker


def guard_request(workflow: Any, settings: Params, refused: type[Exception]) -> None:
    """Check the request when Snakemake begins to execute it, also in a dry run.

    `refused` is Snakemake's exception type without a traceback.
    """

    @contextmanager
    def checked() -> Iterator[None]:
        for problem in problems(workflow, settings):
            raise refused(problem)
        yield

    workflow.execute = checked()(workflow.execute)


def problems(workflow: Any, settings: Params) -> Iterator[str]:
    """Yield what is wrong with a request.

    A base without files, a tracker whose package is not installed, a target that no rule makes.
    """
    base = Path(settings.base)
    missing = [str(base / name) for name in (*FILES, SUMS) if not (base / name).is_file()]
    if settings.base and missing:
        lacking = f"lacks {', '.join(missing)}" if base.is_dir() else "is no folder"
        yield (
            f"base: {settings.base!r} {lacking}: name the folder of a base (git checkout restores "
            'data/base), or set base: "" to train all models in this run'
        )
    if not workflow.deployment_settings.deployment_method:  # conda has packages of its own
        yield from _missing_tracker(settings)
    rules = {rule.name: rule for rule in workflow.rules}
    for target in workflow.dag_settings.targets:
        if target not in rules and not _can_be_made(target, rules.values()):
            hint = _close_file(target, rules.values(), settings) or did_you_mean(target, rules)
            yield f"no rule makes {target!r}{hint} (all rules: snakemake --list)"


def _missing_tracker(settings: Params) -> Iterator[str]:
    try:
        check_tracker(settings.tracking.tracker)
    except HproError as error:
        yield str(error)


def _can_be_made(target: str, rules: Iterable[Any]) -> bool:
    """Whether a target is an output of a rule, or a file that exists."""
    return Path(target).exists() or any(rule.is_producer(target) for rule in rules)


def _close_file(target: str, rules: Iterable[Any], settings: Params) -> str:
    """A hint with an output that differs from a path in one part; "" if there is none."""
    rules = list(rules)
    parts = target.split("/")
    known = {part for rule in rules for made in rule.output for part in str(made).split("/")}
    known |= {*SEEDLESS, "sft", *settings.variants, *settings.external, *settings.corpus.sets}
    for place, part in enumerate(parts):
        for close in get_close_matches(part, known, n=3):
            path = "/".join([*parts[:place], close, *parts[place + 1 :]])
            if any(rule.is_producer(path) for rule in rules):
                return f"; did you mean {path}?"
    return ""
