import os
import signal
import struct
import time
import tracemalloc

import numpy as np
import pytest
from builders import blob, noise, png, tiff, write_image
from PIL import Image

from pocketseg.data import MaskCoding, readers
from pocketseg.data.readers import read_image, read_mask
from pocketseg.errors import DataError

GRAY, COLOR = noise(), noise(channels=3)


def refusal(read, path) -> str:
    with pytest.raises(DataError) as caught:
        read(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and " → " in text and len(caught.value.problems) == 1
    return text


# --- images -----------------------------------------------------------------------------------------------


@pytest.mark.whole
@pytest.mark.parametrize(
    ("name", "pixels"),
    [
        ("gray.png", GRAY),
        ("gray.bmp", GRAY),
        ("gray.tif", GRAY),
        ("color.png", COLOR),
        ("color.bmp", COLOR),
        ("color.tiff", COLOR),
        ("deep.png", noise(dtype=np.uint16)),
        ("deep.tif", noise(dtype=np.uint16)),
        ("float.tif", noise(dtype=np.float32)),
        ("int.tif", noise(dtype=np.int32)),
        ("bits.png", blob() > 0),
        ("bits.tif", blob() > 0),
        ("bits.bmp", blob() > 0),
        ("gray.jp2", GRAY),
        ("gray.j2k", GRAY),
        ("color.jp2", COLOR),
        ("deep.jp2", noise(dtype=np.uint16)),
        ("dot.png", GRAY[:1, :1]),
        ("line.png", GRAY[:1]),
    ],
)
def test_exact_formats_give_back_the_pixels(tmp_path, name, pixels):
    image = read_image(write_image(tmp_path / name, pixels))
    assert image.dtype == pixels.dtype and image.dtype.isnative
    np.testing.assert_array_equal(image, pixels)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_compressed_tiff(tmp_path, compression):
    path = write_image(tmp_path / "a.tif", COLOR, compression=compression)
    np.testing.assert_array_equal(read_image(path), COLOR)


def test_sixteen_bits_in_the_other_byte_order(tmp_path):
    deep = noise(dtype=np.uint16)
    raw = tiff(deep)
    (tmp_path / "little.tif").write_bytes(raw)
    picture = Image.frombytes("I;16B", (deep.shape[1], deep.shape[0]), deep.astype(">u2").tobytes())
    write_image(tmp_path / "big.tif", picture)
    for name in ("little.tif", "big.tif"):
        image = read_image(tmp_path / name)
        assert image.dtype == np.uint16 and image.dtype.isnative
        np.testing.assert_array_equal(image, deep)


def test_the_content_tells_the_format(tmp_path):
    path = write_image(tmp_path / "a.png", GRAY)
    np.testing.assert_array_equal(read_image(path.rename(tmp_path / "a.jpg")), GRAY)


def test_a_palette_becomes_its_colors(tmp_path):
    picture = Image.fromarray(np.array([[0, 1], [2, 0]], np.uint8), "L").convert("P")
    picture.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image = read_image(write_image(tmp_path / "a.png", picture))
    assert image.tolist() == [[[10, 20, 30], [40, 50, 60]], [[70, 80, 90], [10, 20, 30]]]
    picture.putpalette([5, 5, 5, 9, 9, 9, 1, 1, 1])
    assert read_image(write_image(tmp_path / "b.png", picture)).tolist() == [[5, 9], [1, 5]]


def test_alpha_is_dropped(tmp_path):
    alpha = noise(seed=5)[:, :, None]
    image = read_image(write_image(tmp_path / "rgba.png", np.concatenate([COLOR, alpha], 2)))
    np.testing.assert_array_equal(image, COLOR)
    image = read_image(write_image(tmp_path / "la.png", np.concatenate([GRAY[:, :, None], alpha], 2)))
    np.testing.assert_array_equal(image, GRAY)


def smooth(channels: int) -> np.ndarray:
    ramp = np.linspace(20, 220, 32).astype(np.uint8)
    planes = [
        np.broadcast_to(ramp, (32, 32)),
        np.broadcast_to(ramp[:, None], (32, 32)),
        np.full((32, 32), 90, np.uint8),
    ]
    return np.stack(planes[:channels], axis=2)


def test_jpeg(tmp_path):
    image = read_image(write_image(tmp_path / "a.jpg", smooth(3), quality=95, subsampling=0))
    assert image.shape == (32, 32, 3) and np.abs(image.astype(int) - smooth(3)).max() < 12
    gray = read_image(write_image(tmp_path / "b.jpeg", smooth(1)[:, :, 0], quality=95))
    assert gray.shape == (32, 32) and np.abs(gray.astype(int) - smooth(1)[:, :, 0]).max() < 8


def test_cmyk_jpeg_becomes_rgb(tmp_path):
    picture = Image.fromarray(smooth(3)).convert("CMYK")
    image = read_image(write_image(tmp_path / "a.jpg", picture, quality=95, subsampling=0))
    assert image.shape == (32, 32, 3) and np.abs(image.astype(int) - smooth(3)).max() < 16


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif", "jpg", "webp"])
def test_exif_orientation_is_applied(tmp_path, orientation, suffix):
    """The stored pixels are turned so that the tag turns them back."""
    upright = np.kron(np.array([[10, 60, 110], [150, 200, 250]], np.uint8), np.ones((16, 16), np.uint8))
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]
    path = tmp_path / f"a.{suffix}"
    if suffix == "tif":
        write_image(path, stored, tiffinfo={274: orientation})
    else:
        exif = Image.Exif()
        exif[274] = orientation
        write_image(path, stored, exif=exif, **({"lossless": True} if suffix == "webp" else {}))
    image = read_image(path)
    image = image[:, :, 0] if suffix == "webp" else image  # which stores no gray
    assert image.shape == upright.shape
    assert np.abs(image.astype(int) - upright).max() <= (6 if suffix == "jpg" else 0)


