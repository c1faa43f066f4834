"""Atomic files of RecBole."""

from tests.logs_on_disk import read_log, write_bytes


def test_inter_files_have_typed_headers_tabs_and_plain_quotes(tmp_path):
    text = b'rating:float\titem_id:token\tuser_id:token\ttimestamp:float\n5\t"i,1\t007\t1e1\n'
    assert read_log(write_bytes(tmp_path / "a.inter", text)).rows == [("007", '"i,1', 10)]
