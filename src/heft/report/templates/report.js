// Sorts tables by their head and filters rows. The page says the same without it.
(() => {
  "use strict";

  const valueOf = (cell) => {
    const given = cell.dataset.v;
    if (given === undefined) return cell.textContent.trim().toLowerCase();
    return given === "" ? NaN : Number(given);
  };

  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), undefined, { numeric: true });
  };

  const sortBy = (table, head, column) => {
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => [valueOf(row.cells[column]), row]);
    const numbers = rows.some(([value]) => typeof value === "number");
    const before = head.getAttribute("aria-sort");
    // Numbers begin with the largest, text with the first of the alphabet.
    const first = numbers ? "descending" : "ascending";
    const other = numbers ? "ascending" : "descending";
    const order = before === first ? other : first;
    const sign = order === "ascending" ? 1 : -1;
    rows.sort(([a], [b]) => {
      const missing = Number(Number.isNaN(a)) - Number(Number.isNaN(b));
      return missing || (Number.isNaN(a) ? 0 : sign * compare(a, b));
    });
    for (const cell of table.tHead.rows[0].cells) cell.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", order);
    body.append(...rows.map(([, row]) => row));
  };

  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.title = "Sort";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => sortBy(table, head, column));
    });
  }

  for (const tools of document.querySelectorAll(".tools")) {
    const target = document.getElementById(tools.dataset.for);
    const rows = target.tBodies ? [...target.tBodies[0].rows] : [...target.children];
    const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
    const search = tools.querySelector("input");
    const selects = [...tools.querySelectorAll("select")];
    const shown = tools.querySelector("output");
    const filter = () => {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      let count = 0;
      for (const row of rows) {
        const wanted =
          words.every((word) => texts.get(row).includes(word)) &&
          selects.every(({ name, value }) => !value || row.dataset[name] === value);
        row.hidden = !wanted;
        count += Number(wanted);
      }
      shown.textContent = `${count.toLocaleString("en")} of ${rows.length.toLocaleString("en")}`;
    };
    for (const input of [search, ...selects]) input.addEventListener("input", filter);
    tools.hidden = false;
    filter();
  }
})();
