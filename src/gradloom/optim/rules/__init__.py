"""The update rules; importing the package defines all of them."""

from . import adam, sgd
from .rule import RULES, Rule, rule

__all__ = ["RULES", "Rule", "adam", "rule", "sgd"]
