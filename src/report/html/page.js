"use strict";
// Zoom of the calendar, and the filter. The page says everything without them.
(() => {
  const byId = (id) => document.getElementById(id);
  const page = JSON.parse(byId("data").textContent);

  // The filter.
  const text = byId("filter-text");
  const shown = (names) => names.toLowerCase().includes(text.value.trim().toLowerCase());
  const filter = () => {
    let count = 0;
    for (const row of document.querySelectorAll("[data-name]")) {
      row.hidden = !shown(row.dataset.name);
      count += row.closest("#calendar") || row.hidden ? 0 : 1;
    }
    byId("filter-count").textContent = text.value.trim() ? count + " rows shown" : "";
  };
  text.addEventListener("input", filter);
  byId("filter").hidden = false;

  // The calendar.
  const table = byId("calendar");
  if (!table) return;
  const letters = new Map([
    ["#", ["loaded", "loaded", true]], [".", ["empty", "loaded, nothing there", true]],
    ["+", ["late", "loaded, late data has come since", true]], ["d", ["waits", "derived, not loaded", false]],
    ["e", ["waits", "extracted, not derived", false]], ["~", ["begun", "unfinished", false]],
    ["!", ["failed", "failed", false]], ["?", ["unasked", "not requested", false]],
  ]);
  const dayMs = 86400000;
  const rows = page.tables.filter((row) => row.days.first).map((row) => {
    const first = Date.parse(row.days.first + "T00:00:00Z");
    const days = Array.from(row.days.letters, (letter, at) =>
      [new Date(first + at * dayMs).toISOString().slice(0, 10), letter]);
    return { name: row.name, names: row.name + " " + row.source, days };
  });
  const all = rows.flatMap((row) => [row.days[0][0], row.days[row.days.length - 1][0]]).sort();
  const periods = (length) => {
    const found = [];
    const last = Date.parse(all[all.length - 1] + "T00:00:00Z");
    for (let at = Date.parse(all[0] + "T00:00:00Z"); at <= last; at += dayMs) {
      const key = new Date(at).toISOString().slice(0, length);
      if (found[found.length - 1] !== key) found.push(key);
    }
    return found;
  };
  const years = periods(4);
  const months = periods(7);
  // What is shown: "" for all years, a year for its months, a month for its days.
  let shownPeriod = years.length > 1 ? "" : months.length > 1 ? years[0] : months[0];

  const cellOf = (key, found, isDay) => {
    const cell = document.createElement("td");
    const known = found.map((letter) => letters.get(letter)).filter(Boolean);
    let words = key + ": no day expected";
    cell.className = "none";
    if (isDay && known.length === 1) {
      words = key + ": " + known[0][1];
      cell.className = known[0][0];
      const mark = document.createElement("span");
      mark.setAttribute("aria-hidden", "true");
      mark.textContent = found[0];
      const spoken = document.createElement("span");
      spoken.className = "vh";
      spoken.textContent = words;
      cell.append(mark, spoken);
    } else if (known.length) {
      const loaded = known.filter((kind) => kind[2]).length;
      const has = (name) => known.some((kind) => kind[0] === name);
      if (loaded === known.length) cell.className = known.every((kind) => kind[0] === "empty") ? "empty" : "loaded";
      else if (has("failed")) cell.className = "failed";
      else if (loaded === 0 && !has("waits") && !has("begun")) cell.className = "unasked";
      else cell.className = "waits";
      const percent = Math.floor(loaded * 100 / known.length) || (loaded ? 1 : 0);
      cell.textContent = percent + "%";
      words = key + ": " + loaded + " of " + known.length + " days in the warehouse";
    }
    cell.title = words;
    return cell;
  };

  const draw = (moved) => {
    const length = shownPeriod === "" ? 4 : shownPeriod.length === 4 ? 7 : 10;
    const isDay = length === 10;
    let columns = isDay ? [] : (length === 4 ? years : months).filter((key) => key.startsWith(shownPeriod));
    if (isDay) {
      const [year, month] = shownPeriod.split("-").map(Number);
      const count = new Date(Date.UTC(year, month, 0)).getUTCDate();
      columns = Array.from({ length: count }, (_, at) => shownPeriod + "-" + String(at + 1).padStart(2, "0"));
    }
    const head = document.createElement("tr");
    const corner = document.createElement("th");
    corner.scope = "col";
    corner.textContent = "Table";
    head.append(corner);
    for (const key of columns) {
      const th = document.createElement("th");
      th.scope = "col";
      if (isDay) {
        const spoken = document.createElement("span");
        spoken.className = "vh";
        spoken.textContent = key.slice(0, 8);
        th.append(spoken, key.slice(8));
      } else {
        const button = document.createElement("button");
        button.type = "button";
        button.dataset.period = key;
        button.textContent = key;
        button.setAttribute("aria-label", "Zoom into " + key);
        button.addEventListener("click", () => go(key));
        th.append(button);
      }
      head.append(th);
    }
    const body = document.createElement("tbody");
    for (const row of rows) {
      const sums = new Map(columns.map((key) => [key, []]));
      for (const [day, letter] of row.days) {
        const sum = sums.get(day.slice(0, length));
        if (sum) sum.push(letter);
      }
      const tr = document.createElement("tr");
      tr.dataset.name = row.names;
      tr.hidden = !shown(row.names);
      const th = document.createElement("th");
      th.scope = "row";
      th.textContent = row.name;
      tr.append(th, ...columns.map((key) => cellOf(key, sums.get(key), isDay)));
      body.append(tr);
    }
    table.tHead.replaceChildren(head);
    table.tBodies[0].replaceWith(body);
    const what = isDay ? "Tables by day of " + shownPeriod : length === 7 ? "Tables by month of " + shownPeriod : "Tables by year";
    table.caption.textContent = what;
    if (moved) byId("zoom-status").textContent = what;

    byId("up").setAttribute("aria-current", String(shownPeriod === ""));
    const path = [];
    for (const key of shownPeriod.length === 7 ? [shownPeriod.slice(0, 4), shownPeriod] : shownPeriod ? [shownPeriod] : []) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = key;
      button.setAttribute("aria-current", String(key === shownPeriod));
      button.addEventListener("click", () => go(key));
      path.push(" › ", button);
    }
    byId("path").replaceChildren(...path);
    const siblings = shownPeriod.length === 7 ? months : years;
    const at = siblings.indexOf(shownPeriod);
    byId("previous").disabled = at <= 0;
    byId("next").disabled = at < 0 || at + 1 >= siblings.length;
    byId("previous").onclick = () => go(siblings[at - 1]);
    byId("next").onclick = () => go(siblings[at + 1]);
  };
  const go = (period) => {
    shownPeriod = period;
    draw(true);
    // A heading that was clicked is gone: the focus goes to where one is now.
    if (!document.activeElement || document.activeElement === document.body) {
      const place = byId("path").lastElementChild || byId("up");
      place.focus();
    }
  };
  byId("up").addEventListener("click", () => go(""));
  byId("zoom").hidden = false;
  draw(false);
})();
