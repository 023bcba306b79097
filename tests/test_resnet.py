import keras
import numpy as np
import pytest

from training.resnet import resnet18


def trainable(model: keras.Model) -> int:
    return int(sum(np.prod(weight.shape) for weight in model.trainable_weights))


def stage_shapes(model: keras.Model) -> list[tuple[int, ...]]:
    return [model.get_layer(f"stage{stage}").output.shape[1:] for stage in range(1, 5)]


def test_cifar_form() -> None:
    model = resnet18()
    assert trainable(model) == 11_173_962
    assert model.input_shape == (None, 32, 32, 3)
    assert model.get_layer("stem").output.shape == (None, 32, 32, 64)
    assert stage_shapes(model) == [(32, 32, 64), (16, 16, 128), (8, 8, 256), (4, 4, 512)]
    assert model.get_layer("features").output.shape == (None, 512)
    assert model.output_shape == (None, 10)


def test_imagenet_form() -> None:
    model = resnet18(1000, stem="imagenet", image_size=224)
    assert trainable(model) == 11_689_512
    assert model.get_layer("stem").output.shape == (None, 56, 56, 64)
    assert stage_shapes(model) == [(56, 56, 64), (28, 28, 128), (14, 14, 256), (7, 7, 512)]
    assert model.output_shape == (None, 1000)


def test_answers_are_probabilities() -> None:
    probabilities = np.array(resnet18(7)(np.random.default_rng(0).normal(size=(2, 32, 32, 3))))
    assert probabilities.shape == (2, 7)
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    assert probabilities.min() >= 0  # softmax may come to zero


def test_classes_size_and_dropout_are_arguments() -> None:
    model = resnet18(3, image_size=48, dropout=0.25)
    assert model.input_shape == (None, 48, 48, 3)
    assert model.output_shape == (None, 3)
    assert model.get_layer("dropout").rate == pytest.approx(0.25)


def test_one_set_of_weights_works_at_any_size() -> None:
    model = resnet18(image_size=None)
    for side in (16, 24, 33):
        assert model(np.zeros((1, side, side, 3))).shape == (1, 10)
