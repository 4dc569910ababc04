"""Composed models: `Model`, connections, and the layers to compose."""

from .compiled import CompiledModel, compile
from .connection import Connection, Input, IOKey
from .document import from_document, from_json, load_model, save_model, to_document, to_json
from .draw import dot, draw, mermaid
from .layers import *  # noqa: F403
from .model import Model
from .part import Function, Layer, Part
from .summary import Summary, summary
from .train import TrainModel
