// Map, year, swipe, layers, opacity, palette: form elements that change the state.

import { RAMP_CSS } from "./colors";
import { byId, element } from "./dom";
import type { MapInfo, Site } from "./site";
import { classLayer, mapOf, type Side, type State } from "./state";

type Change = (change: Partial<State>) => void;

export class Controls {
  private state!: State; // the latest: controls may be older than it

  constructor(
    private readonly site: Site,
    private readonly change: Change,
  ) {
    const divide = byId<HTMLInputElement>("divide");
    divide.addEventListener("input", () => change({ divider: Number(divide.value) }));
  }

  update(state: State): void {
    this.state = state;
    const focus = (document.activeElement as HTMLElement | null)?.id;
    this.timebar(state);
    this.layers(state);
    this.legendTools(state);
    this.swipe(state);
    if (focus && document.activeElement?.id !== focus) byId(focus)?.focus();
  }

  private timebar(state: State): void {
    const bar = byId("timebar");
    const parts = this.side(state, "left", (side) => this.change(side));
    if (this.site.maps.length > 1 || this.site.maps[0].years.length > 1) {
      const box = element("input", {
        type: "checkbox",
        id: "swipe",
        change: () => this.change(box.checked ? this.compared(state) : { swipe: null }),
      });
      box.checked = state.swipe !== null;
      parts.push(element("label", { class: "inline" }, box, "Swipe"));
      if (state.swipe) parts.push(...this.side(state.swipe, "right", (side) => this.change({ swipe: side })));
    }
    replace(bar, parts);
  }

  /** Map and year of a side. */
  private side(side: Side, name: string, set: (side: Side) => void): HTMLElement[] {
    const map = mapOf(this.site, side);
    const parts: HTMLElement[] = [];
    if (this.site.maps.length > 1) {
      const select = element("select", {
        id: `map-${name}`,
        change: () => {
          const next = this.site.maps.find((one) => one.id === select.value)!;
          const { year } = name === "left" ? this.state : this.state.swipe!;
          set({ map: next.id, year: nearest(next, year) });
        },
      }, ...this.site.maps.map((one) => option(one.id, one.title, one.id === map.id)));
      parts.push(element("label", {}, element("span", { class: "sr-only" }, `Map, ${name}`), select));
    }
    const shown = element("output", { for: `year-${name}` }, String(side.year));
    if (map.years.length > 1) {
      const slider = element("input", {
        id: `year-${name}`,
        type: "range",
        min: 0,
        max: map.years.length - 1,
        step: 1,
        value: map.years.indexOf(side.year),
        "aria-label": `Year, ${name}`,
        "aria-valuetext": String(side.year),
        input: () => set({ map: map.id, year: map.years[Number(slider.value)] }),
      });
      parts.push(element("label", { class: "inline" }, slider, shown));
    } else {
      parts.push(shown);
    }
    return [element("span", { class: "side" }, ...parts)];
  }

  /** The sides of a new swipe: two years of the map, the earlier one on the left, or another map on the right. */
  private compared(state: State): Partial<State> {
    const map = mapOf(this.site, state);
    const year = map.years.find((one) => one !== state.year);
    if (year !== undefined) {
      return { year: Math.min(year, state.year), swipe: { map: map.id, year: Math.max(year, state.year) } };
    }
    const next = this.site.maps.find((one) => one.id !== map.id)!;
    return { swipe: { map: next.id, year: nearest(next, state.year) } };
  }

  private swipe(state: State): void {
    byId("divider").hidden = byId("sides").hidden = state.swipe === null;
    if (!state.swipe) return;
    const divide = byId<HTMLInputElement>("divide");
    divide.value = String(state.divider);
    byId("divider-line").style.left = `${state.divider * 100}%`;
    const several = state.map !== state.swipe.map;
    const [left, right] = [state, state.swipe].map((side) => classLayer(mapOf(this.site, side), state.classes));
    const name = (side: Side) => {
      const layer = state.classes && left.id !== right.id ? [(side === state ? left : right).title] : [];
      return [String(side.year), ...layer, ...(several ? [mapOf(this.site, side).title] : [])].join(" · ");
    };
    byId("side-left").textContent = name(state);
    byId("side-right").textContent = name(state.swipe);
  }

