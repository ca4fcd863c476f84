// The section of areas: drawing a box or polygon, the table of class areas, and its download.

import type OlMap from "ol/Map";
import { countPixels } from "./areas";
import { byId, element } from "./dom";
import { named } from "./legend";
import { Sketch } from "./sketch";
import type { Layer, Reader, Site } from "./site";
import { classLayer, mapOf, sharedLayers, type Side, type State } from "./state";

type Change = (change: Partial<State>) => void;

export class AreaTable {
  private readonly sketch: Sketch;
  private shown = "";
  private request = 0;

  constructor(
    private readonly site: Site,
    private readonly reader: Reader,
    private readonly map: OlMap,
    private readonly change: Change,
    private readonly failed: (error: Error) => void,
  ) {
    this.sketch = new Sketch(map, (area) => this.finish(area));
    const button = (id: string, text: string, click: () => void) => element("button", { id, type: "button", click }, text);
    byId("area-tools").replaceChildren(
      button("area-box", "Box", () => this.start("box")),
      button("area-polygon", "Polygon", () => this.start("polygon")),
      button("area-view", "Visible part", () => this.visible()),
      button("area-map", "Whole map", () => this.finish("map")),
      button("area-clear", "Clear", () => this.finish(null)),
    );
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.stop();
    });
  }

  /** A click or key on the map; whether it belongs to a drawing. */
  click(x: number, y: number): boolean {
    if (!this.sketch.drawing) return false;
    this.sketch.click(x, y);
    return true;
  }

  private start(kind: "box" | "polygon"): void {
    this.stop();
    this.sketch.start(kind);
    this.say(kind === "box" ? "Click two opposite corners; Escape cancels." : "Click the corners, the last one twice; Escape cancels.");
    byId(`area-${kind}`).setAttribute("aria-pressed", "true");
  }

  private stop(): void {
    this.sketch.stop();
    byId("area-hint").textContent = "";
    for (const kind of ["box", "polygon"]) byId(`area-${kind}`).removeAttribute("aria-pressed");
  }

  private visible(): void {
    const [left, bottom, right, top] = this.map.getView().calculateExtent(this.map.getSize()).map(Math.round);
    this.finish([[left, bottom], [left, top], [right, top], [right, bottom]]);
  }

  private finish(area: State["area"]): void {
    this.stop();
    this.change({ area });
  }

  private say(text: string): void {
    byId("area-hint").textContent = text;
    byId("status").textContent = text;
  }

  async update(state: State): Promise<void> {
    const sides: Side[] = state.swipe ? [state, state.swipe] : [state];
    const key = JSON.stringify([state.area, sides.map(({ map, year }) => [map, year]), state.classes, state.palette]);
    if (key === this.shown) return;
    this.shown = key;
    const request = ++this.request;
    byId("areas").replaceChildren();
    const ring = state.area === "map" ? null : state.area;
    this.sketch.ring = ring;
    this.map.render();
    if (!state.area) return;
    try {
      const layers = sharedLayers(sides.map((side) => mapOf(this.site, side)), state.classes);
      if (!layers) {
        const text = "These maps have no level in common, so their areas cannot be compared.";
        byId("areas").replaceChildren(element("p", { class: "hint" }, text));
        byId("status").textContent = text;
        return;
      }
      const columns = await Promise.all(sides.map(async (side, i) => {
        const map = mapOf(this.site, side);
        const layer = layers[i];
        const pixels = await countPixels(this.reader, map, side.year, layer, ring);
        return { title: this.site.maps.length > 1 ? `${map.title}, ${side.year}` : String(side.year), map, side, pixels, layer };
      }));
      if (request === this.request) this.table(columns, state);
    } catch (error) {
      this.shown = "";
      this.failed(error as Error);
    }
  }

  private table(columns: Column[], state: State): void {
    const hectares = (column: Column, pixels: number) => (pixels * column.map.overviews[0].resolution ** 2) / 10_000;
    const total = (column: Column) => [...column.pixels.values()].reduce((sum, pixels) => sum + pixels, 0);
    const largest = (position: number) => Math.max(...columns.map((column) => hectares(column, column.pixels.get(position) ?? 0)));
    const positions = [...new Set(columns.flatMap((column) => [...column.pixels.keys()]))].sort((a, b) => largest(b) - largest(a));
    const number = (value: number) => value.toLocaleString("en", { maximumFractionDigits: value < 100 ? 2 : 0 });
    const cells = (column: Column, pixels: number) => [
      element("td", { class: "number", "data-pixels": pixels }, number(hectares(column, pixels))),
      element("td", { class: "number" }, `${((pixels / (total(column) || 1)) * 100).toFixed(1)} %`),
    ];
    const rows = positions.map((position) => {
      const entry = this.site.legend[position];
      return element("tr", { "data-code": entry.code },
        element("th", { scope: "row" }, ...named(entry, state.palette)),
        ...columns.flatMap((column) => cells(column, column.pixels.get(position) ?? 0)),
      );
    });
    const head = element("tr", {}, element("th", { scope: "col" }, "Class"), ...columns.flatMap((column) => [
      element("th", { scope: "col", class: "number" }, columns.length > 1 ? `${column.title}, ha` : "ha"),
      element("th", { scope: "col", class: "number" }, "share"),
    ]));
    const sum = element("tr", {}, element("th", { scope: "row" }, "Total"), ...columns.flatMap((column) => cells(column, total(column))));
    const link = element("a", { id: "area-csv", download: "class-areas.csv", href: this.csv(columns, positions) }, "Download as CSV");
    const level = [...new Set(columns.map((column) => column.layer.title))].join(" / ");
    const coarser = columns.some(({ map, layer }) => classLayer(map, state.classes).id !== layer.id);
    const of = columns.length < 2 ? `, ${columns[0].title}` : coarser ? ", the finest level of both maps" : "";
    byId("areas").replaceChildren(
      element("div", { class: "scroll" }, element("table", {},
        element("caption", {}, `${level}${of}`),
        element("thead", {}, head), element("tbody", {}, ...rows), element("tfoot", {}, sum),
      )),
      element("p", { class: "hint" }, "Counted at full resolution; a pixel belongs to the area if its centre does. ", link),
    );
    byId("status").textContent = `Areas of ${positions.length} classes, ${number(hectares(columns[0], total(columns[0])))} hectares.`;
  }

  private csv(columns: Column[], positions: number[]): string {
    // Spreadsheets run texts that begin with these characters as formulas; an apostrophe keeps them texts.
    const harmless = (text: string) => (/^[=+\-@\t\r]/.test(text) ? `'${text}` : text);
    const quote = (text: string) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
    const lines = [["map", "year", "simulated", "layer", "code", "name", "pixels", "area_ha"]];
    for (const column of columns) {
      for (const position of positions) {
        const entry = this.site.legend[position];
        const pixels = column.pixels.get(position) ?? 0;
        const area = (pixels * column.map.overviews[0].resolution ** 2) / 10_000;
        const numbers = [pixels, area].map(String);
        lines.push([harmless(column.map.title), String(column.side.year), String(column.map.simulated), harmless(column.layer.id), String(entry.code), harmless(entry.name), ...numbers]);
      }
    }
    const text = lines.map((line) => line.map(quote).join(",")).join("\r\n") + "\r\n";
    return URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  }
}

interface Column {
  title: string;
  map: ReturnType<typeof mapOf>;
  side: Side;
  pixels: Map<number, number>;
  layer: Layer;
}
