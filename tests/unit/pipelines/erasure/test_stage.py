"""Lists of users to be erased, looked at without Ray: nobody of them is in the root."""

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from lightsans.config import RunConfig
from lightsans.errors import ConfigError
from pipelines.erasure.stage import run_erase


def test_the_users_may_be_a_table_of_a_warehouse_outside_the_root(tmp_path):
    users = pa.table({"user_id": ["ann", "bob"]})
    config = RunConfig(root=str(tmp_path / "root"))
    write_deltalake(tmp_path / "users", users)
    listed = f"delta://{tmp_path}/users"
    found = run_erase(config, listed, dry_run=True, allow_unmatched=True)
    assert (found.listed, found.found) == (2, 0)
    write_deltalake(tmp_path / "root" / "users", users)
    with pytest.raises(ConfigError, match="lies below root="):
        run_erase(config, f"delta://{tmp_path}/root/users", dry_run=True)
