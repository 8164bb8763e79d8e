"""The probe and the tissue below it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pocketseg.data.phantom.patient import Anatomy, Lesion
from pocketseg.data.phantom.shapes import VIEW_MM, Field, Points, along, beyond, rotate

MARGIN = 8  # pixels simulated around the picture and cut off, so that no filter wraps into it
OVERSAMPLE = 2  # acoustic rows per pixel row: the pulse is shorter than the beam is wide


def acoustic_grid(size: int) -> Points:
    """One beam per pixel column, two rows per pixel row, and a margin all around."""
    x = (np.arange(-MARGIN, size + MARGIN, dtype=np.float32) + 0.5) * (VIEW_MM / size) - VIEW_MM / 2
    z = np.arange(-MARGIN * OVERSAMPLE, (size + MARGIN) * OVERSAMPLE, dtype=np.float32) + 0.5
    return Points(*np.meshgrid(x, z * (VIEW_MM / size / OVERSAMPLE)))


def place_probe(rng: np.random.Generator, grid: Points) -> Points:
    """Slide, tilt and press: the patient's coordinates of each point of the picture."""
    x, z = rotate(grid.x, grid.z, rng.normal(0, 0.035))
    return Points(rng.uniform(0.94, 1.06) * x + rng.uniform(-2.5, 2.5), rng.uniform(0.94, 1.06) * z)


@dataclass(frozen=True)
class Medium:
    """What the sound meets at each point."""

    echo_db: Field  # backscatter of the many small scatterers
    loss: Field  # dB/(cm MHz), one way
    mirror: Field  # coherent reflection of smooth faces

    def paint(self, weight: Field, echo_db: Field | float, loss: float) -> Medium:
        """Other tissue where `weight` is 1, hiding what was there."""
        keep = 1 - weight
        return Medium(keep * self.echo_db + weight * echo_db, keep * self.loss + weight * loss, keep * self.mirror)

    def polish(self, distance_mm: Field, strength: Field | float) -> Medium:
        """A smooth face where the distance is 0; it reflects with cos^8 of the angle of incidence."""
        down, across = np.gradient(distance_mm, 1, OVERSAMPLE)
        cos_squared = down**2 / (down**2 + across**2 + 1e-9)
        return replace(self, mirror=self.mirror + strength * cos_squared**4 * along(distance_mm, 0.14))


def lay_tissue(anatomy: Anatomy, at: Points) -> Medium:
    """Layer over layer from the skin down, each hiding what would lie below it."""
    skin, fat, gland, muscle = (b.below_mm(at) for b in (anatomy.skin, anatomy.fat, anatomy.gland, anatomy.muscle))
    glint = np.clip(0.5 + 0.5 * anatomy.glint(at), 0.1, 1.5)
    mottle = anatomy.mottle(at)
    septa = along(anatomy.septa(at), 0.12)
    fibres = anatomy.fibres(Points(at.x, gland))
    medium = Medium(np.full_like(at.z, 4.0), np.full_like(at.z, 1.0), np.zeros_like(at.z))
    medium = medium.paint(beyond(skin, 0.3), anatomy.fat_db + 11 * septa + mottle, loss=0.5).polish(skin, 0.4 * glint)
    medium = medium.paint(beyond(fat, 0.5), 3 * mottle - 1, loss=0.8).polish(fat, 0.5 * glint)
    medium = add_look_alikes(medium, anatomy, fat, at)
    medium = medium.paint(beyond(gland, 0.4), anatomy.muscle_db + 5 * fibres, loss=0.9).polish(gland, glint)
    return medium.paint(beyond(muscle, 0.4), -22.0, loss=1.5).polish(muscle, 1.5 * glint)


def add_look_alikes(medium: Medium, anatomy: Anatomy, below_fat: Field, at: Points) -> Medium:
    if anatomy.duct_mm is not None:
        depth, half_width = anatomy.duct_mm
        medium = medium.paint(along(below_fat - depth, half_width), -12.0, loss=0.6)
    for stain in anatomy.stains:
        medium = medium.paint(beyond(-stain.blob.edge(at), 0.4), stain.echo_db, stain.loss)
    return medium


def grow_lesion(medium: Medium, lesion: Lesion | None, at: Points) -> tuple[Medium, Field]:
    """The medium with the lesion in it, and how far inside each point lies (0 to 1)."""
    if lesion is None:
        return medium, np.zeros_like(at.z)
    edge = lesion.blob.edge(at)
    inside = beyond(-edge, lesion.soft_mm)
    level = float(np.average(medium.echo_db, weights=inside)) + lesion.contrast_db
    rim = lesion.rim_db * along(edge - lesion.soft_mm, 0.6)
    medium = replace(medium, echo_db=medium.echo_db + rim)
    medium = medium.paint(inside, level + lesion.texture_db * lesion.texture(at), lesion.loss)
    return medium.polish(edge, lesion.wall), inside
