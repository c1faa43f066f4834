"""Files that an operator applies, checked without a cloud: schemas, versions, names, sizes.

Not covered, because nothing here can: the rules (CEL) that KubeRay's definitions carry besides
their schemas, and whatever only a cloud's own servers know.
"""

import json
import re
import shlex
import subprocess
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import typer

from pipelines.commands.app import app
from pipelines.commands.options import read_config
from tests.cluster_files import (
    CLUSTER,
    LAUNCHER,
    LOCK,
    PODS,
    PROJECT,
    TEXTS,
    cluster_spec,
    load,
    load_all,
)
from tests.commands import ROOT

SCHEMAS = ROOT.parent / "shared" / "schemas"
KUBERNETES = "1.34"
"""A version that its makers still mend; its schemas, taken strictly, refuse unknown fields."""
KUBERAY = ["raycluster.yaml", "rayjob.yaml", "raycronjob.yaml"]
CORE = ["access.yaml", "nightly-cronjob.yaml"]
SCRIPTS = [path for path in TEXTS if path.suffix == ".sh"]
POLICIES = [path for path in TEXTS if path.suffix == ".json" and path.parent.name == "iam"]


# ---- ray up --------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=LAUNCHER)
def launched(request):
    """A file of `ray up` as Ray completes and accepts it."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(load(request.param))
    validate_config(prepared)
    return prepared


def test_the_launcher_accepts_the_file_and_adds_no_installation_of_its_own(launched):
    """Its defaults would install a development build of Ray over the image's."""
    for kind in ("setup", "head_setup", "worker_setup"):
        assert launched[f"{kind}_commands"] == []
    assert "pip install" not in json.dumps(launched)


def test_the_head_takes_no_work_and_workers_come_from_zero(launched):
    types = launched["available_node_types"]
    assert types["head"]["resources"] == {"CPU": 0}
    workers = {name: node for name, node in types.items() if name != "head"}
    assert {node["min_workers"] for node in workers.values()} == {0}
    assert sum(node["max_workers"] for node in workers.values()) == launched["max_workers"]
    assert all(node["idle_timeout_s"] for node in workers.values())


def test_only_gpu_workers_are_spot_machines(launched):
    for name, node in launched["available_node_types"].items():
        is_spot = "spot" in json.dumps(node["node_config"]) or "preemptible" in json.dumps(node)
        assert is_spot == (name == "gpu")
        assert ("GPU" in node["resources"]) == (name == "gpu")


def test_the_launched_cluster_asks_for_a_token_and_hides_its_dashboard(launched):
    assert "--env RAY_AUTH_MODE=token" in launched["docker"]["run_options"]
    (start,) = (line for line in launched["head_start_ray_commands"] if "ray start" in line)
    assert "--dashboard-host=127.0.0.1" in start
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in start


# ---- Kubernetes ----------------------------------------------------------------------------------


