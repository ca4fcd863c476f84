// The map: layers of one or two sides, swipe, and what is displayed at a pixel.

import OlMap from "ol/Map";
import Overlay from "ol/Overlay";
import View from "ol/View";
import { defaults as defaultControls } from "ol/control/defaults";
import ScaleLine from "ol/control/ScaleLine";
import type { Extent } from "ol/extent";
import TileLayer from "ol/layer/Tile";
import Projection from "ol/proj/Projection";
import { addProjection } from "ol/proj";
import { getRenderPixel } from "ol/render";
import type RenderEvent from "ol/render/Event";
import ImageTile from "ol/source/ImageTile";
import TileGrid from "ol/tilegrid/TileGrid";
import { classPaint, paint, probabilityPaint, valuePaint, type Paint } from "./colors";
import { cell, type DType, type Layer, type MapInfo, type Reader, type Site } from "./site";
import { classLayer, mapOf, type Side, type State } from "./state";

// Only one projection is displayed, so that no transformation is needed.
export const PROJECTION = new Projection({ code: "EPSG:3035", units: "m" });
addProjection(PROJECTION);

/** What one image layer shows: the chunks of `folder` in colours. */
interface Shown {
  key: string;
  map: MapInfo;
  year: number;
  folder: string;
  dtype: DType;
  fill: number | null;
  color: Paint;
  data: Layer | null; // the classes that tell where the value 0, which is not stored, is a value
}

export interface Displayed {
  map: string;
  year: number;
  layer: string;
  overview: number;
  row: number;
  column: number;
  value: number | null; // as stored; null is nodata
}

type ImageLayer = TileLayer<ImageTile>;

export class MapView {
  readonly map: OlMap;
  private readonly layers: { classes: ImageLayer; overlay: ImageLayer }[];
  private readonly grids = new Map<string, TileGrid>();
  private readonly shown = new Map<ImageLayer, Shown>();
  private readonly sources = new Map<string, ImageTile>();
  private readonly marker: Overlay;
  private divider = 1; // position of the swipe, 0 to 1; 1 without one

  constructor(
    private readonly site: Site,
    private readonly reader: Reader,
    target: HTMLElement,
    private readonly visible: (state: State, code: number) => boolean,
    private readonly failed: (error: Error) => void,
  ) {
    this.layers = [0, 1].map((side) => {
      const [classes, overlay] = [0, 1].map((z) => {
        const layer: ImageLayer = new TileLayer({ preload: 1, cacheSize: 256, zIndex: z });
        layer.on("prerender", (event) => this.clip(event as RenderEvent, side));
        layer.on("postrender", (event) => ((event as RenderEvent).context as CanvasRenderingContext2D).restore());
        return layer;
      });
      return { classes, overlay };
    });
    const extent = extentOf(site.maps);
    const finest = Math.min(...site.maps.map((map) => map.overviews[0].resolution));
    const [width, height] = [extent[2] - extent[0], extent[3] - extent[1]];
    this.map = new OlMap({
      target,
      layers: this.layers.flatMap(({ classes, overlay }) => [classes, overlay]),
      controls: defaultControls({ attribution: false, rotate: false, zoomOptions: { zoomInTipLabel: "Zoom in (+)", zoomOutTipLabel: "Zoom out (−)" } }).extend([new ScaleLine()]),
      view: new View({
        projection: PROJECTION,
        center: [(extent[0] + extent[2]) / 2, (extent[1] + extent[3]) / 2],
        extent: [extent[0] - width / 2, extent[1] - height / 2, extent[2] + width / 2, extent[3] + height / 2],
        constrainOnlyCenter: true,
        enableRotation: false,
        minResolution: finest / 32,
        maxResolution: Math.max((2 * Math.max(width, height)) / 256, finest),
        resolution: Math.max(width, height) / 512,
      }),
    });
    for (const [name, label] of [["in", "Zoom in"], ["out", "Zoom out"]]) {
      target.querySelector(`.ol-zoom-${name}`)!.setAttribute("aria-label", label);
    }
    const ring = document.createElement("div");
    ring.id = "marker";
    this.marker = new Overlay({ element: ring, positioning: "center-center", stopEvent: false });
    this.map.addOverlay(this.marker);
  }

  /** Show the whole of all maps. */
  fit(): void {
    this.map.getView().fit(extentOf(this.site.maps), { padding: [24, 24, 24, 24] });
  }

  update(state: State): void {
    this.divider = state.swipe ? state.divider : 1;
    this.marker.setPosition(state.pick ?? undefined);
    const sides: (Side | null)[] = [state, state.swipe];
    sides.forEach((side, index) => {
      const { classes, overlay } = this.layers[index];
      this.show(classes, side && this.classes(side, state), state.classOpacity);
      this.show(overlay, side && this.overlay(side, state), state.overlayOpacity);
    });
    this.map.render();
  }

  private show(layer: ImageLayer, shown: Shown | null, opacity: number): void {
    layer.setVisible(shown !== null);
    layer.setOpacity(opacity);
    if (!shown) {
      this.shown.delete(layer);
      return;
    }
    if (this.shown.get(layer)?.key !== shown.key) layer.setSource(this.source(shown));
    this.shown.set(layer, shown);
  }

