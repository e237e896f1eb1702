"use strict";
// A player holds frames, one for each value of its slider, and boxes that show or hide layers of all of them.
for (const player of document.querySelectorAll(".player")) {
  const frames = player.querySelectorAll("[data-step]");
  const slider = player.querySelector("input[type=range]");
  const output = player.querySelector("output");
  const show = () => {
    frames.forEach((frame, i) => frame.toggleAttribute("hidden", i !== slider.valueAsNumber));
    output.value = frames[slider.valueAsNumber].dataset.step;
    slider.setAttribute("aria-valuetext", "step " + output.value);
  };
  slider?.addEventListener("input", show);
  if (slider) show();         // a browser may bring back an old position when a page is reloaded
  for (const box of player.querySelectorAll("input[type=checkbox]")) {
    const layer = () => player.classList.toggle("without-" + box.value, !box.checked);
    box.addEventListener("change", layer);
    layer();
  }
}
