"use strict";
(function () {
  const table = document.getElementById("layer-table");
  if (table) {
    const body = table.tBodies[0];
    const rows = Array.from(body.rows);
    const filter = document.getElementById("layer-filter");
    const onlyFloat = document.getElementById("layer-float");
    const status = document.getElementById("layer-count");
    const show = function () {
      const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        const hit = words.every((word) => text.includes(word)) && (!onlyFloat.checked || row.classList.contains("float-layer"));
        row.hidden = !hit;
        shown += hit ? 1 : 0;
      }
      status.textContent = shown === rows.length ? rows.length + " layers" : shown + " of " + rows.length + " layers";
    };
    filter.addEventListener("input", show);
    onlyFloat.addEventListener("change", show);
    Array.from(table.tHead.rows[0].cells).forEach(function (head, index) {
      const button = head.querySelector("button");
      const numeric = button.dataset.numeric === "1";
      button.addEventListener("click", function () {
        const down = head.getAttribute("aria-sort") === "none" ? numeric : head.getAttribute("aria-sort") === "ascending";
        for (const other of table.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const key = (row) => row.cells[index].dataset.key;
        const sorted = rows.slice().sort(function (a, b) {
          if (key(a) === "" || key(b) === "") return (key(a) === "" ? 1 : 0) - (key(b) === "" ? 1 : 0);
          const order = numeric ? key(a) - key(b) : key(a).localeCompare(key(b), "en", { numeric: true });
          return down ? -order : order;
        });
        body.append(...sorted);
      });
    });
  }
  const copy = document.getElementById("copy");
  if (copy && navigator.clipboard) {
    copy.hidden = false;
    copy.addEventListener("click", function () {
      navigator.clipboard.writeText(document.getElementById("command").textContent).then(function () {
        copy.textContent = "Copied";
      });
    });
  }
})();
