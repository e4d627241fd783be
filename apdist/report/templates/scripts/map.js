// The map: pictures of dots, zoom and pan, from dot to dot by keys.
if (document.getElementById("map")) {
  const figure = document.getElementById("map");
  const svg = figure.querySelector(".dots");
  const tip = figure.querySelector(".tip");
  const whole = svg.viewBox.baseVal;
  const [WIDTH, HEIGHT] = [whole.width, whole.height];
  const NEAR = 14; // pixels of the screen
  const dots = [...svg.querySelectorAll("a")].map((link) => ({
    link,
    x: Number(link.dataset.x),
    y: Number(link.dataset.y),
  }));
  let view = { x: 0, y: 0, width: WIDTH };
  let chosen = -1;
  figure.querySelector(".tools").hidden = false;
  svg.setAttribute("tabindex", "0");
  svg.querySelectorAll("title").forEach((title) => title.remove()); // the tip says more

  const scale = () => svg.getScreenCTM().a;
  const look = (x, y, width) => {
    width = Math.min(Math.max(width, WIDTH / 60), WIDTH);
    const height = (width * HEIGHT) / WIDTH;
    x = Math.min(Math.max(x, 0), WIDTH - width);
    y = Math.min(Math.max(y, 0), HEIGHT - height);
    view = { x, y, width };
    svg.setAttribute("viewBox", `${x} ${y} ${width} ${height}`);
    svg.classList.toggle("moved", width < WIDTH);
    place();
  };
  const zoom = (factor, x = view.x + view.width / 2, y = view.y + (view.width * HEIGHT) / WIDTH / 2) => {
    if (!factor) return look(0, 0, WIDTH);
    const width = Math.min(Math.max(view.width / factor, WIDTH / 60), WIDTH);
    const share = width / view.width;
    return look(x - (x - view.x) * share, y - (y - view.y) * share, width);
  };
  const place = () => {
    if (chosen < 0) return;
    const frame = figure.getBoundingClientRect();
    const at = new DOMPoint(dots[chosen].x, dots[chosen].y).matrixTransform(svg.getScreenCTM());
    const [x, y] = [at.x - frame.left, at.y - frame.top];
    const left = x + 18 + tip.offsetWidth > frame.width ? x - 18 - tip.offsetWidth : x + 18;
    const top = Math.min(y, frame.height - tip.offsetHeight - 4);
    tip.style.transform = `translate(${Math.max(left, 0)}px, ${Math.max(top, 4)}px)`;
  };
  const choose = (number) => {
    if (number === chosen) return;
    if (chosen >= 0) {
      dots[chosen].link.classList.remove("on");
      dots[chosen].link.parentElement.classList.remove("same");
    }
    chosen = number;
    svg.classList.toggle("chosen", number >= 0);
    tip.hidden = number < 0;
    if (number < 0) return;
    const { link } = dots[number];
    const { dataset } = link;
    link.classList.add("on");
    link.parentElement.classList.add("same");
    const href = `#p${dataset.pic}`;
    tip.querySelector("svg").style.display = document.querySelector(href) ? "" : "none";
    tip.querySelector("use").setAttribute("href", href);
    const precision = dataset.ap ? `\nAP ${dataset.ap}` : "";
    tip.querySelector("p").textContent =
      `${link.parentElement.dataset.label}${precision}\n${dataset.file}\nkey ${dataset.key}`;
    place();
  };
  const follow = () => {
    const to = chosen >= 0 && dots[chosen].link.getAttribute("href");
    if (!to) return;
    if (location.hash === to) dispatchEvent(new HashChangeEvent("hashchange"));
    location.hash = to;
  };
  const inMap = (event) => {
    const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    return [x, y];
  };
  const nearest = (event) => {
    const [x, y] = inMap(event);
    let [best, reach] = [-1, NEAR / scale()];
    dots.forEach((dot, number) => {
      const distance = Math.hypot(dot.x - x, dot.y - y);
      if (distance < reach) [best, reach] = [number, distance];
    });
    return best;
  };

  let drag = null;
  svg.addEventListener("pointerdown", (event) => {
    if (event.button === 0) drag = { x: event.clientX, y: event.clientY, from: { ...view }, far: false };
  });
  const pull = (event) => {
    const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
    drag.far ||= Math.hypot(dx, dy) > 4;
    if (drag.far) svg.setPointerCapture(event.pointerId);
    if (drag.far) look(drag.from.x - dx / scale(), drag.from.y - dy / scale(), view.width);
  };
  watchPointer(svg, {
    over: (event) => (drag ? pull(event) : choose(nearest(event))),
    away: () => drag || choose(-1),
  });
  svg.addEventListener("pointerup", (event) => {
    const wasDragged = drag?.far;
    drag = null;
    if (wasDragged) return;
    choose(nearest(event));
    // A finger has nothing to hover with: its first tap shows, the second follows.
    if (event.pointerType === "mouse" || figure.dataset.tapped === String(chosen)) follow();
    figure.dataset.tapped = String(chosen);
  });
  svg.addEventListener("pointercancel", () => (drag = null));
  svg.addEventListener("click", (event) => event.preventDefault());
  svg.addEventListener("dragstart", (event) => event.preventDefault());
  svg.addEventListener("dblclick", (event) => zoom(2, ...inMap(event)));
  svg.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey && !event.metaKey) return; // else the page could not be scrolled past it
      event.preventDefault();
      zoom(Math.exp(-event.deltaY / 300), ...inMap(event));
    },
    { passive: false },
  );
  for (const button of figure.querySelectorAll("button[data-zoom]")) {
    button.addEventListener("click", () => zoom(Number(button.dataset.zoom)));
  }
  const walk = (step) => {
    choose((chosen + step + (chosen < 0 && step < 0) + dots.length) % dots.length);
    const height = (view.width * HEIGHT) / WIDTH;
    if (view.width < WIDTH) look(dots[chosen].x - view.width / 2, dots[chosen].y - height / 2, view.width);
  };
  const keys = {
    ArrowRight: () => walk(1),
    ArrowLeft: () => walk(-1),
    Enter: follow,
    Escape: () => choose(-1),
    "+": () => zoom(1.5),
    "-": () => zoom(1 / 1.5),
    0: () => zoom(0),
  };
  svg.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  });
  svg.addEventListener("blur", () => choose(-1));
}
