"""The data sets of a comparison: which pictures of a folder are measured, and by what."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from zdce.data.datasets import Item, collection
from zdce.metrics.evaluation import EvaluationOptions
from zdce.metrics.protocols import Protocol

PAIRS = {"all": slice(None), "odd": slice(1, None, 2), "even": slice(0, None, 2)}


@dataclass(frozen=True)
class EvaluationSet:
    """Pictures to measure.

    Attributes:
        name: name in tables.
        description: what of it is measured, in words.
        items: the pictures.
        asked: measures, targets and baselines.
        note: what a reader of the figures should know; of protocols.
    """

    name: str
    description: str
    items: tuple[Item, ...]
    asked: EvaluationOptions
    note: str = ""

    @property
    def references(self) -> int:
        return sum(item.load_reference is not None for item in self.items)


def of_source(
    source: str, asked: EvaluationOptions, split: str = "all", pairs: str = "all", unpaired: bool = False
) -> EvaluationSet:
    """The pictures of a folder or a built-in collection.

    Args:
        split: "all", or "validation" for the pictures that training keeps out.
        pairs: a key of ``PAIRS``.
        unpaired: whether pictures may lack a reference that others have.

    Raises:
        InputError: references are missing, or the folder has no pictures.
        FileNotFoundError: the folder does not exist.
    """
    pictures = collection(source)
    items = (pictures.items if split == "all" else pictures.validation_items())[PAIRS[pairs]]
    if not unpaired:
        pictures.check_paired(items, "; --unpaired (unpaired=True) measures what there is")
    chosen = [word for word in (split, pairs) if word != "all"]
    return EvaluationSet(source, _described(items, len(pictures.items), chosen), items, asked)


def of_protocol(protocol: Protocol, data: str, asked: EvaluationOptions) -> list[EvaluationSet]:
    """The data sets of a protocol in the folder ``data``; measures and targets are the protocol's.

    Raises:
        InputError: the folder has other pictures than the protocol.
    """
    sets = []
    for part in protocol.parts:
        items = part.items(data)
        by_protocol = replace(asked, metrics=part.metrics, against=part.against)
        sets.append(EvaluationSet(part.name, _described(items, len(items), []), items, by_protocol, part.note))
    return sets


def _described(items: Sequence[Item], total: int, chosen: Sequence[str]) -> str:
    """What is measured, in words: how many, and which."""
    which = f"{len(items)} of {total} pictures ({', '.join(chosen)})" if chosen else f"all {total} pictures"
    return f"{which}, {sum(item.load_reference is not None for item in items) or 'none'} with a reference"
