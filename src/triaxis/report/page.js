// A tap on a mark shows what a pointer on it would show.
document.addEventListener("click", event => {
  const mark = event.target.closest(".chart [data-says]");
  if (!mark) return;
  for (const other of document.querySelectorAll(".mark.chosen")) other.classList.remove("chosen");
  mark.classList.add("chosen");
  mark.closest("figure").querySelector(".told").textContent = mark.dataset.says;
});

// The slider: every number and word of a step was written by the page's author, so that nothing is computed here.
const source = document.getElementById("budget-steps");
if (source) {
  const steps = JSON.parse(source.textContent);
  const slider = document.getElementById("budget");
  const fields = document.querySelectorAll("[data-said]");
  const ring = document.querySelector("#frontier .moving");
  const show = () => {
    const step = steps[slider.value];
    for (const field of fields) field.textContent = step.said[field.dataset.said];
    slider.setAttribute("aria-valuetext", step.said.spoken);
    ring.setAttribute("x", step.left + "%");
    ring.setAttribute("y", step.top + "%");
    // What lies outside the part of the frontier that is drawn has no place there.
    ring.style.display = step.left < 0 || step.top > 100 || step.top < 0 ? "none" : "";
  };
  slider.addEventListener("input", show);
  show();
}

addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});