def strict(schema):
    """The schema with unknown fields refused: a cluster drops them without a word."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(value) for key, value in schema.items()}
    if isinstance(made.get("properties"), dict) and made.get("type") == "object":
        is_open = made.get("x-kubernetes-preserve-unknown-fields")
        made.setdefault("additionalProperties", bool(is_open))
    return made


@pytest.mark.parametrize("name", KUBERAY)
def test_kuberay_s_schemas_accept_the_manifest_and_no_field_that_they_do_not_know(name):
    manifest = load(name)
    path = SCHEMAS / f"{manifest['kind']}.v1.json"
    if not path.exists():
        pytest.skip(f"needs KubeRay's schema {path}")
    schema = strict(json.loads(path.read_text(encoding="utf-8")))
    # Any metadata is Kubernetes' own; the definition says no more than that it is an object.
    schema["properties"]["metadata"] = {"type": "object"}
    validator = jsonschema.Draft202012Validator(schema)
    assert [problem.message for problem in validator.iter_errors(manifest)] == []
    manifest["spec"]["colour"] = "red"
    assert "'colour' was unexpected" in next(validator.iter_errors(manifest)).message


@pytest.mark.parametrize("name", CORE)
def test_kubernetes_schemas_accept_the_manifest(name):
    for document in load_all(name):
        kubernetes_validate.validate(document, KUBERNETES, strict=True)


@pytest.mark.parametrize("name", PODS, ids="{}-pod".format)
def test_every_pod_is_one_that_kubernetes_knows(name):
    document = {"apiVersion": "v1", "kind": "PodTemplate", "template": PODS[name]}
    document["metadata"] = {"name": name}
    kubernetes_validate.validate(document, KUBERNETES, strict=True)


@pytest.mark.parametrize("name", PODS, ids="{}-pod".format)
def test_every_pod_meets_the_restricted_security_standard(name):
    spec = PODS[name]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in spec["containers"]:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("name", PODS, ids="{}-pod".format)
def test_no_container_writes_to_its_root_and_those_of_ray_have_a_place_for_files(name):
    for container in PODS[name]["spec"]["containers"]:
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert name == "nightly" or "/tmp" in mounts  # create_night.py writes nothing
    autoscaler = cluster_spec("rayjob.yaml")["autoscalerOptions"]["securityContext"]
    assert autoscaler == PODS["head"]["spec"]["containers"][0]["securityContext"]


@pytest.mark.parametrize("name", PODS, ids="{}-pod".format)
def test_every_container_gets_what_it_asks_for_and_no_more(name):
    for container in PODS[name]["spec"]["containers"]:
        resources = container["resources"]
        assert resources["requests"] == resources["limits"]


@pytest.mark.parametrize("name", PODS, ids="{}-pod".format)
def test_every_volume_is_mounted_and_every_mount_has_its_volume(name):
    spec = PODS[name]["spec"]
    volumes = {volume["name"] for volume in spec.get("volumes", [])}
    mounts = {
        mount["name"]
        for container in spec["containers"]
        for mount in container.get("volumeMounts", [])
    }
    assert mounts == volumes


def test_the_shared_memory_holds_ray_s_object_store():
    """Ray takes 30% of a container's memory for it."""
    for name in ("head", "cpu", "gpu"):
        spec = PODS[name]["spec"]
        memory = spec["containers"][0]["resources"]["limits"]["memory"]
        shm = next(volume for volume in spec["volumes"] if volume["name"] == "shm")
        assert int(shm["emptyDir"]["sizeLimit"][:-2]) >= 0.3 * int(memory[:-2])


def test_spilled_objects_fit_into_the_disk_that_a_pod_asks_for():
    for name in ("head", "cpu", "gpu"):
        spec = PODS[name]["spec"]
        disk = spec["containers"][0]["resources"]["limits"]["ephemeral-storage"]
        spill = next(volume for volume in spec["volumes"] if volume["name"] == "spill")
        files = next(volume for volume in spec["volumes"] if volume["name"] == "tmp")
        sizes = [int(volume["emptyDir"]["sizeLimit"][:-2]) for volume in (spill, files)]
        assert sum(sizes) < int(disk[:-2])


def test_the_disruption_budget_selects_the_head_and_no_worker():
    (budget,) = (d for d in load_all("access.yaml") if d["kind"] == "PodDisruptionBudget")
    wanted = dict(budget["spec"]["selector"]["matchLabels"])
    assert wanted.pop("ray.io/node-type") == "head"
    assert wanted.items() <= PODS["head"]["metadata"]["labels"].items()


def test_the_three_kuberay_manifests_start_the_same_cluster():
    assert cluster_spec("rayjob.yaml") == cluster_spec("raycluster.yaml")
    assert load("raycronjob.yaml")["spec"]["jobTemplate"] == load("rayjob.yaml")["spec"]


def test_both_ways_to_schedule_a_night_agree_on_the_hour():
    core, alpha = load("nightly-cronjob.yaml")["spec"], load("raycronjob.yaml")["spec"]
    assert (core["schedule"], core["timeZone"]) == (alpha["schedule"], alpha["timeZone"])


