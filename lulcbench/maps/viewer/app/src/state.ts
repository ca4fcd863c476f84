// What is shown, and its permalink: the state is kept in the fragment of the address.

import type { Layer, MapInfo, Site } from "./site";

export interface Side {
  map: string;
  year: number;
}

export interface State extends Side {
  classes: string; // id of the class layer, "" if it is hidden
  overlay: string; // "" | id of a value layer | "p3110": probability of a class
  classOpacity: number;
  overlayOpacity: number;
  palette: "luisa" | "safe";
  hidden: Set<number>; // class codes
  swipe: Side | null; // the right-hand side
  divider: number; // 0 to 1
  points: boolean; // whether observations are shown
  area: [number, number][] | "map" | null; // a ring, whose class areas are listed
  pick: [number, number] | null; // coordinates of the pixel that is described
  pickedRight: boolean; // whether it was picked on the right-hand side
  center: [number, number] | null;
  resolution: number | null;
}

export function initial(site: Site): State {
  const map = site.maps[0];
  return {
    map: map.id,
    year: map.years[map.years.length - 1],
    classes: classLayer(map, "").id,
    overlay: "",
    classOpacity: 1,
    overlayOpacity: 0.85,
    palette: "luisa",
    hidden: new Set(),
    swipe: null,
    divider: 0.5,
    points: true,
    area: null,
    pick: null,
    pickedRight: false,
    center: null,
    resolution: null,
  };
}

export function mapOf(site: Site, side: Side): MapInfo {
  return site.maps.find((map) => map.id === side.map)!;
}

export function serialize(state: State): string {
  const fields = new URLSearchParams();
  const round = (value: number, digits = 0) => String(Number(value.toFixed(digits)));
  if (state.center) {
    fields.set("x", round(state.center[0]));
    fields.set("y", round(state.center[1]));
  }
  if (state.resolution) fields.set("r", round(state.resolution, 3));
  fields.set("map", state.map);
  fields.set("year", String(state.year));
  fields.set("classes", state.classes || "none");
  if (state.overlay) fields.set("overlay", state.overlay);
  if (state.classOpacity !== 1) fields.set("opacity", round(state.classOpacity, 2));
  if (state.overlayOpacity !== 0.85) fields.set("overlayopacity", round(state.overlayOpacity, 2));
  if (state.palette !== "luisa") fields.set("palette", state.palette);
  if (state.hidden.size) fields.set("hide", [...state.hidden].sort((a, b) => a - b).join("."));
  if (state.swipe) fields.set("swipe", `${state.swipe.map}.${state.swipe.year}.${round(state.divider, 3)}`);
  if (!state.points) fields.set("points", "0");
  if (state.area) fields.set("area", state.area === "map" ? "map" : state.area.map((corner) => corner.join("~")).join("_"));
  if (state.pick) fields.set("pick", state.pick.map((value) => round(value, 1)).join("~"));
  if (state.pick && state.swipe && state.pickedRight) fields.set("side", "right");
  return fields.toString();
}

/** The state of a permalink. What is invalid or missing is as in `initial`. */
export function parse(text: string, site: Site): State {
  const state = initial(site);
  const fields = new URLSearchParams(text.replace(/^#/, ""));
  const number = (name: string, low: number, high: number): number | null => {
    const value = Number(fields.get(name) ?? NaN);
    return value >= low && value <= high ? value : null;
  };
  const side = (map: string | null, year: string | null): Side | null => {
    const info = site.maps.find((one) => one.id === map);
    return info?.years.includes(Number(year)) ? { map: info.id, year: Number(year) } : null;
  };
  Object.assign(state, side(fields.get("map"), fields.get("year")));
  const classes = fields.get("classes") ?? "";
  state.classes = classes === "none" ? "" : classLayer(mapOf(site, state), classes).id;
  state.overlay = fields.get("overlay") ?? "";
  state.classOpacity = number("opacity", 0, 1) ?? state.classOpacity;
  state.overlayOpacity = number("overlayopacity", 0, 1) ?? state.overlayOpacity;
  if (fields.get("palette") === "safe") state.palette = "safe";
  const codes = new Set(site.legend.map((entry) => entry.code));
  state.hidden = new Set((fields.get("hide") ?? "").split(".").map(Number).filter((code) => codes.has(code)));
  const [map, year, divider] = (fields.get("swipe") ?? "").split(/\.(?=\d{4}\.)|(?<=\.\d{4})\./);
  state.swipe = side(map ?? null, year ?? null);
  if (state.swipe && Number(divider) >= 0 && Number(divider) <= 1) state.divider = Number(divider);
  if (fields.get("points") === "0") state.points = false;
  const area = fields.get("area") ?? "";
  const ring = area.split("_").map((corner) => corner.split("~").map(Number) as [number, number]);
  if (area === "map") state.area = "map";
  else if (ring.length >= 3 && ring.every((corner) => corner.length === 2 && corner.every(Number.isFinite))) state.area = ring;
  const pick = (fields.get("pick") ?? "").split("~").map(Number);
  if (pick.length === 2 && pick.every(Number.isFinite)) state.pick = [pick[0], pick[1]];
  state.pickedRight = state.pick !== null && state.swipe !== null && fields.get("side") === "right";
  const [x, y, r] = [number("x", -1e8, 1e8), number("y", -1e8, 1e8), number("r", 0.01, 1e6)];
  if (x !== null && y !== null) state.center = [x, y];
  if (r !== null) state.resolution = r;
  return withOwnLayers(site, state);
}

/** A class layer of a map, or its finest if it has no layer of that name. */
export function classLayer(map: MapInfo, id: string): Layer {
  const classes = map.layers.filter((layer) => layer.kind === "class");
  return classes.find((layer) => layer.id === id) ?? classes.reduce((best, layer) => (layer.level > best.level ? layer : best));
}

/** A class layer of each map that can be compared with the others: the chosen one, or the finest level of all maps. */
export function sharedLayers(maps: MapInfo[], id: string): Layer[] | null {
  const like = (map: MapInfo, layer: Layer) =>
    map.layers.find((one) => one.kind === "class" && one.id === layer.id && one.level === layer.level);
  const shared = maps[0].layers.filter((layer) => layer.kind === "class" && maps.every((map) => like(map, layer)));
  const finest = Math.min(...maps.map((map) => classLayer(map, id).level || Infinity));
  const levels = shared.filter((layer) => layer.level && layer.level <= finest).sort((a, b) => b.level - a.level);
  const chosen = shared.find((layer) => layer.id === id) ?? levels[0];
  return chosen ? maps.map((map) => like(map, chosen)!) : null;
}

/** The state with layers of its map only: what is named is what is displayed. */
export function withOwnLayers(site: Site, state: State): State {
  const map = mapOf(site, state);
  const classes = state.classes && classLayer(map, state.classes).id;
  return { ...state, classes, overlay: hasOverlay(map, state.overlay) ? state.overlay : "" };
}

/** Whether a map has an overlay with this id. */
function hasOverlay(map: MapInfo, id: string): boolean {
  return (
    map.layers.some((layer) => layer.kind === "value" && layer.id === id) ||
    (map.probabilities?.codes ?? []).some((code) => id === `p${code}`)
  );
}
