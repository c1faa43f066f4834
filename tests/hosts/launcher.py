"""Ray's launcher on the host outside, and hosts that let it in through SSH."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.hosts.cluster import ALIVE, VARIABLES, HostCluster, alive_in, bare_hosts, settings
from tests.hosts.host import PROJECT, Host
from tests.hosts.processes import Running, wait_for

SSHD = ["/usr/sbin/sshd", "-o", "UsePAM=no", "-o", "PermitRootLogin=yes", "-o", "UseDNS=no"]
ENVIRONMENT = [name for name in VARIABLES if name.startswith(("AWS_", "OMP_", "RAY_worker"))]
LOCAL = "http://localhost:8265"
TOKEN_PATH = "/root/.lightsans/token/auth_token"


@contextmanager
def ssh_hosts(log: Path) -> Iterator[HostCluster]:
    """Hosts without a Ray that a user of the host outside reaches through SSH, and their log."""
    with bare_hosts(cpus=(1, 1, 1)) as made:
        made.put("log.csv", log.read_text())
        outside = made.outside
        outside.must("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/.ssh/id_ed25519")
        for host in (made.head, *made.workers):
            serve_ssh(made, host)
        outside.write(TOKEN_PATH, made.token)
        values = {name: VARIABLES[name] for name in ENVIRONMENT}
        text = "".join(f"{name}={value}\n" for name, value in values.items())
        outside.write("/root/.lightsans/environment", text)
        yield made
        launch(made, "down", check=False)


def serve_ssh(made: HostCluster, host: Host) -> None:
    """Let the user in, on a machine that has the project's environment already."""
    host.write("/root/.ssh/authorized_keys", made.outside.read("/root/.ssh/id_ed25519.pub"))
    host.must("mkdir", "-p", "/run/sshd")
    host.must("ssh-keygen", "-A")
    host.must(*SSHD)
    host.must("touch", f"{PROJECT}/.venv/.installed")


def configuration(made: HostCluster) -> dict[str, Any]:
    """The file as somebody fills it in; the project lies elsewhere here, and Rays are small."""
    addresses = ", ".join(worker.address for worker in made.workers)
    text = made.outside.read(f"{PROJECT}/cluster/local.yaml")
    for placeholder, value in [
        ("192.0.2.10", made.head.address),
        ("192.0.2.11, 192.0.2.12, 192.0.2.13", addresses),
        ("ssh_user: lightsans", "ssh_user: root"),
        ("/srv/lightsans", str(PROJECT)),
    ]:
        assert placeholder in text
        text = text.replace(placeholder, value)
    made.outside.must(
        "sed", "-i", f"s|/srv/lightsans|{PROJECT}|", f"{PROJECT}/cluster/local.profile"
    )
    config: dict[str, Any] = yaml.safe_load(text)
    for kind, cpus in (("head", ""), ("worker", " --num-cpus=1")):
        config[f"{kind}_start_ray_commands"][-1] += f" --object-store-memory=200000000{cpus}"
    return config


def keep(made: HostCluster, config: dict[str, Any]) -> None:
    """Write the file that `launch` takes."""
    made.outside.write(f"{PROJECT}/cluster/mine.yaml", yaml.safe_dump(config))


def launch(made: HostCluster, verb: str, *words: str, check: bool = True) -> str:
    """Run `ray up`, `ray down` or another command of the launcher on the host outside."""
    yes = ["--yes"] if verb in ("up", "down") else []
    command = ["ray", verb, *yes, "cluster/mine.yaml", *words]
    done = made.outside.run(*command, limit_s=400, PYTHONPATH=str(PROJECT))
    assert not check or done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    return done.stdout


def alive(made: HostCluster) -> int:
    """Number of hosts in the cluster that live."""
    done = made.head.run("python", "-c", ALIVE, RAY_AUTH_TOKEN_PATH=TOKEN_PATH)
    return alive_in(done.stdout)


def runs_ray(host: Host) -> bool:
    """Whether a Ray runs on a host."""
    return host.run("pgrep", "-x", "raylet").returncode == 0


@contextmanager
def dashboard(made: HostCluster) -> Iterator[None]:
    """Reach the dashboard as the README says, through SSH."""
    command = ["ray", "dashboard", "cluster/mine.yaml"]
    tunnel = made.outside.popen(*command, limit_s=500, changes={"PYTHONPATH": str(PROJECT)})
    ask = ["python", "submit.py", "jobs", "--cluster", LOCAL]
    answers = lambda: made.outside.run(*ask, RAY_AUTH_TOKEN_PATH=TOKEN_PATH).returncode == 0  # noqa: E731
    assert wait_for(answers, 60), tunnel.text()
    yield
    tunnel.process.kill()


def start_pipeline(made: HostCluster, root: str, *overrides: str) -> Running:
    """Start the pipeline through the tunnel, over three hosts."""
    words = ["train.num_workers=3", "score.num_workers=3", "train.epochs=1", *overrides]
    command = ["python", "submit.py", "pipeline", *settings(root, *words), "--json"]
    command += ["--cluster", LOCAL]
    changes = {"RAY_AUTH_TOKEN_PATH": TOKEN_PATH}
    return made.outside.popen(*command, limit_s=400, changes=changes)


def result_of(job: Running) -> dict[str, Any]:
    """Result of a command that must succeed."""
    assert job.wait() == 0, job.text()[-6000:]
    [line] = [line for line in job.text().splitlines() if line.startswith('{"')]
    result: dict[str, Any] = json.loads(line)
    return result
