// Pictures, enlarged: by a click or Enter; arrows go on, Esc closes.
{
  const SVG = "http://www.w3.org/2000/svg";
  const make = (name, look, text = "") => {
    const made = document.createElement(name);
    made.className = look;
    made.textContent = text;
    return made;
  };
  const pictures = [...document.querySelectorAll("main svg.pic[role=img]")];
  const box = make("dialog", "lightbox");
  box.setAttribute("aria-label", "Picture");
  const large = document.createElementNS(SVG, "svg");
  const use = large.appendChild(document.createElementNS(SVG, "use"));
  large.setAttribute("class", "pic");
  large.setAttribute("role", "img");
  const words = make("p", "words");
  words.setAttribute("role", "status");
  const row = make("div", "row");
  const back = row.appendChild(make("button", "", "← previous"));
  const next = row.appendChild(make("button", "", "next →"));
  const close = row.appendChild(make("button", "", "close"));
  box.append(large, words, row);
  document.body.append(box);

  let place = -1;
  const show = (wanted) => {
    place = (wanted + pictures.length) % pictures.length;
    const { dataset } = pictures[place];
    const label = pictures[place].getAttribute("aria-label");
    use.setAttribute("href", pictures[place].querySelector("use").getAttribute("href"));
    large.setAttribute("aria-label", label);
    words.textContent = `${label}\n${dataset.file}\nkey ${dataset.key}`;
    if (!box.open) box.showModal();
  };
  const shut = () => box.close();
  back.addEventListener("click", () => show(place - 1));
  next.addEventListener("click", () => show(place + 1));
  close.addEventListener("click", shut);
  box.addEventListener("click", (event) => event.target === box && shut());
  box.addEventListener("close", () => pictures[place].focus());
  box.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    show(place + step);
  });
  pictures.forEach((picture, number) => {
    picture.setAttribute("tabindex", "0");
    picture.setAttribute("role", "button");
    picture.addEventListener("click", () => show(number));
    picture.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      show(number);
    });
  });
}