def test_kuberay_s_autoscaler_starts_from_zero_and_asks_for_a_token():
    spec = cluster_spec("raycluster.yaml")
    assert spec["enableInTreeAutoscaling"] is True
    assert spec["autoscalerOptions"]["version"] == "v2"
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert {group["minReplicas"] for group in spec["workerGroupSpecs"]} == {0}
    for name in ("head", "cpu", "gpu"):  # what autoscaler v2 insists on
        assert PODS[name]["spec"]["restartPolicy"] == "Never"


def test_all_attempts_of_a_night_end_before_the_next_one():
    spec = load("rayjob.yaml")["spec"]
    assert (spec["backoffLimit"] + 1) * spec["activeDeadlineSeconds"] < 24 * 3600
    assert spec["shutdownAfterJobFinishes"] is True
    assert "entrypointNumCpus" not in spec  # the head has none: the job would wait for ever


# ---- what the clusters offer, and what a night asks for ------------------------------------------


def offered(name):
    """CPUs and GPUs of all workers of a cluster when it is fully grown."""
    if name in LAUNCHER:
        nodes = load(name)["available_node_types"].values()
        workers = [(node.get("max_workers", 0), node["resources"]) for node in nodes]
        names = ("CPU", "GPU")
    else:
        groups = cluster_spec(name)["workerGroupSpecs"]
        workers = [
            (g["maxReplicas"], g["template"]["spec"]["containers"][0]["resources"]["limits"])
            for g in groups
        ]
        names = ("cpu", "nvidia.com/gpu")
    return tuple(sum(count * int(r.get(kind, 0)) for count, r in workers) for kind in names)


@pytest.mark.parametrize("name", [*LAUNCHER, "raycluster.yaml"])
def test_the_profile_expects_no_more_than_the_cluster_may_grow_to(name):
    config = read_config(str(CLUSTER / "nightly.yaml"), None).config
    assert config.profile == "autoscaling"
    cpus, gpus = offered(name)
    assert config.resources.max_cpus is not None
    assert config.resources.max_gpus is not None
    assert config.resources.max_cpus <= cpus
    assert config.resources.max_gpus == gpus
    assert config.train.num_workers <= gpus
    assert config.score.num_workers <= gpus


# ---- commands, files and versions ----------------------------------------------------------------


def test_every_file_is_of_a_kind_that_is_checked_here_or_in_the_neighbouring_tests():
    """A new file needs a test, and its name here."""
    kuberay = {f"kuberay/{name}" for name in [*KUBERAY, *CORE]}
    image = {
        "Dockerfile",
        "Dockerfile.dockerignore",
        "requirements-aws.txt",
        "requirements-gcp.txt",
    }
    other = {"README.md", "nightly.yaml", "kuberay/create_night.py"}
    other |= {"alerts.yaml", "dashboard.json"}  # test_alerts.py
    other |= {"local.yaml", "local.profile", "faults.jsonl"}  # test_cluster_local.py
    found = {str(path.relative_to(CLUSTER)) for path in TEXTS}
    by_suffix = {str(path.relative_to(CLUSTER)) for path in [*SCRIPTS, *POLICIES]}
    assert found == kuberay | image | other | {*LAUNCHER} | by_suffix


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_shell_scripts_can_be_parsed_and_started(path):
    assert path.stat().st_mode & 0o111
    assert subprocess.run(["bash", "-n", path], capture_output=True, text=True).stderr == ""


def test_every_command_of_the_readme_can_be_parsed():
    readme = (CLUSTER / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", readme, flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 6
    done = subprocess.run(
        ["bash", "-n"], input="\n".join(blocks), capture_output=True, text=True, timeout=30
    )
    assert done.stderr == ""


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.name)
def test_policies_have_the_form_that_aws_asks_for(path):
    policy = json.loads(path.read_text(encoding="utf-8"))
    assert policy.keys() == {"Version", "Statement"}
    assert policy["Version"] == "2012-10-17"
    for statement in policy["Statement"]:
        who_or_what = "Principal" if path.name.endswith("-trust.json") else "Resource"
        assert {"Effect", "Action", who_or_what} <= statement.keys()
        assert statement.keys() <= {"Sid", "Effect", "Action", "Condition", who_or_what}
        assert statement["Effect"] == "Allow"


