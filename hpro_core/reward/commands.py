"""`hpro reward` and `hpro reward-watched`."""

from pathlib import Path

import typer

from hpro_core import params as p
from hpro_core.options import DevAudio, Params, Profile, Root, Seed, Threads, Tracker, Weights, Work

app = typer.Typer()


@app.command()
def reward(
    variant: str,
    root: Root,
    params: Params,
    work: Work,
    seed: Seed = 0,
    threads: Threads = 1,
    profile: Profile = False,
    tracker: Tracker = "tensorboard",
    dev_audio: DevAudio = "",
) -> None:
    """Train a policy by reward: one of `variants` in params.yaml."""
    from hpro_core.reward.train import train_reward
    from hpro_core.train.run import Run

    settings = p.read_section(params, "reward", p.Reward)
    run = Run(root, params, work, p.read_compute(params, threads), profile, tracker)
    speak = None
    if dev_audio:
        from hpro_core.judges.spoken import DevSpeech

        speak = DevSpeech(run, p.read_audio(dev_audio), settings.leave_out, Path("weights"))
    train_reward(run, variant, p.read_variant(params, variant), settings, seed, speak=speak)


@app.command()
def reward_watched(
    variant: str,
    root: Root,
    params: Params,
    work: Work,
    seed: Seed = 0,
    threads: Threads = 1,
    profile: Profile = False,
    tracker: Tracker = "tensorboard",
    dev_audio: DevAudio = "",
    weights: Weights = Path("weights"),
) -> None:
    """As `reward`, with judges that monitor it and choose the checkpoint (reward.probe_every)."""
    from hpro_core.judges.probe import watch
    from hpro_core.reward.train import train_reward
    from hpro_core.train.run import Run

    settings = p.read_section(params, "reward", p.Reward)
    run = Run(root, params, work, p.read_compute(params, threads), profile, tracker)
    probes = watch(run, settings, p.read_section(params, "synthesis", p.Synthesis), weights)
    speak = None
    if dev_audio:
        from hpro_core.judges.spoken import DevSpeech

        speak = DevSpeech(run, p.read_audio(dev_audio), settings.leave_out, weights)
    train_reward(run, variant, p.read_variant(params, variant), settings, seed, probes, speak)
