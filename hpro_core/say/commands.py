"""`hpro say` and `hpro export`."""

from pathlib import Path
from typing import Annotated

import typer

from hpro_core import params as p
from hpro_core.errors import HproError
from hpro_core.options import Threads

app = typer.Typer()

PolicyOption = Annotated[
    Path | None,
    typer.Option(
        help="Policy of a run, results/<run>/policy/<system>/seed<k>, or an exported folder. "
        "Default: hpro, seed 0, of the newest run in results/."
    ),
]


@app.command()
def say(
    text: Annotated[str | None, typer.Argument(help="Sentence to speak.")] = None,
    reference: Annotated[Path | None, typer.Option(help="Recording of the voice.")] = None,
    policy: PolicyOption = None,
    out: Annotated[Path, typer.Option(help="WAV file to write.")] = Path("say.wav"),
    csv: Annotated[
        Path | None, typer.Option(help="CSV file with a sentence per row, see docs/say.md.")
    ] = None,
    reference_text: Annotated[
        str, typer.Option(help="CosyVoice2: text of the reference, which is then continued.")
    ] = "",
    like: Annotated[
        Path | None, typer.Option(help="CosyVoice2: recording to continue in the voice.")
    ] = None,
    like_text: Annotated[str, typer.Option(help="CosyVoice2: text of --like.")] = "",
    emotion: Annotated[str, typer.Option(help="CosyVoice2: emotion, e.g. happy.")] = "",
    instruct: Annotated[str, typer.Option(help="CosyVoice2: instruction in words.")] = "",
    seed: Annotated[int, typer.Option(help="Seed of the sampling.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Threads = 1,
) -> None:
    """Speak a sentence of your own, or a file of sentences, with a trained policy."""
    from hpro_core.say import sentences as s
    from hpro_core.say.policy_folder import newest_policy, open_policy

    if device not in ("auto", "cpu", "cuda"):
        raise HproError(f"--device is {device!r}: use auto, cpu or cuda")
    if csv is not None:
        if text is not None or reference is not None or out != Path("say.wav"):
            raise HproError("--csv names texts, references and outputs: give no others beside it")
        if like is not None or any((reference_text, like_text, emotion, instruct)):
            raise HproError("--csv has the conditions in its columns: give no others beside it")
        wanted = s.read_sentences(csv)
    elif text is None or reference is None:
        raise HproError(
            'give a sentence and a recording of the voice: hpro say "Text." --reference ref.wav; '
            "or a file: --csv sentences.csv"
        )
    else:
        wanted = [
            s.Sentence(
                text, reference, out, reference_text, like, like_text, emotion.strip(),
                instruct.strip(),
            )
        ]  # fmt: skip
    folder = open_policy(policy or newest_policy(Path("results")))
    s.check(wanted, folder.kind)
    recordings = s.read_recordings(wanted)
    settings = p.read_section(folder.settings, "synthesis", p.Synthesis)
    print(f"policy: {folder.policy}", flush=True)
    for note in s.notes(wanted):
        print(f"note: {note}", flush=True)

    from hpro_core.corpus.audio import write_wav
    from hpro_core.io import replacing
    from hpro_core.say.speaker import Speaker
    from hpro_core.train.loop import device_of, set_threads

    set_threads(threads)
    speaker = Speaker(folder, settings, recordings, device_of(device), threads)
    for sentence in wanted:
        spoken = speaker.say(sentence, seed)
        with replacing(sentence.out) as partial:
            write_wav(partial, spoken.audio_T)
        ending = "stopped" if spoken.stopped else "cut at the longest allowed length"
        print(
            f"{sentence.out}: {spoken.duration_s:.2f} s, {spoken.n_tokens} tokens, {ending}",
            flush=True,
        )


@app.command("export")
def export_policy(
    policy: Annotated[Path, typer.Argument(help="results/<run>/policy/<system>/seed<k>.")],
    out: Annotated[Path, typer.Argument(help="Folder to write, new or empty.")],
) -> None:
    """Write a policy with tokenizer, decoder, model card and hashes to one folder."""
    from hpro_core.say.policy_folder import open_policy

    source = open_policy(policy)
    if source.run is None:
        raise HproError(f"{policy} is an exported folder: copy it as it is")
    settings = p.read_section(source.settings, "synthesis", p.Synthesis)
    of_run = source.run / "params/report.yaml"
    corpus = p.read_section(of_run, "corpus", p.Corpus)
    label = p.read_section(of_run, "label", p.Label)
    base = p.read_plain(of_run, "base", str)

    from hpro_core.say.export import export
    from hpro_core.say.model_card import model_card

    export(source, settings, model_card(source, corpus, label, base), base, out)
    print(f"{out}: README.md is the model card; complete it before you pass the folder on")
