"use strict";

// Texts reach the page through textContent only: answers and names are untrusted.
const dark = matchMedia("(prefers-color-scheme: dark)");

function themed(layout) {
  const style = getComputedStyle(document.documentElement);
  const value = (name) => style.getPropertyValue(name).trim();
  const axes = Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key));
  const quiet = { gridcolor: value("--line"), linecolor: value("--line"), zerolinecolor: value("--line") };
  return {
    ...layout,
    ...Object.fromEntries(axes.map((key) => [key, { ...layout[key], ...quiet }])),
    font: { ...layout.font, color: value("--ink") },
    paper_bgcolor: "rgba(0,0,0,0)",
    modebar: { bgcolor: "rgba(0,0,0,0)", color: value("--quiet"), activecolor: value("--ink") },
    hoverlabel: { ...layout.hoverlabel, bgcolor: value("--paper"), bordercolor: value("--quiet"), font: { ...layout.hoverlabel.font, color: value("--ink") } },
  };
}

function drawFigures() {
  for (const block of document.querySelectorAll(".figure-data")) {
    const figure = JSON.parse(block.textContent);
    const config = { responsive: true, displaylogo: false, modeBarButtons: [["toImage"]], toImageButtonOptions: { format: "svg", filename: block.dataset.for } };
    Plotly.react(block.dataset.for, figure.data, themed(figure.layout), config);
  }
}

function filterSamples() {
  const table = document.getElementById("samples-table");
  if (!table) return;
  const topic = document.getElementById("sample-topic");
  const search = document.getElementById("sample-search");
  const rows = [...table.tBodies[0].rows];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const update = () => {
    const wanted = search.value.trim().toLowerCase();
    rows.forEach((row, i) => {
      row.hidden = !((!topic.value || row.dataset.topic === topic.value) && texts[i].includes(wanted));
    });
    const shown = rows.filter((row) => !row.hidden).length;
    document.getElementById("sample-count").textContent = `${shown} of ${rows.length} questions`;
  };
  topic.addEventListener("change", update);
  search.addEventListener("input", update);
}

function shown(value) {
  if (value === null) return "–";
  if (value === true) return "yes";
  if (value === false) return "";
  return typeof value === "number" && !Number.isInteger(value) ? String(Number(value.toPrecision(4))) : String(value);
}

function compare(a, b) {
  if (a === b) return 0;
  if (a === null) return 1;
  if (b === null) return -1;
  return a < b ? -1 : 1;
}

function tabulateMeasurements() {
  const block = document.getElementById("measurement-data");
  if (!block) return;
  const { columns, numbers, rows } = JSON.parse(block.textContent);
  const table = document.getElementById("measurements-table");
  const more = document.getElementById("measurement-more");
  const selects = [...document.querySelectorAll("#measurement-filters select")];
  const page = 100;
  let limit = page;
  let sort = { column: -1, sign: 1 };

  for (const select of selects) {
    const at = columns.indexOf(select.dataset.column);
    const values = [...new Set(rows.map((row) => row[at]))].sort(compare);
    for (const value of values) select.add(new Option(shown(value), JSON.stringify(value)));
    select.addEventListener("change", () => { limit = page; update(); });
  }
  for (const button of table.tHead.querySelectorAll("button")) {
    button.addEventListener("click", () => {
      const column = columns.indexOf(button.dataset.column);
      sort = { column, sign: sort.column === column ? -sort.sign : 1 };
      update();
    });
  }
  more.addEventListener("click", () => { limit += 4 * page; update(); });

  function update() {
    const wanted = selects.filter((s) => s.value !== "").map((s) => [columns.indexOf(s.dataset.column), JSON.parse(s.value)]);
    let found = rows.filter((row) => wanted.every(([at, value]) => row[at] === value));
    if (sort.column >= 0) found = [...found].sort((a, b) => sort.sign * compare(a[sort.column], b[sort.column]));
    [...table.tHead.rows[0].cells].forEach((cell, i) => {
      if (i === sort.column) cell.setAttribute("aria-sort", sort.sign > 0 ? "ascending" : "descending");
      else cell.removeAttribute("aria-sort");
    });
    const body = document.createElement("tbody");
    for (const row of found.slice(0, limit)) {
      const line = body.insertRow();
      row.forEach((value, i) => {
        const cell = line.insertCell();
        cell.textContent = shown(value);
        if (numbers.includes(columns[i])) cell.className = "number";
      });
    }
    table.tBodies[0].replaceWith(body);
    more.hidden = found.length <= limit;
    document.getElementById("measurement-count").textContent =
      `${Math.min(limit, found.length)} of ${found.length} rows` + (found.length < rows.length ? ` (${rows.length} in all)` : "");
  }
  update();
}

drawFigures();
dark.addEventListener("change", drawFigures);
filterSamples();
tabulateMeasurements();
