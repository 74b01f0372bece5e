
// Choosing: by a click, by keys, by the address (#latent=123), and the filters above the table.

const beside = matchMedia("(min-width: 1180px)"); // the latent stands beside the table, as in latents.css

function choose(row, { address = true } = {}) {
  view.chosen = row;
  if (address) history.replaceState(null, "", `#latent=${columns.latent[row]}`);
  reveal();
  drawRows();
  showLatent(row);
}

function followAddress() {
  const asked = /^#latent=(\d+)$/.exec(location.hash);
  if (!asked) return false;
  const row = rowOf.get(Number(asked[1]));
  if (row === undefined) showNothing(`This page has no latent ${asked[1]}.`);
  else choose(row, { address: false });
  return true;
}

function move(to) {
  if (!view.order.length) return;
  choose(view.order[Math.max(0, Math.min(view.order.length - 1, to))]);
}

function pressed(event) {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  const typing = event.target.matches("input, select");
  if (event.key === "Escape") {
    grid.focus();
    return;
  }
  if (event.target.id === "search" && (event.key === "ArrowDown" || event.key === "Enter")) {
    event.preventDefault();
    grid.focus();
    move(0);
    return;
  }
  if (typing || event.target.matches("a, button") && event.key === "Enter") return;
  const at = view.order.indexOf(view.chosen);
  const page = Math.max(1, Math.floor(scroller.clientHeight / ROW) - 2);
  const inGrid = event.target === grid;
  const steps = { j: at + 1, k: at - 1, ...(inGrid && { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: view.order.length - 1 }) };
  if (event.key === "/") control("search").select();
  else if (event.key === "Enter" && inGrid) panel.focus();
  else if (event.key in steps) move(steps[event.key]);
  else return;
  event.preventDefault();
}

function offer(select, options) {
  for (const [value, text] of options) select.append(element("option", { value }, text));
  select.closest("label").hidden = false;
}

function prepareFilters() {
  if (table.contrasts.length) {
    if (table.contrasts.length > 1) offer(control("contrast"), table.contrasts.map((name, i) => [i, words(name)]));
    control("found-label").textContent = `only found (q ≤ ${number(table.significance)})`;
    control("found").closest("label").hidden = false;
    view.sort = { key: "difference", sign: -1 };
  }
  if (table.kinds.length > 1) offer(control("kind"), [[-1, "anything"], ...table.kinds.map((name, i) => [i, words(name)])]);
  if (grouped) offer(control("group"), [["", "all"], ...table.groups.map((name, i) => [i, name === "" ? "none" : words(name)])]);

  const filters = control("filters");
  filters.addEventListener("submit", (event) => event.preventDefault());
  filters.addEventListener("input", () => {
    if (table.contrasts.length > 1) view.contrast = table.contrasts[Number(control("contrast").value)];
    if (table.kinds.length > 1) view.kind = Number(control("kind").value);
    refresh();
  });
}

function start() {
  prepareFilters();
  refresh();
  performance.mark("first-view");
  if (!followAddress() && view.order.length) choose(view.order[0], { address: false });

  grid.tHead.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const column = tableColumns().find(({ key }) => key === button.dataset.key);
    const again = view.sort.key === column.key;
    view.sort = { key: column.key, sign: again ? -view.sort.sign : column.most ? -1 : 1 };
    refresh();
  });
  grid.tBodies[0].addEventListener("click", (event) => {
    const line = event.target.closest("tr[id]");
    if (!line || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    grid.focus({ preventScroll: true });
    choose(rowOf.get(Number(line.id.slice("row-".length))));
    if (!beside.matches) panel.scrollIntoView();
  });
  let drawing = false;
  const redraw = () => {
    if (drawing) return;
    drawing = true;
    requestAnimationFrame(() => { drawing = false; drawRows(); });
  };
  scroller.addEventListener("scroll", redraw, { passive: true });
  addEventListener("resize", redraw);
  addEventListener("hashchange", followAddress);
  document.addEventListener("keydown", pressed);
}

start();