  private classes(side: Side, state: State): Shown | null {
    const map = mapOf(this.site, side);
    if (!state.classes) return null;
    const layer = classLayer(map, state.classes);
    const color = classPaint(this.site, state.palette, (code) => this.visible(state, code));
    const key = `${side.map}/${side.year}/${layer.id}/${state.palette}/${[...state.hidden].sort().join()}`;
    return { key, map, year: side.year, folder: layer.id, dtype: layer.dtype, fill: layer.fill, color, data: null };
  }

  private overlay(side: Side, state: State): Shown | null {
    const map = mapOf(this.site, side);
    const key = `${side.map}/${side.year}/${state.overlay}`;
    const data = classLayer(map, state.classes);
    const layer = map.layers.find((one) => one.kind === "value" && one.id === state.overlay);
    if (layer) {
      return { key, map, year: side.year, folder: layer.id, dtype: layer.dtype, fill: layer.fill, color: valuePaint(layer), data: layer.count ? data : null };
    }
    const code = map.probabilities?.codes.find((one) => `p${one}` === state.overlay);
    if (code === undefined) return null;
    const folder = `probability/${code}`;
    return { key, map, year: side.year, folder, dtype: "uint8", fill: 0, color: probabilityPaint, data };
  }

  private source(shown: Shown): ImageTile {
    let source = this.sources.get(shown.key);
    if (!source) {
      const tileGrid = this.grid(shown.map);
      const size = this.site.tile;
      const blank = document.createElement("canvas");
      blank.width = blank.height = size;
      source = new ImageTile({
        projection: PROJECTION,
        tileGrid,
        interpolate: false, // values have no values in between
        transition: 0,
        wrapX: false,
        loader: async (z, x, y) => {
          const overview = shown.map.overviews.length - 1 - z;
          try {
            const values = await this.reader.tile(shown.map, shown.year, shown.folder, shown.dtype, overview, y, x);
            return values ? paint(values, size, shown.color) : blank;
          } catch (error) {
            this.failed(error as Error);
            throw error;
          }
        },
      });
      if (this.sources.size >= 12) this.sources.delete(this.sources.keys().next().value!);
      this.sources.set(shown.key, source);
    }
    return source;
  }

  private grid(map: MapInfo): TileGrid {
    let grid = this.grids.get(map.id);
    if (!grid) {
      const overviews = [...map.overviews].reverse();
      grid = new TileGrid({
        origins: overviews.map(({ left, top }) => [left, top]),
        resolutions: overviews.map(({ resolution }) => resolution),
        tileSize: this.site.tile,
      });
      this.grids.set(map.id, grid);
    }
    return grid;
  }

  /** Left of the divider is the first side, right of it the second. */
  private clip(event: RenderEvent, side: number): void {
    const context = event.context as CanvasRenderingContext2D;
    const [width, height] = this.map.getSize()!;
    const [left, right] = side === 0 ? [0, width * this.divider] : [width * this.divider, width];
    context.save();
    context.beginPath();
    [[left, 0], [right, 0], [right, height], [left, height]].forEach((corner, index) => {
      const [x, y] = getRenderPixel(event, corner);
      if (index) context.lineTo(x, y);
      else context.moveTo(x, y);
    });
    context.closePath();
    context.clip();
  }

  /** What is displayed at a pixel of the map element, the topmost layer first. Values are those that were drawn. */
  async displayed(pixel: [number, number]): Promise<Displayed[]> {
    const [x, y] = this.map.getCoordinateFromPixel(pixel);
    const side = pixel[0] < this.map.getSize()![0] * this.divider ? 0 : 1;
    const { classes, overlay } = this.layers[side];
    const found: Displayed[] = [];
    for (const layer of [overlay, classes]) {
      const shown = this.shown.get(layer);
      if (!shown) continue;
      const z = this.grid(shown.map).getZForResolution(this.map.getView().getResolution()!);
      const overview = shown.map.overviews.length - 1 - z;
      const [row, column] = cell(shown.map.overviews[overview], x, y);
      const size = this.site.tile;
      const [tileRow, tileColumn] = [Math.floor(row / size), Math.floor(column / size)];
      const read = async (folder: string, dtype: DType, fill: number | null) => {
        const values = await this.reader.tile(shown.map, shown.year, folder, dtype, overview, tileRow, tileColumn);
        const value = values ? values[(row - tileRow * size) * size + column - tileColumn * size] : fill;
        return value === fill || Number.isNaN(value) ? null : value;
      };
      let value = await read(shown.folder, shown.dtype, shown.fill);
      const { data } = shown;
      if (value === null && data && (await read(data.id, data.dtype, data.fill)) !== null) value = 0;
      found.push({ map: shown.map.id, year: shown.year, layer: shown.folder, overview, row, column, value });
    }
    return found;
  }
}

export function extentOf(maps: MapInfo[]): Extent {
  const corners = maps.map((map) => map.extent);
  return [0, 1, 2, 3].map((i) => Math[i < 2 ? "min" : "max"](...corners.map((corner) => corner[i]))) as Extent;
}
