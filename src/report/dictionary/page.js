"use strict";
// The search. The page says everything without it.
(() => {
  const byId = (id) => document.getElementById(id);
  const field = byId("filter-text");
  const tables = Array.from(document.querySelectorAll("article"), (article) => ({
    article,
    rows: Array.from(article.querySelectorAll("tbody tr"), (row) => ({ row, text: row.textContent.toLowerCase() })),
    text: Array.from(article.querySelectorAll("h3, h3 + p, .lineage, .facts"), (part) => part.textContent).join(" ").toLowerCase(),
  }));
  const search = () => {
    const words = field.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const has = (text) => words.every((word) => text.includes(word));
    let count = 0;
    for (const { article, rows, text } of tables) {
      const isNamed = has(text);
      let columns = 0;
      for (const one of rows) {
        const isFound = isNamed || has(text + " " + one.text) && words.some((word) => one.text.includes(word));
        one.row.hidden = !isFound;
        columns += isFound ? 1 : 0;
      }
      article.hidden = !isNamed && columns === 0;
      count += article.hidden ? 0 : 1;
    }
    for (const section of document.querySelectorAll(".family")) {
      section.hidden = !section.querySelector("article:not([hidden])");
    }
    byId("filter-count").textContent = words.length ? count + (count === 1 ? " table" : " tables") : "";
  };
  // A link to a table shows it, whatever was searched.
  addEventListener("hashchange", () => {
    const target = byId(decodeURIComponent(location.hash.slice(1)));
    if (target && target.closest("[hidden]")) {
      field.value = "";
      search();
      target.scrollIntoView();
    }
  });
  field.addEventListener("input", search);
  byId("filter").hidden = false;
})();
