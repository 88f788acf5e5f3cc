// Tables sort by the column whose name is clicked, numbers by size, what is missing last.
const key = (row, column) => {
  const text = row.cells[column].textContent.replaceAll(",", "");
  const [, top, bottom] = text.match(/^(\d+)\/(\d+)$/) ?? [];
  if (text === "—" || text === "") return null;
  if (bottom) return top / bottom;
  const number = parseFloat(text.replace("−", "-"));
  return /^[−-]?[\d.]/.test(text) && !Number.isNaN(number) ? number : text;
};
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...body.rows].map(row => [key(row, column), row]);
    rows.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      const order = typeof a === "number" && typeof b === "number"
        ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
      return down ? -order : order;
    });
    body.append(...rows.map(([, row]) => row));
  }));
}
