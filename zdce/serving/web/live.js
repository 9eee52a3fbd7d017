"use strict";

const element = (id) => document.getElementById(id);
const before = element("before"), slider = element("slider");

const cut = () => { before.style.clipPath = `inset(0 ${100 - slider.value}% 0 0)`; };

element("compare").addEventListener("change", (event) => {
  slider.hidden = before.hidden = !event.target.checked;
  if (event.target.checked) before.src = "before.mjpg"; else before.removeAttribute("src");
  cut();
});
slider.addEventListener("input", cut);

async function tell() {
  try {
    const answer = await fetch("api/live");
    const live = await answer.json();
    element("state").textContent = answer.ok
      ? `${live.width} × ${live.height}, ${Math.round(live.latency_ms)} ms, ${live.dropped} of ${live.frames + live.dropped} frames dropped`
        + (live.share === 0 ? ", lit: shown as it is" : "")
      : live.error;
  } catch {
    element("state").textContent = "the video ended";
  }
  setTimeout(tell, 1000);
}
tell();
