"""RecBole's LightSANs: checkpoints, weights and the order of items, in both directions."""

from lightsans.recbole.weights import from_recbole, to_recbole

__all__ = ["from_recbole", "to_recbole"]
