// Conveniences only; every page works without them.
"use strict";
const compare = document.getElementById("compare");
if (compare) {
  const boxes = [...compare.form.querySelectorAll("input[name=id]")];
  // The selection survives sorting, filtering and other pages of the table; another table has its own.
  const key = `compare ${compare.form.dataset.table}`;
  const kept = new Set(JSON.parse(sessionStorage.getItem(key) || "[]"));
  const shown = new Set(boxes.map((box) => box.value));
  const clear = document.getElementById("clear");
  const update = () => {
    compare.textContent = kept.size ? `Compare ${kept.size} selected` : "Compare selected";
    compare.disabled = kept.size < 2;
    clear.hidden = !kept.size;
  };
  boxes.forEach((box) => {
    if (box.checked) kept.add(box.value);
    box.checked = kept.has(box.value);
    box.addEventListener("change", () => {
      if (box.checked) kept.add(box.value);
      else kept.delete(box.value);
      sessionStorage.setItem(key, JSON.stringify([...kept]));
      update();
    });
  });
  clear.addEventListener("click", () => {
    kept.clear();
    sessionStorage.removeItem(key);
    for (const box of boxes) box.checked = false;
    update();
    boxes[0].focus();
  });
  compare.form.addEventListener("formdata", (event) => {
    for (const id of kept) if (!shown.has(id)) event.formData.append("id", id);
  });
  compare.form.addEventListener("submit", () => sessionStorage.removeItem(key));
  update();
}
const board = document.querySelector("table.board");
for (const box of document.querySelectorAll(".columns input")) {
  const show = () => board && board.classList.toggle(`hide-${box.value}`, !box.checked);
  // Stored is what differs from the default.
  const key = `${box.defaultChecked ? "hide" : "show"}-${box.value}`;
  box.checked = (localStorage.getItem(key) === null) === box.defaultChecked;
  show();
  box.addEventListener("change", () => {
    if (box.checked === box.defaultChecked) localStorage.removeItem(key);
    else localStorage.setItem(key, "1");
    show();
  });
}
// Tables of exported pages have no server that sorts them.
for (const button of document.querySelectorAll("button[data-sort]")) {
  button.addEventListener("click", () => {
    const head = button.closest("th");
    const at = [...head.parentNode.children].indexOf(head);
    const down = head.getAttribute("aria-sort") !== "descending";
    const body = head.closest("table").tBodies[0];
    // The value of a number with its unit is given besides.
    const text = (row) => row.cells[at].dataset.value ?? row.cells[at].textContent.trim();
    const value = (row) => (head.classList.contains("num") ? Number.parseFloat(text(row)) : text(row).toLowerCase());
    const known = [...body.rows].filter((row) => !Number.isNaN(value(row)));
    const rest = [...body.rows].filter((row) => Number.isNaN(value(row)));
    known.sort((a, b) => (value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : 0) * (down ? -1 : 1));
    body.append(...known, ...rest);
    for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
  });
}
const waiting = document.querySelector("[data-refresh]");
if (waiting) {
  // Not while a link has the focus of the keyboard, which a new page would lose.
  setInterval(() => {
    if (document.activeElement === document.body) location.reload();
  }, 1000 * Number(waiting.dataset.refresh));
}