# --- refused images ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("color_type", "channels"), [(2, 3), (4, 2), (6, 4)])
@pytest.mark.parametrize("read", [read_image, read_mask])
def test_sixteen_bit_color_png_is_refused(tmp_path, read, color_type, channels):
    path = tmp_path / "a.png"
    path.write_bytes(png(2, 1, 16, color_type, b"\0" + bytes(range(4 * channels))))
    assert "would be cut to 8 bits" in refusal(read, path)


def test_the_hand_made_png_is_one(tmp_path):
    """Else the test above would pass for a wrong reason."""
    path = tmp_path / "a.png"
    path.write_bytes(png(2, 2, 8, 0, b"\0\x01\x02\0\x03\x04"))
    assert read_image(path).tolist() == [[1, 2], [3, 4]]
    path.write_bytes(png(2, 1, 16, 0, b"\0\x01\x02\x03\x04"))
    assert read_image(path).tolist() == [[0x0102, 0x0304]]


@pytest.mark.parametrize("read", [read_image, read_mask])
def test_sixteen_bit_color_tiff_is_refused(tmp_path, read):
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(np.zeros((4, 4, 3), np.uint16), photometric=2))
    assert "16-bit color would be cut to 8 bits" in refusal(read, path)
    path.write_bytes(tiff(blob()[:, :, None].repeat(3, axis=2), photometric=2))
    assert read(path).shape[:2] == (6, 7)


def test_sixteen_bits_with_white_as_0_are_refused(tmp_path):
    """Pillow turns 8 bits over and leaves 16."""
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(GRAY, photometric=0))
    np.testing.assert_array_equal(read_image(path), 255 - GRAY)
    path.write_bytes(tiff(noise(dtype=np.uint16), photometric=0))
    assert "decoded as its negative" in refusal(read_image, path)


