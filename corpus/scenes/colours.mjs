/** Names of colours, told from rendered pixels. */

/** Names, and a colour of each that backgrounds are made of. */
export const colours = {
  red: [214, 48, 49],
  orange: [243, 146, 40],
  yellow: [250, 220, 70],
  green: [70, 165, 80],
  blue: [60, 120, 215],
  purple: [140, 85, 190],
  pink: [245, 160, 200],
  brown: [125, 80, 45],
  black: [25, 25, 28],
  white: [255, 255, 255],
  grey: [150, 152, 155],
};

/** Share of a drawing's visible pixels from which on it is said to have a colour, and above which it is not said to lack it. */
export const mostly = 0.6;
export const hardly = 0.2;

/** Hue in degrees, and saturation and value in 0 to 1. */
export function hsv(red, green, blue) {
  const [most, least] = [Math.max(red, green, blue), Math.min(red, green, blue)];
  const range = most - least;
  let hue = 0;
  if (range > 0) {
    if (most === red) hue = ((green - blue) / range + 6) % 6;
    else if (most === green) hue = (blue - red) / range + 2;
    else hue = (red - green) / range + 4;
  }
  return { hue: hue * 60, saturation: most === 0 ? 0 : range / most, value: most / 255 };
}

/** The name of one colour, or undefined between two of them, where people would not agree. */
export function colourName(red, green, blue) {
  const { hue, saturation, value } = hsv(red, green, blue);
  if (value < 0.22) return 'black';
  if (saturation < 0.12) {
    if (value > 0.92) return 'white';
    return value < 0.88 && value > 0.3 ? 'grey' : undefined;
  }
  if (saturation < 0.2 || value < 0.3) return undefined;
  // Dark orange is brown, and light red is pink.
  if (hue >= 14 && hue < 42 && value < 0.66) return 'brown';
  if ((hue >= 340 || hue < 12) && saturation < 0.5 && value > 0.8) return 'pink';
  if (hue >= 346 || hue < 12) return 'red';
  if (hue >= 20 && hue < 40) return value > 0.75 && saturation > 0.5 ? 'orange' : undefined;
  if (hue >= 46 && hue < 66) return value > 0.7 ? 'yellow' : undefined;
  if (hue >= 80 && hue < 162) return 'green';
  if (hue >= 190 && hue < 248) return 'blue';
  if (hue >= 258 && hue < 295) return 'purple';
  if (hue >= 305 && hue < 340 && value > 0.7) return 'pink';
  return undefined;
}

/**
 * The share of each named colour among the visible pixels of a drawing.
 *
 * @param rgba premultiplied pixels; those of less than half opacity do not count
 */
export function colourShares(rgba) {
  const counts = {};
  let visible = 0;
  for (let at = 0; at < rgba.length; at += 4) {
    const alpha = rgba[at + 3];
    if (alpha < 128) continue;
    visible++;
    const [red, green, blue] = [0, 1, 2].map((channel) => Math.min(255, (rgba[at + channel] * 255) / alpha));
    const name = colourName(red, green, blue);
    if (name !== undefined) counts[name] = (counts[name] ?? 0) + 1;
  }
  return {
    visible,
    shares: Object.fromEntries(Object.entries(counts).map(([name, count]) => [name, count / visible])),
  };
}

/** The colour that most of a drawing has, or undefined. */
export function mainColour(shares) {
  return Object.entries(shares).find(([, share]) => share >= mostly)?.[0];
}

/** Whether a drawing has a colour: true, false, or undefined where people could say either. */
export function hasColour(shares, colour) {
  const share = shares[colour] ?? 0;
  if (share >= mostly) return true;
  return share <= hardly ? false : undefined;
}

/**
 * The drawing with its hues turned: a matrix that keeps grey (as of CSS's hue-rotate).
 *
 * @param rgba premultiplied pixels
 * @param turn in full turns
 */
export function turnHue(rgba, turn) {
  const [cos, sin] = [Math.cos(2 * Math.PI * turn), Math.sin(2 * Math.PI * turn)];
  const row = (a, b, c, d, e, f) => [0.213 + cos * a - sin * b, 0.715 - cos * c - sin * d, 0.072 - cos * e + sin * f];
  const red = row(0.787, 0.213, 0.715, 0.715, 0.072, 0.928);
  const green = [
    0.213 - cos * 0.213 + sin * 0.143,
    0.715 + cos * 0.285 + sin * 0.14,
    0.072 - cos * 0.072 - sin * 0.283,
  ];
  const blue = [
    0.213 - cos * 0.213 - sin * 0.787,
    0.715 - cos * 0.715 + sin * 0.715,
    0.072 + cos * 0.928 + sin * 0.072,
  ];
  const result = new Uint8Array(rgba.length);
  for (let at = 0; at < rgba.length; at += 4) {
    const alpha = rgba[at + 3];
    for (const [channel, weights] of [red, green, blue].entries()) {
      const value = weights[0] * rgba[at] + weights[1] * rgba[at + 1] + weights[2] * rgba[at + 2];
      result[at + channel] = Math.round(Math.min(alpha, Math.max(0, value)));
    }
    result[at + 3] = alpha;
  }
  return result;
}
