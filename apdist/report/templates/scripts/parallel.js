// Parallel coordinates: lines by what passes through parts of axes; a setting shown wherever it is.
if (document.getElementById("parallel")) {
  const figure = document.getElementById("parallel");
  const svg = figure.querySelector(".courses");
  const told = figure.querySelector(".told");
  const count = figure.querySelector("output");
  const lines = [...svg.querySelectorAll(".course")].map((line) => ({
    line,
    trial: line.dataset.trial,
    words: line.querySelector("title").textContent,
    places: line.dataset.places.split(" ").map(Number),
  }));
  const axes = [...figure.querySelectorAll(".upright")].map((upright) => ({
    upright,
    rail: upright.querySelector(".rail"),
    shown: upright.querySelector(".window"),
    window: null, // its ends, from the top, in [0, 1]
  }));
  const NEAR = 16; // pixels of the screen
  figure.querySelector(".tools").hidden = false;
  told.hidden = false;
  lines.forEach(({ line }) => line.querySelector("title").remove()); // the line below says it

  let passing = lines;
  const select = () => {
    passing = lines.filter(({ places }) =>
      axes.every(({ window }, i) => !window || (places[i] >= window[0] && places[i] <= window[1])),
    );
    const kept = new Set(passing);
    for (const each of lines) each.line.classList.toggle("out", !kept.has(each));
    const isAll = axes.every(({ window }) => !window);
    count.value = isAll ? `lines: ${lines.length}` : `lines: ${passing.length} of ${lines.length}`;
  };
  const narrow = (axis, from, to) => {
    // Who begins near the end of an axis means the end: there the best are.
    const ends = [Math.min(from, to), Math.max(from, to)].map((end) => (end < 0.02 ? 0 : end > 0.98 ? 1 : end));
    axis.window = ends;
    axis.shown.hidden = false;
    axis.shown.style.top = `${100 * ends[0]}%`;
    axis.shown.style.height = `${100 * (ends[1] - ends[0])}%`;
    select();
  };
  const widen = (axis) => {
    axis.window = null;
    axis.shown.hidden = true;
    select();
  };

  let chosen = null;
  const choose = (each) => {
    if (each === chosen) return;
    document.querySelectorAll("[data-trial].on").forEach((part) => part.classList.remove("on"));
    chosen = each;
    told.textContent = each ? each.words : "";
    if (!each) return;
    document.querySelectorAll(`[data-trial="${each.trial}"]`).forEach((part) => part.classList.add("on"));
  };
  const follow = () => {
    const row = chosen && document.getElementById(`t${chosen.trial}`);
    row?.scrollIntoView({ block: "center" });
    row?.focus({ preventScroll: true });
  };
  const nearest = (event) => {
    const box = svg.getBoundingClientRect();
    const along = ((event.clientX - box.left) / box.width) * axes.length - 0.5;
    const left = Math.min(Math.max(Math.floor(along), 0), Math.max(axes.length - 2, 0));
    const share = Math.min(Math.max(along - left, 0), 1);
    let [best, reach] = [null, NEAR];
    for (const each of passing) {
      const place = each.places[left] + share * ((each.places[left + 1] ?? each.places[left]) - each.places[left]);
      const distance = Math.abs(event.clientY - box.top - place * box.height);
      if (distance <= reach) [best, reach] = [each, distance]; // of equal ones that on top
    }
    return best;
  };

  svg.setAttribute("tabindex", "0");
  svg.setAttribute("role", "application");
  watchPointer(svg, {
    over: (event) => event.pointerType === "mouse" && choose(nearest(event)),
    away: () => choose(null),
  });
  svg.addEventListener("click", (event) => {
    const found = nearest(event);
    // A finger's first tap shows a line, the second goes to its row.
    const isSecond = found && found === chosen;
    choose(found);
    if (isSecond) follow();
  });
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowRight: -1, ArrowLeft: 1 }[event.key]; // the best is the last
    if (event.key === "Enter") follow();
    else if (event.key === "Escape") choose(null);
    else if (step && passing.length) {
      const here = passing.indexOf(chosen);
      const next = here < 0 ? passing.length - 1 : here + step;
      choose(passing[(next + passing.length) % passing.length]);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  });

  for (const axis of axes) {
    const { rail } = axis;
    rail.setAttribute("tabindex", "0");
    rail.setAttribute("role", "application");
    rail.setAttribute("aria-label", `${axis.upright.getAttribute("aria-label")}: select a part`);
    const at = (event) => {
      const box = rail.getBoundingClientRect();
      return (event.clientY - box.top) / box.height;
    };
    let from = null;
    rail.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      from = at(event);
      rail.setPointerCapture(event.pointerId);
    });
    rail.addEventListener("pointermove", (event) => {
      if (from !== null && Math.abs(at(event) - from) > 0.015) narrow(axis, from, at(event));
    });
    rail.addEventListener("pointerup", (event) => {
      if (from !== null && Math.abs(at(event) - from) <= 0.015) widen(axis);
      from = null;
    });
    rail.addEventListener("pointercancel", () => (from = null));
    rail.addEventListener("keydown", (event) => {
      const [top, bottom] = axis.window ?? [0, 1];
      const size = bottom - top;
      const moved = (by) => {
        const start = axis.window ? Math.min(Math.max(top + by, 0), 1 - size) : 0;
        narrow(axis, start, start + (axis.window ? size : 0.25)); // the first press takes the upper quarter
      };
      const grown = (by) => narrow(axis, top - by, bottom + by);
      const keys = {
        ArrowUp: () => moved(-0.05),
        ArrowDown: () => moved(0.05),
        "+": () => grown(0.025),
        "-": () => size > 0.06 && grown(-0.025),
        Escape: () => widen(axis),
      };
      if (event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
      event.preventDefault();
      event.stopPropagation();
      keys[event.key]();
    });
  }
  figure.querySelector("[data-all]").addEventListener("click", () => axes.forEach(widen));
  select();
}
