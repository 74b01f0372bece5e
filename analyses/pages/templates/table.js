
// The table: which rows, in which order, and only those in sight as elements, so that its length costs nothing.

const ROW = 34; // pixels, as in latents.css
const BEYOND = 12; // rows drawn above and below those in sight

const grid = document.getElementById("latents");
const scroller = document.getElementById("scroller");
const control = (id) => document.getElementById(id);

const view = {
  contrast: table.contrasts.length ? table.contrasts[0] : null,
  kind: -1, // of labels; -1 for any
  sort: { key: "latent", sign: 1 },
  order: [], // rows that pass the filters, sorted
  chosen: -1, // a row
};

function labelOf(row) {
  const labels = columns.labels[row];
  const found = view.kind < 0 ? labels[0] : labels.find((label) => label[0] === view.kind);
  return found ?? null;
}

function labelText([kind, state]) {
  return visible(`${table.kinds[kind]}: ${table.states[state]}`);
}

const described = columns.description.length > 0;
const labelled = table.kinds.length > 0;
const grouped = table.groups.some((name) => name !== "");
const detailed = columns.chunk.some((chunk) => chunk >= 0);

// key, heading, width, value to sort by, what the cell shows, whether the largest comes first
function tableColumns() {
  const contrast = view.contrast === null ? null : columns.contrast[view.contrast];
  return [
    { key: "latent", title: "latent", width: 66, value: (row) => columns.latent[row], cell: (row) => columns.latent[row] },
    contrast && {
      key: "difference", title: "difference", width: 164, numeric: true, most: true, value: (row) => contrast.estimate[row],
      cell: (row) => [
        element("span", { class: contrast.found[row] ? "found" : "unfound" }, number(contrast.estimate[row])),
        element("span", { class: "interval" }, `${number(contrast.low[row], 2)} to ${number(contrast.high[row], 2)}`),
      ],
    },
    contrast && { key: "q", title: "q", width: 72, numeric: true, value: (row) => contrast.q[row], cell: (row) => number(contrast.q[row]) },
    labelled && {
      key: "label", title: "label", width: 128, value: (row) => { const label = labelOf(row); return label && labelText(label).toLowerCase(); },
      cell: (row) => { const label = labelOf(row); return label ? labelText(label) : "–"; },
    },
    labelled && {
      key: "auroc", title: "AUROC", width: 70, numeric: true, most: true, value: (row) => labelOf(row)?.[2] ?? null,
      cell: (row) => { const label = labelOf(row); return label ? label[2].toFixed(2) : "–"; },
    },
    detailed && { key: "active", title: "active on", width: 180, cell: (row) => columns.active[row].map(chip) },
    described && {
      key: "description", title: "description", about: `a guess by ${visible(table.describer)}, not measured`, width: 190,
      value: (row) => columns.description[row].toLowerCase() || null, cell: (row) => visible(columns.description[row]),
    },
    ...table.models.map((name) => ({
      key: `frequency ${name}`, title: words(name), about: `share of tokens on which it is active, ${words(name)}`, width: 74, numeric: true, most: true,
      value: (row) => columns.frequency[name][row], cell: (row) => percent(columns.frequency[name][row]),
    })),
    grouped && { key: "group", title: "group", width: 92, value: (row) => table.groups[columns.group[row]], cell: (row) => words(table.groups[columns.group[row]]) },
    detailed && { key: "promoted", title: "promotes", width: 180, cell: (row) => columns.promoted[row].map(chip) },
  ].filter(Boolean);
}

// All that a search looks through, by row: labels, descriptions, tokens. Made at the first search.
let searched = null;
function searchTexts() {
  searched ??= columns.latent.map((_, row) =>
    [
      ...columns.labels[row].map(labelText), described ? columns.description[row] : "", table.groups[columns.group[row]],
      ...columns.active[row], ...columns.promoted[row],
    ].join("\n").toLowerCase(),
  );
  return searched;
}

function matcher() {
  const wanted = control("search").value.trim().toLowerCase().split(/\s+/).filter(Boolean);
  if (!wanted.length) return () => true;
  const texts = searchTexts();
  return (row) => wanted.every((word) => word === String(columns.latent[row]) || texts[row].includes(word));
}

function compare(a, b) {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}

