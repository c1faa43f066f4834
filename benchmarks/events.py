"""Targets predicted from all events against from themselves alone, with intervals.

    python -m benchmarks.events [--smoke] [--json] [--epochs 8] [--clicks FILE]

On a synthetic log of views and purchases, and, with ``--clicks FILE``, on a log of watches and
clicks (USER_ID, ITEM_ID, TIMESTAMP and EVENT_TYPE). One process, no Ray. Seen items stay in the
ranking.
"""

from typing import Any

import pyarrow as pa
import pyarrow.csv

from benchmarks.harness import Case, case, machine, make_parser, parse, report
from lightsans import Recommender
from lightsans.synthetic.shops import PURCHASE, VIEW, generate_shop

TARGET = {"input": True, "target": True, "seen": True}


def fit(frame: pa.Table, events: dict[str, Any], epochs: int, **columns: Any) -> dict[str, Any]:
    """Figures of a model's test targets: users, hit@10 and ndcg@10 with 95 % intervals."""
    model = {"max_seq_len": 30, "hidden_size": 32, "inner_size": 64, "n_layers": 1}
    settings: dict[str, Any] = {"epochs": epochs, "model": model, "learning_rate": 0.003}
    made = Recommender(**settings, events=events, **columns).fit(frame)
    figures = made.evaluate()
    found: dict[str, Any] = {"users": figures.users["test"]}
    for scorer in ("model", "popular", "successor"):
        for name in ("hit@10", "ndcg@10"):
            found[f"{scorer} {name}"] = [
                round(figures.metrics[scorer]["test"][name], 4),
                *(round(end, 4) for end in figures.intervals[scorer]["test"][name]),
            ]
    found["segments"] = {
        label: {"users": each.users, "ndcg@10": round(each.scorers["model"]["ndcg@10"].value, 4)}
        for label, each in figures.segments["target viewed"].items()
    }
    return found


def compare(
    name: str, frame: pa.Table, target: str, other: str, epochs: int, **columns: Any
) -> Case:
    """Fit twice, and compare ndcg@10."""
    both = fit(frame, {target: TARGET, other: {"input": True}}, epochs, **columns)
    alone = fit(frame, {target: TARGET}, epochs, **columns)
    print(f"{name}: {target} from {target} and {other}: {both}")
    print(f"{name}: {target} from {target} alone: {alone}")
    ours, peer = both["model ndcg@10"][0], alone["model ndcg@10"][0]
    return case(
        name, ours=ours, peer=peer, unit="ndcg@10", ratio=ours / max(peer, 1e-9), goal=None,
        both=both, alone=alone,
    )  # fmt: skip


def main() -> None:
    """Print figures of both logs."""
    parser = make_parser(__doc__)
    parser.add_argument("--clicks", help="a csv file of watches and clicks")
    parser.add_argument("--epochs", type=int, default=8)
    options = parse(parser)
    epochs = 1 if options.smoke else options.epochs
    users, items, visits = (40, 30, 600) if options.smoke else (600, 150, 12_000)
    shop = generate_shop(users, items, visits, seed=1)
    cases = [compare("synthetic shop", shop, PURCHASE, VIEW, epochs, event="event")]
    if options.clicks is not None:
        columns = {"user": "USER_ID", "item": "ITEM_ID", "timestamp": "TIMESTAMP"}
        frame = pyarrow.csv.read_csv(options.clicks)
        cases.append(
            compare("clicks", frame, "click", "watch", epochs, event="EVENT_TYPE", **columns)
        )
    report(options, "events", machine("one process"), cases)


if __name__ == "__main__":
    main()
