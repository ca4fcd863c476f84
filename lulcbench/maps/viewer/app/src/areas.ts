// Areas of classes inside a polygon, counted exactly: a pixel belongs to it if its centre does.

import type { Layer, MapInfo, Reader } from "./site";

export type Ring = [number, number][]; // coordinates in EPSG:3035 metres, closed implicitly

/** Half-open intervals of columns in each row whose pixel centres are inside a ring (even-odd rule). */
export function spans(ring: Ring, map: MapInfo): { first: number; rows: [number, number][][] } {
  const { left, top, resolution, width, height } = map.overviews[0];
  const ys = ring.map(([, y]) => y);
  const first = Math.max(0, Math.floor((top - Math.max(...ys)) / resolution));
  const last = Math.min(height - 1, Math.floor((top - Math.min(...ys)) / resolution));
  const rows: [number, number][][] = [];
  for (let row = first; row <= last; row++) {
    const y = top - (row + 0.5) * resolution;
    const crossings: number[] = [];
    ring.forEach(([x1, y1], i) => {
      const [x2, y2] = ring[(i + 1) % ring.length];
      if (y1 <= y !== y2 <= y) crossings.push(x1 + ((y - y1) / (y2 - y1)) * (x2 - x1));
    });
    crossings.sort((a, b) => a - b);
    const column = (x: number) => Math.min(width, Math.max(0, Math.ceil((x - left) / resolution - 0.5)));
    const found: [number, number][] = [];
    for (let i = 0; i + 1 < crossings.length; i += 2) {
      const [start, end] = [column(crossings[i]), column(crossings[i + 1])];
      if (end > start) found.push([start, end]);
    }
    rows.push(found);
  }
  return { first, rows };
}

/**
 * Pixels of each class of a layer, by position in the legend, inside a ring or (null) in the whole map.
 *
 * Tiles that are entirely inside are counted by what the site stores of them; others are read.
 */
export async function countPixels(
  reader: Reader, map: MapInfo, year: number, layer: Layer, ring: Ring | null,
): Promise<Map<number, number>> {
  const size = reader.site.tile;
  const { width, height } = map.overviews[0];
  const [tileRows, tileColumns] = [Math.ceil(height / size), Math.ceil(width / size)];
  const { start, number, values: stored } = await reader.counts(map, year, layer);
  const totals = new Map<number, number>();
  const add = (position: number, pixels: number) => {
    if (pixels) totals.set(position, (totals.get(position) ?? 0) + pixels);
  };
  const addTile = (tile: number) => {
    for (let i = 0; i < number; i++) add(start + i, stored[tile * number + i]);
  };
  if (!ring) {
    for (let tile = 0; tile < tileRows * tileColumns; tile++) addTile(tile);
    return totals;
  }
  const { first, rows } = spans(ring, map);
  const partial: [number, number][] = [];
  for (let tileRow = 0; tileRow < tileRows; tileRow++) {
    const [low, high] = [tileRow * size, Math.min(height, (tileRow + 1) * size)];
    if (high <= first || low >= first + rows.length) continue;
    for (let tileColumn = 0; tileColumn < tileColumns; tileColumn++) {
      const [west, east] = [tileColumn * size, Math.min(width, (tileColumn + 1) * size)];
      let [any, all] = [false, true];
      for (let row = low; row < high; row++) {
        const found = rows[row - first] ?? [];
        any ||= found.some(([a, b]) => a < east && b > west);
        all &&= found.some(([a, b]) => a <= west && b >= east);
      }
      if (all) addTile(tileRow * tileColumns + tileColumn);
      else if (any) partial.push([tileRow, tileColumn]);
    }
  }
  for (let i = 0; i < partial.length; i += 16) {
    await Promise.all(partial.slice(i, i + 16).map(async ([tileRow, tileColumn]) => {
      const values = await reader.tile(map, year, layer.id, layer.dtype, 0, tileRow, tileColumn);
      if (!values) return;
      const found = new Uint32Array(256);
      const [low, west] = [tileRow * size, tileColumn * size];
      for (let row = low; row < low + size; row++) {
        for (const [a, b] of rows[row - first] ?? []) {
          const [from, to] = [Math.max(a, west) - west, Math.min(b, west + size) - west];
          for (let column = from; column < to; column++) found[values[(row - low) * size + column]]++;
        }
      }
      found.forEach((pixels, position) => position !== layer.fill && add(position, pixels));
    }));
  }
  return totals;
}