def submit_commands():
    """Every call of submit.py in a manifest or README, as a list of words."""
    for path in TEXTS:
        for line in path.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
            for call in re.findall(r"python (?:/opt/lightsans/)?submit\.py ([^#`\n]*)", line):
                yield path.name, shlex.split(call)


def test_every_command_line_names_a_command_and_a_configuration_that_exist():
    calls = list(submit_commands())
    assert {"rayjob.yaml", "README.md"} <= {name for name, _ in calls}
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name, words in calls:
        assert words[0] in commands, f"{name}: submit.py {words[0]}"
        if "--config" in words:
            config = words[words.index("--config") + 1]
            # Pods find nightly.yaml where the ConfigMap is mounted.
            path = CLUSTER / "nightly.yaml" if config.startswith("/etc/lightsans/") else None
            assert (path or ROOT / config).exists(), f"{name}: {config}"


def test_the_mounted_configuration_comes_from_the_config_map_that_the_readme_makes():
    readme = (CLUSTER / "README.md").read_text(encoding="utf-8")
    keys = set(re.findall(r"--from-file=(?:(\S+)=)?(\S+)", readme))
    files = {(key or Path(path).name): path for key, path in keys}
    mounted = set(re.findall(r"/etc/lightsans/([\w.-]+)", "".join(p.read_text() for p in TEXTS)))
    assert mounted <= files.keys()
    assert all((ROOT / path).exists() for path in files.values())
    for name, pod in PODS.items():
        for volume in pod["spec"].get("volumes", []):
            if "configMap" in volume:
                assert volume["configMap"]["name"] == "lightsans", name


def test_every_path_below_opt_lightsans_is_in_the_image():
    dockerfile = (CLUSTER / "Dockerfile").read_text(encoding="utf-8")
    copied = " ".join(re.findall(r"^COPY (.*) \S+$", dockerfile, flags=re.MULTILINE)).split()
    for path in TEXTS:
        for name in re.findall(r"/opt/lightsans/([\w./-]+\w)", path.read_text(encoding="utf-8")):
            assert (ROOT / name).exists(), f"{path.name}: {name}"
            assert name in copied, f"{path.name}: {name} is not copied into the image"


def test_ray_and_our_own_version_agree_everywhere():
    version = PROJECT["project"]["version"]
    for name in KUBERAY:
        assert str(cluster_spec(name)["rayVersion"]) == LOCK["ray"]
    tags = {
        tag
        for path in TEXTS
        for tag in re.findall(r"/?lightsans:([\w.]+-(?:cpu|gpu))\b", path.read_text("utf-8"))
    }
    assert tags == {f"{version}-cpu", f"{version}-gpu"}


def test_gpu_workers_run_the_gpu_image_and_all_others_the_cpu_image():
    for name, pod in PODS.items():
        for container in pod["spec"]["containers"]:
            assert container["image"].endswith("-gpu" if name == "gpu" else "-cpu")


def test_python_in_the_image_is_the_one_that_the_lock_was_made_for():
    dockerfile = (CLUSTER / "Dockerfile").read_text(encoding="utf-8")
    (version,) = re.findall(r"^ARG PYTHON_VERSION=([\d.]+)$", dockerfile, flags=re.MULTILINE)
    assert version == PROJECT["tool"]["mypy"]["python_version"]


def test_what_the_readme_and_the_comments_name_exists():
    for path in TEXTS:
        text = path.read_text(encoding="utf-8")
        for name in re.findall(r"\b((?:cluster|pipelines|docs)/[\w./-]+\.\w+)", text):
            assert (ROOT / name).exists(), f"{path.name} names {name}"
        for name in re.findall(r"\b((?:iam|kuberay)/[\w-]+\.\w+)", text):
            assert (CLUSTER / name).exists(), f"{path.name} names {name}"
