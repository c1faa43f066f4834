"""Who may do what on a cluster: no secrets in files, least permissions, one RayJob a night."""

import copy
import http.server
import json
import re
import threading
from datetime import date
from typing import Any

import pytest

from cluster.kuberay import create_night
from pipelines.commands.options import read_config
from tests.cluster_files import CLUSTER, PODS, TEXTS, load, load_all

# ---- secrets and permissions ---------------------------------------------------------------------

SECRETS = {
    "an AWS access key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY",
    "a Google key file": r'"private_key(?:_id)?"\s*:',
    "a token of Ray, or a hash": r"\b[0-9a-f]{64}\b",
    "a GitHub token": r"\bgh[pousr]_[A-Za-z0-9]{30,}",
    "a value of a variable that should come from a secret": (
        r"(?i)(?:secret|password|token|access_key)[\w]*\s*[:=]\s*['\"]?[A-Za-z0-9+][A-Za-z0-9/+]{19,}"
    ),
}


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(CLUSTER)))
def test_no_file_holds_a_secret(path):
    text = path.read_text(encoding="utf-8")
    assert [what for what, pattern in SECRETS.items() if re.search(pattern, text)] == []


def test_the_search_for_secrets_would_find_one():
    fakes = {
        "an AWS access key": "AKIA" + "A" * 16,
        "a token of Ray, or a hash": "0123456789abcdef" * 4,
        "a value of a variable that should come from a secret": "AWS_SECRET_ACCESS_KEY: "
        + "x" * 40,
    }
    for what, fake in fakes.items():
        assert re.search(SECRETS[what], fake)


def test_environment_variables_of_pods_are_references():
    for pod in PODS.values():
        for container in pod["spec"]["containers"]:
            for variable in container.get("env", []):
                assert "value" not in variable
                assert "secretKeyRef" in variable["valueFrom"]


def test_the_storage_policy_reaches_one_prefix_of_one_bucket():
    statements = json.loads((CLUSTER / "iam/aws-storage.json").read_text())["Statement"]
    config = read_config(str(CLUSTER / "nightly.yaml"), None).config
    name, _, prefix = config.root.partition("://")[2].partition("/")  # whatever it was replaced by
    assert prefix == "lightsans"
    bucket = f"arn:aws:s3:::{name}"
    assert all(path.startswith(f"{config.root}/") for path in config.data.input)
    actions = {}
    for statement in statements:
        assert statement["Resource"] in {bucket, f"{bucket}/{prefix}/*"}
        named = statement["Action"]
        for action in [named] if isinstance(named, str) else named:
            assert "*" not in action
            actions[action] = statement
    assert actions["s3:ListBucket"]["Condition"] == {"StringLike": {"s3:prefix": f"{prefix}/*"}}
    assert actions["s3:AbortMultipartUpload"]["Resource"] == f"{bucket}/{prefix}/*"
    assert actions.keys() == {
        "s3:GetBucketLocation",
        "s3:ListBucket",
        "s3:GetObject",
        "s3:PutObject",
        "s3:DeleteObject",
        "s3:AbortMultipartUpload",
        "s3:ListMultipartUploadParts",
    }


def test_the_head_may_start_the_machines_of_aws_yaml_and_end_only_its_own():
    policy = json.loads((CLUSTER / "iam/aws-ray-head.json").read_text())
    statements = {statement["Sid"]: statement for statement in policy["Statement"]}
    config = load("aws.yaml")
    types = config["available_node_types"]
    started = statements["StartWorkersOfTheTwoGroups"]["Condition"]["StringEquals"]
    assert set(started["ec2:InstanceType"]) == {
        node["node_config"]["InstanceType"] for name, node in types.items() if name != "head"
    }
    assert started["aws:RequestTag/ray-cluster-name"] == config["cluster_name"]
    ended = statements["TagAndEndOwnMachinesOnly"]
    assert "ec2:TerminateInstances" in ended["Action"]
    assert ended["Condition"] == {
        "StringEquals": {"ec2:ResourceTag/ray-cluster-name": config["cluster_name"]}
    }
    passed = statements["GiveWorkersTheirRole"]["Resource"]
    profiles = {node["node_config"]["IamInstanceProfile"]["Name"] for node in types.values()}
    assert passed.endswith(":role/lightsans-worker")
    assert profiles == {"lightsans-head", "lightsans-worker"}


def test_the_cloud_trusts_the_service_accounts_that_pods_use():
    trust = (CLUSTER / "iam/aws-irsa-trust.json").read_text()
    script = (CLUSTER / "iam/gcp.sh").read_text()
    for account in ("lightsans-head", "lightsans-worker"):
        assert f"system:serviceaccount:lightsans:{account}" in trust
        assert account in script


