from __future__ import annotations

import numpy as np

from tilewright.demo import text_regions


def test_the_model_sees_blue_first_normalised_pixels():
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[..., 2] = 255
    x = text_regions.model_input(pixels)
    assert x.shape == (1, 3, 32, 64) and x.dtype == np.float32 and x.flags.c_contiguous
    blue, _, red = x[0, :, 0, 0]
    assert blue > 0 > red


def test_each_region_is_one_box_with_a_margin_inside_the_picture():
    probability = np.zeros((96, 128), np.float32)
    probability[8:16, 8:48] = 0.9
    probability[60:72, 100:128] = 0.9
    probability[40, 40] = 0.9  # One cell is a speck, not text.
    boxes = text_regions.find_boxes(probability)
    margin = text_regions.MARGIN
    assert boxes == [
        (8 - margin, 8 - margin, 48 + margin, 16 + margin),
        (100 - margin, 60 - margin, 128, 72 + margin),
    ]


def test_nothing_is_found_in_nothing():
    assert text_regions.find_boxes(np.zeros((32, 32), np.float32)) == []


def test_the_sketch_shows_ink_and_frames():
    pixels = np.full((64, 128, 3), 255, np.uint8)
    pixels[30:34, 20:100] = 0
    shown = text_regions.sketch(pixels, [(16, 24, 104, 40)], columns=32)
    assert "|" in shown and "." in shown


def test_draws_boxes_and_reads_the_picture_back(tmp_path):
    pixels = np.full((32, 48, 3), 255, np.uint8)
    text_regions.draw(pixels, [(4, 4, 40, 20)], tmp_path / "out.png")
    found = text_regions.picture(tmp_path / "out.png")
    assert found.shape == (32, 48, 3) and (found != 255).any() and (found[25:] == 255).all()
