"""Pictures fail no result."""

from pipelines.session.pictures import draw_missing, save_pictures
from tests.factories import local


def fail():
    raise ValueError("no font")


def test_a_picture_that_cannot_be_drawn_is_said_and_drawn_later(tmp_path, capfd):
    directory = local(tmp_path)
    draw_missing("evaluate", directory, ["a.png"], fail)
    said = capfd.readouterr().err
    assert "WARNING: evaluate: no pictures were drawn: ValueError: no font" in said
    assert directory.children() == []
    draw_missing("evaluate", directory, ["a.png"], lambda: {"a.png": b"first"})
    draw_missing("evaluate", directory, ["a.png"], fail)  # it is there
    assert (directory / "a.png").read_bytes() == b"first"
    assert capfd.readouterr().err == ""


def test_pictures_are_replaced_where_they_are_of_something_else(tmp_path):
    save_pictures("tune", local(tmp_path), lambda: {"a.png": b"first"})
    save_pictures("tune", local(tmp_path), lambda: {"a.png": b"second"})
    assert (local(tmp_path) / "a.png").read_bytes() == b"second"
