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

// Panels that stand side by side are too small on a phone: the stylesheet needs to know them, but
// for those that it can stack.
addEventListener("load", () => {
  for (const image of document.querySelectorAll(".picture:not(.cut) img")) {
    const wide = image.naturalWidth > 2 * image.naturalHeight;
    image.parentElement.classList.toggle("wide", wide);
  }
});

// Ticks for lessons that are done. They are kept by the reader's own browser and sent nowhere; where
// it keeps nothing, as some do for pages opened from a folder, they last as long as the page.
const DONE = "harmony-in-practice: lessons done";
const remembered = {
  names: new Set(),
  kept: true,
  read() {
    try {
      this.names = new Set(JSON.parse(localStorage.getItem(DONE) ?? "[]"));
      this.kept = true;
    } catch {
      this.kept = false;
    }
  },
  write() {
    try {
      if (this.names.size) localStorage.setItem(DONE, JSON.stringify([...this.names]));
      else localStorage.removeItem(DONE);
      this.kept = true;
    } catch {
      this.kept = false;
    }
  },
};

const make = (name, className, text = "") => {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
};

addEventListener("DOMContentLoaded", () => {
  const lesson = (url) => url.match(/\/notebooks\/(\d\d_\w+)\.html/)?.[1];
  const lessons = new Map(); // name -> its link in the list of pages
  for (const link of document.querySelectorAll(".bd-links a.internal"))
    if (lesson(link.href)) lessons.set(lesson(link.href), link);
  if (!lessons.size) return;

  const count = make("p", "done-count");
  const words = make("span", "");
  const clear = make("button", "", "Clear the ticks");
  clear.type = "button";
  count.append(words, " ", clear);
  document.querySelector(".bd-links").prepend(count);

  const here = lesson(location.href);
  const box = make("input", "");
  const says = make("output", "");
  if (here) {
    const label = make("label", "");
    box.type = "checkbox";
    label.append(box, "I have done this lesson");
    const end = make("div", "done-lesson");
    end.append(label, says);
    document.querySelector("article.bd-article").append(end);
  }

  const show = () => {
    const done = [...lessons.keys()].filter((name) => remembered.names.has(name));
    words.textContent = `${done.length} of ${lessons.size} lessons done`;
    clear.hidden = !done.length;
    box.checked = done.includes(here);
    for (const [name, link] of lessons) {
      link.querySelector(".done-mark")?.remove();
      if (!done.includes(name)) continue;
      const mark = make("span", "done-mark");
      const tick = make("span", "", "\u2713");
      tick.ariaHidden = "true";
      mark.append(tick, make("span", "visually-hidden", " (done)"));
      link.append(mark);
    }
    const lost = "This browser does not keep the ticks: they are gone when you leave the page.";
    says.textContent = `${words.textContent}. ${remembered.kept ? "" : lost}`;
  };
  box.addEventListener("change", () => {
    remembered.read();
    remembered.names[box.checked ? "add" : "delete"](here);
    remembered.write();
    show();
  });
  clear.addEventListener("click", () => {
    if (!confirm("Clear the ticks of all lessons?")) return;
    remembered.names.clear();
    remembered.write();
    show();
    (here ? box : document.querySelector(".bd-links a")).focus();
  });
  const again = () => {
    remembered.read();
    show();
  };
  addEventListener("storage", again); // another tab of the book
  addEventListener("pageshow", again); // back to a page that the browser had kept
  again();
});
