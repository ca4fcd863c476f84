// Conveniences only; every page works without them.
"use strict";
for (const form of document.querySelectorAll("form.filters")) {
  for (const field of form.querySelectorAll("select, input[type=checkbox], input[type=date]")) {
    field.addEventListener("change", () => form.requestSubmit());
  }
}
const compare = document.getElementById("compare");
if (compare) {
  const boxes = [...compare.form.querySelectorAll("input[name=id]")];
  const update = () => {
    const n = boxes.filter((box) => box.checked).length;
    compare.textContent = n ? `Compare ${n} selected` : "Compare selected";
    compare.disabled = n < 2;
  };
  boxes.forEach((box) => box.addEventListener("change", update));
  update();
}
const waiting = document.querySelector("[data-refresh]");
if (waiting) setTimeout(() => location.reload(), 1000 * Number(waiting.dataset.refresh));
