"use strict";
// Figures name their colours ("@ink"), and the style sheet says what each is now: by day, by night, on paper.
(() => {
  const text = document.getElementById("figures").textContent;
  const hidden = new Set();
  const touch = matchMedia("(pointer: coarse)").matches;

  function figures() {
    const style = getComputedStyle(document.documentElement);
    return JSON.parse(text, (key, value) =>
      /color$/.test(key) && typeof value === "string" && value.startsWith("@")
        ? style.getPropertyValue("--" + value.slice(1)).trim()
        : value);
  }

  function draw() {
    for (const [id, { data, layout }] of Object.entries(figures())) {
      const place = document.getElementById(id);
      for (const trace of data) trace.visible = !hidden.has(trace.legendgroup);
      // A finger that moves over a plot wants to scroll the page.
      layout.dragmode = touch ? false : "zoom";
      layout.width = place.clientWidth;
      layout.height = place.clientHeight;
      Plotly.react(place, data, layout, { displayModeBar: false });
    }
  }

  for (const button of document.querySelectorAll("button[data-series]")) {
    button.addEventListener("click", () => {
      const shown = button.getAttribute("aria-pressed") === "false";
      button.setAttribute("aria-pressed", String(shown));
      hidden[shown ? "delete" : "add"](button.dataset.series);
      draw();
    });
  }
  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  matchMedia("print").addEventListener("change", draw);
  new ResizeObserver(draw).observe(document.querySelector("main"));
})();
