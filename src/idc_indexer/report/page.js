"use strict";
(() => {
  // Each search shows the rows of one table that have all words. Without a script a form is of no use, so it is hidden.
  const search = (form) => {
    const input = form.querySelector("input");
    const status = form.querySelector("[role=status]");
    const rows = [...document.querySelectorAll(`#${form.dataset.rows} tr`)];
    const texts = rows.map((row) => row.textContent.toLowerCase());
    const show = () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let count = 0;
      rows.forEach((row, number) => {
        const fits = words.every((word) => texts[number].includes(word));
        row.hidden = !fits;
        count += fits;
      });
      status.textContent = `${count} of ${rows.length} ${form.dataset.what}`;
    };
    const clear = () => {
      input.value = "";
      show();
    };
    form.hidden = false;
    form.addEventListener("submit", (event) => event.preventDefault());
    input.addEventListener("input", show);
    input.addEventListener("keydown", (event) => event.key === "Escape" && clear());
    // A link to a row that the search hides shows it.
    addEventListener("hashchange", () => {
      const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
      if (rows.includes(target) && target.hidden) {
        clear();
        target.scrollIntoView();
      }
    });
    show();
  };
  document.querySelectorAll("form.search").forEach(search);

  // A button at each block of commands and each query.
  document.querySelectorAll("pre").forEach((block) => {
    const button = document.createElement("button");
    const says = (text) => (button.textContent = text);
    const text = block.textContent;
    button.type = "button";
    button.className = "copy";
    button.setAttribute("aria-label", `Copy ${block.getAttribute("aria-label")}`);
    button.setAttribute("aria-live", "polite");
    says("Copy");
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(text);
        says("Copied");
      } catch {
        // Not allowed, such as on a page without TLS: the text is selected, for the keys of the system.
        getSelection().selectAllChildren(block);
        says("Selected");
      }
      setTimeout(says, 2000, "Copy");
    });
    block.before(button);
  });

  // The section that is being read is marked in the navigation.
  const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
  const sections = [...document.querySelectorAll("main [id]")].filter((one) => links.has(one.id));
  const mark = () => {
    const end = innerHeight + scrollY >= document.documentElement.scrollHeight - 2;
    const passed = sections.filter((one) => one.getBoundingClientRect().top < innerHeight / 3);
    const current = end ? sections.at(-1) : (passed.at(-1) ?? sections[0]);
    links.forEach((link, id) => {
      if (id === current?.id) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    });
  };
  addEventListener("scroll", mark, { passive: true });
  addEventListener("resize", mark);
  mark();
})();
