"""Picture to model input, and the model's answer to rectangles a person can look at."""

from __future__ import annotations

from pathlib import Path

import numpy as np

# ImageNet statistics, as PaddleOCR's detector was trained with; channels are blue, green, red.
# Source: PaddleOCR, configs/det/ch_PP-OCRv4/ch_PP-OCRv4_det_student.yml (NormalizeImage).
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)
THRESHOLD = 0.3
# The detector answers for shrunken text; grown by this many pixels a box covers the letters.
MARGIN = 6
CELL = 4

Box = tuple[int, int, int, int]


def picture(path: Path) -> np.ndarray:
    """The picture at `path`: uint8 [height, width, 3], red first."""
    from PIL import Image

    return np.asarray(Image.open(path).convert("RGB"))


def model_input(pixels: np.ndarray) -> np.ndarray:
    """The detector's input: float32 [1, 3, height, width]; both sizes must be multiples of 32."""
    blue_first = pixels[:, :, ::-1].astype(np.float32) / 255
    normal = (blue_first - np.float32(MEAN)) / np.float32(DEVIATION)
    return np.ascontiguousarray(normal.transpose(2, 0, 1)[None])


def find_boxes(probability: np.ndarray) -> list[Box]:
    """Rectangles (left, top, right, bottom) around connected regions above THRESHOLD.

    `probability`: float32 [height, width], the chance that a pixel belongs to text.
    """
    height, width = (size // CELL * CELL for size in probability.shape)
    cells = probability[:height, :width].reshape(height // CELL, CELL, width // CELL, CELL)
    text = cells.max(axis=(1, 3)) > THRESHOLD
    boxes = []
    while text.any():
        region = _take_region(text)
        rows, columns = zip(*region, strict=True)
        if len(region) > 4:
            boxes.append(
                (
                    max(0, min(columns) * CELL - MARGIN),
                    max(0, min(rows) * CELL - MARGIN),
                    min(width, (max(columns) + 1) * CELL + MARGIN),
                    min(height, (max(rows) + 1) * CELL + MARGIN),
                )
            )
    return sorted(boxes, key=lambda box: (box[1], box[0]))


def _take_region(text: np.ndarray) -> list[tuple[int, int]]:
    """Remove one connected region from `text` and return its cells."""
    first = tuple(int(i) for i in np.argwhere(text)[0])
    text[first] = False
    region, waiting = [first], [first]
    while waiting:
        row, column = waiting.pop()
        for cell in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
            inside = 0 <= cell[0] < text.shape[0] and 0 <= cell[1] < text.shape[1]
            if inside and text[cell]:
                text[cell] = False
                region.append(cell)
                waiting.append(cell)
    return region


def sketch(pixels: np.ndarray, boxes: list[Box], columns: int = 64) -> str:
    """The picture in characters: ink as dots, boxes as frames."""
    step_x = pixels.shape[1] / columns
    step_y = step_x * 2
    rows = int(pixels.shape[0] / step_y)
    page = [[" "] * columns for _ in range(rows)]
    grey = pixels.mean(axis=2)
    for row in range(rows):
        for column in range(columns):
            top, left = int(row * step_y), int(column * step_x)
            patch = grey[top : top + int(step_y) + 1, left : left + int(step_x) + 1]
            if patch.min() < 110:
                page[row][column] = "."
    for left, top, right, bottom in boxes:
        x0, x1 = int(left / step_x), min(columns - 1, int(right / step_x))
        y0, y1 = int(top / step_y), min(rows - 1, int(bottom / step_y))
        for y in range(y0, y1 + 1):
            page[y][x0] = page[y][x1] = "|"
    return "\n".join("".join(row).rstrip() for row in page)


def draw(pixels: np.ndarray, boxes: list[Box], path: Path) -> None:
    """Write the picture with the boxes drawn in."""
    from PIL import Image, ImageDraw

    image = Image.fromarray(pixels)
    pen = ImageDraw.Draw(image)
    for box in boxes:
        pen.rectangle(box, outline=(214, 64, 44), width=2)
    image.save(path)
