"""Draw the receipt that `make demo` reads: python tools/make_demo_image.py

Written by hand so that the picture belongs to the project; the font is Pillow's own (Aileron,
CC0). Slightly rotated and noisy, as a photograph would be.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

OUTPUT = Path(__file__).resolve().parent.parent / "tilewright" / "demo" / "receipt.png"
WIDTH, HEIGHT = 480, 640
LINES = (
    (40, 34, 44, "CORNER CAFE"),
    (104, 34, 20, "12 Harbour Street, Lisbon"),
    (160, 34, 26, "Espresso"),
    (160, 360, 26, "1.40"),
    (204, 34, 26, "Orange juice"),
    (204, 360, 26, "3.20"),
    (248, 34, 26, "Custard tart x2"),
    (248, 360, 26, "2.60"),
    (320, 34, 32, "TOTAL"),
    (320, 345, 32, "7.20"),
    (400, 34, 22, "Paid by card  ****  4821"),
    (440, 34, 22, "2026-03-14  09:26"),
    (530, 120, 28, "Thank you!"),
)


def main() -> None:
    """Draw and write the picture."""
    page = Image.new("RGB", (WIDTH, HEIGHT), (244, 241, 232))
    draw = ImageDraw.Draw(page)
    for top, left, size, text in LINES:
        draw.text((left, top), text, fill=(38, 36, 40), font=ImageFont.load_default(size))
    draw.line((34, 300, 446, 300), fill=(120, 118, 116), width=2)
    page = page.rotate(1.2, fillcolor=(206, 198, 184), resample=Image.Resampling.BICUBIC)
    noise = np.random.default_rng(7).normal(0, 5, (HEIGHT, WIDTH, 1))
    pixels = np.clip(np.asarray(page) + noise, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(OUTPUT, optimize=True)
    print(OUTPUT)


if __name__ == "__main__":
    main()
