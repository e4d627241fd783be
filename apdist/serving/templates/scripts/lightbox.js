// A result, enlarged; arrows go on, Esc closes.
let place = -1;
let seen = "";

const enlarge = async (wanted) => {
  place = (wanted + results.length) % results.length;
  const found = results[place];
  const about = Object.entries(found.entry)
    .filter(([name, value]) => value !== null && !["key", "label", "label_name"].includes(name))
    .map(([name, value]) => `${name} ${typeof value === "object" ? JSON.stringify(value) : value}`);
  const first = `${found.rank}. ${found.score.toFixed(3)}${found.label ? `  ${found.label}` : ""}`;
  $("words").textContent = [first, `key ${found.key}`, about.join(", ")].join("\n");
  $("large").removeAttribute("src");
  $("large").alt = found.label || found.key;
  if (!$("lightbox").open) $("lightbox").showModal();
  try {
    const url = await pictureOf(found.key, "full");
    if (results[place] !== found) return URL.revokeObjectURL(url);
    URL.revokeObjectURL(seen);
    seen = url;
    $("large").src = url;
  } catch (error) {
    if (results[place] === found) $("words").textContent += `\n${error.message}`;
  }
};

const shut = () => $("lightbox").close();
$("back").addEventListener("click", () => enlarge(place - 1));
$("next").addEventListener("click", () => enlarge(place + 1));
$("close").addEventListener("click", shut);
$("this").addEventListener("click", () => {
  shut();
  searchThis(place);
});
$("lightbox").addEventListener("click", (event) => event.target === $("lightbox") && shut());
$("lightbox").addEventListener("close", () => buttons()[place]?.focus());
$("lightbox").addEventListener("keydown", (event) => {
  event.stopPropagation(); // once it is shut, keys would mean the results
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (step) {
    event.preventDefault();
    enlarge(place + step);
  } else if (event.key === "s") {
    event.preventDefault();
    shut();
    searchThis(place);
  }
});
