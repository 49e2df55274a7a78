"""What others report on DAQUAR, to stand beside measured rows and marked as published: nothing here was run by us."""

from dataclasses import dataclass


_MULTI_WORLD = "Malinowski and Fritz 2014, NIPS"
_NEURONS = "Malinowski, Rohrbach and Fritz 2015, ICCV"
_REN = "Ren, Kiros and Zemel 2015, NIPS"
_MA = "Ma, Lu and Li 2016, AAAI"
_SAN = "Yang et al. 2016, CVPR"
#: Where the figures were read: not in the papers of each row.
READ_IN = "a transcription of the tables of Yang et al. 2016 (stacked attention); check before quoting"


@dataclass(frozen=True)
class Published:
    """One row of the literature.

    Attributes:
        task: Name of the task whose test questions it is on: answers of one word (Multi-World and human may have
            counted lists too).
        method: As its authors call it.
        accuracy: In [0, 1], as the other two.
        wups_90: WUPS at 0.9.
        wups_0: WUPS at 0.0.
        source: Who reports it.
    """

    task: str
    method: str
    accuracy: float
    wups_90: float
    wups_0: float
    source: str
    published: bool = True


DAQUAR = (
    Published("daquar", "Multi-World", 0.079, 0.119, 0.388, _MULTI_WORLD),
    Published("daquar", "Ask Your Neurons, words only", 0.191, 0.252, 0.651, _NEURONS),
    Published("daquar", "Ask Your Neurons", 0.217, 0.280, 0.650, _NEURONS),
    Published("daquar", "IMG-CNN", 0.234, 0.296, 0.630, _MA),
    Published("daquar", "SAN", 0.293, 0.351, 0.686, _SAN),
    Published("daquar", "human", 0.502, 0.508, 0.673, _MULTI_WORLD),
    Published("daquar-reduced37", "Ask Your Neurons", 0.347, 0.408, 0.795, _NEURONS),
    Published("daquar-reduced37", "2-VIS+BLSTM", 0.358, 0.468, 0.822, _REN),
    Published("daquar-reduced37", "IMG-CNN", 0.397, 0.449, 0.831, _MA),
    Published("daquar-reduced37", "SAN", 0.462, 0.512, 0.851, _SAN),
    Published("daquar-reduced37", "human", 0.603, 0.610, 0.790, _MULTI_WORLD),
)


def published(task: str) -> list[Published]:
    """Published rows of a task, worst first; none where the literature is on another split or was not read.

    Example:
        >>> [row.method for row in published("daquar")][-2:]
        ['SAN', 'human']
    """
    return sorted((row for row in DAQUAR if row.task == task), key=lambda row: row.accuracy)
