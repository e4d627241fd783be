// A button that copies a command.
for (const button of document.querySelectorAll("button[data-copy]")) {
  const source = document.getElementById(button.dataset.copy);
  const told = button.parentElement.querySelector("output");
  button.hidden = false;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(source.textContent);
      told.value = "copied";
    } catch {
      // A page of a file may not write there everywhere: then it is marked, for Ctrl-C.
      getSelection().selectAllChildren(source);
      told.value = document.execCommand("copy") ? "copied" : "marked; press Ctrl-C";
    }
  });
}
