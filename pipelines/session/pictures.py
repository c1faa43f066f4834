"""Pictures beside results: what cannot be drawn costs no result, and the next run draws it."""

from collections.abc import Callable, Collection, Mapping

from lightsans.storage.location import Location
from pipelines.console.progress import say


def save_pictures(stage: str, directory: Location, draw: Callable[[], Mapping[str, bytes]]) -> None:
    """Draw and write pictures; say it where that fails.

    Args:
        stage: Name of the stage, for the message.
        directory: Where they go.
        draw: Returns PNG files by name.
    """
    try:
        pictures = draw()
    except Exception as error:
        say(f"WARNING: {stage}: no pictures were drawn: {type(error).__name__}: {error}")
        return
    for name, content in pictures.items():
        (directory / name).write_bytes(content)


def draw_missing(
    stage: str,
    directory: Location,
    names: Collection[str],
    draw: Callable[[], Mapping[str, bytes]],
) -> None:
    """`save_pictures` where some of these names are not there."""
    if not set(names) <= set(directory.children()):
        save_pictures(stage, directory, draw)
