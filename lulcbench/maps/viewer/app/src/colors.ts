// From stored values to colours.

import type { LandClass, Layer, Site, Values } from "./site";
import type { State } from "./state";

// Viridis at 16 equal steps (matplotlib, CC0): legible with any colour vision deficiency, and in grey.
const VIRIDIS =
  "440154481a6c472f7d414487365c8d2e708e26828e21908d1f9e8924aa8335b77954c56871cf5791d742bddf26e4e419fde725";
const RAMP = Array.from({ length: 256 }, (_, i) => {
  const anchors = VIRIDIS.length / 6 - 1;
  const [low, part] = [Math.min(Math.floor((i / 255) * anchors), anchors - 1), 0];
  const share = (i / 255) * anchors - low - part;
  return [0, 2, 4].map((at) => {
    const [a, b] = [low, low + 1].map((k) => parseInt(VIRIDIS.slice(k * 6 + at, k * 6 + at + 2), 16));
    return Math.round(a + (b - a) * share);
  });
});

/** The colour ramp as CSS, from low to high. */
export const RAMP_CSS = `linear-gradient(to right, ${[0, 51, 102, 153, 204, 255]
  .map((i) => `rgb(${RAMP[i].join(" ")})`)
  .join(", ")})`;

const pack = (r: number, g: number, b: number) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0; // little-endian RGBA
const packHex = (hex: string) =>
  pack(parseInt(hex.slice(1, 3), 16), parseInt(hex.slice(3, 5), 16), parseInt(hex.slice(5, 7), 16));

export const colorOf = (entry: LandClass, palette: State["palette"]) => (palette === "safe" ? entry.safe : entry.color);

export type Paint = (value: number) => number;

/** Classes by position in the legend; hidden ones and nodata are transparent. */
export function classPaint(site: Site, palette: State["palette"], visible: (code: number) => boolean): Paint {
  const table = new Uint32Array(256);
  site.legend.forEach((entry, index) => {
    if (visible(entry.code)) table[index] = packHex(colorOf(entry, palette));
  });
  return (value) => table[value];
}

export function valuePaint(layer: Layer): Paint {
  const span = layer.high - layer.low || 1;
  return (value) => {
    if (value === layer.fill || Number.isNaN(value)) return 0;
    const share = (value * layer.scale + layer.offset - layer.low) / span;
    const [r, g, b] = RAMP[Math.round(Math.min(1, Math.max(0, share)) * 255)];
    return pack(r, g, b);
  };
}

/** Probabilities: 0 is transparent. */
export const probabilityPaint: Paint = (value) => {
  const [r, g, b] = RAMP[value];
  return value === 0 ? 0 : pack(r, g, b);
};

export function paint(values: Values, size: number, color: Paint): HTMLCanvasElement {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = size;
  const context = canvas.getContext("2d")!;
  const image = context.createImageData(size, size);
  const pixels = new Uint32Array(image.data.buffer);
  for (let i = 0; i < pixels.length; i++) pixels[i] = color(values[i]);
  context.putImageData(image, 0, 0);
  return canvas;
}
