"""What lies beside the cases, and how groups came about: reported when a data set is opened, before a pixel is read."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from pocketseg.data.case import Case, ChannelSource
from pocketseg.data.doctor.finding import Finding
from pocketseg.data.layouts.listing import has_pixels, kinds_text, of_other_formats, unread_files
from pocketseg.data.unread import ways_out
from pocketseg.data.volumes import SliceSource


def left_out(places: Iterable[Path], cases: Sequence[Case], reported: Collection[str] = ()) -> Iterator[Finding]:
    """Files in these folders that no case is made of: those of formats that are not read, and the others.

    Those that a problem was reported of are not named again.
    """
    used = {file for case in cases for source in (case.image, *case.masks) for file in source.files}
    used |= {case.weights for case in cases if case.weights}
    rest = [file for place in places if place.is_dir() for file in unread_files(place) if file not in used]
    strange = of_other_formats(rest)
    others = [file for file in rest if has_pixels(file) and str(file) not in reported]
    if strange:
        what = f"formats that are not read are left out: {kinds_text(strange)}"
        yield Finding("unread-format", _shown(strange), what, ways_out(strange))
    if others:
        what = f"images of no case are left out: {kinds_text(others)}"
        yield Finding("left-out", _shown(others), what, "nothing, where they are not meant as cases")


def _shown(files: Sequence[Path]) -> tuple[str, ...]:
    return tuple(map(str, files))


def folder_findings(cases: Sequence[Case]) -> Iterator[Finding]:
    """What the folders are taken for that lie inside of both the images' and the masks' folder."""
    folders = {case.name.split("/")[0] for case in cases if "/" in case.name}
    patients = {case.subject for case in cases if case.group == case.subject}
    if folders and folders == patients:
        what = f"the {len(folders)} folders in it are taken as patients, each a group"
        fix = "--set data.group_regex='.+' makes each case its own group"
        yield Finding("patient-folders", tuple(sorted(folders)), what, fix)


def one_patient(cases: Sequence[Case]) -> Iterator[Finding]:
    """Several volumes that all say the same PatientID, as anonymizers make them, and so are one group."""
    sources = [case.image.parts[0] if isinstance(case.image, ChannelSource) else case.image for case in cases]
    volumes = {source.volume.path: source.volume.patient for source in sources if isinstance(source, SliceSource)}
    patients = set(volumes.values())
    if len(volumes) > 1 and len(patients) == 1 and None not in patients and len({case.group for case in cases}) == 1:
        what = f"all {len(volumes)} volumes have the same PatientID, so that all cases are one group"
        fix = (
            "if it is a constant that an anonymizer wrote: --set 'data.group_regex=^[^#]+' makes a group of each volume"
        )
        yield Finding("one-patient", tuple(map(str, volumes)), what, fix)
