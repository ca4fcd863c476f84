// The description of one pixel: classes, values, most probable classes and their series over the years.

import { colorOf } from "./colors";
import { element, svg } from "./dom";
import { named, nameOf } from "./legend";
import { cell, type LandClass, type Layer, type MapInfo, type Pixel, type Point, type Reader, type Site } from "./site";
import { mapOf, type Side, type State } from "./state";

const TOP = 5;

export class Inspector {
  private request = 0;

  constructor(
    private readonly site: Site,
    private readonly reader: Reader,
    private readonly target: HTMLElement,
    private readonly nearest: (x: number, y: number) => Point | null,
  ) {}

  /** Describe the picked pixel in the map and year of a side; returns a sentence for screen readers. */
  async show(state: State, side: Side): Promise<string> {
    const request = ++this.request;
    if (!state.pick) {
      this.target.replaceChildren(element("p", { class: "hint" }, "Click the map to see a pixel's classes and probabilities."));
      return "";
    }
    const map = mapOf(this.site, side);
    const [row, column] = cell(map.overviews[0], ...state.pick);
    const [years, references] = await Promise.all([
      Promise.all(map.years.map((year) => this.reader.pixel(map, year, row, column))),
      this.references(state, map),
    ]);
    if (request !== this.request) return ""; // a later click overtook this one
    const pixel = years[map.years.indexOf(side.year)];
    const [x, y] = state.pick.map(Math.round);
    const where = element("p", { class: "hint" }, `${map.title}, ${side.year} · E ${x} N ${y} (EPSG:3035) · row ${row}, column ${column}`);
    if (!pixel) {
      this.target.replaceChildren(where, element("p", {}, "No data."), ...references);
      return "No data.";
    }
    const classes = map.layers.filter((layer) => layer.kind === "class");
    const found = classes.map((layer) => this.classAt(layer, pixel));
    this.target.replaceChildren(
      where,
      this.classTable(state, classes, found),
      ...references,
      ...this.probabilities(state, map, pixel, years, side.year),
      ...this.values(map, pixel),
    );
    const finest = this.deepest(map, pixel);
    const mixed = classes.flatMap((layer, i) => (layer.level === 0 && found[i] ? [`${layer.title}: ${nameOf(found[i]!)}`] : []));
    return [...(finest ? [nameOf(finest)] : []), ...mixed].join("; ") || "No class.";
  }

  /** The class at the deepest level at which a pixel has one. */
  private deepest(map: MapInfo, pixel: Pixel): LandClass | null {
    const layers = map.layers.filter((layer) => layer.kind === "class" && layer.level && pixel.values[layer.id] !== null);
    return layers.length ? this.classAt(layers.reduce((best, one) => (one.level > best.level ? one : best)), pixel) : null;
  }

  private classAt(layer: Layer, pixel: Pixel): LandClass | null {
    const value = pixel.values[layer.id];
    return value === null ? null : this.site.legend[value];
  }

  private classTable(state: State, layers: Layer[], found: (LandClass | null)[]): HTMLElement {
    const rows = layers.map((layer, i) => {
      const entry = found[i];
      const name = entry
        ? element("td", { "data-code": entry.code }, ...named(entry, state.palette))
        : element("td", {}, "–");
      return element("tr", {}, element("th", { scope: "row" }, layer.title), name);
    });
    return element("table", { class: "classes" }, element("caption", {}, "Class"), element("tbody", {}, ...rows));
  }

  /** Labels and observations at the picked location. */
  private async references(state: State, shown: MapInfo): Promise<HTMLElement[]> {
    const [x, y] = state.pick!;
    const rows: HTMLElement[] = [];
    const row = (title: string, entry: LandClass | undefined, text: string) => {
      const name = entry ? named(entry, state.palette) : [];
      rows.push(element("tr", {}, element("th", { scope: "row" }, title), element("td", {}, ...name, text && element("span", { class: "hint" }, ` ${text}`))));
    };
    for (const map of this.site.maps.filter((one) => one.labels && one !== shown)) {
      const pixels = await Promise.all(map.years.map((year) => this.reader.pixel(map, year, ...cell(map.overviews[0], x, y))));
      map.years.forEach((year, i) => {
        const pixel = pixels[i];
        const finest = pixel && this.deepest(map, pixel);
        if (finest) row(`Label ${year}`, finest, "");
      });
    }
    const point = this.nearest(x, y);
    if (point) row("Observation", this.site.legend.find((entry) => entry.code === point.code), point.text);
    if (!rows.length) return [];
    return [element("table", { class: "classes references" }, element("caption", {}, "Reference"), element("tbody", {}, ...rows))];
  }

