// Requests: with the token, where the server asks for one; errors are texts.
const $ = (id) => document.getElementById(id);
const make = (name, look, text = "") => {
  const made = document.createElement(name);
  made.className = look;
  made.textContent = text;
  return made;
};

let token = sessionStorage.getItem("token") || "";
let asking = null;

const askToken = () => {
  asking ??= new Promise((done) => {
    const dialog = $("asked");
    dialog.addEventListener("close", () => {
      token = $("token").value.trim();
      $("token").value = "";
      sessionStorage.setItem("token", token);
      asking = null;
      done(token !== "");
    }, { once: true });
    dialog.showModal();
  });
  return asking;
};

const request = async (path, options = {}) => {
  const used = token;
  const headers = { ...(options.headers || {}), ...(used ? { Authorization: `Bearer ${used}` } : {}) };
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer.");
  }
  if (answer.status === 401) {
    // Another request may have been told the token meanwhile.
    if (token !== used || (await askToken())) return request(path, options);
  }
  if (answer.ok) return answer;
  let reason = `The server answered ${answer.status}.`;
  try {
    reason = (await answer.json()).error.message;
  } catch { /* not of our server */ }
  throw new Error(reason);
};

const pictureOf = async (key, size, signal) => {
  const address = `v1/images?${new URLSearchParams({ key, size })}`;
  return URL.createObjectURL(await upright(await (await request(address, { signal })).blob()));
};
