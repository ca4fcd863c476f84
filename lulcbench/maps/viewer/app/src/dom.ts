// Elements. Text is always set as text: maps come from others.

type Attributes = Record<string, string | number | boolean | null | ((event: Event) => void)>;

/** A new element; attributes that are functions are event listeners, null and false are left out. */
export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K, attributes: Attributes = {}, ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const node = document.createElement(tag);
  assign(node, attributes);
  node.append(...children);
  return node;
}

export function svg(tag: string, attributes: Attributes = {}, ...children: (Node | string)[]): SVGElement {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  assign(node, attributes);
  node.append(...children);
  return node;
}

function assign(node: Element, attributes: Attributes): void {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value !== null && value !== false) node.setAttribute(name, value === true ? "" : String(value));
  }
}

export function byId<T extends HTMLElement = HTMLElement>(id: string): T {
  return document.getElementById(id) as T;
}

/** A square in the colour of a class. Set through the DOM: the content policy allows no inline styles. */
export function swatch(color: string): HTMLElement {
  const node = element("span", { class: "swatch", "aria-hidden": "true" });
  node.style.background = color;
  return node;
}
