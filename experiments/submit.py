"""A study as a chain of Slurm jobs: train -> evaluate -> spectra -> collect, each waiting for the one before.

    cpt_lora[0-2] --afterok--> eval[0-2] --\\
    cpt_full[0]   --afterok--> eval[0]   ---+--> spectra --> study (collect, analyse, draw)

Arrays have one task for each grid point of the scale and seeds asked for. What a site wants to be told comes from
slurm/env.sh, read by the shell that calls sbatch; nothing that a user types becomes shell text.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments import grid, sides, studies
from experiments.options import positive
from replication.config import CPT, Run
from replication.scale import Scale

HELP = "submit a study to Slurm as a chain of jobs: train, evaluate, spectra, collect"
SITE = Path("slurm/env.sh")
METHODS: tuple[grid.Method, ...] = ("lora", "full")


@dataclass(frozen=True)
class Job:
    """One sbatch call: its label in the chain, the script, tasks (0: no array), variables, and whom it waits for."""

    label: str
    script: str
    tasks: int
    variables: tuple[tuple[str, str], ...]
    after: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def command(self, numbers: Mapping[str, str]) -> list[str]:
        """The sbatch command, with the job numbers of those it waits for."""
        exported = ",".join(["ALL", *(f"{name}={value}" for name, value in self.variables)])
        words = ["sbatch", "--parsable", f"--job-name={self.label}", f"--export={exported}", *self.options]
        if self.tasks:
            words.append(f"--array=0-{self.tasks - 1}")
        if self.after:
            # A job whose predecessor failed would wait for ever.
            waits = ":".join(numbers[label] for label in self.after)
            words += [f"--dependency=afterok:{waits}", "--kill-on-invalid-dep=yes"]
        return [*words, f"slurm/{self.script}.sh"]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("study", help="a name that `list` prints; a setting submits that setting's jobs alone")
    parser.add_argument("--dry-run", action="store_true", help="print the commands as a shell script; submit nothing")
    parser.add_argument("--nodes", type=positive, help="nodes of each training job (default: the scripts' own)")


def run(options: argparse.Namespace, scale: Scale) -> int:
    """Submit the chain, or print it; exit status 0."""
    chain = jobs(options, scale)
    if options.dry_run:
        print(f"set -e; . {SITE}")
        for job in chain:
            print(spoken(job))
        return 0
    if shutil.which("sbatch") is None:
        raise ValueError("sbatch is not here: submit from a login node of a Slurm cluster, or see --dry-run")
    if not SITE.is_file():
        raise FileNotFoundError(f"{SITE} is not here: submit from the root of the repository")
    numbers: dict[str, str] = {}
    for job in chain:
        command = job.command(numbers)
        numbers[job.label] = _submit(command, numbers)
        print(f"{numbers[job.label]:>9s}  {shlex.join(command)}", flush=True)
    return 0


def jobs(options: argparse.Namespace, scale: Scale) -> list[Job]:
    """The chain of a study, each job after those it waits for.

    Raises:
        ValueError: no such study, or a value that sbatch could not pass on.
    """
    if scale.side:
        size = sides.size_of(scale) or options.scale
        raise ValueError(
            f"{scale.side} is a side study, one job for everything: `SCALE={size} sbatch slurm/study.sh {scale.side}`"
        )
    shared = {"SCALE": options.scale, "SEEDS": str(options.seeds), "RUNS": str(options.runs)}
    for name, value in shared.items():
        if "," in value:
            raise ValueError(f"{name}={value!r}: sbatch --export takes no value with a comma")
    nodes = (f"--nodes={options.nodes}",) if options.nodes else ()
    trained, scored = [], []
    for name, runs in _parts(options.study, scale, options.seeds).items():
        regime = "cpt" if isinstance(runs[0].task, CPT) else "ift"
        for method in METHODS:
            size = len(grid.points(runs, method))
            if not size:
                continue
            variables = tuple({**shared, "SETTING": name, "METHOD": method}.items())
            train = Job(f"{name}_{method}", f"{regime}_{method}", size, variables, options=nodes)
            trained.append(train)
            scored.append(Job(f"{train.label}_eval", "eval", size, variables, after=(train.label,)))
    base = tuple(shared.items())
    spectra = Job("spectra", "spectra", 0, base, after=tuple(job.label for job in scored))
    return [*trained, *scored, spectra, Job("study", "study", 0, base, after=("spectra",))]


def spoken(job: Job) -> str:
    """A job as a line of shell that keeps its number in a variable, for those that wait for it."""
    # Labels are names of settings and methods; what is left of a variable's name after this is safe in a shell.
    variable = {label: "".join(c if c.isalnum() else "_" for c in label) for label in (job.label, *job.after)}
    words = job.command({label: f"${{{name}}}" for label, name in variable.items()})
    # The dependency holds variables and nothing else; all other words are quoted.
    text = " ".join(word if word.startswith("--dependency=") else shlex.quote(word) for word in words)
    return f"{variable[job.label]}=$({text})"


def _parts(study: str, scale: Scale, seeds: int) -> dict[str, list[Run]]:
    """The studies that are submitted one by one: every setting for the whole study, else the study itself."""
    names = [name for name, _ in scale.settings] if study == studies.MAIN else [study]
    if not names:
        studies.runs(study, scale, seeds=seeds)
    return {name: studies.runs(name, scale, seeds=seeds) for name in names}


def _submit(command: Sequence[str], numbers: Mapping[str, str]) -> str:
    """Call sbatch in a shell that has read the site's settings; returns the job's number.

    Raises:
        RuntimeError: sbatch refused; the message tells how to take back what is submitted already.
    """
    done = subprocess.run(
        ["bash", "-c", f'. {SITE}; exec "$@"', "_", *command], capture_output=True, text=True, check=False
    )
    if done.returncode:
        undo = f"; take back the others with: scancel {' '.join(numbers.values())}" if numbers else ""
        raise RuntimeError(f"{shlex.join(command)}: {done.stderr.strip() or done.stdout.strip()}{undo}")
    return done.stdout.strip().split(";")[0]
