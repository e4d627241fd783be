// A part of the query: dragged on its picture, or given in numbers; in pixels of the picture.
const SIDES = ["left", "top", "right", "bottom"];
const LEAST = 8; // pixels of the screen: less is a click
let from = null;

const showBox = () => {
  const picture = $("picture");
  const box = query.box;
  $("box").hidden = !box;
  $("whole").hidden = !box;
  SIDES.forEach((side, number) => { $(side).value = box ? box[number] : ""; });
  if (!box) return;
  const { style } = $("box");
  const share = (value, of) => `${(100 * value) / of}%`;
  style.left = share(box[0], picture.naturalWidth);
  style.top = share(box[1], picture.naturalHeight);
  style.width = share(box[2] - box[0], picture.naturalWidth);
  style.height = share(box[3] - box[1], picture.naturalHeight);
};

const placeOf = (event) => {
  const { left, top, width, height } = $("picture").getBoundingClientRect();
  const within = (value, most) => Math.min(Math.max(value, 0), most);
  return [within(event.clientX - left, width), within(event.clientY - top, height)];
};

const drawn = (event) => {
  const picture = $("picture");
  const { width, height } = picture.getBoundingClientRect();
  const to = placeOf(event);
  const [x, y] = [picture.naturalWidth / width, picture.naturalHeight / height];
  const isClick = (moved, side) => Math.abs(moved) < Math.min(LEAST, side / 4);
  if (isClick(to[0] - from[0], width) || isClick(to[1] - from[1], height)) return null;
  return [
    Math.floor(Math.min(from[0], to[0]) * x), Math.floor(Math.min(from[1], to[1]) * y),
    Math.ceil(Math.max(from[0], to[0]) * x), Math.ceil(Math.max(from[1], to[1]) * y),
  ];
};

$("frame").addEventListener("pointerdown", (event) => {
  if (event.button) return;
  event.preventDefault();
  $("frame").setPointerCapture(event.pointerId);
  from = placeOf(event);
});
$("frame").addEventListener("pointermove", (event) => {
  if (!from) return;
  query.box = drawn(event);
  showBox();
});
$("frame").addEventListener("pointerup", (event) => {
  if (!from) return;
  const box = drawn(event);
  from = null;
  query.box = box;
  showBox();
  search();
});
$("frame").addEventListener("pointercancel", () => { from = null; });
$("whole").addEventListener("click", () => {
  query.box = null;
  showBox();
  search();
});
$("cut").addEventListener("click", () => {
  const picture = $("picture");
  const most = [picture.naturalWidth, picture.naturalHeight];
  const box = SIDES.map((side, number) => {
    const value = $(side).value === "" ? (number < 2 ? 0 : most[number % 2]) : Number($(side).value);
    return Math.min(Math.max(Math.round(value), 0), most[number % 2]);
  });
  if (box[0] >= box[2] || box[1] >= box[3]) {
    fail("Right has to be more than left, and bottom more than top.");
    return;
  }
  query.box = box;
  showBox();
  search();
});
