// What a site holds, and reading of its chunk files. `lulcbench/maps/viewer/site.py` writes them.

export interface LandClass {
  code: number;
  name: string;
  level: number; // 0 of what is uncertain at all levels
  parent: number | null;
  color: string;
  safe: string;
}

export interface Overview {
  left: number;
  top: number;
  resolution: number;
  width: number;
  height: number;
}

export type DType = "uint8" | "uint16" | "int16" | "float32";

export interface Layer {
  id: string;
  kind: "class" | "value";
  title: string;
  description: string;
  dtype: DType;
  fill: number | null; // the stored value that means nodata
  count: boolean; // the fill value, 0, is a count where the map has other values
  level: number; // of classes; 0 if levels are mixed
  scale: number;
  offset: number;
  low: number; // ends of the colour ramp, in units of the quantity
  high: number;
  unit: string;
}

export interface MapInfo {
  id: string;
  title: string;
  years: number[];
  simulated: boolean;
  labels: boolean; // labels of a release, not a prediction
  facts: [string, string][];
  extent: [number, number, number, number]; // of the pixels with data: left, bottom, right, top
  overviews: Overview[]; // from the finest
  layers: Layer[];
  probabilities: { level: number; codes: number[] } | null;
}

export interface Site {
  format: string;
  title: string;
  simulated: boolean;
  tile: number;
  block: number;
  legend: LandClass[]; // stored classes are positions in this list
  maps: MapInfo[];
  points: Point[];
}

/** An observation on the ground. */
export interface Point {
  x: number;
  y: number;
  code: number; // 0 without a class
  text: string;
}

export type Values = Uint8Array | Uint16Array | Int16Array | Float32Array;

const TYPES = { uint8: Uint8Array, uint16: Uint16Array, int16: Int16Array, float32: Float32Array };

/** Bytes of a chunk file: gzip, decoded here, so that it does not matter how a server labels it. */
async function fetchChunk(path: string): Promise<ArrayBuffer> {
  const response = await fetch(path);
  if (!response.ok || !response.body) throw new Error(`${path}: ${response.status} ${response.statusText}`);
  return new Response(response.body.pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

/** A bounded cache of pending and finished reads, the least recently used ones are dropped first. */
class Cache<T> {
  private entries = new Map<string, Promise<T>>();
  constructor(private limit: number) {}

  get(key: string, make: () => Promise<T>): Promise<T> {
    let entry = this.entries.get(key);
    if (entry) {
      this.entries.delete(key);
    } else {
      entry = make();
      entry.catch(() => this.entries.delete(key)); // a later read tries again
    }
    this.entries.set(key, entry);
    for (const oldest of this.entries.keys()) {
      if (this.entries.size <= this.limit) break;
      this.entries.delete(oldest);
    }
    return entry;
  }
}

export class Reader {
  private tiles = new Cache<Values>(600);
  private blocks = new Cache<ArrayBuffer>(200);
  private indices = new Cache<Uint8Array>(400);

  constructor(readonly site: Site) {}

  /** Values of one tile, `tile` × `tile` pixels; null where all of them are nodata (of probabilities: zero). */
  async tile(
    map: MapInfo, year: number, layer: string, dtype: DType, overview: number, row: number, column: number,
  ): Promise<Values | null> {
    const folder = `data/${map.id}/${year}/${layer}`;
    const { width, height } = map.overviews[overview];
    const [rows, columns] = [Math.ceil(height / this.site.tile), Math.ceil(width / this.site.tile)];
    if (row < 0 || column < 0 || row >= rows || column >= columns) return null;
    let position = row * columns + column;
    for (const finer of map.overviews.slice(0, overview)) {
      position += Math.ceil(finer.height / this.site.tile) * Math.ceil(finer.width / this.site.tile);
    }
    if (!(await this.index(folder))[position]) return null;
    const path = `${folder}/${overview}/${row}/${column}.bin`;
    return this.tiles.get(path, async () => new TYPES[dtype](await fetchChunk(path)));
  }

  private index(folder: string): Promise<Uint8Array> {
    return this.indices.get(folder, async () => new Uint8Array(await fetchChunk(`${folder}/index.bin`)));
  }

  /** Pixels of each class in each tile of the finest grid, row by row: classes from position `start` in the legend. */
  async counts(map: MapInfo, year: number, layer: Layer): Promise<{ start: number; number: number; values: Uint16Array }> {
    const of = this.site.legend.filter((entry) => layer.level === 0 || entry.level === layer.level);
    const path = `data/${map.id}/${year}/${layer.id}/counts.bin`;
    const values = await this.tiles.get(path, async () => new Uint16Array(await fetchChunk(path)));
    return { start: this.site.legend.indexOf(of[0]), number: of.length, values: values as Uint16Array };
  }

  /** All layers of one pixel of the finest grid: values by layer, probabilities in the order of their codes; null without data. */
  async pixel(map: MapInfo, year: number, row: number, column: number): Promise<Pixel | null> {
    const { width, height } = map.overviews[0];
    if (row < 0 || column < 0 || row >= height || column >= width) return null;
    const size = this.site.block;
    const [y, x] = [Math.floor(row / size), Math.floor(column / size)];
    const folder = `data/${map.id}/${year}/pixels`;
    if (!(await this.index(folder))[y * Math.ceil(width / size) + x]) return null;
    const path = `${folder}/${y}/${x}.bin`;
    const buffer = await this.blocks.get(path, () => fetchChunk(path));
    const inside = (row % size) * size + (column % size);
    const values: Record<string, number | null> = {};
    let offset = 0;
    for (const layer of map.layers) {
      const type = TYPES[layer.dtype];
      const at = offset + inside * type.BYTES_PER_ELEMENT;
      const value = new type(buffer.slice(at, at + type.BYTES_PER_ELEMENT))[0];
      values[layer.id] = value === layer.fill || Number.isNaN(value) ? null : value;
      offset += size * size * type.BYTES_PER_ELEMENT;
    }
    if (Object.values(values).every((value) => value === null)) return null;
    for (const layer of map.layers) if (layer.count) values[layer.id] ??= 0;
    const bytes = new Uint8Array(buffer, offset);
    const codes = map.probabilities?.codes ?? [];
    return { values, probabilities: codes.map((_, i) => bytes[i * size * size + inside]) };
  }
}

export interface Pixel {
  values: Record<string, number | null>; // as stored; null is nodata
  probabilities: number[]; // 0 to 255
}

/** Position of a coordinate in the grid of an overview. */
export function cell(overview: Overview, x: number, y: number): [row: number, column: number] {
  return [Math.floor((overview.top - y) / overview.resolution), Math.floor((x - overview.left) / overview.resolution)];
}
