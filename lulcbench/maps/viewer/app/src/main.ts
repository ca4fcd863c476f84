// Reads site.json and connects state, map and controls.

import "ol/ol.css";
import "./style.css";
import { AreaTable } from "./areatable";
import { Controls } from "./controls";
import { byId, element } from "./dom";
import { Inspector } from "./inspect";
import { isVisible, Legend, nameOf } from "./legend";
import { Points } from "./points";
import { Reader, type Site } from "./site";
import { mapOf, parse, serialize, withOwnLayers, type State } from "./state";
import { MapView, type Displayed } from "./view";

declare global {
  interface Window {
    /** For tests and scripts: the state, and what is displayed at a pixel of the map element. */
    lulcbench: {
      site: Site;
      state: () => State;
      view: MapView;
      displayed: (pixel: [number, number]) => Promise<Displayed[]>;
      /** As a click on that pixel; the sentence that screen readers get. */
      pick: (pixel: [number, number]) => Promise<string>;
    };
  }
}

const FADED = 0.25;

function fail(message: string): void {
  const box = byId("error");
  box.textContent = message;
  box.hidden = false;
}

async function start(): Promise<void> {
  if (location.protocol === "file:") {
    fail("Browsers do not let a page read files from a folder. Serve it: python -m http.server, then open http://localhost:8000/.");
    return;
  }
  const response = await fetch("site.json");
  if (!response.ok) throw new Error(`site.json: ${response.status} ${response.statusText}`);
  const site: Site = await response.json();
  const reader = new Reader(site);
  const failed = (error: Error) => fail(`A part of the map could not be read. ${error.message}`);

  document.title = site.title;
  byId("title").textContent = site.title;
  byId("simulated").hidden = !site.simulated;

  let state = parse(location.hash, site);
  const view = new MapView(site, reader, byId("map"), (current, code) => isVisible(site, current, code), failed);
  const points = new Points(site, view.map);
  const inspector = new Inspector(site, reader, byId("pixel"), (x, y) => points.nearest(x, y));
  const legend = new Legend(site, byId("legend"), change);
  const controls = new Controls(site, change);
  const areas = new AreaTable(site, reader, view.map, change, failed);
  let written = "";

  function change(changes: Partial<State>): void {
    const before = state;
    state = withOwnLayers(site, { ...state, ...changes });
    // Under another layer the classes fade, unless their opacity is chosen.
    if (state.overlay && !before.overlay && before.classOpacity === 1) state.classOpacity = FADED;
    if (!state.overlay && before.overlay && before.classOpacity === FADED) state.classOpacity = 1;
    render();
    if ("year" in changes || "map" in changes || "palette" in changes || "swipe" in changes) void inspect();
  }

  function render(): void {
    view.update(state);
    legend.update(state);
    controls.update(state);
    void areas.update(state);
    points.update(state);
    remember();
  }

  function remember(): void {
    written = serialize(state);
    history.replaceState(null, "", `#${written}`);
  }

  async function inspect(): Promise<string> {
    try {
      return (byId("status").textContent = await inspector.show(state, (state.pickedRight && state.swipe) || state));
    } catch (error) {
      failed(error as Error);
      return "";
    }
  }

  function pick(pixel: [number, number]): Promise<string> {
    // As the permalink has them, so that both are in the same pixel of the map.
    const [x, y] = view.map.getCoordinateFromPixel(pixel).map((value) => Number(value.toFixed(1)));
    const pickedRight = state.swipe !== null && pixel[0] >= view.map.getSize()![0] * state.divider;
    state = { ...state, pick: [x, y], pickedRight };
    remember();
    view.update(state);
    return inspect();
  }

  function move(): void {
    if (state.center) view.map.getView().setCenter(state.center);
    if (state.resolution) view.map.getView().setResolution(state.resolution);
  }

  if (state.center && state.resolution) move();
  else view.fit();
  render();
  void inspect();
  about(site);

  view.map.on("click", (event) => {
    const [x, y] = event.coordinate;
    if (!areas.click(x, y)) void pick(event.pixel as [number, number]);
  });
  view.map.on("moveend", () => {
    const olView = view.map.getView();
    state = { ...state, center: olView.getCenter() as [number, number], resolution: olView.getResolution()! };
    remember();
  });
  byId("map").addEventListener("keydown", (event) => {
    // The buttons inside have keys of their own.
    if (event.target !== event.currentTarget || (event.key !== "Enter" && event.key !== " ")) return;
    event.preventDefault();
    const [width, height] = view.map.getSize()!;
    const [x, y] = view.map.getView().getCenter()!;
    if (!areas.click(x, y)) void pick([width / 2, height / 2]);
  });
  // Its address would replace the permalink.
  document.querySelector(".skip")!.addEventListener("click", (event) => {
    event.preventDefault();
    byId("panel").focus();
  });
  window.addEventListener("hashchange", () => {
    if (location.hash.slice(1) === written) return;
    state = parse(location.hash, site);
    move();
    render();
    void inspect();
  });
  hover(site, view);
  window.lulcbench = { site, state: () => state, view, displayed: (pixel) => view.displayed(pixel), pick };
}

/** The name of what the pointer is over. */
function hover(site: Site, view: MapView): void {
  const box = byId("tooltip");
  let latest = 0;
  view.map.on("pointermove", async (event) => {
    const request = ++latest;
    const layers = event.dragging ? [] : await view.displayed(event.pixel as [number, number]);
    if (request !== latest) return;
    const text = layers.map((one) => describe(site, one)).filter((one) => one !== null).join(" · ");
    box.hidden = text === "";
    box.textContent = text;
    const width = view.map.getSize()?.[0] ?? 0;
    const [x, y] = event.pixel;
    box.style.transform = `translate(${x}px, ${y}px) translate(${x > width / 2 ? "calc(-100% - 12px)" : "12px"}, 12px)`;
  });
  view.map.getViewport()?.addEventListener("pointerleave", () => {
    latest++;
    box.hidden = true;
  });
}

function describe(site: Site, shown: Displayed): string | null {
  if (shown.value === null) return null;
  const map = mapOf(site, { map: shown.map, year: shown.year });
  const layer = map.layers.find((one) => one.id === shown.layer);
  if (!layer) return `${((shown.value / 255) * 100).toFixed(0)} %`;
  if (layer.kind === "class") {
    return nameOf(site.legend[shown.value]);
  }
  return `${layer.title} ${Number((shown.value * layer.scale + layer.offset).toFixed(3))} ${layer.unit}`.trim();
}

function about(site: Site): void {
  const parts = site.maps.flatMap((map) => [
    element("h3", {}, map.title),
    element("dl", {}, ...map.facts.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)])),
  ]);
  const libraries = element("p", { class: "hint" }, "Drawn with OpenLayers; ", element("a", { href: "LICENSES.txt" }, "licences of the libraries"), ".");
  byId("about").replaceChildren(...parts, libraries);
}

start().catch((error: Error) => fail(`The map could not be opened. ${error.message}`));