  private probabilities(state: State, map: MapInfo, pixel: Pixel, years: (Pixel | null)[], year: number): HTMLElement[] {
    if (!map.probabilities) return [];
    const { codes, level } = map.probabilities;
    const flat = this.site.legend.every((entry) => entry.level <= 1);
    const order = [...codes.keys()].sort((a, b) => pixel.probabilities[b] - pixel.probabilities[a]);
    const top = order.slice(0, TOP).filter((i) => pixel.probabilities[i] > 0);
    const entries = top.map((i) => this.site.legend.find((one) => one.code === codes[i])!);
    const percent = (value: number) => `${((value / 255) * 100).toFixed(1)} %`;
    const rows = top.map((i, rank) => {
      const bar = element("span", { class: "bar", "aria-hidden": "true" });
      bar.style.width = `${(pixel.probabilities[i] / 255) * 100}%`;
      bar.style.background = colorOf(entries[rank], state.palette);
      return element("tr", {},
        element("th", { scope: "row" }, element("span", { class: "code" }, String(codes[i])), ` ${entries[rank].name}`),
        element("td", { class: "bars" }, bar),
        element("td", { class: "number" }, percent(pixel.probabilities[i])),
      );
    });
    const table = element("table", { class: "probabilities" },
      element("caption", {}, flat ? "Most probable classes" : `Most probable classes (level ${level})`),
      element("tbody", {}, ...rows),
    );
    if (map.years.length < 2) return [table];
    const series = top.map((i, rank) => ({
      entry: entries[rank],
      values: years.map((one) => (one ? one.probabilities[i] / 255 : null)),
    }));
    return [table, chart(map.years, series, state.palette, year)];
  }

  private values(map: MapInfo, pixel: Pixel): HTMLElement[] {
    const layers = map.layers.filter((layer) => layer.kind === "value");
    if (!layers.length) return [];
    const rows = layers.map((layer) => {
      const value = pixel.values[layer.id];
      const text = value === null ? "–" : `${Number((value * layer.scale + layer.offset).toFixed(3))} ${layer.unit}`;
      return element("tr", {},
        element("th", { scope: "row", title: layer.description }, layer.title),
        element("td", { class: "number" }, text.trim()),
      );
    });
    return [element("table", {}, element("caption", {}, "Uncertainty"), element("tbody", {}, ...rows))];
  }
}

interface Series {
  entry: LandClass;
  values: (number | null)[];
}

/** The values without gaps between them, as points: a line over years without data would show some. */
function runs(values: (number | null)[], point: (value: number, i: number) => string): string[][] {
  const found: string[][] = [[]];
  values.forEach((value, i) => {
    if (value !== null) found.at(-1)!.push(point(value, i));
    else if (found.at(-1)!.length) found.push([]);
  });
  return found.filter((points) => points.length);
}

/** Probabilities over the years, as lines and as a table for screen readers. */
function chart(years: number[], series: Series[], palette: State["palette"], now: number): HTMLElement {
  const [width, height, left, right, top, bottom] = [340, 170, 34, 40, 10, 22];
  const span = years.at(-1)! - years[0];
  const x = (year: number) => left + ((year - years[0]) / span) * (width - left - right);
  const y = (value: number) => top + (1 - value) * (height - top - bottom);
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "chart", "aria-hidden": "true" });
  for (const value of [0, 0.5, 1]) {
    drawing.append(
      svg("line", { x1: left, x2: width - right, y1: y(value), y2: y(value), class: "grid" }),
      svg("text", { x: left - 5, y: y(value) + 4, "text-anchor": "end" }, `${value * 100}%`),
    );
  }
  const every = Math.ceil(years.length / 6);
  years.forEach((year, i) => {
    if (i % every === 0 || i === years.length - 1) {
      drawing.append(svg("text", { x: x(year), y: height - 6, "text-anchor": "middle" }, String(year)));
    }
  });
  drawing.append(svg("line", { x1: x(now), x2: x(now), y1: top, y2: height - bottom, class: "now" }));
  // Labels of lines that end at nearly the same height are moved apart.
  const ends = series
    .map(({ entry, values }) => ({ entry, at: y(values.filter((value) => value !== null).at(-1) ?? 0) }))
    .sort((a, b) => a.at - b.at);
  ends.forEach((end, i) => {
    if (i && end.at < ends[i - 1].at + 11) end.at = ends[i - 1].at + 11;
  });
  for (let i = ends.length - 1; i >= 0; i--) {
    ends[i].at = Math.min(ends[i].at, i === ends.length - 1 ? height - bottom : ends[i + 1].at - 11);
  }
  for (const { entry, values } of [...series].reverse()) {
    const color = colorOf(entry, palette);
    for (const points of runs(values, (value, i) => `${x(years[i])},${y(value)}`)) {
      drawing.append(
        svg("polyline", { points: points.join(" "), class: "outline" }),
        svg("polyline", { points: points.join(" "), class: "line", stroke: color }),
        ...points.map((point) => {
          const [cx, cy] = point.split(",");
          return svg("circle", { cx, cy, r: 3, fill: color, class: "dot" });
        }),
      );
    }
  }
  for (const { entry, at } of ends) {
    drawing.append(svg("text", { x: width - right + 7, y: at + 4 }, String(entry.code)));
  }
  const table = element("table", {},
    element("caption", {}, "Probabilities over the years"),
    element("thead", {}, element("tr", {}, element("th", {}, "Class"), ...years.map((year) => element("th", { scope: "col" }, String(year))))),
    element("tbody", {}, ...series.map(({ entry, values }) =>
      element("tr", {},
        element("th", { scope: "row" }, `${entry.code} ${entry.name}`),
        ...values.map((value) => element("td", {}, value === null ? "–" : `${(value * 100).toFixed(1)} %`)),
      ))),
  );
  return element("figure", {}, element("figcaption", {}, "Their probabilities over the years"), drawing, element("div", { class: "sr-only" }, table));
}
