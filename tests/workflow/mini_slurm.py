"""A SLURM on loopback: real daemons, two nodes whose GPUs are only counted, no database.

It needs no systemd, no cgroups and no rights beyond those of who starts it, and touches nothing in
/etc: configuration, key, sockets and logs are in one folder. Memory limits are enforced by polling.
Two partitions share the nodes: jobs of `main` preempt those of `spare`, which are requeued. Each
node has as many CPUs as the machine: more jobs run at a time than it has.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch")
NODES = ("n1", "n2")
GPUS = 2
"""Of each node."""
SHARE_OF_MEMORY = 0.9
PATIENCE_S = 20.0

CONFIGURATION = """
ClusterName=mini
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={port}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
AuthType=auth/munge
AuthInfo=socket={folder}/run/munge.socket
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=0,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/log/jobcomp.log
MinJobAge=3600
EnforcePartLimits=ALL
KillWait=5
PartitionName=main Nodes={nodes} Default=YES PriorityTier=2 PreemptMode=OFF MaxTime=2-00:00:00 DefMemPerCPU=512 State=UP
PartitionName=spare Nodes={nodes} Default=NO PriorityTier=1 PreemptMode=REQUEUE MaxTime=2-00:00:00 DefMemPerCPU=512 State=UP
"""  # noqa: E501 - one line each in slurm.conf
NODE = (
    "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus}"
    " RealMemory={memory_mb} Gres=gpu:fake:{gpus} State=UNKNOWN\n"
)


def missing() -> list[str]:
    """The programs that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]


def _path() -> str:
    return os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])


class MiniSlurm:
    """A running SLURM; `environment` is what its clients need."""

    def __init__(self, folder: Path):
        """
        Args:
            folder: for everything; its path must be short (a socket has at most 107 bytes).
        """
        self.folder = folder
        self.host = socket.gethostname().split(".")[0]
        self._configuration = folder / "etc/slurm.conf"
        path = os.pathsep.join([str(folder / "bin"), _path()])
        self.environment = {"SLURM_CONF": str(self._configuration), "PATH": path}

    def start(self) -> None:
        """Start the daemons and wait until the nodes can take jobs.

        Raises:
            RuntimeError: they did not become idle; the message has the ends of the logs.
        """
        for name in (".", "etc", "state", "spool", "log", "run", "dev", "bin"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
            (self.folder / name).chmod(0o755)  # munged wants others to reach its socket
        self._write_configuration()
        munge = [f"--{kind}-file={self.folder}/{path}" for kind, path in (
            ("key", "etc/munge.key"), ("pid", "run/munged.pid"),
            ("log", "log/munged.log"), ("seed", "state/munged.seed"))]  # fmt: skip
        self.do("munged", *munge, f"--socket={self.folder}/run/munge.socket", "--num-threads=2")
        self.do("slurmctld", "-f", str(self._configuration), "-c")
        for name in NODES:
            self.do("slurmd", "-f", str(self._configuration), "-N", name)
        deadline = time.monotonic() + PATIENCE_S
        while (state := self._states()) != {"idle"}:
            if time.monotonic() > deadline:
                logs = [path.read_text()[-2000:] for path in (self.folder / "log").glob("*.log")]
                raise RuntimeError("\n".join([f"the nodes are {state}", *logs]))
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop the daemons."""
        for name in (*(f"slurmd-{node}" for node in NODES), "slurmctld", "munged"):
            file = self.folder / "run" / f"{name}.pid"
            if not file.is_file() or not (text := file.read_text().strip()):
                continue
            for kind in (signal.SIGTERM, signal.SIGKILL):
                if _gone(int(text), kind):
                    break

    def jobs(self) -> list[dict[str, str]]:
        """Every job since the start, as `scontrol show jobs` has them."""
        found = []
        for line in self.do("scontrol", "--oneliner", "show", "jobs").splitlines():
            fields = dict(part.split("=", 1) for part in line.split() if "=" in part)
            if "JobId" in fields:
                found.append(fields)
        return found

    def do(self, *command: str) -> str:
        """Run one of its clients; returns what it says."""
        environment: Mapping[str, str] = {**os.environ, **self.environment}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=True
        )
        return done.stdout

    def _states(self) -> set[str]:
        try:
            return set(self.do("sinfo", "--noheader", "--Node", "--format=%T").split())
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            return set()

    def _write_configuration(self) -> None:
        key = self.folder / "etc/munge.key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))
        gpus, devices = len(NODES) * GPUS, self.folder / "dev/gpu"
        size = {"cpus": os.cpu_count(), "memory_mb": _memory_mb() // len(NODES), "gpus": GPUS}
        general = CONFIGURATION.format(
            folder=self.folder,
            host=self.host,
            user=_user(),
            port=_free_port(),
            nodes=",".join(NODES),
        )
        nodes = (
            NODE.format(name=name, host=self.host, port=_free_port(), **size) for name in NODES
        )
        at = general.index("PartitionName=")
        self._configuration.write_text(general[:at] + "".join(nodes) + general[at:])
        # SLURM wants a file for each GPU: a copy of /dev/null where that is allowed, else any.
        for index in range(gpus):
            try:
                os.mknod(f"{devices}{index}", 0o20666, os.makedev(1, 3))
            except PermissionError:
                Path(f"{devices}{index}").touch()
        (self.folder / "etc/gres.conf").write_text(
            "".join(
                f"NodeName={name} Name=gpu Type=fake File={devices}[{first}-{first + GPUS - 1}]\n"
                for name, first in zip(NODES, range(0, gpus, GPUS), strict=True)
            )
        )
        # The plugin's job step takes SLURM_CONF out of the environment. A cluster has its
        # configuration in /etc; here the programs are told again.
        for name in ("srun", "squeue", "scontrol"):
            client = self.folder / "bin" / name
            where = shutil.which(name)
            client.write_text(f'#!/bin/sh\nSLURM_CONF={self._configuration} exec {where} "$@"\n')
            client.chmod(0o755)


def _gone(pid: int, kind: int) -> bool:
    """Whether a process ends within two seconds of a signal."""
    for attempt in range(20):
        try:
            os.kill(pid, kind if attempt == 0 else 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def _user() -> str:
    return subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _memory_mb() -> int:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return int(SHARE_OF_MEMORY * pages / 2**20)
