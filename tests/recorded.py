"""Results that an earlier version has written, which later ones must find: ids and place."""

from pathlib import Path

RECORDED = Path(__file__).parent / "golden" / "recorded_root"
DATASET, MODEL, RUN = "fcef2ddd3c2a", "4a5e6d8c396b", "3719e5252ddc"
