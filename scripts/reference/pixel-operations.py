"""Writes what Pillow makes of a small picture by each operation of the training augmentation.

    python3 scripts/reference/pixel-operations.py > ts/test/image/fixtures/pixel-operations.json

Needs Debian's python3-pil.
"""
import base64
import json

from PIL import Image, ImageEnhance, ImageOps

WIDTH, HEIGHT = 23, 17
FILL = (128, 128, 128)


def picture():
    """Smooth colours with some noise, so that no operation is trivial."""
    state, data = 1, bytearray()
    for row in range(HEIGHT):
        for column in range(WIDTH):
            for channel in range(3):
                state = (1103515245 * state + 12345) % 2**31
                data.append(30 + (7 * row + 5 * column * (channel + 1)) % 150 + (state >> 16) % 40)
    return Image.frombytes('RGB', (WIDTH, HEIGHT), bytes(data))


def affine(image, matrix):
    return image.transform(image.size, Image.AFFINE, matrix, Image.BILINEAR, fillcolor=FILL)


def main():
    image = picture()
    results = []

    def add(operation, made):
        results.append({'operation': operation, 'data': base64.b64encode(made.tobytes()).decode()})

    add({'name': 'autocontrast'}, ImageOps.autocontrast(image))
    add({'name': 'equalize'}, ImageOps.equalize(image))
    enhancers = {
        'brightness': ImageEnhance.Brightness,
        'contrast': ImageEnhance.Contrast,
        'saturation': ImageEnhance.Color,
        'sharpness': ImageEnhance.Sharpness,
    }
    for name, enhancer in enhancers.items():
        for factor in (1.36, 0.6):
            add({'name': name, 'factor': factor}, enhancer(image).enhance(factor))
    for sign in (1, -1):
        slope, pixels = 0.21 * sign, 7 * sign
        add({'name': 'shearX', 'slope': slope}, affine(image, (1, slope, 0, 0, 1, 0)))
        add({'name': 'shearY', 'slope': slope}, affine(image, (1, 0, 0, slope, 1, 0)))
        add({'name': 'translateX', 'pixels': pixels}, affine(image, (1, 0, pixels, 0, 1, 0)))
        add({'name': 'translateY', 'pixels': pixels}, affine(image, (1, 0, 0, 0, 1, pixels)))
        add({'name': 'rotate', 'degrees': 21 * sign}, image.rotate(21 * sign, Image.BILINEAR, fillcolor=FILL))
    source = {'width': WIDTH, 'height': HEIGHT, 'data': base64.b64encode(image.tobytes()).decode()}
    print(json.dumps({'source': source, 'results': results}))


main()
