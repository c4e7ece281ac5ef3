/** Scenes: 2 to 6 drawings on a background, with everything that is true of them. */
import { colourName, colourShares, colours, hasColour, mainColour, turnHue } from './colours.mjs';
import { areAlike } from './kinds.mjs';

/** Drawings of a scene at most, and at least. */
export const most = 6;
export const fewest = 2;
/** Distance of two middles, as a share of the side, from which on one is said to be left of or above the other. */
export const clearly = 0.14;

/**
 * One scene.
 *
 * @param drawings what to choose from: `{ thing: { noun, kind }, rgba, side, origin, named }`, premultiplied pixels of a square
 * @param random source of all choices
 * @param size side of the scene in pixels
 * @returns `{ pixels, size, background, objects }`: RGB bytes; objects with noun, kind, colour, shares, x, y (middle, 0 to 1), scale
 */
export function composeScene(drawings, random, size) {
  const count = fewest + random.integer(most - fewest + 1);
  const chosen = chooseDrawings(drawings, random, count);
  const grid = count <= 3 ? 2 : 3;
  const cells = random.shuffle(Array.from({ length: grid * grid }, (_, i) => i)).slice(0, count);
  const objects = chosen.map((drawing, i) => {
    const rgba = random.chance(0.5) ? turnHue(drawing.rgba, random.uniform(0.1, 0.9)) : drawing.rgba;
    const side = Math.max(8, Math.round((size / grid) * random.uniform(0.78, 1)));
    const free = size / grid - side;
    const left = Math.round((cells[i] % grid) * (size / grid) + random.uniform(0, free));
    const top = Math.round(Math.floor(cells[i] / grid) * (size / grid) + random.uniform(0, free));
    const shown = resample(rgba, drawing.side, side);
    const { shares } = colourShares(shown);
    return {
      ...drawing.thing,
      named: drawing.named ?? true,
      origin: drawing.origin,
      shares,
      colour: mainColour(shares),
      x: (left + side / 2) / size,
      y: (top + side / 2) / size,
      shown,
      side,
      left: Math.min(left, size - side),
      top: Math.min(top, size - side),
    };
  });
  const background = chooseBackground(objects, random);
  const pixels = new Uint8Array(size * size * 3);
  for (let at = 0; at < pixels.length; at += 3) pixels.set(background.rgb, at);
  for (const object of objects) lay(pixels, size, object);
  return { pixels, size, background: background.name, objects: objects.map(({ shown: _, ...object }) => object) };
}

/** Things that no name could be mixed up of; some of one kind, so that counts of kinds are more than one. */
function chooseDrawings(drawings, random, count) {
  const kind = random.pick(drawings).thing.kind;
  const chosen = [];
  for (let tries = 0; chosen.length < count && tries < 500; tries++) {
    const drawing = random.pick(drawings);
    const wanted = tries > 300 || drawing.thing.kind === kind || !random.chance(0.6);
    if (!wanted || chosen.some(({ thing }) => areAlike(thing.noun, drawing.thing.noun))) continue;
    chosen.push(drawing);
  }
  if (chosen.length < count)
    throw new Error(`scenes: expected drawings of ${count} different things, got ${chosen.length}`);
  return chosen;
}

/** A background on which every drawing can be seen: of no colour that a drawing has much of. */
function chooseBackground(objects, random) {
  const names = Object.keys(colours).filter((name) => objects.every(({ shares }) => (shares[name] ?? 0) < 0.35));
  const name =
    random.chance(0.3) && names.includes('white') ? 'white' : random.pick(names.length > 0 ? names : ['grey']);
  const vary = (value) => Math.max(0, Math.min(255, Math.round(value + random.uniform(-14, 14))));
  for (let tries = 0; tries < 20; tries++) {
    const rgb = name === 'white' ? [255, 255, 255] : colours[name].map(vary);
    if (colourName(...rgb) === name) return { name, rgb };
  }
  return { name, rgb: colours[name] };
}

/** Lays a premultiplied drawing on RGB pixels. */
function lay(pixels, size, { shown, side, left, top }) {
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < side; x++) {
      const from = (y * side + x) * 4;
      const to = ((top + y) * size + left + x) * 3;
      const rest = 255 - shown[from + 3];
      for (let channel = 0; channel < 3; channel++)
        pixels[to + channel] = Math.min(255, Math.round(shown[from + channel] + (pixels[to + channel] * rest) / 255));
    }
  }
}

/** A square RGBA picture at another side: each pixel is the mean of the area that it covers. */
export function resample(rgba, from, to) {
  const result = new Uint8Array(to * to * 4);
  const step = from / to;
  const spans = Array.from({ length: to }, (_, at) => {
    const [begin, end] = [at * step, (at + 1) * step];
    const parts = [];
    for (let i = Math.floor(begin); i < Math.min(from, Math.ceil(end)); i++)
      parts.push([i, Math.min(end, i + 1) - Math.max(begin, i)]);
    return parts;
  });
  const area = step * step;
  for (let y = 0; y < to; y++) {
    for (let x = 0; x < to; x++) {
      const sums = [0, 0, 0, 0];
      for (const [row, height] of spans[y])
        for (const [column, width] of spans[x]) {
          const at = (row * from + column) * 4;
          for (let channel = 0; channel < 4; channel++) sums[channel] += rgba[at + channel] * height * width;
        }
      for (let channel = 0; channel < 4; channel++)
        result[(y * to + x) * 4 + channel] = Math.round(sums[channel] / area);
    }
  }
  return result;
}

/** How many objects are of a kind. */
export const countKind = ({ objects }, kind) => objects.filter((object) => object.kind === kind).length;

/** How many objects have a colour, or undefined where it cannot be told of one of them. */
export function countColour({ objects }, colour) {
  const answers = objects.map(({ shares }) => hasColour(shares, colour));
  return answers.includes(undefined) ? undefined : answers.filter(Boolean).length;
}

/** Objects that are clearly in a direction of another one. */
export function objectsBeside({ objects }, object, direction) {
  const distance = {
    'left of': (other) => object.x - other.x,
    'right of': (other) => other.x - object.x,
    above: (other) => object.y - other.y,
    below: (other) => other.y - object.y,
  }[direction];
  const distances = objects.filter((other) => other !== object).map((other) => [other, distance(other)]);
  // Those that are hardly in the direction could be counted or not.
  const unclear = distances.some(([, far]) => far > 0.02 && far < clearly);
  return unclear ? undefined : distances.filter(([, far]) => far >= clearly).map(([other]) => other);
}

/** The one object that is clearly furthest to a side, or undefined. */
export function objectAt({ objects }, side) {
  const value = { left: (o) => -o.x, right: (o) => o.x, top: (o) => -o.y, bottom: (o) => o.y }[side];
  const sorted = [...objects].sort((a, b) => value(b) - value(a));
  return value(sorted[0]) - value(sorted[1]) >= clearly ? sorted[0] : undefined;
}

/** Where an object is, in words, or undefined between two places. */
export function placeOf({ x, y }) {
  const third = (value) => (value < 0.33 ? 0 : value > 0.67 ? 2 : value > 0.42 && value < 0.58 ? 1 : undefined);
  const [column, row] = [third(x), third(y)];
  if (column === undefined || row === undefined) return undefined;
  return [
    ['top left', 'top', 'top right'],
    ['left', 'middle', 'right'],
    ['bottom left', 'bottom', 'bottom right'],
  ][row][column];
}
