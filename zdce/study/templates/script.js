"use strict";
(() => {
  const root = document.documentElement;
  const pictures = JSON.parse(document.getElementById("pictures").textContent);

  // Every picture stands in the page once; images name theirs.
  for (const img of document.querySelectorAll("img[data-picture]")) img.src = pictures[img.dataset.picture];

  // Light, dark, or as the system has it.
  const theme = document.getElementById("theme");
  const dark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const named = () => (theme.textContent = dark() ? "Light" : "Dark");
  theme.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; named(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", named);
  named();

  // Before and after: the range input lies over both pictures, so that mouse, touch and keyboard are the browser's own.
  for (const compare of document.querySelectorAll(".compare")) {
    const [left, right] = compare.querySelectorAll("select");
    const [before, after] = [compare.querySelector(".before"), compare.querySelector(".after")];
    const range = compare.querySelector("input[type=range]");
    const stage = compare.querySelector(".stage");
    let index = "0";
    const title = (select) => select.selectedOptions[0].textContent;
    const show = () => {
      before.src = pictures[`${index}-${left.value}`];
      after.src = pictures[`${index}-${right.value}`];
      compare.querySelector(".tag.l").textContent = before.alt = title(left);
      compare.querySelector(".tag.r").textContent = after.alt = title(right);
      range.setAttribute("aria-label", `${title(left)} on the left, ${title(right)} on the right`);
    };
    const move = () => {
      stage.style.setProperty("--x", `${range.value}%`);
      range.setAttribute("aria-valuetext", `${range.value}% ${title(left)}`);
    };
    range.addEventListener("input", move);
    for (const select of [left, right]) select.addEventListener("change", () => { show(); move(); });
    const thumbs = [...compare.querySelectorAll(".thumb")];
    for (const thumb of thumbs)
      thumb.addEventListener("click", () => {
        index = thumb.dataset.index;
        for (const other of thumbs) other.setAttribute("aria-pressed", other === thumb);
        show();
      });
    show();
    move();
  }

  // Tables: a click on a heading sorts by it, a second one turns the order round. What is no number comes last.
  const key = (row, column) => {
    const cell = row.cells[column];
    if (!("value" in cell.dataset)) return cell.textContent.trim();
    const value = parseFloat(cell.dataset.value);
    return Number.isNaN(value) ? null : value;
  };
  const compared = (a, b, sign) => {
    if (a === null || b === null) return (a === null) - (b === null);
    return sign * (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true }));
  };
  for (const table of document.querySelectorAll("table.sortable"))
    table.tHead.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (!button) return;
      const heading = button.closest("th");
      const first = heading.dataset.first || "ascending";
      const now = heading.getAttribute("aria-sort");
      const order = !now ? first : now === "ascending" ? "descending" : "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", order);
      const rows = [...table.tBodies[0].rows].map((row) => [key(row, heading.cellIndex), row]);
      rows.sort(([a], [b]) => compared(a, b, order === "ascending" ? 1 : -1));
      table.tBodies[0].append(...rows.map(([, row]) => row));
    });

  // Zoom: a click shows a picture large; arrow keys go through its row.
  const dialog = document.getElementById("zoom");
  const [large, caption] = [dialog.querySelector("img"), dialog.querySelector("p")];
  let shots = [];
  let at = 0;
  const zoom = (i) => {
    at = (i + shots.length) % shots.length;
    const img = shots[at].querySelector("img");
    large.src = img.src;
    large.alt = img.alt;
    caption.textContent = img.alt;
  };
  document.addEventListener("click", (event) => {
    const shot = event.target.closest(".shot");
    if (!shot) return;
    shots = [...shot.closest(".row").querySelectorAll(".shot")];
    zoom(shots.indexOf(shot));
    dialog.showModal();
  });
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowRight") zoom(at + 1);
    if (event.key === "ArrowLeft") zoom(at - 1);
  });
  dialog.addEventListener("click", (event) => {
    const step = event.target.closest("[data-step]");
    if (step) zoom(at + Number(step.dataset.step));
    else dialog.close();
  });

  // On paper everything that folds is open, but the tables of single pictures.
  addEventListener("beforeprint", () => {
    for (const fold of document.querySelectorAll("details:not(.long)")) fold.open = true;
  });
})();
