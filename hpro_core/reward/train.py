"""Reward training of a policy: one stage of HPRO, or all terms from the start for an ablation.

Paper section II-B: straight-through Gumbel sample, frozen codec, weighted terms, Adam on the
language model only. The history before the logits is the recording's (teacher forcing; inferred for
the paper) or the policy's own (ours). Adam's moments are reset at each stage (ours).
"""

from functools import partial

import torch

from hpro_core.codec.training import check_text, check_words, load_codec
from hpro_core.dataset import train_dev
from hpro_core.io import fingerprint, write_json
from hpro_core.params import Reward, Variant
from hpro_core.policy.sft import load_policy, rewarded_steps, save_policy
from hpro_core.reward.model_selection import ProbeSettings, model_selection_of, probe_record
from hpro_core.reward.objective import Rewarder, objective_of
from hpro_core.train.batching import Sampler, sequential_batches, warn_single_utterance_speakers
from hpro_core.train.checkpoint import MODEL_FILES
from hpro_core.train.distributed import is_main_process, process_count
from hpro_core.train.example_file import split_files
from hpro_core.train.loop import (
    Loop,
    checkpoints_every,
    clear,
    device_of,
    fit,
    set_threads,
)
from hpro_core.train.run import Run
from hpro_core.train.terms import cut
from hpro_core.train.trackers import Speaker

MAX_LOG_INTERVAL = 10
"""Maximum number of steps that a point of the training curve averages over."""


def train_reward(
    run: Run,
    name: str,
    variant: Variant,
    settings: Reward,
    seed: int,
    probes: ProbeSettings | None = None,
    speak: Speaker | None = None,
) -> None:
    """Train one variant and write its policy to policy/<name>/.

    Args:
        run: reads the dataset, the codec, the SFT policy (the reference of the KL term) and the
            variant's initial policy of its results.
        name: name of the variant.
        variant: its stage, initial policy, and the settings that it replaces.
        settings: section `reward`.
        seed: seed of batches and noise. A stage continues the sequence where its initial policy
            ended, so a policy of three stages is trained on the same batches as one with three
            times the steps.
        probes: probes that judge generated speech during the training and choose the checkpoint;
            without them the last one is kept.
        speak: lets the policy speak for the trackers; the result does not depend on it.

    Raises:
        HproError: a file is missing or does not fit, the codec's text decoder does not accept the
            transcripts, an utterance has no word that covers a frame, or a term is not finite.
    """
    settings = variant.applied_to(settings)
    train, dev = train_dev(run.root, settings.leave_out, "reward")
    policies, codec_folder = run.root / "policy", run.root / "codec" / "style"
    start, sft, out = (policies / of / f"seed{seed}" for of in (variant.start, "sft", name))
    models = [f / file for f in sorted({start, sft, codec_folder}) for file in MODEL_FILES]
    judges = [] if probes is None else probes.files
    read = fingerprint(run.params, *models, *judges, *split_files(run.root))
    set_threads(run.compute.threads)
    device = device_of(run.compute.device)
    policy = load_policy(start, settings.checkpointing).to(device)
    reference = load_policy(sft).to(device).requires_grad_(False)
    codec = load_codec(codec_folder).to(device)
    for examples in (train, dev):
        check_text(examples, codec.config, guided_attention_weight=0.0)
        check_words(examples, codec.config)
    objective = objective_of(variant, settings)
    rewarder = Rewarder(policy, reference, codec, objective, device, run.compute.bf16)
    edges = codec.config.word_edges
    sampler = Sampler(train, settings.batch_size, seed, edges)
    before = rewarded_steps(start)
    label = f"{name} ({variant.stage}), seed {seed}"
    warn_single_utterance_speakers(sampler, label)
    every = max(1, len(dev) // settings.dev_sentences)
    dev_batches = sequential_batches(dev[::every], settings.batch_size, edges)

    if is_main_process():
        drawn = rewarder.draw_noise(sampler.batch_at(before + 1), seed)
        first = cut(drawn, settings.accumulate * process_count())[0]  # bounds memory as a step does
        rewarder.report_gradient_norms(first, label, out / "gradient_norms.json")
    steps = settings.steps * variant.stages
    log_every = MAX_LOG_INTERVAL if probes is not None else log_interval(steps)
    model_selection = None
    if probes is not None:
        probe_batches = sequential_batches(probes.sentences, settings.batch_size, edges)
        model_selection = model_selection_of(
            probes, policy, lambda: rewarder.reward_over(probe_batches)
        )
    loop = Loop(
        label=label,
        steps=steps,
        seed=seed,
        out=out,
        work=run.work,
        before=before,
        clip_norm=settings.clip_norm,
        decay_fraction=settings.decay_fraction,
        ema=settings.ema,
        accumulate=settings.accumulate,
        log_every=log_every,
        dev_every=-(-steps // settings.dev_evaluations),
        checkpoint_every=checkpoints_every(steps, 50, log_every),
        grad_norm_every=min(50, steps),
        identity=f"{name} {seed} {read}",
        profile=run.profile,
        tracker=run.tracker,
        params=run.params,
        audio_every=speak.every if speak else 0,
    )
    dev_end = fit(
        policy,
        torch.optim.Adam(policy.parameters(), lr=settings.learning_rate),
        rewarder.terms,
        # The loop seeds torch at each step, so the seed of the noise is a function of the step.
        lambda step: rewarder.draw_noise(sampler.batch_at(step), torch.initial_seed()),
        lambda: rewarder.mean_over(dev_batches),
        loop,
        model_selection,
        rewarder.gradient_norms_at_logits,
        partial(speak, policy) if speak else None,
    )
    if is_main_process():
        found = {} if model_selection is None else probe_record(model_selection)
        write_json(out / "metrics.json", {"dev": dev_end, **found})
        steps_run = found.get("stopped_at") or steps
        record = {"weights": objective.weights, "rewarded_steps": before + steps_run}
        save_policy(out, policy, variant=name, seed=seed, **record)
        clear(loop.work)


def log_interval(steps: int) -> int:
    """Number of steps that a point of the training curve averages over.

    It is at most ten; in a training of fewer than forty steps it is smaller, so that the curve has
    four points. It divides the number of steps, so the last point is at the last step.
    """
    most = min(MAX_LOG_INTERVAL, max(1, steps // 4))
    return next(every for every in range(most, 0, -1) if steps % every == 0)
