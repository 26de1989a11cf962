"""A real Slurm on this machine: munged, slurmctld and a slurmd for each node, all below one temporary folder.

Two nodes train; two more have GPUs in name only, to see what the scripts make of those.
Nothing of the machine's own configuration is read or written: SLURM_CONF names the file made here, munge has a key and
a socket of its own, and ports are free ones. Stopping it ends every process that it started, jobs first.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAMS = ("munged", "mungekey", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue", "scancel")
CONFIGURATION = """\
ClusterName=two
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={munge}/socket
CredType=cred/munge
StateSaveLocation={at}/state
SlurmdSpoolDir={at}/spool-%n
SlurmctldPidFile={at}/slurmctld.pid
SlurmdPidFile={at}/slurmd-%n.pid
SlurmctldLogFile={at}/slurmctld.log
SlurmdLogFile={at}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
MinJobAge=3600
KillWait=20
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2
NodeName=n3 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[3]} CPUs=2 Gres=gpu:2
NodeName=n4 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[4]} CPUs=2 Gres=gpu:2
PartitionName=usual Nodes=n1,n2 Default=YES MaxTime=INFINITE DefaultTime=30 PriorityTier=1 State=UP
PartitionName=urgent Nodes=n1,n2 MaxTime=INFINITE DefaultTime=30 PriorityTier=9 State=UP
PartitionName=cards Nodes=n3,n4 MaxTime=INFINITE DefaultTime=30 PriorityTier=1 State=UP
"""


@dataclass(frozen=True)
class Cluster:
    """A running Slurm: its folder and the environment in which commands reach it."""

    at: Path
    environment: Mapping[str, str]

    def ask(self, *command: str, **variables: str) -> str:
        """Run a command against this Slurm; returns what it printed. A failing one is an error with its words."""
        done = subprocess.run(
            command, cwd=ROOT, env={**self.environment, **variables}, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, f"{' '.join(command)} -> {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def submit(self, *arguments: str, **variables: str) -> int:
        """`sbatch` from the repository's root; returns the job's number. Its words go to `logs`."""
        log = f"--output={self.at}/logs/%A_%a.out"
        return int(self.ask("sbatch", "--parsable", log, *arguments, **variables).strip().split(";")[0])

    def job(self, number: int) -> dict[str, str]:
        """What the controller knows of a job, or of an array's first record."""
        return self.jobs(number)[0]

    def jobs(self, number: int) -> list[dict[str, str]]:
        """What the controller knows of every task of an array."""
        lines = self.ask("scontrol", "show", "job", "-o", str(number)).strip().splitlines()
        return [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in lines]

    def wait(self, number: int, states: Sequence[str] = ("COMPLETED",), *, seconds: float = 300.0) -> None:
        """Wait until every task of a job is in one of `states`; any other end is an error that shows the logs."""
        until = time.monotonic() + seconds
        ends = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED"}
        while True:
            found = [job["JobState"] for job in self.jobs(number)]
            if all(state in states for state in found):
                return
            wrong = [state for state in found if state in ends and state not in states]
            assert not wrong and time.monotonic() < until, f"job {number} is {found}, not {states}\n{self.words()}"
            time.sleep(0.2)

    def words(self) -> str:
        """The ends of all job logs and of Slurm's own, for a message."""
        files = [*sorted(self.at.glob("*.log")), *sorted((self.at / "logs").glob("*"))]
        return "\n".join(f"--- {file.name}\n{file.read_text(errors='replace')[-800:]}" for file in files)


def missing() -> str:
    """Why there can be no Slurm here; empty where there can."""
    absent = [program for program in PROGRAMS if shutil.which(program, path=_path()) is None]
    if absent:
        return f"needs Slurm: {', '.join(absent)} not found (apt-get install slurm-wlm munge)"
    return "" if os.geteuid() == 0 else "needs root: slurmd starts jobs as their owners"


@contextlib.contextmanager
def started(at: Path, environment: Mapping[str, str]) -> Iterator[Cluster]:
    """Boot the nodes under `at`; everything is stopped afterwards."""
    munge = at / "munge"
    for folder in (at, munge, at / "state", at / "logs"):
        folder.mkdir(exist_ok=True, mode=0o700)
    conf = at / "slurm.conf"
    conf.write_text(CONFIGURATION.format(host=socket.gethostname(), ports=_free_ports(5), at=at, munge=munge))
    (at / "gres.conf").write_text(f"AutoDetect=off\nNodeName=n[3-4] Name=gpu File={at}/nvidia[0-1]\n")
    for number in (0, 1):
        (at / f"nvidia{number}").touch()
    known = {**environment, "SLURM_CONF": str(conf), "PATH": _path()}
    cluster = Cluster(at, {name: value for name, value in known.items() if not name.startswith("SBATCH_")})
    going: list[subprocess.Popen[bytes]] = []
    try:
        subprocess.run(["mungekey", "--create", f"--keyfile={munge}/key"], env=known, check=True)
        for command in _daemons(munge):
            going.append(_start(command, at, known))
        _await_nodes(cluster)
        yield cluster
    finally:
        _stop(cluster, going)


def _daemons(munge: Path) -> Iterator[list[str]]:
    places = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    yield ["munged", "--foreground", "--force", *(f"--{option}={munge}/{name}" for option, name in places.items())]
    yield ["slurmctld", "-D"]
    for name in ("n1", "n2", "n3", "n4"):
        yield ["slurmd", "-D", "-N", name]


def _start(command: list[str], at: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    with (at / f"{'-'.join([command[0], *command[3:]])[:20].replace('/', '_')}.words").open("wb") as words:
        process = subprocess.Popen(
            command, env=dict(environment), stdout=words, stderr=words, stdin=subprocess.DEVNULL, start_new_session=True
        )
    if command[0] == "munged":
        _until(lambda: (at / "munge" / "socket").exists(), 10, "munged made no socket")
    return process


def _await_nodes(cluster: Cluster) -> None:
    def idle() -> bool:
        with contextlib.suppress(AssertionError):
            return len(set(cluster.ask("sinfo", "-h", "-N", "-t", "idle", "-o", "%N").split())) == 4
        return False

    _until(idle, 30, "the nodes did not become idle", cluster)


def _until(holds, seconds: float, otherwise: str, cluster: Cluster | None = None) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, f"{otherwise}\n{cluster.words() if cluster else ''}"
        time.sleep(0.1)


def _stop(cluster: Cluster, going: list[subprocess.Popen[bytes]]) -> None:
    """Cancel what still runs, then end the daemons in reverse order, each by its own process."""
    with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
        cluster.ask("scancel", "--user=root", "--signal=KILL", "--full")
        cluster.ask("scancel", "--user=root")
        _until(lambda: not cluster.ask("squeue", "-h", "-t", "running,completing").strip(), 15, "jobs go on")
    for process in reversed(going):
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _path() -> str:
    """Daemons lie in sbin, which a user's PATH may lack."""
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
