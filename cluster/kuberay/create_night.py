"""Create the RayJob of a date: what nightly-cronjob.yaml runs.

    python create_night.py RAYJOB.yaml [DATE]

The date (today in UTC by default) becomes the name of the RayJob, and ``--as-of`` of its command,
where it stays the same for later attempts. So one date has one RayJob, however often this runs.
"""

import json
import os
import ssl
import sys
import urllib.error
import urllib.request
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import yaml

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TODAY = '"$(date -u +%F)"'
"""How the manifest asks for the date; replaced, so that a second attempt does not ask again."""


def night_of(manifest: dict[str, Any], day: date) -> dict[str, Any]:
    """The manifest with the date in its name and in its command."""
    entrypoint = manifest["spec"]["entrypoint"]
    if TODAY not in entrypoint:
        raise SystemExit(f"spec.entrypoint {entrypoint!r} lacks {TODAY}, the place of the date")
    metadata = {k: v for k, v in manifest["metadata"].items() if k not in ("name", "generateName")}
    metadata["name"] = f"lightsans-nightly-{day}"
    spec = {**manifest["spec"], "entrypoint": entrypoint.replace(TODAY, str(day))}
    return {**manifest, "metadata": metadata, "spec": spec}


def create(night: dict[str, Any], server: str, namespace: str, token: str, ca: str | None) -> str:
    """Hand the RayJob to the API server; what happened, in a line.

    Raises:
        SystemExit: The server refused it.
    """
    name = night["metadata"]["name"]
    request = urllib.request.Request(
        f"{server}/apis/ray.io/v1/namespaces/{namespace}/rayjobs",
        data=json.dumps(night).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    context = ssl.create_default_context(cafile=ca) if ca else None
    try:
        with urllib.request.urlopen(request, timeout=60, context=context):
            return f"created RayJob {name}"
    except urllib.error.HTTPError as error:
        if error.code == 409:
            return f"RayJob {name} exists already; left alone"
        reason = error.read().decode(errors="replace")
        raise SystemExit(f"RayJob {name} was refused (HTTP {error.code}): {reason}") from None


def main() -> None:
    """Read the manifest and the pod's own account, and create the RayJob."""
    path, *rest = sys.argv[1:]
    day = date.fromisoformat(rest[0]) if rest else datetime.now(UTC).date()
    night = night_of(yaml.safe_load(Path(path).read_text(encoding="utf-8")), day)
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    token, namespace = ((ACCOUNT / name).read_text().strip() for name in ("token", "namespace"))
    print(create(night, f"https://{host}:{port}", namespace, token, str(ACCOUNT / "ca.crt")))


if __name__ == "__main__":
    main()
