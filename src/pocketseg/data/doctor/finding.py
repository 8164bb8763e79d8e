"""What the doctor says, and why it matters: one code a kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pocketseg.errors import Problem, named
from pocketseg.text import brief

Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note")

CODES: dict[str, tuple[Level, str]] = {
    "layout": ("error", "images without a mask, masks without an image, or files that pair in several ways"),
    "link": ("error", "what lies outside may change or be missing elsewhere"),
    "same-name": ("error", "file systems differ in whether these are one name, so copies lose a file"),
    "groups": ("error", "without right groups a patient may be trained on and tested on"),
    "image": ("error", "an image that cannot be decoded whole teaches nonsense"),
    "mask": ("error", "mask values are ambiguous"),
    "size": ("error", "mask and image do not show the same place"),
    "transposed": ("error", "mask and image do not show the same place"),
    "weights": ("error", "the loss would weigh other pixels than was meant"),
    "volume": ("error", "the volume's geometry or voxels cannot be trusted"),
    "mixed-coding": ("error", "one of the ways may mean something else (an object's number, a void label)"),
    "image-is-mask": ("error", "a net that copies its input would look perfect"),
    "fit": ("error", "a training would stop at such an image"),
    "split": ("error", "results of a faulty split are worth nothing"),
    "split-duplicate": ("error", "the test part would be known from training"),
    "ungrouped": ("warning", "several images of one patient in two parts bias the result upwards"),
    "duplicate": ("warning", "an image that counts twice weighs twice, and leaks where a split tears the two apart"),
    "near-duplicate": ("warning", "a split that tears them apart makes the result too optimistic"),
    "split-leak": ("warning", "test images nearly duplicate training images"),
    "contradictory-mask": ("warning", "the same picture with two references cannot be learned"),
    "shared-mask": ("warning", "the mask of another image teaches nonsense"),
    "contradictory-class": ("warning", "the same picture in two classes cannot be learned"),
    "mostly-empty": ("warning", "a net may learn to find nothing"),
    "inverted": ("warning", "the net would learn the background"),
    "full-mask": ("warning", "it may be inverted, or a placeholder"),
    "odd-value": ("warning", "values other than 1 and 255 may be void labels or another class"),
    "absent-class": ("warning", "a class without an example is never learned"),
    "annotation": ("warning", "a mask that is painted from shapes shows less than was drawn"),
    "specks": ("warning", "stray pixels ruin surface distances and object counts"),
    "border": ("warning", "masks cut at the border may belong to a larger image"),
    "constant": ("warning", "an image of one value holds nothing to learn"),
    "saturated": ("warning", "what is cut off at black or white cannot be distinguished"),
    "mixed-channels": ("warning", "color and gray images differ in more than their content"),
    "color-as-gray": ("warning", "colors that would tell the classes apart are lost"),
    "mixed-colors": ("warning", "a net may learn which images are in color instead of what they show"),
    "gray-as-color": ("note", "three equal channels cost time and say nothing more"),
    "given-parts": ("note", "results are then those of the parts that others report"),
    "unread-format": ("warning", "they would be missing without a word"),
    "left-out": ("note", "they would be missing without a word"),
    "one-patient": ("warning", "a split by patient is then impossible, or patients are torn apart"),
    "patient-folders": ("note", "groups decide which cases a split keeps together"),
    "groups-table": ("note", "groups decide which cases a split keeps together"),
    "mixed-depth": ("warning", "images of other bit depths have other ranges of values"),
    "few-bits": ("warning", "values fill a small part of their type, so images look nearly black"),
    "wrong-suffix": ("warning", "other programs may read it wrongly or not at all"),
    "converted-color": ("warning", "colors were converted, and may look different than in other programs"),
    "alpha": ("warning", "transparency is dropped; what it hid becomes visible"),
    "case-names": ("warning", "on other file systems these are one name"),
    "marks": ("warning", "a net may learn marks that are missing in new images"),
    "text": ("warning", "a net may learn marks that are missing in new images, and text may name a person"),
    "calipers": ("warning", "a net may learn that calipers mark lesions, and miss those of a scanner that draws none"),
    "annotated": ("warning", "the file says so itself; such text may name a person"),
    "size-outlier": ("warning", "it may be a crop or an export of another kind"),
    "mixed-spacing": ("warning", "things of one size look different in size"),
    "turned": ("warning", "a mask that was drawn on the pixels as they are stored would lie elsewhere"),
    "no-geometry": ("warning", "directions are unknown and the pixel size may be a default"),
    "imbalance": ("warning", "the smallest class has few examples to learn and to test"),
    "empty-masks": ("note", "cases without foreground are counted apart in results"),
    "float-range": ("note", "the same value may come out differently in two images"),
    "no-spacing": ("note", "distances are then in pixels, not millimeters"),
    "lonely-groups": ("note", "groups that are patients usually have several images"),
    "ignored": ("note", "files of other programs are left alone"),
}


@dataclass(frozen=True, repr=False)
class Finding:
    """One thing that is wrong or suspicious.

    Attributes:
        code: its kind, a key of `CODES`.
        files: what it is about, as names that the user gave or sees.
        what: what is so.
        fix: what to do about it.
    """

    code: str
    files: tuple[str, ...]
    what: str
    fix: str = ""

    def __repr__(self) -> str:
        return brief(self, f"{self.level} {self.code}: {self.problem}")

    @property
    def level(self) -> Level:
        return CODES[self.code][0]

    @property
    def why(self) -> str:
        """Why it matters."""
        return CODES[self.code][1]

    @property
    def where(self) -> str:
        """The files in one line, the first few by name."""
        return named(self.files)

    @property
    def problem(self) -> Problem:
        return Problem.at(self.files, self.what, self.fix, self.code)

    @classmethod
    def of(cls, problem: Problem) -> Finding:
        """A problem that something else reported; a code nobody gave is that of a layout."""
        return cls(problem.code or "layout", problem.places, problem.what, problem.fix)
