"use strict";
// Search, sort and filter for the tables that are marked for it; without this script they are plain tables.
for (const section of document.querySelectorAll("[data-interactive]")) {
  const table = section.querySelector("table");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const texts = rows.map(row => [...row.querySelectorAll(".text, .short")].map(cell => cell.textContent).join("\n").toLowerCase());
  const headers = [...table.tHead.rows[0].cells];
  const controls = section.querySelector(".controls");
  const search = controls.querySelector("[type=search]");
  const filter = controls.querySelector("select.filter");
  const sorter = controls.querySelector("select.sorter");
  const status = controls.querySelector("[role=status]");
  let sorted = "";

  function show() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, index) => {
      const fits = (filter.selectedIndex === 0 || row.dataset.group === filter.value)
        && words.every(word => texts[index].includes(word));
      row.hidden = !fits;
      shown += fits;
    });
    status.textContent = `${shown} of ${rows.length} rows shown${sorted}`;
  }

  function compare(first, second) {
    const [a, b] = [first, second].map(text => parseFloat(text.replaceAll(",", "")));
    if (Number.isNaN(a) || Number.isNaN(b)) return first.localeCompare(second, undefined, {numeric: true});
    return a - b;
  }

  function sortBy(column, direction) {
    const sign = direction === "ascending" ? 1 : -1;
    const keys = new Map(rows.map(row => [row, row.cells[column].textContent.trim()]));
    body.append(...[...rows].sort((a, b) => sign * compare(keys.get(a), keys.get(b))));
    headers.forEach(header => header.removeAttribute("aria-sort"));
    headers[column].setAttribute("aria-sort", direction);
    sorter.value = column;
    sorted = `, sorted by ${headers[column].textContent.trim()}, ${direction}`;
    show();
  }

  headers.forEach((header, column) => {
    if (!header.dataset.sort) return;
    sorter.append(new Option(header.textContent.trim(), column));
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => {
      const before = header.getAttribute("aria-sort");
      const opposite = {ascending: "descending", descending: "ascending"};
      sortBy(column, before ? opposite[before] : header.dataset.sort);
    });
  });
  search.addEventListener("input", show);
  filter.addEventListener("change", show);
  sorter.addEventListener("change", () => {
    if (sorter.value) return sortBy(sorter.value, headers[sorter.value].dataset.sort);
    body.append(...rows);
    headers.forEach(header => header.removeAttribute("aria-sort"));
    sorted = "";
    show();
  });
  controls.hidden = false;
  show();
}
