"""Commands about a whole run and its settings, from `hpro benchmark` to `hpro verify`."""

from pathlib import Path
from typing import Annotated

import typer

from hpro_core import params as p
from hpro_core.errors import HproError, did_you_mean
from hpro_core.options import Differences, Params, Threads, Weights

app = typer.Typer()


@app.command()
def benchmark(
    training: str,
    params: Params = Path("params.yaml"),
    device: str = "auto",
    threads: Threads = 2,
    steps: int = 3,
    checkpointing: bool = False,
) -> None:
    """Time one training step with the sizes of CosyVoice2 and the released codec."""
    import dataclasses
    import json

    from hpro_core.benchmark import FULL_SIZE, TRAININGS, measure

    if training not in TRAININGS:
        raise HproError(
            f"no training {training!r}: use one of {', '.join(TRAININGS)}"
            f"{did_you_mean(training, TRAININGS)}"
        )
    reward = p.read_section(params, "reward", p.Reward)
    cost = measure(training, FULL_SIZE, reward, device, threads, steps, checkpointing)
    print(json.dumps(dataclasses.asdict(cost), indent=2))


@app.command()
def plan(
    params: Params = Path("params.yaml"),
    configfile: Differences = None,
    hours: Annotated[
        list[str] | None, typer.Option(help="Size of a corpus, SET=HOURS:UTTERANCES.")
    ] = None,
) -> None:
    """Estimate jobs, hours and bytes of a run from measured costs; needs no corpora or weights."""
    import os

    from hpro_core.plan.cost_table import estimate_costs, format_costs, parse_hours
    from hpro_core.plan.jobs import listing_of
    from hpro_core.plan.settings import read_settings

    try:
        given = parse_hours(hours or [])
    except ValueError as error:
        raise HproError(f"--hours: SET=HOURS:UTTERANCES is expected ({error})") from error
    settings = read_settings(params, configfile or [])
    listing = listing_of(settings)
    costs = estimate_costs(settings, given, listing.counts)
    print("\n".join(format_costs(costs, listing.graph, os.cpu_count() or 1)))


@app.command("settings")
def show_settings(
    params: Params = Path("params.yaml"),
    configfile: Differences = None,
) -> None:
    """Check the settings and print them merged into one file."""
    import yaml

    from hpro_core.plan.settings import merge_and_check, sources

    values, _ = merge_and_check(sources(params, configfile or []))
    print(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), end="")


@app.command()
def preflight(
    params: Params = Path("params.yaml"),
    configfile: Differences = None,
    weights: Weights = Path("weights"),
) -> None:
    """Check corpora, weights, disk, GPU and licences before the first job."""
    from hpro_core.plan.settings import read_settings
    from hpro_core.preflight import checks, format_checks

    found = checks(read_settings(params, configfile or []), weights)
    print("\n".join(format_checks(found)))
    failed = sum(check.status == "FAIL" for check in found)
    if failed:
        raise HproError(f"preflight: {failed} of {len(found)} checks failed, see above")


@app.command()
def status(
    run: Annotated[
        str | None, typer.Option(help="Name of the run.", show_default="run of params.yaml")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the jobs of a run, the time left, and the last values of its trainings."""
    import json
    import shutil

    from hpro_core.plan.status import status_of
    from hpro_core.plan.status_output import format_status, status_json

    found = status_of(p.read_plain("params.yaml", "run", str) if run is None else run)
    if as_json:
        print(json.dumps(status_json(found), indent=2))
        return
    width = shutil.get_terminal_size((80, 24)).columns
    print("\n".join(format_status(found, max(40, min(width, 100)))))


@app.command()
def verify(root: Path) -> None:
    """Compare the results of a run with its records; list changed, swapped and missing files."""
    from hpro_core.records import verify as compared

    n_files, problems = compared(root)
    print("\n".join(problems))
    if problems:
        raise HproError(f"{root}: {len(problems)} problems in {n_files} files, see above")
    print(f"{root}: {n_files} files match their records")
