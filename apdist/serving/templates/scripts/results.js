// Results: what the API says of them is text, their pictures come when they are there.
let results = [];
let urls = [];

const card = (found, number, signal) => {
  const item = make("li", "");
  const button = item.appendChild(make("button", "shown"));
  button.type = "button";
  const name = found.label || found.key;
  button.setAttribute("aria-label", `Result ${found.rank}: ${name}, score ${found.score.toFixed(3)}`);
  button.addEventListener("click", () => enlarge(number));
  const line = item.appendChild(make("p", "score"));
  line.append(make("span", "", `${found.rank}. ${found.score.toFixed(3)}`));
  if (found.key) {
    const again = line.appendChild(make("button", "again", "search this"));
    again.type = "button";
    again.setAttribute("aria-label", `Search for result ${found.rank}: ${name}`);
    again.addEventListener("click", () => searchThis(number));
  }
  for (const [look, text] of [["class", found.label], ["key", found.key]]) {
    if (!text) continue;
    const shown = item.appendChild(make("p", look, text));
    shown.dir = "auto";
    shown.title = text;
  }
  load(button, found, signal);
  return item;
};

const load = async (button, found, signal) => {
  try {
    const url = await pictureOf(found.key, "thumbnail", signal);
    if (signal.aborted) return URL.revokeObjectURL(url);
    urls.push(url);
    const picture = make("img", "");
    picture.alt = "";
    picture.src = url;
    button.replaceChildren(picture);
  } catch {
    if (!signal.aborted) button.textContent = "no picture";
  }
};

const show = (answer, signal) => {
  urls.forEach((url) => URL.revokeObjectURL(url));
  urls = [];
  results = answer.results;
  $("results").replaceChildren(...results.map((found, number) => card(found, number, signal)));
  const many = results.length === 1 ? "1 result" : `${results.length} results`;
  tell(results.length ? `${many} in ${answer.milliseconds.toFixed(0)} ms` : "No result.");
};

const searchThis = (number) => {
  const { key, label } = results[number];
  if (!key) return;
  setQuery(null, key, label ? `${label} (${key})` : key);
  scrollTo({ top: 0 });
};

const buttons = () => [...document.querySelectorAll(".shown")];

const columns = () => {
  const tops = buttons().map((button) => button.getBoundingClientRect().top);
  const first = tops.filter((top) => top === tops[0]).length;
  return first || 1;
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const isTyping = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
  if (isTyping) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (event.key === "/") {
    event.preventDefault();
    ($("labelled").hidden ? $("condition") : $("label")).focus();
    return;
  }
  const all = buttons();
  const place = all.indexOf(document.activeElement?.closest("li")?.querySelector(".shown"));
  if (event.key === "s" && place >= 0) {
    event.preventDefault();
    searchThis(place);
    return;
  }
  const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns(), ArrowUp: -columns() };
  const step = steps[event.key];
  if (!step || !all.length) return;
  const wanted = place < 0 ? 0 : place + step;
  if (!all[wanted]) return;
  event.preventDefault();
  all[wanted].focus();
});
