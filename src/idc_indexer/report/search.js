"use strict";
(() => {
  const form = document.getElementById("search");
  const input = document.getElementById("query");
  const status = document.getElementById("found");
  const rows = [...document.querySelectorAll("#dictionary-rows tr")];
  const texts = rows.map((row) => row.textContent.toLowerCase());

  // The form is of no use without a script, so it is the script that shows it.
  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());

  const search = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    rows.forEach((row, number) => {
      const fits = words.every((word) => texts[number].includes(word));
      row.hidden = !fits;
      count += fits;
    });
    status.textContent = `${count} of ${rows.length} columns`;
  };
  input.addEventListener("input", search);
  input.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      input.value = "";
      search();
    }
  });
  // A link to a column that the search hides shows it.
  addEventListener("hashchange", () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target && target.hidden) {
      input.value = "";
      search();
      target.scrollIntoView();
    }
  });
  search();
})();
