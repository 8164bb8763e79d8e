"""Pages of TIFF files: metadata of OME and ImageJ say which are channels, slices and moments."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import tifffile
from builders import noise
from PIL import Image

from pocketseg.data.volumes import is_volume, open_volume, slices_of
from pocketseg.errors import DataError
from pocketseg.pipeline.reading import Reading

RAW = Reading(raw=True)


def planes(**sizes):
    """uint16 of axes in this order, then (h, w); every plane is another one."""
    shape = tuple(sizes.values())
    whole = [noise(4, 5, dtype=np.uint16, seed=at) for at in range(int(np.prod(shape)))]
    return np.stack(whole).reshape(*shape, 4, 5)


def refusal(path) -> str:
    with pytest.raises(DataError) as caught:
        slices_of(open_volume(path), RAW)[0].image()
    assert str(path) in str(caught.value) and " → " in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["ome", "imagej"])
@pytest.mark.parametrize(
    "sizes", [{"Z": 3, "C": 2}, {"T": 3, "C": 2}, {"Z": 1, "C": 4}, {"Z": 3, "C": 1}, {"T": 4, "C": 1}], ids=str
)
def test_channels_are_channels_and_the_rest_are_slices(tmp_path, kind, sizes):
    whole = planes(**sizes)
    slow, count = next(iter(sizes)), sizes["C"]
    path = tmp_path / f"a.{kind}.tif"
    tifffile.imwrite(path, whole, metadata={"axes": f"{slow}CYX"}, **{kind: True})
    volume = open_volume(path)
    assert volume.grid.shape == (5, 4, sizes[slow]) and volume.contrasts == (count if count > 1 else 0)
    slices = slices_of(volume, RAW)
    assert len(slices) == sizes[slow]
    for at, each in enumerate(slices):
        np.testing.assert_array_equal(each.image(), np.moveaxis(whole[at], 0, -1) if count > 1 else whole[at, 0])


def ome(order, sizes, parts="", **attributes):
    more = "".join(f' {key}="{value}"' for key, value in attributes.items())
    counts = "".join(f' Size{axis}="{size}"' for axis, size in sizes.items())
    channels = '<Channel ID="c" SamplesPerPixel="1"/>' * sizes["C"]
    return (
        '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image>'
        f'<Pixels DimensionOrder="{order}" Type="uint16" SizeX="5" SizeY="4"{counts}{more}>{channels}{parts}</Pixels>'
        "</Image></OME>"
    )


def write_pages(path, pages, text):
    first, *rest = (Image.fromarray(page) for page in pages)
    first.save(path, save_all=True, append_images=rest, tiffinfo={270: text.encode()})
    return path


@pytest.mark.parametrize("order", ["XYCZT", "XYZCT", "XYTCZ", "XYTZC"])
def test_every_order_of_pages(tmp_path, order):
    whole = planes(Z=3, C=2)
    axes = list(order[2:][::-1])
    pages = [
        whole[place["Z"], place["C"]]
        for place in (
            dict(zip(axes, at, strict=True)) for at in product(*(range({"Z": 3, "C": 2, "T": 1}[a]) for a in axes))
        )
    ]
    volume = open_volume(write_pages(tmp_path / "a.tif", pages, ome(order, {"Z": 3, "C": 2, "T": 1})))
    for at, each in enumerate(slices_of(volume, RAW)):
        np.testing.assert_array_equal(each.image(), np.moveaxis(whole[at], 0, -1))


def test_pages_in_an_order_of_their_own(tmp_path):
    whole = planes(Z=2, C=2)
    places = [(1, 0), (0, 1), (0, 0), (1, 1)]
    parts = "".join(
        f'<TiffData IFD="{at}" FirstZ="{z}" FirstC="{c}" FirstT="0" PlaneCount="1"/>'
        for at, (z, c) in enumerate(places)
    )
    pages = [whole[place] for place in places]
    sizes = {"Z": 2, "C": 2, "T": 1}
    volume = open_volume(write_pages(tmp_path / "a.tif", pages, ome("XYZCT", sizes, parts)))
    for at, each in enumerate(slices_of(volume, RAW)):
        np.testing.assert_array_equal(each.image(), np.moveaxis(whole[at], 0, -1))
    parts = parts.replace('IFD="3"', 'IFD="2"')
    assert "do not place each page once" in refusal(write_pages(tmp_path / "b.tif", pages, ome("XYZCT", sizes, parts)))


@pytest.mark.parametrize(("unit", "size"), [("µm", 1e-3), ("nm", 1e-6), ("mm", 1)])
def test_pixels_have_the_size_that_ome_says(tmp_path, unit, size):
    stated = {f"PhysicalSize{axis}": value for axis, value in (("X", 0.5), ("Y", 0.25), ("Z", 0.1))}
    stated |= {f"PhysicalSize{axis}Unit": unit for axis in "XYZ"}
    text = ome("XYZCT", {"Z": 2, "C": 1, "T": 1}, **stated)
    volume = open_volume(write_pages(tmp_path / "a.tif", planes(Z=2), text))
    assert volume.grid.plane_spacing(2) == pytest.approx((0.25 * size, 0.5 * size))
    assert volume.grid.axis("auto") == 2


def test_pixels_have_the_size_that_imagej_says(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif", planes(Z=2), imagej=True, resolution=(2, 4), metadata={"unit": "um", "axes": "ZYX"}
    )
    assert open_volume(tmp_path / "a.tif").grid.plane_spacing(2) == pytest.approx((0.25e-3, 0.5e-3))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (ome("XYZCT", {"Z": 2, "C": 1, "T": 2}), "2 slices at 2 moments"),
        (ome("XYZCT", {"Z": 7, "C": 1, "T": 1}), "4 pages, but its OME metadata say 7"),
        (ome("XYZCT", {"Z": "x", "C": 1, "T": 1}), "4 pages, but its OME metadata say 0"),
        (ome("XYZCT", {"Z": 4, "C": 1, "T": 1})[:-20], "not a readable"),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]>" + ome("XYZCT", {"Z": 4, "C": 1, "T": 1}), "document type"),
        (ome("XYZCT", {"Z": 4, "C": 1, "T": 1}).replace("<Image>", '<Image><Pixels SizeZ="4"/>'), "holds 2 images"),
        (ome("XYZCT", {"Z": 4, "C": 1, "T": 1}, '<UUID FileName="a"/><UUID FileName="b"/>'), "one of 2 files"),
        ("ImageJ=1.5\nimages=4\nslices=2\nframes=2\nhyperstack=true\n", "2 slices at 2 moments"),
        ("ImageJ=1.5\nimages=8\nchannels=4\nslices=2\n", "4 pages, but ImageJ says 8"),
    ],
)
def test_metadata_that_do_not_fit(tmp_path, text, told):
    assert told in refusal(write_pages(tmp_path / "a.tif", planes(Z=4), text))


def test_more_channels_than_a_net_takes(tmp_path):
    text = ome("XYZCT", {"Z": 1, "C": 17, "T": 1})
    assert "holds 17 channels" in refusal(write_pages(tmp_path / "a.tif", planes(C=17), text))


def test_a_pyramid_is_no_stack(tmp_path):
    pages = [noise(8, 8), noise(4, 4)]
    path = write_pages(tmp_path / "a.tif", pages, "a slide")
    assert is_volume(path) and "stored in several sizes" in refusal(path)
