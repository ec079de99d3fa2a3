document.querySelectorAll("figure.cnn-frames:not([data-live])").forEach((root) => {
  root.dataset.live = ""; // the same cell may be shown twice, and each copy brings this script
  const data = JSON.parse(root.querySelector(":scope > script[type='application/json']").textContent);
  const sliders = [...root.querySelectorAll(":scope > .cnn-controls input")];
  const frames = [...root.querySelectorAll(":scope > .cnn-scroll > .frame")];
  const caption = root.querySelector(":scope > figcaption");

  function update() {
    let index = 0;
    sliders.forEach((slider, i) => {
      const value = data.values[i][slider.value];
      index = index * data.values[i].length + +slider.value;
      slider.setAttribute("aria-valuetext", value);
      slider.closest("label").querySelector("b").textContent = value;
    });
    frames.forEach((frame, i) => { frame.hidden = i !== index; });
    if (caption.textContent !== data.captions[index]) caption.textContent = data.captions[index];
  }

  sliders.forEach((slider) => slider.addEventListener("input", update));
  update();
});