  private layers(state: State): void {
    const map = mapOf(this.site, state);
    const layers = map.layers.filter((layer) => layer.kind === "class");
    const classes = element("select", { id: "classes", change: () => this.change({ classes: classes.value }) },
      ...layers.map((layer) => option(layer.id, layer.title, layer.id === state.classes)),
      option("", "none", state.classes === ""),
    );
    const values = map.layers.filter((layer) => layer.kind === "value");
    const probability = state.overlay.startsWith("p") ? Number(state.overlay.slice(1)) : null;
    const overlay = element("select", { id: "overlay", change: () => this.change({ overlay: overlay.value }) },
      option("", "none", state.overlay === ""),
      ...values.map((layer) => option(layer.id, layer.title, layer.id === state.overlay)),
    );
    if (map.probabilities) {
      const codes = map.probabilities.codes.map((code) => {
        const entry = this.site.legend.find((one) => one.code === code)!;
        return option(`p${code}`, `${code} ${entry.name}`, code === probability);
      });
      overlay.append(element("optgroup", { label: "Probability of a class" }, ...codes));
    }
    const parts: HTMLElement[] = [
      element("label", {}, "Classes", classes),
      this.opacity("classOpacity", "Opacity of the classes", state.classOpacity),
      element("label", {}, "On top", overlay),
    ];
    if (state.overlay) {
      parts.push(this.opacity("overlayOpacity", "Opacity of the layer on top", state.overlayOpacity), this.ramp(map, state));
    }
    if (this.site.points.length) {
      const box = element("input", { type: "checkbox", id: "show-points", change: () => this.change({ points: box.checked }) });
      box.checked = state.points;
      parts.push(element("label", { class: "inline" }, "Observations on the ground", box));
    }
    replace(byId("layers"), parts);
  }

  private opacity(key: "classOpacity" | "overlayOpacity", label: string, value: number): HTMLElement {
    const slider = element("input", {
      id: key,
      type: "range",
      min: 0,
      max: 1,
      step: 0.05,
      value,
      "aria-valuetext": `${Math.round(value * 100)} %`,
      input: () => this.change({ [key]: Number(slider.value) }),
    });
    return element("label", {}, label, slider);
  }

  private ramp(map: MapInfo, state: State): HTMLElement {
    const layer = map.layers.find((one) => one.id === state.overlay);
    const [low, high, text] = layer
      ? [`${layer.low} ${layer.unit}`, `${layer.high} ${layer.unit}`, layer.description]
      : ["0 %", "100 %", "Where it rounds to 0, the map below is visible."];
    const bar = element("span", { class: "ramp", "aria-hidden": "true" });
    bar.style.background = RAMP_CSS;
    return element("div", {}, element("div", { class: "scale" }, low.trim(), bar, high.trim()), element("p", { class: "hint" }, text));
  }

  private legendTools(state: State): void {
    const palette = element("select", {
      id: "palette",
      change: () => this.change({ palette: palette.value as State["palette"] }),
    }, option("luisa", "of the legend", state.palette === "luisa"), option("safe", "colour-blind safe", state.palette === "safe"));
    replace(byId("legend-tools"), [
      element("label", {}, "Colours", palette),
      element("button", { id: "show-all", type: "button", disabled: state.hidden.size === 0, click: () => this.change({ hidden: new Set() }) }, "Show all"),
      element("button", {
        id: "hide-all",
        type: "button",
        click: () => {
          const parents = new Set(this.site.legend.map((entry) => entry.parent));
          this.change({ hidden: new Set(this.site.legend.map((entry) => entry.code).filter((code) => !parents.has(code))) });
        },
      }, "Hide all"),
    ]);
  }
}

function option(value: string, text: string, selected: boolean): HTMLOptionElement {
  return element("option", { value, selected }, text);
}

/** Replace the controls of a part, but keep those that a pointer or key operates just now: a slider being dragged. */
function replace(target: HTMLElement, parts: HTMLElement[]): void {
  const active = document.activeElement;
  if (active instanceof HTMLInputElement && active.type === "range" && target.contains(active)) {
    const fresh = parts.find((part) => part.querySelector(`#${active.id}`));
    const stale = fresh && [...target.children].find((part) => part.contains(active));
    const twin = fresh?.querySelector(`#${active.id}`);
    if (stale && twin) {
      active.setAttribute("aria-valuetext", twin.getAttribute("aria-valuetext") ?? "");
      const output = stale.querySelector("output");
      if (output) output.textContent = fresh.querySelector("output")!.textContent;
      // The element that has the focus stays in the document; its neighbours are new.
      for (const child of [...target.children]) if (child !== stale) child.remove();
      const at = parts.indexOf(fresh);
      stale.before(...parts.slice(0, at));
      stale.after(...parts.slice(at + 1));
      return;
    }
  }
  target.replaceChildren(...parts);
}

function nearest(map: MapInfo, year: number): number {
  return map.years.reduce((best, one) => (Math.abs(one - year) < Math.abs(best - year) ? one : best));
}
