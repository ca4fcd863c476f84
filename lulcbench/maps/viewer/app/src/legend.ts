// The legend as a tree down to the displayed level; boxes filter classes, buttons show their probability.

import { colorOf } from "./colors";
import { element, swatch } from "./dom";
import type { LandClass, Site } from "./site";
import { classLayer, mapOf, type State } from "./state";

/** Codes of a class and all classes below it that belong to the deepest level of their branch. */
export function leaves(site: Site, code: number): number[] {
  const children = site.legend.filter((entry) => entry.parent === code);
  return children.length ? children.flatMap((child) => leaves(site, child.code)) : [code];
}

/** Whether a class is visible: it is hidden if all classes below it are. */
export function isVisible(site: Site, state: State, code: number): boolean {
  return state.hidden.size === 0 || leaves(site, code).some((leaf) => !state.hidden.has(leaf));
}

/** Code and name of a class; what is uncertain has no code of the legend. */
export function nameOf(entry: LandClass): string {
  return entry.level ? `${entry.code} ${entry.name}` : entry.name;
}

/** Colour, code and name of a class. */
export function named(entry: LandClass, palette: State["palette"]): (Node | string)[] {
  const code = entry.level ? [element("span", { class: "code" }, String(entry.code))] : [];
  return [swatch(colorOf(entry, palette)), ...code, ` ${entry.name}`];
}

export class Legend {
  private readonly open: Set<number>;

  constructor(
    private readonly site: Site,
    private readonly target: HTMLElement,
    private readonly change: (change: Partial<State>) => void,
  ) {
    this.open = new Set(site.legend.filter((entry) => entry.level === 1).map((entry) => entry.code));
  }

  update(state: State): void {
    const focus = (document.activeElement as HTMLElement | null)?.dataset.key;
    this.target.replaceChildren(this.branch(state, null));
    if (focus) this.target.querySelector<HTMLElement>(`[data-key="${focus}"]`)?.focus();
  }

  private branch(state: State, parent: number | null): HTMLElement {
    const sides = state.swipe ? [state, state.swipe] : [state];
    const uncertain = state.classes && sides.some((side) => classLayer(mapOf(this.site, side), state.classes).level === 0);
    const entries = this.site.legend.filter((entry) => entry.parent === parent && (entry.level || uncertain)).sort((a, b) => a.code - b.code);
    return element("ul", {}, ...entries.map((entry) => this.node(state, entry)));
  }

  private node(state: State, entry: LandClass): HTMLElement {
    const below = leaves(this.site, entry.code);
    const hidden = below.filter((code) => state.hidden.has(code)).length;
    const box = element("input", {
      type: "checkbox",
      "data-key": `show-${entry.code}`,
      change: () => {
        const codes = new Set(state.hidden);
        for (const code of below) {
          if (box.checked) codes.delete(code);
          else codes.add(code);
        }
        this.change({ hidden: codes });
      },
    });
    box.checked = hidden < below.length;
    box.indeterminate = hidden > 0 && box.checked;
    const item = element("li");
    const row = element("div", { class: "node" });
    const level = mapOf(this.site, state).layers.find((one) => one.id === state.classes)?.level || 4;
    const parent = entry.level < level && this.site.legend.some((one) => one.parent === entry.code);
    if (parent) {
      const open = this.open.has(entry.code);
      row.append(
        element("button", {
          type: "button",
          class: "toggle",
          "aria-expanded": String(open),
          "aria-label": `Classes of ${entry.name}`,
          "data-key": `open-${entry.code}`,
          click: () => {
            if (open) this.open.delete(entry.code);
            else this.open.add(entry.code);
            this.update(state);
          },
        }, open ? "▾" : "▸"),
      );
    } else {
      row.append(element("span", { class: "toggle" }));
    }
    row.append(element("label", {}, box, ...named(entry, state.palette)));
    if (mapOf(this.site, state).probabilities?.codes.includes(entry.code)) {
      const pressed = state.overlay === `p${entry.code}`;
      row.append(
        element("button", {
          type: "button",
          class: "heat",
          "aria-pressed": String(pressed),
          "aria-label": `Probability of ${entry.name}`,
          title: `Probability of ${entry.name}`,
          "data-key": `heat-${entry.code}`,
          click: () => this.change({ overlay: pressed ? "" : `p${entry.code}` }),
        }, "%"),
      );
    }
    item.append(row);
    if (parent && this.open.has(entry.code)) item.append(this.branch(state, entry.code));
    return item;
  }
}
