// A pointer over a figure. A browser also tells of one at rest under which the page has scrolled: it chooses nothing.
// A finger leaves with every tap: what it has chosen stays.
const watchPointer = (figure, { over, away }) => {
  let rest = "";
  let wasOver = false;
  addEventListener("pointermove", (event) => {
    const at = `${event.clientX} ${event.clientY}`;
    if (at === rest) return;
    rest = at;
    const isOver = figure.contains(event.target);
    if (isOver) over(event);
    else if (wasOver) away();
    wasOver = isOver;
  });
  document.documentElement.addEventListener("pointerleave", (event) => {
    if (wasOver && event.pointerType === "mouse") away();
    wasOver = false;
  });
};
