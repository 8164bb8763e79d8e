import numpy as np
import pytest
from builders import blob

from pocketseg.data import MaskCoding
from pocketseg.errors import DataError

INSIDE = blob() > 0


def refusal(coding: MaskCoding, stored: np.ndarray) -> str:
    with pytest.raises(DataError) as caught:
        coding.decode(stored, "m.png")
    assert str(caught.value).startswith("m.png: ") and " → " in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("value", [1, 2, 128, 200, 255])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, np.float64])
def test_one_class_may_have_any_value(value, dtype):
    mask = MaskCoding().decode(blob(value=value).astype(dtype), "m")
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, INSIDE)


def test_booleans():
    np.testing.assert_array_equal(MaskCoding().decode(INSIDE, "m"), INSIDE)


def test_empty_and_full_masks():
    assert not MaskCoding().decode(np.zeros((3, 4), np.uint8), "m").any()
    assert MaskCoding().decode(np.full((3, 4), 255, np.uint8), "m").all()


@pytest.mark.parametrize("stored", [blob(), INSIDE, blob(value=1).astype(np.float32)], ids=["255", "bool", "float"])
def test_inverted(stored):
    np.testing.assert_array_equal(MaskCoding(invert=True).decode(stored, "m"), ~INSIDE)


def test_inverted_empty_and_full_masks():
    coding = MaskCoding(invert=True)
    assert coding.decode(np.zeros((3, 4), np.uint8), "m").all()
    assert not coding.decode(np.full((3, 4), 255, np.uint8), "m").any()


def test_inverted_with_a_value():
    np.testing.assert_array_equal(MaskCoding(values=(255,), invert=True).decode(blob(), "m"), ~INSIDE)


def test_several_classes_are_stored_as_their_index():
    stored = np.array([[0, 1, 2, 3]], np.uint16)
    mask = MaskCoding(classes=3).decode(stored, "m")
    assert mask.dtype == np.uint8 and mask.tolist() == [[0, 1, 2, 3]]
    assert "4" in refusal(MaskCoding(classes=3), np.array([[0, 4]], np.uint8))
    assert "none of the 2 classes" in refusal(MaskCoding(classes=2), blob())


def test_values_name_the_classes():
    coding = MaskCoding(classes=2, values=(255, 128))
    assert coding.decode(np.array([[0, 128, 255]], np.uint8), "m").tolist() == [[0, 2, 1]]
    assert "holds the values 1, 7" in refusal(coding, np.array([[0, 1, 7, 255]], np.uint8))
    assert "none of the 1 class" in refusal(MaskCoding(values=(1,)), blob())


def test_255_classes():
    stored = np.arange(256, dtype=np.uint8)[None]
    np.testing.assert_array_equal(MaskCoding(classes=255).decode(stored, "m"), stored)


def test_several_values_for_one_class_are_reported():
    text = refusal(MaskCoding(), np.array([[0, 1, 2]], np.uint8))
    assert "several foreground values (1, 2)" in text
    assert "data.classes=[name1,name2]" in text and "data.mask.threshold=1 " in text


def test_gray_levels_are_reported_with_the_way_out():
    stored = np.arange(60, dtype=np.uint8).reshape(6, 10)
    text = refusal(MaskCoding(), stored)
    assert "many gray levels" in text and "swapped" in text and "data.mask.threshold=128" in text
    blurred = np.array([[0, 7, 21, 35, 42, 63, 77, 106, 200, 255]], np.uint8)
    assert "many gray levels" in refusal(MaskCoding(), blurred)
    for few in (blurred[:, :9], np.arange(16, dtype=np.uint8)[None]):
        assert "several foreground values" in refusal(MaskCoding(), few)


@pytest.mark.parametrize("coding", [MaskCoding(), MaskCoding(classes=2), MaskCoding(values=(1,))])
@pytest.mark.parametrize("stored", [[[0, -1]], [[-1, -1]], [[-1024, 0, 300]]])
def test_negative_values_look_like_an_image(coding, stored):
    assert "negative values" in refusal(coding, np.array(stored, np.int16))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("coding", [MaskCoding(), MaskCoding(threshold=0.5)])
def test_what_is_no_number_is_reported(bad, coding):
    assert "NaN or infinite" in refusal(coding, np.array([[0.0, 1.0, bad]]))


def test_soft_masks_are_refused():
    assert "not a mask" in refusal(MaskCoding(), np.linspace(0, 1, 30)[None])


def test_a_threshold_cuts_gray_levels():
    stored = np.array([[0, 127, 128, 255]], np.uint8)
    assert MaskCoding(threshold=128).decode(stored, "m").tolist() == [[0, 0, 1, 1]]
    assert MaskCoding(threshold=128, invert=True).decode(stored, "m").tolist() == [[1, 1, 0, 0]]
    assert MaskCoding(threshold=0.5).decode(np.array([[0.4, 0.5]]), "m").tolist() == [[0, 1]]


def test_the_input_is_left_alone():
    stored = blob()
    MaskCoding(invert=True).decode(stored, "m")
    np.testing.assert_array_equal(stored, blob())