CONTENTS = {
    "empty": (b"", "the file is empty (0 bytes)"),
    "html": (b"\n <!DOCTYPE html><html>404</html>", "not an image: it starts with <html"),
    "html2": (b"<HTML><body>", "not an image: it starts with <html"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
    "text": (b"hello", "not an image of an allowed format"),
    "pdf": (b"%PDF-1.4\n", "not an image of an allowed format: it is a drawing"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image of an allowed format: it is a drawing"),
    "heic": (b"\0\0\0\x18ftypheic\0\0\0\0", "not an image of an allowed format: it is an image of a phone"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(90), "not an image of an allowed format: it is a file of arrays"),
    "czi": (b"ZISRAWFILE" + bytes(90), "not an image of an allowed format: it is a file of a microscope's maker"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image of an allowed format"),
    "npy": (b"\x93NUMPY\x01\x00", "not an image of an allowed format"),
    "bad-crc": (png(1, 1, 8, 0, b"\0\0", crc_error=True), "the header of the image is damaged"),
    "bomb": (png(20_000, 20_000, 8, 0, b"\0" * 20_001), "is above the limit of 144,000,000 pixels"),
    "large": (png(13_000, 13_000, 8, 0, b"\0" * 13_001), "13000×13000 is above the limit of 144,000,000 pixels"),
}


@pytest.mark.whole
@pytest.mark.parametrize("kind", CONTENTS)
@pytest.mark.parametrize("read", [read_image, read_mask])
def test_what_is_no_sound_image_is_reported_as_what_it_is(tmp_path, kind, read):
    content, message = CONTENTS[kind]
    path = tmp_path / "a.png"
    path.write_bytes(content)
    text = refusal(read, path)
    assert message in text
    assert ("damaged" in text) == (kind == "bad-crc")


def test_a_bomb_is_refused_before_memory_is_taken(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(CONTENTS["bomb"][0])
    tracemalloc.start()
    began = time.perf_counter()
    refusal(read_image, path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.perf_counter() - began < 2 and peak < 20e6


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.bmp", "a.webp", "a.jp2", "a.j2k", "a.gif"])
def test_a_file_cut_anywhere_is_refused(tmp_path, name):
    whole = write_image(tmp_path / name, noise(40, 50, None if name == "a.gif" else 3)).read_bytes()
    path = tmp_path / f"cut-{name}"
    for share in np.linspace(0, 0.97, 12):
        path.write_bytes(whole[: int(len(whole) * share)])
        assert any(word in refusal(read_image, path) for word in ("damaged", "not an image", "0 bytes"))


@pytest.mark.parametrize("name", ["a.png", "a.tif", "b.tif", "a.bmp", "a.jpg", "a.webp", "a.jp2"])
def test_a_torn_file_gives_pixels_or_a_data_error(tmp_path, name):
    """Whatever a decoder trips over, the file is named. Missing TIFF tags, for one, are a TypeError in Pillow."""
    pixels = noise(8, 9, dtype=np.float32) if name == "b.tif" else noise(8, 9)
    whole = write_image(tmp_path / name, pixels).read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(100):
        torn = bytearray(whole)
        for at in rng.integers(0, len(torn), 3):
            torn[at] = rng.choice([0, 1, 127, 255])
        (tmp_path / name).write_bytes(torn)
        for read in (read_image, read_mask):
            try:
                read(tmp_path / name)
            except DataError:
                refused += 1
    assert refused > 5


def test_a_tiff_without_dimensions_is_damaged(tmp_path):
    whole = tiff(GRAY)
    path = tmp_path / "a.tif"
    path.write_bytes(whole.replace(struct.pack("<HH", 256, 4), struct.pack("<HH", 254, 4), 1))
    assert "damaged" in refusal(read_image, path)


@pytest.mark.parametrize("read", [read_image, read_mask])
def test_several_pages_or_frames_are_refused(tmp_path, read):
    pages = [Image.fromarray(noise(seed=seed)) for seed in range(3)]
    path = write_image(tmp_path / "a.tif", pages[0], save_all=True, append_images=pages[1:])
    assert "holds 3 pages or frames" in refusal(read, path)
    path = write_image(tmp_path / "b.png", pages[0], save_all=True, append_images=pages[1:])
    assert "holds 3 pages or frames" in refusal(read, path)
    path = write_image(tmp_path / "c.gif", pages[0], save_all=True, append_images=pages[1:])
    assert "holds 3 pages or frames" in refusal(read, path)
    path = write_image(tmp_path / "d.webp", pages[0], save_all=True, append_images=pages[1:], lossless=True)
    assert "holds 3 pages or frames" in refusal(read, path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_no_numbers_are_counted(tmp_path, bad):
    pixels = noise(dtype=np.float32)
    pixels[2, 3] = pixels[4, 4] = bad
    assert "2 pixels are NaN or infinite" in refusal(read_image, write_image(tmp_path / "a.tif", pixels))


def test_a_missing_file(tmp_path):
    assert "the file does not exist" in refusal(read_image, tmp_path / "a.png")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads files of any mode")
def test_a_file_of_mode_0(tmp_path):
    path = write_image(tmp_path / "a.png", GRAY)
    path.chmod(0)
    assert "permission denied" in refusal(read_image, path)


def test_permission_is_reported(tmp_path, monkeypatch):
    """The same for root, who cannot be refused."""

    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(readers, "read_file", refuse)
    assert "permission denied" in refusal(read_image, write_image(tmp_path / "a.png", GRAY))


@pytest.mark.parametrize("read", [read_image, read_mask])
def test_a_named_pipe_does_not_hang(tmp_path, read):
    path = tmp_path / "x.png"
    os.mkfifo(path)

    def hang(*_):
        raise TimeoutError("the read hung")

    before = signal.signal(signal.SIGALRM, hang)
    signal.alarm(5)
    try:
        assert "is a pipe or a device, no file" in refusal(read, path)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_folders_and_broken_links_are_reported(tmp_path):
    (tmp_path / "a.png").mkdir()
    assert "is a folder" in refusal(read_image, tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "gone.png")
    assert "does not exist" in refusal(read_image, tmp_path / "b.png")
    (tmp_path / "c.png").symlink_to(tmp_path / "c.png")
    assert "cannot be read" in refusal(read_image, tmp_path / "c.png")


def test_a_newline_in_a_name_is_escaped(tmp_path):
    path = tmp_path / "a\nERROR: all lost.png"
    path.write_bytes(b"")
    with pytest.raises(DataError) as caught:
        read_image(path)
    assert "a\\nERROR: all lost.png: the file is empty" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


# --- masks ------------------------------------------------------------------------------------------------


def equal_channels(mask: np.ndarray, channels: int, alpha: int | None = None) -> np.ndarray:
    planes = [mask] * channels + ([np.full_like(mask, alpha)] if alpha is not None else [])
    return np.stack(planes, axis=2)


@pytest.mark.parametrize(
    ("name", "pixels"),
    [
        ("a.png", blob()),
        ("a.bmp", blob()),
        ("a.tif", blob()),
        ("deep.png", blob().astype(np.uint16) * 200),
        ("float.tif", blob().astype(np.float32) / 255),
        ("negative.tif", blob().astype(np.int32) - 1024),
        ("bits.png", blob() > 0),
        ("bits.tif", blob() > 0),
        ("a.jp2", blob()),
        ("deep.j2k", blob().astype(np.uint16) * 200),
    ],
)
def test_masks_keep_their_stored_values(tmp_path, name, pixels):
    np.testing.assert_array_equal(read_mask(write_image(tmp_path / name, pixels)), pixels)


@pytest.mark.parametrize(("channels", "alpha"), [(3, None), (3, 255), (1, 255)], ids=["rgb", "rgba", "la"])
def test_equal_channels_are_collapsed(tmp_path, channels, alpha):
    path = write_image(tmp_path / "a.png", equal_channels(blob(), channels, alpha))
    mask = read_mask(path)
    assert mask.ndim == 2
    np.testing.assert_array_equal(mask, blob())


def indexed(indices, palette, **options):
    picture = Image.fromarray(indices, "L").convert("P")
    picture.putdata(indices.ravel().tolist())
    picture.putpalette([value for color in palette for value in color])
    return picture, options


BLACK, WHITE, RED, GREEN, GRAY_50 = (0, 0, 0), (255, 255, 255), (200, 0, 0), (0, 128, 0), (50, 50, 50)
ONES = blob(value=1)


@pytest.mark.parametrize("suffix", [".png", ".gif", ".bmp", ".tif"])
@pytest.mark.parametrize(
    ("indices", "palette"),
    [
        (ONES, [BLACK, WHITE]),
        (1 - ONES, [WHITE, BLACK]),
        (ONES, [BLACK, RED]),
        (1 - ONES, [RED, BLACK]),
        (2 - ONES, [GREEN, RED, BLACK]),
    ],
    ids=["black first", "white first", "red", "red first", "unused first"],
)
def test_the_foreground_is_what_is_not_black(tmp_path, suffix, indices, palette):
    picture, _ = indexed(indices, palette)
    if (suffix, palette) == (".bmp", [BLACK, WHITE]):  # Pillow decodes it to black only
        assert "palette of black and white" in refusal(read_mask, write_image(tmp_path / "a.bmp", picture))
        return
    np.testing.assert_array_equal(read_mask(write_image(tmp_path / f"a{suffix}", picture)) > 0, blob() > 0)
    coding = MaskCoding(threshold=128)
    cut = coding.decode(read_mask(tmp_path / f"a{suffix}", gray=True), "a")
    np.testing.assert_array_equal(cut, blob() > 0)


@pytest.mark.parametrize("clear", [0, b"\x00\xff"], ids=["number", "bytes"])
def test_transparent_entries_are_background(tmp_path, clear):
    picture, _ = indexed(ONES, [WHITE, RED])
    np.testing.assert_array_equal(read_mask(write_image(tmp_path / "a.png", picture, transparency=clear)), ONES)
    picture, _ = indexed(1 - ONES, [RED, WHITE])
    other = 1 if clear == 0 else b"\xff\x00"
    np.testing.assert_array_equal(read_mask(write_image(tmp_path / "b.png", picture, transparency=other)), ONES)


def test_the_index_of_a_palette_that_begins_with_black_is_the_class(tmp_path):
    several = blob(value=2) + np.eye(6, 7, dtype=np.uint8) * (blob() == 0)
    for palette in ([BLACK, RED, GREEN], [BLACK, GRAY_50, WHITE]):
        picture, _ = indexed(several, palette)
        np.testing.assert_array_equal(read_mask(write_image(tmp_path / "a.png", picture)), several)


@pytest.mark.parametrize(
    "palette", [[WHITE, RED], [WHITE, GREEN, BLACK], [BLACK, BLACK, RED]], ids=["no black", "black last", "black twice"]
)
def test_colors_that_do_not_say_what_is_background(tmp_path, palette):
    indices = (np.arange(42).reshape(6, 7) % len(palette)).astype(np.uint8)
    path = write_image(tmp_path / "a.png", indexed(indices, palette)[0])
    told = refusal(read_mask, path)
    names = [
        f"#{red:02x}{green:02x}{blue:02x} in {(indices == at).sum()} pixels"
        for at, (red, green, blue) in enumerate(palette)
    ]
    assert all(name in told for name in names) and "data.mask.colors=[" in told and "data.mask.values=[1]" in told
    np.testing.assert_array_equal(read_mask(path, colors="index"), indices)


@pytest.mark.parametrize("mode", ["P", "RGB", "RGBA"])
def test_colors_named_by_the_user_are_the_classes(tmp_path, mode):
    indices = (np.arange(42).reshape(6, 7) % 3).astype(np.uint8)
    picture, _ = indexed(indices, [WHITE, GREEN, RED])
    path = write_image(tmp_path / "a.png", picture.convert(mode))
    expected = np.array([0, 2, 1], np.uint8)[indices]
    np.testing.assert_array_equal(read_mask(path, colors=("#c80000", "#008000")), expected)
    assert "#ffffff in 14 pixels" in refusal(lambda path: read_mask(path, colors=("#c80000",)), path)


def test_a_colored_mask_is_refused_where_it_has_more_than_one_color(tmp_path):
    for other in (RED, WHITE):
        pixels = equal_channels(np.zeros((6, 7), np.uint8), 3)
        pixels[1, 1] = RED
        path = write_image(tmp_path / "a.png", pixels)
        np.testing.assert_array_equal(read_mask(path), (pixels > 0).any(2) * 255)
        pixels[2, 2], pixels[3, 3] = GREEN, other
        told = refusal(read_mask, write_image(tmp_path / "b.png", pixels))
        assert "the mask is colored" in told and "#008000 in 1 pixels" in told
    assert "729 colors" in refusal(read_mask, write_image(tmp_path / "c.png", noise(27, 27, 3)))


def test_opaque_colors_on_transparent_ground(tmp_path):
    pixels = np.zeros((6, 7, 4), np.uint8)
    pixels[blob() > 0] = (*RED, 255)
    np.testing.assert_array_equal(read_mask(write_image(tmp_path / "a.png", pixels)), blob())
    pixels[0, 0] = (*BLACK, 255)
    assert "transparent alpha" in refusal(read_mask, write_image(tmp_path / "b.png", pixels))


def test_transparency_is_refused(tmp_path):
    for channels in (1, 3):
        pixels = equal_channels(blob(), channels, 255)
        pixels[0, 0, -1] = 254
        assert "transparent alpha" in refusal(read_mask, write_image(tmp_path / "a.png", pixels))


def test_a_jpeg_is_refused_until_it_is_to_be_cut(tmp_path):
    path = write_image(tmp_path / "a.jpg", np.kron(blob(), np.ones((8, 8), np.uint8)), quality=95)
    assert "--set data.mask.threshold=128" in refusal(read_mask, path)
    cut = read_mask(path, gray=True) >= 128
    np.testing.assert_array_equal(cut, np.kron(blob(), np.ones((8, 8), np.uint8)) > 0)
    renamed = path.rename(tmp_path / "a.png")
    assert "JPEG" in refusal(read_mask, renamed)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_mask_that_stores_white_as_0_is_refused(tmp_path, dtype):
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(blob().astype(dtype), photometric=0))
    assert "white as 0" in refusal(read_mask, path)


@pytest.mark.parametrize(("name", "options", "told"), [
    ("a.webp", {"quality": 80}, "lossy WebP"),
    ("a.jp2", {"irreversible": True, "quality_layers": [3]}, "lossy JPEG 2000"),
])  # fmt: skip
def test_masks_that_lost_something_are_refused_until_they_are_to_be_cut(tmp_path, name, options, told):
    large = np.kron(blob(), np.ones((8, 8), np.uint8))
    path = write_image(tmp_path / name, large, **options)
    assert f"stored as {told} has gray levels" in refusal(read_mask, path)
    cut = MaskCoding(threshold=128).decode(read_mask(path, gray=True), "a")
    assert np.count_nonzero(cut != (large > 0)) < 40
    assert read_image(path).shape[:2] == large.shape


def test_lossless_webp_is_a_mask(tmp_path):
    np.testing.assert_array_equal(read_mask(write_image(tmp_path / "a.webp", blob(), lossless=True)), blob())


# --- formats of cameras and microscopes ---------------------------------------------------------------------


def test_webp(tmp_path):
    image = read_image(write_image(tmp_path / "a.webp", COLOR, lossless=True))
    np.testing.assert_array_equal(image, COLOR)
    image = read_image(write_image(tmp_path / "b.webp", smooth(3), quality=95))
    assert np.abs(image.astype(int) - smooth(3)).max() < 16


def of_bits(path, values, bits):
    """A JPEG 2000 file of fewer bits than 16: one of 16 whose header is changed, which moves its values."""
    write_image(path, (values.astype(int) + 2**15 - 2 ** (bits - 1)).astype(np.uint16))
    content = bytearray(path.read_bytes())
    at = content.index(b"\xff\x4f\xff\x51")
    assert content[at + 42] == 15
    content[at + 42] = bits - 1
    if b"ihdr" in content:
        content[content.index(b"ihdr") + 14] = bits - 1
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("bits", [10, 12, 16])
@pytest.mark.parametrize("name", ["a.jp2", "a.j2k"])
def test_values_of_jpeg_2000_are_those_that_are_stored(tmp_path, name, bits):
    """Pillow would fill them up to 16 bits: a label of 1 would become 16."""
    values = noise(16, 17, dtype=np.uint16) >> (16 - bits)
    values[:2, :5] = [[0, 1, 2, 3, 2**bits - 1]] * 2
    path = of_bits(tmp_path / name, values, bits)
    image = read_image(path)
    assert image.dtype == np.uint16
    np.testing.assert_array_equal(image, values)
    np.testing.assert_array_equal(read_mask(path), values)


def test_jpeg_2000_that_would_be_decoded_wrongly(tmp_path):
    whole = write_image(tmp_path / "a.j2k", GRAY).read_bytes()
    signed = bytearray(whole)
    signed[42] |= 0x80
    (tmp_path / "a.j2k").write_bytes(signed)
    assert "signed numbers" in refusal(read_image, tmp_path / "a.j2k")
    deep = bytearray(write_image(tmp_path / "b.j2k", COLOR).read_bytes())
    deep[42] = deep[45] = deep[48] = 11
    (tmp_path / "b.j2k").write_bytes(deep)
    assert "12-bit color would be cut" in refusal(read_image, tmp_path / "b.j2k")
    assert "9-bit gray would be cut" in refusal(read_image, of_bits(tmp_path / "c.jp2", GRAY.astype(np.uint16), 9))


def test_twelve_bits_in_a_tiff(tmp_path):
    """Two pixels are three bytes."""
    values = noise(4, 6, dtype=np.uint16) % 4096
    first, second = values.reshape(-1, 2).T.astype(int)
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], 1).astype(np.uint8)
    content = bytearray(tiff(packed.reshape(4, 9)))
    for tag, value in ((256, 6), (258, 12)):
        at = content.index(struct.pack("<H", tag), 8)
        content[at + 8 : at + 12] = struct.pack("<I", value)
    (tmp_path / "a.tif").write_bytes(content)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), values)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("a.svs", "is a whole-slide image"), ("a.ndpi", "QuPath"), ("a.mrxs", "openslide"), ("a.czi", "bfconvert"),
        ("a.nd2", "OME-TIFF"), ("a.lsm", "OME-TIFF"), ("a.heic", "PNG or JPEG"), ("a.dng", "a raw image of a camera"),
        ("a.mp4", "ffmpeg"), ("a.h5", "numpy.savez"), ("a.mgz", "mri_convert"), ("a.zip", "unpack it"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("read", [read_image, read_mask])
def test_formats_that_are_not_read_have_a_way_out(tmp_path, read, name, told):
    """Many of them are TIFF inside: whatever a decoder makes of their first page, it is not the image."""
    path = tmp_path / name
    path.write_bytes(tiff(GRAY))
    assert told in refusal(read, path)


def test_images_that_imagej_stored_behind_one_page(tmp_path):
    path = write_image(tmp_path / "a.tif", GRAY, description="ImageJ=1.53\nimages=40\nslices=40\n")
    assert "ImageJ stored 40 images" in refusal(read_image, path)
    path = write_image(tmp_path / "b.tif", GRAY, description="ImageJ=1.53\nimages=1\n")
    np.testing.assert_array_equal(read_image(path), GRAY)


def test_a_tiff_of_deep_channels_says_how_to_save_it(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(np.zeros((4, 4, 2), np.uint16)))
    assert "bits" in refusal(read_image, path) and "channel" in refusal(read_image, path)


@pytest.mark.row("M04")
@pytest.mark.parametrize("highest", [1, 255])
def test_a_bit_of_a_png_never_changes_pixels_in_silence(tmp_path, highest):
    """Found by mutations: Pillow holds the check sums of all parts but the pixels."""
    values = (blob(16, 24) > 0).astype(np.uint8) * highest
    path = write_image(tmp_path / "a.png", values)
    content = path.read_bytes()
    refused = 0
    for place in range(8, len(content)):
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        try:
            np.testing.assert_array_equal(read_mask(path), values)
        except DataError:
            refused += 1
    # The rest are bits of the mark behind the pixels.
    assert refused > 0.7 * (len(content) - 8)


def test_masks_that_are_pictures_are_one_error_and_few_colors_list_theirs(tmp_path):
    """Twenty colored overlays are told in a line, not with twenty different colors to name."""
    random = np.random.default_rng(0)
    for number in range(12):
        gray = random.integers(0, 255, (20, 30), np.uint8)
        drawn = np.dstack([gray] * 3)
        drawn[4:9, 4] = 255, 0, 0
        few = np.zeros((20, 30, 3), np.uint8)
        few[: 5 + number, 3:9], few[15:, 2 + number :] = (0, 255, 0), (255, 0, 0)
        Image.fromarray(few if number % 2 else drawn).save(tmp_path / f"{number}.png")
    problems = []
    for number in range(12):
        with pytest.raises(DataError) as caught:
            read_mask(tmp_path / f"{number}.png")
        problems += caught.value.problems
    told = str(DataError.of(problems)).splitlines()
    assert len(told) == 2, told
    assert "colors are those of a picture, not of a mask (the first; 6 of the kind)" in told[0]
    assert "#00ff00 in" in told[1] and "data.mask.colors=['#" in told[1] and "colors=['#000000']" not in told[1]
