// Search results show a line of each page found, which the browser may only fetch from a server.
// Opened from a folder, the results are listed without it, instead of with an error for each.
if (location.protocol === "file:") {
  DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
}

// Paper cannot be clicked: what is folded is printed open, on white, and then put back. The theme's
// own dropdowns (toggle-details) look after themselves.
const root = document.documentElement;
addEventListener("beforeprint", () => {
  for (const one of document.querySelectorAll("details:not([open], .toggle-details)")) {
    one.open = true;
    one.dataset.folded = "";
  }
  root.dataset.screenTheme = root.dataset.theme;
  root.dataset.theme = "light";
});
addEventListener("afterprint", () => {
  for (const one of document.querySelectorAll("details[data-folded]")) {
    one.open = false;
    delete one.dataset.folded;
  }
  root.dataset.theme = root.dataset.screenTheme;
});

// Panels that stand side by side are too small on a phone: the stylesheet needs to know them.
addEventListener("load", () => {
  for (const image of document.querySelectorAll(".picture img")) {
    const wide = image.naturalWidth > 2 * image.naturalHeight;
    image.parentElement.classList.toggle("wide", wide);
  }
});
