"""`ray up` over SSH: cluster/local.yaml is started, used, updated and torn down."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.hosts.cluster import ALIVE, VARIABLES, HostCluster, alive_in, bare_hosts, settings
from tests.hosts.host import PROJECT, Host
from tests.hosts.processes import Running, wait_for
from tests.nights import write_log

pytestmark = [pytest.mark.hosts, pytest.mark.timeout(600)]

SSHD = ["/usr/sbin/sshd", "-o", "UsePAM=no", "-o", "PermitRootLogin=yes", "-o", "UseDNS=no"]
ENVIRONMENT = [name for name in VARIABLES if name.startswith(("AWS_", "OMP_", "RAY_worker"))]
LOCAL = "http://localhost:8265"


@pytest.fixture(scope="module")
def bare(hosts_allowed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostCluster]:
    """Hosts without a Ray that a user of the host outside reaches through SSH."""
    log = tmp_path_factory.mktemp("log") / "log.csv"
    write_log(log)
    with bare_hosts(cpus=(1, 1, 1)) as made:
        made.put("log.csv", log.read_text())
        outside = made.outside
        outside.must("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/.ssh/id_ed25519")
        key = outside.read("/root/.ssh/id_ed25519.pub")
        for host in (made.head, *made.workers):
            host.write("/root/.ssh/authorized_keys", key)
            host.must("mkdir", "-p", "/run/sshd")
            host.must("ssh-keygen", "-A")
            host.must(*SSHD)
            host.must("touch", f"{PROJECT}/.venv/.installed")  # the environment is there
        outside.write("/root/.lightsans/token/auth_token", made.token)
        values = {name: VARIABLES[name] for name in ENVIRONMENT}
        text = "".join(f"{name}={value}\n" for name, value in values.items())
        outside.write("/root/.lightsans/environment", text)
        yield made
        launch(made, "down", check=False)


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


def launch(made: HostCluster, verb: str, *words: str, check: bool = True) -> str:
    """Run `ray up`, `ray down` or another command of the launcher on the host outside."""
    done = made.outside.run("ray", verb, "--yes", "cluster/mine.yaml", *words, limit_s=400)
    assert not check or done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    return done.stdout


def alive(made: HostCluster) -> int:
    done = made.head.run(
        "python", "-c", ALIVE, RAY_AUTH_TOKEN_PATH="/root/.lightsans/token/auth_token"
    )
    return alive_in(done.stdout)


def runs_ray(host: Host) -> bool:
    return host.run("pgrep", "-x", "raylet").returncode == 0


def dashboard(made: HostCluster) -> Running:
    """Reach the dashboard as the README says, through SSH."""
    tunnel = made.outside.popen("ray", "dashboard", "cluster/mine.yaml", limit_s=500)
    ask = ["python", "submit.py", "jobs", "--cluster", LOCAL]
    token = "/root/.lightsans/token/auth_token"
    answers = lambda: made.outside.run(*ask, RAY_AUTH_TOKEN_PATH=token).returncode == 0  # noqa: E731
    assert wait_for(answers, 60), tunnel.text()
    return tunnel


def run_pipeline(made: HostCluster, *overrides: str) -> dict[str, Any]:
    """The pipeline through the tunnel, over three hosts."""
    words = ["train.num_workers=3", "score.num_workers=3", "train.epochs=1", *overrides]
    command = ["python", "submit.py", "pipeline", *settings("up", *words), "--json"]
    token = "/root/.lightsans/token/auth_token"
    done = made.outside.run(*command, "--cluster", LOCAL, limit_s=400, RAY_AUTH_TOKEN_PATH=token)
    assert done.returncode == 0, done.stderr[-6000:]
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.fixture(scope="module")
def up(bare: HostCluster) -> HostCluster:
    """The rack after `ray up`, with all machines in the cluster."""
    config = configuration(bare)
    bare.outside.write(f"{PROJECT}/cluster/mine.yaml", yaml.safe_dump(config))
    launch(bare, "up")
    assert wait_for(lambda: alive(bare) == 4, 240), launch(bare, "monitor", check=False)
    return bare


def test_a_rack_is_used_through_a_tunnel(up):
    tunnel = dashboard(up)
    assert run_pipeline(up)["recommendations"]["users"] > 400
    tunnel.process.kill()


def test_an_update_reaches_every_machine(up):
    hosts = [up.head, *up.workers]
    up.outside.write(f"{PROJECT}/lightsans/updated.py", '"""Brought by an update."""\n')
    launch(up, "up")
    updated = ["test", "-e", f"{PROJECT}/lightsans/updated.py"]
    assert wait_for(lambda: all(host.run(*updated).returncode == 0 for host in hosts), 240)
    assert wait_for(lambda: alive(up) == 4, 240)


def test_a_rack_is_torn_down(up):
    """Ray stops the head alone; workers end by themselves when nobody answers there."""
    launch(up, "down")
    hosts = [up.head, *up.workers]
    assert wait_for(lambda: not any(map(runs_ray, hosts)), 180)
