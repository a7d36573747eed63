import io
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

import twotower.features.picture as picture_module
from twotower.features.picture import BrokenImageError, read_picture

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def save(image: Image.Image, kind: str = "PNG", **options: object) -> Path:
        image.save(tmp_path / "picture", format=kind, **options)
        return tmp_path / "picture"

    return save


def colour(image: Image.Image, where: tuple[int, int] = (0, 0)) -> tuple[int, ...]:
    assert image.mode == "RGB"
    found = image.getpixel(where)
    assert isinstance(found, tuple)
    return found


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_every_format_of_the_web_is_read(write: Write, kind: str) -> None:
    image = read_picture(write(Image.new("RGB", (20, 10), (250, 250, 250)), kind))
    assert image.size == (20, 10)
    assert all(abs(channel - 250) < 3 for channel in colour(image))


@pytest.mark.parametrize(
    ("mode", "fill", "expected"),
    [
        ("L", 100, (100, 100, 100)),
        ("1", 1, (255, 255, 255)),
        ("LA", (100, 255), (100, 100, 100)),
        ("RGBA", (10, 20, 30, 255), (10, 20, 30)),
        ("RGBA", (10, 20, 30, 0), (255, 255, 255)),
        ("CMYK", (0, 0, 0, 0), (255, 255, 255)),
    ],
)
def test_every_mode_becomes_rgb_on_white(
    write: Write, mode: str, fill: object, expected: tuple[int, ...]
) -> None:
    image = Image.new(mode, (9, 9), fill)  # type: ignore[arg-type]
    path = write(image, "JPEG" if mode == "CMYK" else "PNG")
    assert colour(read_picture(path)) == expected


def test_a_transparent_colour_of_a_palette_is_white(write: Write) -> None:
    image = Image.new("P", (9, 9), 0)
    image.putpalette([200, 0, 0, 0, 0, 200])
    image.putpixel((4, 4), 1)
    read = read_picture(write(image, "GIF", transparency=0))
    assert colour(read) == (255, 255, 255)
    assert colour(read, (4, 4)) == (0, 0, 200)


def test_the_first_frame_of_a_moving_image_is_taken(write: Write) -> None:
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "blue")]
    path = write(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert colour(read_picture(path)) == (255, 0, 0)


def test_a_photograph_taken_sideways_is_turned(write: Write) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to the right
    path = write(Image.new("RGB", (30, 10)), "JPEG", exif=exif)
    assert read_picture(path).size == (10, 30)


def test_what_is_no_image_says_why(tmp_path: Path) -> None:
    path = tmp_path / "picture"
    with pytest.raises(BrokenImageError, match=r"^no such file$"):
        read_picture(path)
    for content in (b"", b"<html>not found</html>", b"<svg xmlns='http://www.w3.org/2000/svg'/>"):
        path.write_bytes(content)
        with pytest.raises(BrokenImageError, match=r"^not a JPEG, PNG, WEBP, GIF image$"):
            read_picture(path)


def test_a_format_of_no_web_page_is_not_even_tried(write: Write) -> None:
    with pytest.raises(BrokenImageError, match=r"^not a JPEG"):
        read_picture(write(Image.new("RGB", (9, 9)), "TIFF"))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_file_that_ends_early_is_broken(write: Write, kind: str, share: float) -> None:
    path = write(Image.effect_noise((64, 64), 90).convert("RGB"), kind)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(BrokenImageError):
        read_picture(path)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_spoiled_bytes_are_broken_or_a_picture_never_a_crash(write: Write, kind: str) -> None:
    path = write(Image.effect_noise((32, 32), 90).convert("RGB"), kind)
    content = path.read_bytes()
    for place in range(0, len(content), 37):
        path.write_bytes(content[:place] + b"\xff\x00\xa5" + content[place + 3 :])
        with suppress(BrokenImageError):
            assert read_picture(path).mode == "RGB"


def test_a_small_file_that_unfolds_into_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = io.BytesIO()
    Image.new("1", (9000, 9000)).save(content, format="PNG")
    assert content.tell() < 20_000
    path = tmp_path / "picture"
    path.write_bytes(content.getvalue())

    def decode(*_: object) -> None:
        pytest.fail("its size was looked at too late")

    monkeypatch.setattr(Image.Image, "convert", decode)
    with pytest.raises(BrokenImageError, match=r"^more than 40,000,000 pixels: 9000 x 9000$"):
        read_picture(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(BrokenImageError, match=r"^more than 40,000,000 pixels"):
        read_picture(path)


def test_the_pixel_that_stands_for_no_picture_is_refused(write: Write) -> None:
    with pytest.raises(BrokenImageError, match=r"^smaller than 8 pixels: 1 x 1$"):
        read_picture(write(Image.new("RGB", (1, 1)), "GIF"))
    assert read_picture(write(Image.new("RGB", (8, 8)))).size == (8, 8)
    assert picture_module.MIN_SIDE == 8
