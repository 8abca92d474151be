"""The memory that a training asks for: it depends on what `set-resources` says of its GPUs."""

import os
from collections.abc import Callable, Mapping
from typing import Any

DATASET_TIMES = 0.2
"""Bytes that a process holds of an utterance, times those of it on disk (docs/scaling.md)."""


def training_mb(workflow: Any, model_mb: int) -> Callable[..., int]:
    """The `mem_mb` of a rule whose command `launch` starts: on each node, as SLURM counts it.

    There is a process for each GPU, and each holds a model, and the lengths and speakers of all
    utterances of train and dev; the utterances themselves are mapped and shared.

    Args:
        workflow: Snakemake's, with the resources of its rules.
        model_mb: what a process needs without the utterances.

    Returns:
        A function of the job, for the rule. It raises FileNotFoundError while the dataset is not
        there, which Snakemake takes as "to be determined".
    """

    def asked_mb(wildcards: Mapping[str, str], input: Any, attempt: int, rulename: str) -> int:
        requested = workflow.get_rule(rulename).resources
        processes = max(1, requested["gpu"].value // requested["nodes"].value)
        dataset_mb = sum(map(os.path.getsize, [*input.train, *input.dev])) * DATASET_TIMES / 10**6
        return attempt * processes * round(model_mb + dataset_mb)

    return asked_mb
