// What is served, and a query that the address names.
const start = async () => {
  try {
    const about = await (await request("v1/index")).json();
    $("about").textContent = `${about.images.toLocaleString("en")} images${
      about.num_labels ? ` of ${about.num_labels.toLocaleString("en")} labels` : ""
    }, model ${about.model_id}`;
    labelColumn = about.label_column;
    $("labelled").hidden = !labelColumn;
    $("k").max = about.limits.k;
    const options = (values) => values.map((value) => Object.assign(make("option", ""), { value }));
    $("labels").replaceChildren(...options(about.labels));
    $("columns").replaceChildren(...options(about.columns.map((name) => `${name}=`)));
  } catch (error) {
    $("about").textContent = "";
    fail(error.message);
  }
  queryOfAddress();
};
const queryOfAddress = () => {
  const named = location.hash.match(/^#key=(.+)$/);
  if (!named) return;
  try {
    const key = decodeURIComponent(named[1]);
    setQuery(null, key, key);
  } catch {
    fail(`The address names no key: ${named[1]}`); // it is cut in the middle of a character
  }
};
addEventListener("hashchange", queryOfAddress);
start();
