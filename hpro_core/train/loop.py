"""The training loop shared by the tokenizer, codec, policy and reward stages.

A step depends only on the weights, the optimiser state and the step number: the batch is a function
of the step, and the random state is seeded per step. A resumed training therefore equals an
uninterrupted one, bit for bit on CPU.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import TypeVar

import pandas as pd
import torch
from torch import Tensor, nn

from hpro_core.errors import HproError
from hpro_core.io import JOURNAL, read_yaml, write_csv_table
from hpro_core.progress import track
from hpro_core.train import checkpoints
from hpro_core.train.distributed import Ranks, local_rank
from hpro_core.train.model_selection import ModelSelection
from hpro_core.train.terms import Divisible, Terms, cut
from hpro_core.train.trackers import (
    TENSORBOARD,
    Spoken,
    Tracker,
    flat_settings,
    open_trackers,
    report_spoken,
)

BatchT = TypeVar("BatchT")


MAX_LOST_STEPS = 200
"""Steps that a killed training may lose, if its loop sets no other number."""


@dataclass(frozen=True)
class Loop:
    """Settings of the training loop."""

    label: str
    steps: int
    seed: int
    out: Path  # for training.csv (step, split, term, value) and tensorboard/
    work: Path  # for the checkpoints from which a killed run resumes, and profile/
    before: int = 0  # steps of the trainings before this one: batches and noise continue after them
    clip_norm: float = 5.0
    warmup_steps: int = 0
    decay_fraction: float = 0.0  # last fraction of the steps, in which the rate falls to zero
    ema: float = 0.0  # decay of the weight average that is the result; 0: the last weights
    accumulate: int = 1  # micro-batches per process and step; the batch size is unchanged
    log_every: int = 20
    dev_every: int = 200
    checkpoint_every: int = 0  # steps between two checkpoints; 0: that of `checkpoints_every`
    grad_norm_every: int = 50  # steps between two calls of `grad_norm_fn`
    identity: str = ""  # hash of settings and inputs (and of code, through Snakemake's key files);
    # a checkpoint with another identity is not resumed
    profile: bool = False  # write a torch-tb-profiler trace of a few steps
    tracker: str = TENSORBOARD  # see `trackers`
    params: Path | None = None  # settings file that the trackers show
    audio_every: int = 0  # steps between two calls of `speak`; 0: none

    def __post_init__(self) -> None:
        if not self.checkpoint_every:
            every = checkpoints_every(self.steps, MAX_LOST_STEPS, self.log_every)
            object.__setattr__(self, "checkpoint_every", every)
        if self.checkpoint_every % self.log_every:
            raise ValueError(
                "checkpoint_every must be a multiple of log_every: a resume would otherwise split "
                "the mean of a logged interval"
            )


def checkpoints_every(steps: int, max_interval: int, log_every: int) -> int:
    """Compute the checkpoint interval: about a quarter of a short training, at most `max_interval`.

    Args:
        steps: steps of the training.
        max_interval: largest interval, the steps that a killed training may lose; a multiple of
            `log_every`.
        log_every: logging interval of the loop, in steps.

    Returns:
        Steps between two checkpoints, a multiple of `log_every`.
    """
    return min(max_interval, max(log_every, steps // 4 // log_every * log_every))


def fit(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    loss_terms: Callable[[BatchT], Mapping[str, Tensor]],
    batch_at: Callable[[int], BatchT],
    dev_terms: Callable[[], Mapping[str, float]],
    loop: Loop,
    model_selection: ModelSelection | None = None,
    grad_norm_fn: Callable[[BatchT], Mapping[str, float]] | None = None,
    speak: Callable[[], Iterable[Spoken]] | None = None,
) -> dict[str, float]:
    """Train a model in place; afterwards it has the selected weights and is in eval mode.

    Under `accelerate launch` every process calls this with the same arguments; process 0 writes
    the files.

    Args:
        model: model to train; parameters outside the optimiser are unchanged.
        optimiser: optimiser of the trained parameters, at its peak learning rate.
        loss_terms: returns the terms of a batch by name; "loss" is minimised. With
            `loop.accumulate` above 1 or several processes it returns `Terms`.
        batch_at: returns the batch of a step, counted from `loop.before` + 1; the same in every
            process. With `loop.accumulate` above 1 or several processes it is `Divisible`.
        dev_terms: returns the mean terms on the dev split; called with the model in eval mode.
        loop: settings of the loop; call `clear` on its checkpoints after the model is written.
        model_selection: selects the weights to keep; None: the weights of the last step.
        grad_norm_fn: returns further terms to log for the first part of a batch; called every
            `loop.grad_norm_every` steps before the update. It must not change the gradients.
        speak: lets the model, in eval mode and with averaged weights, speak for the trackers;
            called in process 0 every `loop.audio_every` steps. The training does not depend on it.

    Returns:
        The dev terms of the kept weights.

    Raises:
        HproError: the loss or the gradient norm is not finite (the last checkpoint stays in
            `work`), a batch cannot be split, or processes see different files.
    """
    if model_selection is not None:
        model_selection.check(loop.log_every)
    ranks = Ranks.init_distributed(_trained(optimiser)[0].device)
    ranks.broadcast_weights(model)
    if ranks.is_main and ranks.count > 1:
        print(f"{loop.label}: {ranks.count} processes", flush=True)
    trackers = _trackers(loop) if ranks.is_main else []
    curves = Curves(loop.out / "training.csv", trackers)
    average = WeightAverage(model, loop.ema)
    full_rates = [group["lr"] for group in optimiser.param_groups]
    done = _resume(loop, model, optimiser, average, curves, model_selection)
    ranks.check_equal(done, f"{loop.work}: the checkpoint to go on from")
    if done == 0:
        curves.dev(0, _evaluate(model, average, dev_terms, 0, loop))
        _probe(model_selection, 0, loop, model, average, curves, ranks)
        _speak(speak, 0, loop, model, average, trackers)
    with _profiler(loop.work, loop.profile and ranks.is_main) as profiler:
        steps = range(done + 1, loop.steps + 1)
        for step in track(steps, len(steps), loop.label) if ranks.is_main else steps:
            if model_selection is not None and model_selection.stopped:
                break
            for group, rate in zip(optimiser.param_groups, full_rates, strict=True):
                group["lr"] = rate * _learning_rate_factor(step, loop)
            model.train()
            optimiser.zero_grad(set_to_none=True)
            batch = _seeded_batch(batch_at, step, loop, ranks)
            parts = _rank_microbatches(batch, loop, ranks)
            terms = _gradients(loss_terms, parts, batch, _trained(optimiser), ranks)
            _stop_if_not_finite(terms, step, loop.label)
            norm = nn.utils.clip_grad_norm_(_trained(optimiser), loop.clip_norm)
            _stop_if_not_finite({"gradient norm": norm}, step, loop.label)
            if grad_norm_fn is not None and step % loop.grad_norm_every == 0 and ranks.is_main:
                curves.add(step, "train", grad_norm_fn(parts[0]))
            optimiser.step()
            average.update(model)
            curves.train(step, {**terms, "grad_norm": norm}, loop.log_every)
            if step % loop.dev_every == 0 or step == loop.steps:
                curves.dev(step, _evaluate(model, average, dev_terms, step, loop))
            probed = _probe(model_selection, step, loop, model, average, curves, ranks)
            _speak(speak, step, loop, model, average, trackers)
            if ranks.is_main and (probed or step % loop.checkpoint_every == 0):
                _save(step, loop, model, optimiser, average, curves, model_selection)
            if profiler is not None:
                profiler.step()
    average.copy_to(model)
    if model_selection is not None:
        if ranks.is_main:
            model_selection.restore_best(model, loop.work)
        ranks.broadcast_weights(model)
    model.eval()
    if ranks.is_main:
        curves.write()
    if model_selection is not None:
        return dict(
            _evaluate(model, WeightAverage(model, 0.0), dev_terms, model_selection.kept_step, loop)
        )
    return {
        term: value
        for step, split_name, term, value in curves.rows
        if (step, split_name) == (loop.steps, "dev")
    }


def clear(work: Path) -> None:
    """Remove the checkpoints of a finished training, after its model is written."""
    checkpoints.clear(work)


def mean_terms(
    loss_terms: Callable[[BatchT], Mapping[str, Tensor]], batches: Sequence[BatchT]
) -> dict[str, float]:
    """Average each term over batches, with equal weight for each batch."""
    sums: dict[str, float] = {}
    for batch in batches:
        for name, value in loss_terms(batch).items():
            sums[name] = sums.get(name, 0.0) + float(value)
    return {name: value / len(batches) for name, value in sums.items()}


def device_of(name: str) -> torch.device:
    """Return the device for a setting; "auto" selects cuda if it is available.

    "cuda" is the GPU with the local rank of this process.

    Raises:
        HproError: cuda is requested and torch finds no CUDA device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise HproError(
            f"compute.device is {name}, but torch finds no CUDA device: check nvidia-smi, or set "
            "compute.device to auto"
        )
    return torch.device(f"cuda:{local_rank()}" if name == "cuda" else name)


