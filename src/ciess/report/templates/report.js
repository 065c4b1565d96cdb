"use strict";
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  const written = [...body.rows];
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    heading.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const direction = heading.ariaSort === "ascending" ? "descending" : heading.ariaSort === "descending" ? "none" : "ascending";
      headings.forEach((other) => other.setAttribute("aria-sort", "none"));
      heading.setAttribute("aria-sort", direction);
      const numeric = heading.classList.contains("number");
      const valueOf = (row) => numeric ? Number.parseFloat(row.cells[column].dataset.value) : row.cells[column].dataset.value;
      const sign = direction === "descending" ? -1 : 1;
      const inOrder = (first, second) => {
        const [a, b] = [valueOf(first), valueOf(second)];
        // What has no value comes last either way.
        if (numeric && (Number.isNaN(a) || Number.isNaN(b))) return Number.isNaN(a) - Number.isNaN(b);
        return sign * (numeric ? a - b : a.localeCompare(b, "en", { numeric: true }));
      };
      body.append(...(direction === "none" ? written : [...written].sort(inOrder)));
    });
  });
}
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((folded) => { folded.open = true; }));
