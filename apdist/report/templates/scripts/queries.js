// From query to query by keys, to the search, and into view where a link leads.
{
  document.getElementById("keys").hidden = false;
  const queries = [...document.querySelectorAll("article.query")];
  const go = (step) => {
    const here = queries.findIndex((query) => query.contains(document.activeElement));
    // From elsewhere: the first one that begins below the top of the window, or the one before.
    const below = queries.findIndex((query) => query.getBoundingClientRect().top > 1);
    const start = here >= 0 ? here : below < 0 ? queries.length : below - (step > 0);
    const wanted = queries[Math.min(Math.max(start + step, 0), queries.length - 1)];
    wanted?.focus({ preventScroll: true });
    wanted?.scrollIntoView({ block: "start" });
  };
  const steps = { j: 1, ArrowRight: 1, k: -1, ArrowLeft: -1 };
  document.addEventListener("keydown", (event) => {
    const { target } = event;
    const isElsewhere = target.closest("input, dialog, #map, .scroll");
    if (event.ctrlKey || event.metaKey || event.altKey || target.closest("input, dialog")) return;
    if (event.key === "/") {
      const input = document.querySelector("input[type=search]");
      if (!input) return;
      event.preventDefault();
      input.focus();
      input.scrollIntoView({ block: "center" });
    } else if (steps[event.key] && !(isElsewhere && event.key.startsWith("Arrow"))) {
      event.preventDefault();
      go(steps[event.key]);
    }
  });
  addEventListener("hashchange", () => {
    document.getElementById(location.hash.slice(1))?.focus({ preventScroll: true });
  });
}
