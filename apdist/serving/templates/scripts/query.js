// The query: a file, or an image of the index; searched for when anything about it changes.
const query = { file: null, key: "", box: null, url: "" };
let going = null;

const tell = (text) => { $("status").textContent = text; };
const fail = (text) => {
  $("error").textContent = text;
  $("error").hidden = !text;
};

const setQuery = async (file, key, name) => {
  Object.assign(query, { file, key, box: null });
  URL.revokeObjectURL(query.url);
  query.url = "";
  $("name").textContent = name;
  $("drop").hidden = true;
  $("frame").hidden = true;
  $("actions").hidden = false;
  $("hint").hidden = true;
  $("numbers").hidden = true;
  showBox();
  const address = key ? `#key=${encodeURIComponent(key)}` : location.pathname;
  history.replaceState(null, "", address);
  const searching = search();
  try {
    const url = file ? URL.createObjectURL(await upright(file)) : await pictureOf(key, "full");
    if (query.file !== file || query.key !== key) {
      URL.revokeObjectURL(url);
      return;
    }
    query.url = url;
    $("picture").alt = `Query: ${name}`;
    $("picture").src = url;
    await $("picture").decode(); // what is below it has its place then
  } catch { /* the search tells what is wrong */ }
  await searching;
  // On a phone the results begin below the screen.
  if (!matchMedia("(max-width: 480px)").matches || query.file !== file || query.key !== key) return;
  ($("error").hidden ? $("status") : $("error")).scrollIntoView({ block: "start" });
};

$("picture").addEventListener("load", () => {
  $("frame").hidden = false;
  $("hint").hidden = false;
  $("numbers").hidden = false;
});
// What the browser does not show, as a TIFF, can be searched for as a whole.
$("picture").addEventListener("error", () => { $("frame").hidden = true; });

const search = async () => {
  going?.abort();
  if (!query.file && !query.key) return;
  const { signal } = (going = new AbortController());
  const wanted = { k: Math.max(Math.round(Number($("k").value)) || 24, 1), where: conditions() };
  if (query.box) wanted.box = query.box;
  document.body.classList.add("busy");
  fail("");
  tell("Searching …");
  try {
    let sent;
    if (query.key) {
      const headers = { "Content-Type": "application/json" };
      sent = ["v1/search", { method: "POST", signal, headers, body: JSON.stringify({ ...wanted, key: query.key }) }];
    } else {
      const options = new URLSearchParams([["k", wanted.k], ...wanted.where.map((one) => ["where", one])]);
      if (wanted.box) options.set("box", wanted.box.join(","));
      const headers = { "Content-Type": query.file.type.startsWith("image/") ? query.file.type : "image/unknown" };
      sent = [`v1/search?${options}`, { method: "POST", signal, headers, body: query.file }];
    }
    const answer = await (await request(...sent)).json();
    if (signal.aborted) return;
    show(answer, signal);
  } catch (error) {
    if (signal.aborted) return;
    show({ results: [] }, signal);
    tell("");
    fail(error.message);
  } finally {
    if (going.signal === signal) document.body.classList.remove("busy");
  }
};

const take = (file) => {
  if (file?.size === 0) fail(`${file.name || "The picture"} is empty.`);
  else if (file) setQuery(file, "", file.name || "Pasted picture");
};
$("pick").addEventListener("click", () => $("file").click());
$("other").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => {
  take($("file").files[0]);
  $("file").value = "";
});
document.addEventListener("paste", (event) => {
  const file = [...(event.clipboardData?.files || [])][0];
  if (!file) return;
  event.preventDefault();
  take(file);
});
let inside = 0;
document.addEventListener("dragenter", () => document.body.classList.toggle("over", ++inside > 0));
document.addEventListener("dragleave", () => document.body.classList.toggle("over", --inside > 0));
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  inside = 0;
  document.body.classList.remove("over");
  take(event.dataTransfer.files[0]);
});
