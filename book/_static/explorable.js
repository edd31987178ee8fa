// Draws the charts with sliders (helpers/explore.py) that book/_ext/lesson_pages.py wrote into this
// page. The description and its data are in the page and Vega lies beside this file: nothing is
// fetched.
document.addEventListener("DOMContentLoaded", async () => {
  const places = document.querySelectorAll(".explorable");
  if (!places.length) return;
  const library = new URL(document.querySelector("script[src*='explorable.js']").src);
  for (const name of ["vega/vega.min.js", "vega/vega-lite.min.js"]) {
    const script = document.createElement("script");
    script.src = new URL(name, library);
    await new Promise((resolve, reject) => {
      [script.onload, script.onerror] = [resolve, reject];
      document.head.append(script);
    });
  }
  places.forEach(draw);
});

async function draw(place) {
  const spec = JSON.parse(place.querySelector("script").textContent);
  const picture = place.querySelector(".explorable-picture");
  if (place.clientWidth < 640) {  // one panel below the other
    spec.vconcat = spec.hconcat;
    delete spec.hconcat;
  }
  // as SVG, which is sharp at the width of any column and on paper
  const view = new vega.View(vega.parse(vegaLite.compile(spec).spec), { renderer: "svg" });
  // Within and hidden, because Vega gives each dot a role: the picture has its name, and the words
  // below it the numbers.
  const within = picture.appendChild(document.createElement("div"));
  within.ariaHidden = "true";
  view.initialize(within, place.querySelector(".explorable-controls"));

  // Beside a slider stands what it chose in the words of the table, where Vega writes its position.
  const sliders = [...place.querySelectorAll("input[type='range']")];
  const chosenBy = sliders.map((slider) => {
    const words = document.createElement("span");
    slider.nextElementSibling.replaceWith(words);
    return words;
  });

  // What the picture shows is said in words as well: the row of the table that the sliders chose.
  const headers = [...place.querySelectorAll("thead th")].map((header) => header.textContent);
  const rows = [...place.querySelectorAll("tbody tr")];
  const say = (_, chosen) => {
    rows.forEach((row, number) => row.toggleAttribute("data-now", number === chosen));
    const texts = [...rows[chosen].children].map((cell) => cell.textContent);
    const numbers = texts.slice(1).map((text, i) => `${headers[i + 1]}: ${text}`);
    place.querySelector("output").textContent = `${texts[0]}. ${numbers.join("; ")}.`;
    const words = sliders.length > 1 ? texts[0].split(", ") : [texts[0]];
    sliders.forEach((slider, i) => {
      chosenBy[i].textContent = words[i] ?? slider.value;
      slider.setAttribute("aria-valuetext", chosenBy[i].textContent);
    });
  };
  view.addSignalListener("row", say);
  await view.runAsync();
  say("row", view.signal("row"));
}