def autocast(device: torch.device, bf16: bool) -> AbstractContextManager[object]:
    """Return a bfloat16 autocast context if `bf16` is set and the device supports it, else none."""
    if bf16 and has_bf16(device):
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def has_bf16(device: torch.device) -> bool:
    """Return whether the device has native bfloat16 matrix products.

    A CPU without them (x86 before AVX512-BF16 and AMX, such as AMD's Zen 3) emulates them, five to
    ten times slower than float32 (docs/performance.md).
    """
    if device.type != "cpu":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    known = torch.cpu.get_capabilities()
    return any(known.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16"))


def set_threads(threads: int) -> None:
    """Set the number of CPU threads, flush denormals to zero and limit oneDNN's kernel cache.

    Denormals are slow. Batches of many different lengths fill oneDNN's cache of compiled kernels,
    which is large by default (fine-tuning grew to 3.7 GB). A small cache has no measurable cost.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32")
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)


def _trackers(loop: Loop) -> list[Tracker]:
    trackers = open_trackers(loop.tracker, loop.out, loop.work, loop.label)
    if loop.params is not None:
        settings = read_yaml(loop.params)
        settings.pop("depends_on", None)  # of a key file
        for tracker in trackers:
            tracker.settings(flat_settings(settings))
    return trackers


class Curves:
    """Training curves: training.csv in long form, and the scalars of the trackers."""

    def __init__(self, path: Path, trackers: Sequence[Tracker] = ()):
        """
        Args:
            path: of training.csv.
            trackers: of this process.
        """
        self.path = path
        self.rows: list[tuple[int, str, str, float]] = []
        self._sums: dict[str, Tensor | float] = {}
        self._count = 0
        self._trackers = trackers

    def train(self, step: int, terms: Mapping[str, Tensor], every: int) -> None:
        """Accumulate the terms of a step; every `every` steps add a row with the mean of each."""
        for name, value in terms.items():  # summed on their device, without a GPU synchronisation
            self._sums[name] = self._sums.get(name, 0.0) + value.detach().double()
        self._count += 1
        if step % every == 0:
            self.add(step, "train", {k: float(v / self._count) for k, v in self._sums.items()})
            self._sums, self._count = {}, 0

    def dev(self, step: int, terms: Mapping[str, float]) -> None:
        """Add a row per mean term on the dev split."""
        self.add(step, "dev", terms)

    def add(self, step: int, split: str, terms: Mapping[str, float]) -> None:
        """Add a row per term, and report it to the trackers."""
        for name, value in terms.items():
            self.rows.append((step, split, name, value))
            for tracker in self._trackers:
                tracker.scalar(f"{split}/{name}", value, step)

    def restore(self, rows: list[tuple[int, str, str, float]]) -> None:
        """Add the rows of a resumed checkpoint."""
        for step, split, name, value in rows:
            self.add(step, split, {name: value})

    def write(self) -> None:
        """Write training.csv and close the trackers."""
        table = pd.DataFrame(self.rows, columns=["step", "split", "term", "value"])
        write_csv_table(table, self.path)
        for tracker in self._trackers:
            tracker.close()


class WeightAverage:
    """Exponential moving average of the trained weights, a substitute for learning-rate decay."""

    def __init__(self, model: nn.Module, decay: float):
        """
        Args:
            model: model whose parameters with gradients are averaged.
            decay: decay per step; 0 disables the average.
        """
        self.decay = decay
        self.weights = (
            {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
            if decay
            else {}
        )
        self._updates = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Update the average; the decay is smaller in early steps, to discount the initial weights.

        The decay of update n is min(decay, (1 + n) / (10 + n)).
        """
        self._updates += 1
        decay = min(self.decay, (1 + self._updates) / (10 + self._updates))
        parameters = dict(model.named_parameters())
        averaged = list(self.weights.values())
        own: list[Tensor] = [parameters[name] for name in self.weights]
        if averaged:
            torch._foreach_lerp_(averaged, own, 1 - decay)

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        """Copy the averaged weights into the model."""
        for name, parameter in model.named_parameters():
            if name in self.weights:
                parameter.copy_(self.weights[name])

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Use the averaged weights inside the context and restore the model's own after it."""
        own = {n: p.detach().clone() for n, p in model.named_parameters() if n in self.weights}
        self.copy_to(model)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    if name in own:
                        parameter.copy_(own[name])

    def state(self) -> dict[str, object]:
        """Return the state to save in a checkpoint."""
        return {"weights": self.weights, "updates": self._updates}

    def load(self, state: dict) -> None:
        """Load the state of a checkpoint."""
        saved = state["weights"]
        self.weights = {n: saved[n].to(w.device) for n, w in self.weights.items()}
        self._updates = state["updates"]


def _seeded_batch(batch_at: Callable[[int], BatchT], step: int, loop: Loop, ranks: Ranks) -> BatchT:
    """Draw the batch of a step, the same in every process, then seed dropout per process."""
    step += loop.before
    seed = loop.seed * 1_000_003 + step
    torch.manual_seed(seed)
    batch = batch_at(step)
    if ranks.index:
        torch.manual_seed(seed + ranks.index * 2**40)
    return batch


def _rank_microbatches(batch: BatchT, loop: Loop, ranks: Ranks) -> Sequence[BatchT]:
    """Return the micro-batches of a batch that belong to this process."""
    pieces = loop.accumulate * ranks.count
    if pieces == 1:
        return [batch]
    if not isinstance(batch, Divisible):
        raise HproError(
            f"{loop.label}: this stage cannot split its batches: set accumulate to 1 and start one "
            "process"
        )
    first = ranks.index * loop.accumulate
    return cut(batch, pieces)[first : first + loop.accumulate]


def _gradients(
    loss_terms: Callable[[BatchT], Mapping[str, Tensor]],
    parts: Sequence[BatchT],
    batch: BatchT,
    trained: Sequence[Tensor],
    ranks: Ranks,
) -> Mapping[str, Tensor]:
    """Set the trained parameters' gradients to those of the whole batch; return its terms."""
    if parts[0] is batch:
        terms = loss_terms(batch)
        terms["loss"].backward()
        return terms
    assert isinstance(batch, Divisible)
    whole, found = batch.counts(), []
    for part in parts:
        terms = loss_terms(part)
        assert isinstance(part, Divisible)
        assert isinstance(terms, Terms)
        terms.share(part.counts(), whole).backward()
        found.append(terms.detached())
    ranks.sum_gradients(trained)
    summed = ranks.sum_terms(reduce(Terms.plus, found))
    assert isinstance(parts[0], Divisible)
    summed.check(whole, found[0], parts[0].counts())
    return summed


def _probe(
    model_selection: ModelSelection | None,
    step: int,
    loop: Loop,
    model: nn.Module,
    average: WeightAverage,
    curves: Curves,
    ranks: Ranks,
) -> bool:
    """Evaluate the model if it is due and keep its weights if they are the best; return if due."""
    if model_selection is None or not (model_selection.is_due(step) or step == loop.steps):
        return False
    model.eval()
    with average.applied(model), torch.no_grad():
        metrics = ranks.broadcast_object(
            dict(model_selection.evaluate()) if ranks.is_main else None
        )
        model_selection.record(step, metrics)
        if ranks.is_main:
            model_selection.save_if_best(step, model, loop.work)
    curves.add(step, "probe", metrics)
    if ranks.is_main and step in model_selection.alarms:
        print(f"warning: {loop.label}, step {step}: {model_selection.alarms[step]}", flush=True)
    return True


def _speak(
    speak: Callable[[], Iterable[Spoken]] | None,
    step: int,
    loop: Loop,
    model: nn.Module,
    average: WeightAverage,
    trackers: Sequence[Tracker],
) -> None:
    """Report what the model speaks, if it is due, without any effect on the training.

    Weights and random states are restored. Files that are read for it are no inputs of the result.
    """
    if speak is None or not trackers or not loop.audio_every:
        return
    if step % loop.audio_every and step != loop.steps:
        return
    model.eval()
    read, threads = set(JOURNAL.read), torch.get_num_threads()
    devices = {p.device for p in model.parameters() if p.is_cuda}
    with average.applied(model), torch.no_grad(), torch.random.fork_rng(list(devices)):
        report_spoken(trackers, speak(), step)
    torch.set_num_threads(threads)
    JOURNAL.read.intersection_update(read)


def _evaluate(
    model: nn.Module,
    average: WeightAverage,
    dev_terms: Callable[[], Mapping[str, float]],
    step: int,
    loop: Loop,
) -> Mapping[str, float]:
    model.eval()
    with average.applied(model), torch.no_grad():
        terms = dev_terms()
    _stop_if_not_finite({k: torch.tensor(v) for k, v in terms.items()}, step, f"{loop.label}, dev")
    return terms


def _learning_rate_factor(step: int, loop: Loop) -> float:
    """Compute the factor of the learning rate: linear warm-up, constant, linear decay."""
    warmup = min(1.0, step / loop.warmup_steps) if loop.warmup_steps else 1.0
    decay_steps = loop.steps * loop.decay_fraction
    decay = min(1.0, (loop.steps + 1 - step) / decay_steps) if decay_steps else 1.0
    return warmup * decay


def _trained(optimiser: torch.optim.Optimizer) -> list[Tensor]:
    return [p for group in optimiser.param_groups for p in group["params"]]


def _stop_if_not_finite(terms: Mapping[str, Tensor], step: int, label: str) -> None:
    values = {name: value.detach() for name, value in terms.items()}
    if not values or torch.stack([value.isfinite().all() for value in values.values()]).all():
        return  # one check for all terms, because each check synchronises with the GPU
    bad = {name: float(value) for name, value in values.items() if not value.isfinite().all()}
    raise HproError(
        f"{label}, step {step}: {bad} is not finite: lower the learning rate of this stage in "
        "params.yaml, or check the utterances of that step's batch"
    )


def _save(
    step: int,
    loop: Loop,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    average: WeightAverage,
    curves: Curves,
    model_selection: ModelSelection | None,
) -> None:
    state = {
        "step": step,
        "identity": loop.identity,
        "model": model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "average": average.state(),
        "curves": curves.rows,
        "read": sorted(map(str, JOURNAL.read)),  # for the record of a resumed training
    }
    kept = (
        None
        if model_selection is None
        else checkpoints.kept_weights(loop.work, model_selection.kept_step)
    )
    checkpoints.save(loop.work, state, kept)


def _resume(
    loop: Loop,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    average: WeightAverage,
    curves: Curves,
    model_selection: ModelSelection | None,
) -> int:
    state = checkpoints.newest(loop.work, loop.identity)
    if state is None:
        return 0
    try:
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        average.load(state["average"])
        curves.restore([tuple(row) for row in state["curves"]])
        JOURNAL.read.update(map(Path, state["read"]))
        if model_selection is not None:
            _restore_model_selection(model_selection, curves)
    except (
        RuntimeError, KeyError, ValueError, TypeError, AttributeError, IndexError,
    ) as error:  # fmt: skip
        raise HproError(
            f"{loop.work}: the checkpoint of step {state['step']} is not of this training "
            f"({str(error)[:200]}): remove the folder to start the training from step 0"
        ) from error
    print(f"resuming from step {state['step']} ({loop.work})", flush=True)
    return int(state["step"])


def _restore_model_selection(model_selection: ModelSelection, curves: Curves) -> None:
    """Restore the evaluations before a resume from the curves."""
    evaluations: dict[int, dict[str, float]] = {}
    for step, split, term, value in curves.rows:
        if split == "probe":
            evaluations.setdefault(step, {})[term] = value
    for step, metrics in evaluations.items():
        model_selection.record(step, metrics)


@contextmanager
def _profiler(work: Path, wanted: bool) -> Iterator[torch.profiler.profile | None]:
    if not wanted:
        yield None
        return
    with torch.profiler.profile(
        schedule=torch.profiler.schedule(wait=2, warmup=2, active=4, repeat=1),
        on_trace_ready=torch.profiler.tensorboard_trace_handler(str(work / "profile")),
        record_shapes=True,
        profile_memory=True,
    ) as profiler:
        yield profiler
