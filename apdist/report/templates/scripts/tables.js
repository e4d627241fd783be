// Tables: sorted by a click on a column, searched by name.
{
  const value = (row, column) => {
    const cell = row.cells[column];
    const text = cell.dataset.value ?? cell.textContent.trim();
    const number = Number(text.replaceAll(",", ""));
    return text === "" || text === "–" ? null : Number.isNaN(number) ? text : number;
  };
  const compare = (left, right) =>
    typeof left === "number" && typeof right === "number"
      ? left - right
      : String(left).localeCompare(String(right), undefined, { numeric: true });
  const sort = (table, header) => {
    const sign = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    const body = table.tBodies[0];
    const keyed = [...body.rows].map((row) => [value(row, header.cellIndex), row]);
    // What has no value comes last, either way round.
    keyed.sort(([a], [b]) => (a === null) - (b === null) || sign * compare(a ?? 0, b ?? 0));
    body.append(...keyed.map(([, row]) => row));
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    for (const header of table.tHead.rows[0].cells) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...header.childNodes);
      button.addEventListener("click", () => sort(table, header));
      header.append(button);
    }
  }
  for (const input of document.querySelectorAll("input[data-table]")) {
    const table = document.getElementById(input.dataset.table);
    const told = input.parentElement.querySelector("output");
    input.parentElement.hidden = false;
    const find = () => {
      const wanted = input.value.trim().toLowerCase();
      let count = 0;
      for (const row of table.tBodies[0].rows) {
        row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted);
        count += !row.hidden;
      }
      told.value = wanted ? `${count} of ${table.tBodies[0].rows.length}` : "";
    };
    input.addEventListener("input", find);
    input.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      input.value = "";
      find();
      input.blur();
    });
    // A link to a row that the search hides shows it.
    addEventListener("hashchange", () => {
      if (!document.getElementById(location.hash.slice(1))?.hidden) return;
      input.value = "";
      find();
      document.getElementById(location.hash.slice(1)).scrollIntoView({ block: "center" });
    });
  }
}
