"""Objects of the storage of hosts, put and looked at by tests; runs on a host.

python -m tests.hosts.s3_files ENDPOINT ready|put|get|list|remove|rows|fill|copy|watch [KEY]
"""

import hashlib
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import botocore.config
import botocore.session
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tests.s3_server import BUCKET


def objects(client: Any, prefix: str) -> dict[str, list[Any]]:
    """Size and entity tag of every object below a prefix."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
    found = [item for page in pages for item in page.get("Contents", [])]
    return {item["Key"]: [item["Size"], item["ETag"]] for item in found}


def rows(client: Any, prefix: str) -> dict[str, Any]:
    """Digest of all lists of a run, in order of users, and how many there are."""
    tables = []
    for key in sorted(objects(client, prefix)):
        if key.endswith(".parquet"):
            body = client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
            tables.append(pq.read_table(pa.BufferReader(body), columns=["user_id", "item_ids"]))
    table = pa.concat_tables(tables).sort_by("user_id")
    digest = hashlib.sha256(json.dumps(table.to_pylist(), default=str).encode()).hexdigest()
    users = pc.count_distinct(table["user_id"]).as_py()
    return {"rows": table.num_rows, "users": users, "digest": digest}


USERS, ITEMS, OF_A_USER = 5000, 200, 5
"""Users of a log that is filled in, its items, and rows of one user that follow each other."""


def csv_file(rows: range) -> bytes:
    """Rows of the log that is filled in; each is the same in whatever file it stands."""
    lines = ["user_id,item_id,timestamp"]
    for row in rows:
        turn, step = divmod(row, OF_A_USER)
        lines.append(f"u{turn % USERS},i{(turn * 7 + step) % ITEMS},{row}")
    return "\n".join([*lines, ""]).encode()


def fill(client: Any, prefix: str, files: int, rows: int) -> None:
    """Put a log of so many rows, in so many files."""
    size = -(-rows // files)

    def put(number: int) -> None:
        body = csv_file(range(number * size, min(rows, (number + 1) * size)))
        key = f"{prefix}/{number:06}.csv"
        client.put_object(Bucket=BUCKET, Key=key, Body=body)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(files)))


def copy(client: Any, source: str, target: str, *parts: str) -> None:
    """Let objects below ``source/PART`` appear below ``target/PART``, without their content."""
    for key in objects(client, source + "/"):
        below = key.removeprefix(source + "/")
        if below.startswith(parts):
            origin = {"Bucket": BUCKET, "Key": key}
            client.copy_object(Bucket=BUCKET, Key=f"{target}/{below}", CopySource=origin)


def watch(client: Any, prefix: str, part: str, limit_s: float) -> int:
    """Wait until a name below the prefix has the part in it; the number of looks."""
    print("ready", flush=True)
    deadline = time.monotonic() + limit_s
    looks = 1
    while not any(part in key for key in objects(client, prefix)):
        if time.monotonic() > deadline:
            sys.exit(f"no {part} below {prefix} within {limit_s:.0f} s")
        time.sleep(0.2)
        looks += 1
    return looks


def main(endpoint: str, action: str, key: str = "", *more: str) -> None:
    """Do one thing; the answer goes to standard output."""
    retries = botocore.config.Config(retries={"max_attempts": 5}, connect_timeout=5)
    session = botocore.session.get_session()
    client = session.create_client("s3", endpoint_url=endpoint, config=retries)
    if action == "ready":
        client.head_bucket(Bucket=BUCKET)
    elif action == "put":
        client.put_object(Bucket=BUCKET, Key=key, Body=sys.stdin.buffer.read())
    elif action == "get":
        sys.stdout.write(client.get_object(Bucket=BUCKET, Key=key)["Body"].read().decode())
    elif action == "list":
        print(json.dumps(objects(client, key)))
    elif action == "remove":
        for name in objects(client, key):
            client.delete_object(Bucket=BUCKET, Key=name)
    elif action == "fill":
        fill(client, key, *map(int, more))
    elif action == "copy":
        copy(client, key, *more)
    elif action == "watch":
        print(watch(client, key, more[0], float(more[1])))
    elif action == "rows":
        print(json.dumps(rows(client, key)))
    else:
        sys.exit(f"no such action: {action}")


if __name__ == "__main__":
    main(*sys.argv[1:])
