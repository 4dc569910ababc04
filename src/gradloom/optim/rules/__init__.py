"""The update rules; importing the package defines all of them."""

from . import adafactor, adam, classic, layerwise, muon, prodigy, schedule_free, sgd, shampoo, sign, sophia, variants
from .rule import RULES, Rule, rule

__all__ = [
    "RULES",
    "Rule",
    "adafactor",
    "adam",
    "classic",
    "layerwise",
    "muon",
    "prodigy",
    "rule",
    "schedule_free",
    "sgd",
    "shampoo",
    "sign",
    "sophia",
    "variants",
]
