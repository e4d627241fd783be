// Which images may be found: a label, and conditions that are added one by one.
const added = [];
let labelColumn = "";

const conditions = () => {
  const label = $("label").value.trim();
  return [...(label ? [`${labelColumn}=${label}`] : []), ...added];
};

const showChips = () => {
  $("chips").replaceChildren(...added.map((text, number) => {
    const item = make("li", "");
    const button = item.appendChild(make("button", "", `${text} ✕`));
    button.type = "button";
    button.setAttribute("aria-label", `Remove condition ${text}`);
    button.addEventListener("click", () => {
      added.splice(number, 1);
      showChips();
      search();
    });
    return item;
  }));
};

const addCondition = () => {
  const text = $("condition").value.trim();
  if (!text) return;
  if (!added.includes(text)) added.push(text);
  $("condition").value = "";
  showChips();
  search();
};

$("options").addEventListener("submit", (event) => event.preventDefault());
$("condition").addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  event.preventDefault();
  addCondition();
});
$("label").addEventListener("change", search);
$("k").addEventListener("change", search);