def test_every_service_account_is_among_those_that_are_applied():
    made = {d["metadata"]["name"] for d in load_all("access.yaml") if d["kind"] == "ServiceAccount"}
    assert {pod["spec"]["serviceAccountName"] for pod in PODS.values()} == made


def test_the_nightly_account_may_create_ray_jobs_and_nothing_else():
    documents = {(d["kind"], d["metadata"]["name"]): d for d in load_all("access.yaml")}
    (rule,) = documents["Role", "lightsans-nightly"]["rules"]
    assert rule == {"apiGroups": ["ray.io"], "resources": ["rayjobs"], "verbs": ["create"]}
    binding = documents["RoleBinding", "lightsans-nightly"]
    assert binding["roleRef"]["name"] == "lightsans-nightly"
    assert [s["name"] for s in binding["subjects"]] == ["lightsans-nightly"]


# ---- who reaches whom ----------------------------------------------------------------------------


def policies():
    found = (d for d in load_all("access.yaml") if d["kind"] == "NetworkPolicy")
    return {document["metadata"]["name"]: document["spec"] for document in found}


@pytest.mark.parametrize("name", PODS, ids="{}-pod".format)
def test_pods_are_reached_by_each_other_alone(name):
    own = policies()["lightsans"]
    assert own["policyTypes"] == ["Ingress", "Egress"]
    labels = own["podSelector"]["matchLabels"]
    assert labels.items() <= PODS[name]["metadata"]["labels"].items()
    assert own["ingress"] == [{"from": [{"podSelector": {"matchLabels": labels}}]}]
    for rule in own["egress"]:  # everywhere on some ports, or to some places on all
        assert rule.get("ports") or rule.get("to")
        assert all(port["port"] in (53, 443, 6443) for port in rule.get("ports", []))
        for place in rule.get("to", []):
            is_link_local = place.get("ipBlock", {}).get("cidr", "").startswith("169.254.")
            assert is_link_local or place["podSelector"]["matchLabels"] == labels


def test_beside_them_the_operator_alone_reaches_the_head_and_one_port_of_it():
    (rule,) = policies()["lightsans-operator"]["ingress"]
    (peer,) = rule["from"]
    assert peer["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "kuberay-operator"}
    guide = (CLUSTER / "README.md").read_text(encoding="utf-8")
    namespace = peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
    assert f"--namespace {namespace} --create-namespace" in guide
    ports = PODS["head"]["spec"]["containers"][0]["ports"]
    assert {"protocol": "TCP", "port": 8265} in rule["ports"]
    assert 8265 in {port["containerPort"] for port in ports}
    assert len(rule["ports"]) == 1


# ---- creating a night ----------------------------------------------------------------------------


@pytest.fixture
def api_server():
    """A server that takes a RayJob of a name once, as Kubernetes does; and what it was sent."""
    received: list[dict[str, Any]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            names = [sent["body"]["metadata"]["name"] for sent in received]
            status = 409 if body["metadata"]["name"] in names else 201
            if self.headers["Authorization"] != "Bearer good":
                status = 403
            received.append({"path": self.path, "body": body})
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b'{"message": "because"}')

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", received
        server.shutdown()


def test_a_night_has_its_date_in_its_name_and_in_its_command():
    manifest = load("rayjob.yaml")
    before = copy.deepcopy(manifest)
    night = create_night.night_of(manifest, date(2026, 11, 23))
    assert manifest == before
    assert night["metadata"]["name"] == "lightsans-nightly-2026-11-23"
    assert "generateName" not in night["metadata"]
    assert night["spec"]["entrypoint"].endswith("--as-of 2026-11-23")
    assert night["spec"]["rayClusterSpec"] == manifest["spec"]["rayClusterSpec"]


def test_a_manifest_without_a_place_for_the_date_is_refused():
    manifest = load("rayjob.yaml")
    manifest["spec"]["entrypoint"] = "python submit.py nightly"
    with pytest.raises(SystemExit, match="lacks"):
        create_night.night_of(manifest, date(2026, 11, 23))


def test_the_same_night_is_created_once(api_server):
    url, received = api_server
    night = create_night.night_of(load("rayjob.yaml"), date(2026, 11, 23))
    first = create_night.create(night, url, "lightsans", "good", None)
    again = create_night.create(night, url, "lightsans", "good", None)
    assert first == "created RayJob lightsans-nightly-2026-11-23"
    assert "exists already" in again
    assert received[0]["path"] == "/apis/ray.io/v1/namespaces/lightsans/rayjobs"
    assert received[0]["body"] == night


def test_a_refusal_of_the_api_server_is_told_with_its_reason(api_server):
    url, _ = api_server
    night = create_night.night_of(load("rayjob.yaml"), date(2026, 11, 23))
    with pytest.raises(SystemExit, match=r"HTTP 403.*because"):
        create_night.create(night, url, "lightsans", "bad", None)
