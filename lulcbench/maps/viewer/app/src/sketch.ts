// The outline of an area over the map, and drawing of one by clicks: two corners of a box, or those of a polygon.
// A vector layer of the map library would do the same, and make the page half as large again.

import type OlMap from "ol/Map";
import type { Ring } from "./areas";
import { byId, svg } from "./dom";

const CLOSE = 10; // px: a click this near to the first or last corner ends a polygon

export class Sketch {
  ring: Ring | null = null; // of the finished area
  private corners: Ring | null = null; // of the one that is being drawn
  private pointer: [number, number] | null = null;
  private kind: "box" | "polygon" = "box";

  constructor(
    private readonly map: OlMap,
    private readonly done: (ring: Ring) => void,
  ) {
    map.on("postrender", () => this.render());
    map.on("pointermove", (event) => {
      this.pointer = event.coordinate as [number, number];
      if (this.corners) this.render();
    });
    map.on("dblclick", () => !this.drawing); // the second click has ended the area; no zoom
  }

  get drawing(): boolean {
    return this.corners !== null;
  }

  start(kind: "box" | "polygon"): void {
    this.kind = kind;
    this.corners = [];
    this.render();
  }

  stop(): void {
    this.corners = null;
    this.render();
  }

  /** Add a corner, or end the area. */
  click(x: number, y: number): void {
    if (!this.corners) return;
    const near = (corner: [number, number]) => {
      const [a, b] = [this.map.getPixelFromCoordinate(corner), this.map.getPixelFromCoordinate([x, y])];
      return Math.hypot(a[0] - b[0], a[1] - b[1]) < CLOSE;
    };
    const { length } = this.corners;
    if (this.kind === "polygon" && length && (near(this.corners[0]) || near(this.corners[length - 1]))) {
      if (length >= 3) this.end(this.corners);
      return;
    }
    this.corners.push([x, y]);
    if (this.kind === "box" && this.corners.length === 2) this.end(this.outline(this.corners));
    this.render();
  }

  private end(ring: Ring): void {
    // Whole metres, so that the permalink has the same area.
    const rounded = ring.map(([x, y]): [number, number] => [Math.round(x), Math.round(y)]);
    setTimeout(() => {
      this.stop(); // later, so that the double click that ends a polygon does not zoom
      this.done(rounded);
    }, 300);
  }

  private outline(corners: Ring): Ring {
    if (this.kind === "polygon" || corners.length < 2) return corners;
    const [[x1, y1], [x2, y2]] = corners;
    return [[x1, y1], [x1, y2], [x2, y2], [x2, y1]];
  }

  private render(): void {
    let ring = this.ring;
    if (this.corners) {
      const full = this.kind === "box" && this.corners.length === 2;
      ring = this.outline(this.pointer && this.corners.length && !full ? [...this.corners, this.pointer] : this.corners);
    }
    const points = (ring ?? []).map((corner) => this.map.getPixelFromCoordinate(corner)).filter(Boolean);
    const text = points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ");
    byId("sketch").replaceChildren(
      svg("polygon", { points: text, class: "halo" }),
      svg("polygon", { points: text }),
      ...(this.corners ? points.map(([x, y]) => svg("circle", { cx: x, cy: y, r: 4 })) : []),
    );
  }
}
