"""Synthetic images with masks: data that anyone may have, at any amount.

- `ultrasound.py`: B-mode images of soft tissue with lesions (`patient.py`, `probe.py`, `sound.py`);
- `microscopy.py`: fluorescence images of cell nuclei;
- `ct.py`: volumes of an abdomen with an organ and its lesions;
- `cine.py`: clips of ultrasound with a lesion that moves.

Every pixel depends on (seed, patient or slide, view or field, size) and on nothing else: a case is the same in a set of
5 and of 5000.
"""

from pocketseg.data.phantom.case import PhantomCase
from pocketseg.data.phantom.folder import KINDS, write_phantom
from pocketseg.data.phantom.ultrasound import phantom_case

__all__ = ["KINDS", "PhantomCase", "phantom_case", "write_phantom"]
