// Observations on the ground: dots over the map.

import type OlMap from "ol/Map";
import { colorOf } from "./colors";
import { byId } from "./dom";
import type { Point, Site } from "./site";
import type { State } from "./state";

const MOST = 4000; // drawn at a time
const NEAR = 10; // px

export class Points {
  private state: State | null = null;

  constructor(
    private readonly site: Site,
    private readonly map: OlMap,
  ) {
    if (site.points.length) map.on("postrender", () => this.render());
  }

  update(state: State): void {
    this.state = state;
    this.map.render();
  }

  /** The observation nearest to a coordinate, at most a few pixels of the screen away. */
  nearest(x: number, y: number): Point | null {
    const limit = NEAR * (this.map.getView().getResolution() ?? 0);
    let [best, distance]: [Point | null, number] = [null, limit];
    for (const point of this.state?.points ? this.site.points : []) {
      const own = Math.hypot(point.x - x, point.y - y);
      if (own <= distance) [best, distance] = [point, own];
    }
    return best;
  }

  private render(): void {
    const canvas = byId<HTMLCanvasElement>("points");
    const [width, height] = this.map.getSize() ?? [0, 0];
    const ratio = devicePixelRatio;
    if (canvas.width !== width * ratio || canvas.height !== height * ratio) {
      canvas.width = width * ratio;
      canvas.height = height * ratio;
    }
    const context = canvas.getContext("2d")!;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const [left, bottom, right, top] = this.map.getView().calculateExtent([width, height]);
    if (!this.state?.points) return;
    const inside = this.site.points.filter(({ x, y }) => x >= left && x <= right && y >= bottom && y <= top);
    const every = Math.ceil(inside.length / MOST);
    for (let i = 0; i < inside.length; i += every) {
      const [x, y] = this.map.getPixelFromCoordinate([inside[i].x, inside[i].y]);
      const entry = this.site.legend.find((one) => one.code === inside[i].code);
      context.beginPath();
      context.arc(x, y, 4, 0, 7);
      context.lineWidth = 4;
      context.strokeStyle = "#fff";
      context.stroke();
      context.lineWidth = 1.5;
      context.strokeStyle = "#000";
      context.stroke();
      context.fillStyle = entry ? colorOf(entry, this.state.palette) : "#8888";
      context.fill();
    }
  }
}
