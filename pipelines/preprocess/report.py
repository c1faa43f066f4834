"""The report of a dataset: what its parts counted, added up, as JSON and as pictures.

Files of ``report/``: report.json, lengths.png, popularity.png, time.png.
"""

import functools
import operator
from collections.abc import Sequence
from dataclasses import asdict

from lightsans.dataset.vocabulary import Vocabulary
from lightsans.preparation.temporal import Cutoffs
from lightsans.reading.rejects import RowCounts
from lightsans.reports.dataset_figures import describe_dataset
from lightsans.reports.plots import draw_dataset
from lightsans.storage.location import Location
from lightsans.storage.manifest_kinds import RowSummary
from lightsans.storage.records import to_json
from pipelines.preprocess.records import SequencesNote
from pipelines.session.pictures import draw_missing

REPORT, _FIGURES = "report", "report.json"
PICTURES = ("lengths.png", "popularity.png", "time.png")


def write_report(
    dataset: Location,
    counts: RowCounts,
    rows: RowSummary,
    parts: Sequence[SequencesNote],
    vocabulary: Vocabulary,
    cutoffs: Cutoffs | None,
) -> None:
    """Write ``report/`` of a dataset, all but its pictures.

    Args:
        dataset: Its directory.
        counts: Counts of the rows of its input.
        rows: Left after each step, for the manifest.
        parts: Its sequences.
        vocabulary: Its items.
        cutoffs: Cut-offs of a temporal split.
    """
    total = functools.reduce(operator.add, (part.report for part in parts))
    assert counts.oldest is not None
    assert counts.newest is not None
    cuts = {} if cutoffs is None else asdict(cutoffs)
    content = {
        "rows": to_json(rows),
        "findings": counts.findings.to_dict(),
        "files": counts.files,
        **describe_dataset(total, vocabulary.counts, (counts.oldest, counts.newest), cuts),
    }
    (dataset / REPORT / _FIGURES).write_json(content)


def draw_report(dataset: Location) -> None:
    """Draw the pictures of a finished dataset's report that are not there."""
    report = dataset / REPORT
    if (report / _FIGURES).exists():  # early versions wrote none
        draw_missing(
            "preprocess", report, PICTURES, lambda: draw_dataset((report / _FIGURES).read_json())
        )