function arrange() {
  const contrast = view.contrast === null ? null : columns.contrast[view.contrast];
  const group = control("group").value;
  const matches = matcher();
  const rows = [...columns.latent.keys()].filter(
    (row) =>
      (!control("found").checked || contrast.found[row]) &&
      (group === "" || columns.group[row] === Number(group)) &&
      (view.kind < 0 || labelOf(row) !== null) &&
      matches(row),
  );
  const by = tableColumns().find((column) => column.key === view.sort.key);
  if (by && by.value) {
    const values = new Map(rows.map((row) => [row, by.value(row)]));
    // rows without a value come last, whichever way it goes
    rows.sort((a, b) => {
      const [x, y] = [values.get(a), values.get(b)];
      if (x === null || y === null) return (x === null) - (y === null);
      return view.sort.sign * compare(x, y);
    });
  }
  view.order = rows;
  control("count").textContent =
    rows.length === columns.latent.length ? `${rows.length} latents` : `${rows.length} of ${columns.latent.length} latents`;
}

function drawHead() {
  const shown = tableColumns();
  grid.querySelector("colgroup").replaceChildren(
    ...shown.map((column) => {
      const col = element("col", {});
      col.style.width = `${column.width}px`;
      return col;
    }),
  );
  grid.style.minWidth = `${shown.reduce((sum, column) => sum + column.width, 0)}px`;
  grid.setAttribute("aria-colcount", shown.length);
  grid.tHead.rows[0].replaceChildren(
    ...shown.map((column) => {
      const sorted = view.sort.key === column.key ? (view.sort.sign > 0 ? "ascending" : "descending") : null;
      const heading = column.value ? element("button", { type: "button", "data-key": column.key, tabindex: -1 }, column.title) : column.title;
      return element("th", { scope: "col", class: column.numeric ? "number" : null, "aria-sort": sorted, title: column.about ?? null }, heading);
    }),
  );
}

function space(rows, span) {
  const cell = element("td", { colspan: span });
  cell.style.height = `${rows * ROW}px`;
  return element("tr", { class: "space", "aria-hidden": "true" }, cell);
}

function drawRows() {
  const shown = tableColumns();
  const first = Math.max(0, Math.floor(scroller.scrollTop / ROW) - BEYOND);
  const last = Math.min(view.order.length, Math.ceil((scroller.scrollTop + scroller.clientHeight) / ROW) + BEYOND);
  const lines = [space(Math.min(first, view.order.length), shown.length)];
  for (let i = first; i < last; i++) {
    const row = view.order[i];
    const latent = columns.latent[row];
    const cells = shown.map((column, at) => {
      if (at === 0) return element("th", { scope: "row" }, element("a", { href: `#latent=${latent}`, tabindex: -1 }, String(latent)));
      return element("td", { class: column.numeric ? "number" : null }, ...[column.cell(row)].flat());
    });
    const chosen = row === view.chosen;
    lines.push(element("tr", { id: `row-${latent}`, class: chosen ? "chosen" : null, "aria-selected": String(chosen), "aria-rowindex": i + 2 }, ...cells));
  }
  lines.push(space(Math.max(0, view.order.length - last), shown.length));
  if (!view.order.length) lines.push(element("tr", { class: "space" }, element("td", { colspan: shown.length }, "No latent fits; widen the search or the filters.")));
  grid.tBodies[0].replaceChildren(...lines);
  grid.setAttribute("aria-rowcount", view.order.length + 1);
  if (view.chosen >= 0 && document.getElementById(`row-${columns.latent[view.chosen]}`)) grid.setAttribute("aria-activedescendant", `row-${columns.latent[view.chosen]}`);
  else grid.removeAttribute("aria-activedescendant");
}

// Scroll as little as it takes to have the chosen row in sight, below the head.
function reveal() {
  const at = view.order.indexOf(view.chosen);
  if (at < 0) return;
  const room = scroller.clientHeight - 2 * ROW;
  if (at * ROW < scroller.scrollTop) scroller.scrollTop = at * ROW;
  else if (at * ROW > scroller.scrollTop + room) scroller.scrollTop = at * ROW - room;
}

function refresh() {
  arrange();
  drawHead();
  scroller.scrollTop = 0;
  drawRows();
}
