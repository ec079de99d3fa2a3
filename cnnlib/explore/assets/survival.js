document.querySelectorAll("figure.cnn-survival:not([data-live])").forEach((root) => {
  root.dataset.live = ""; // the same cell may be shown twice, and each copy brings this script
  const find = (query) => root.querySelector(query);
  const data = JSON.parse(find("script[type='application/json']").textContent);
  const sliders = [...root.querySelectorAll("input")];
  const picture = find("svg g"), caption = find("figcaption");

  function update() {
    const [index, tenths, step] = sliders.map((slider) => +slider.value);
    const layers = data.layers[index], blocks = (layers - 2) / 2, gap = blocks > 30 ? 20 : 40;
    const texts = [layers, (tenths / 10).toFixed(1), step + 1];
    sliders.forEach((slider, i) => {
      slider.setAttribute("aria-valuetext", texts[i]);
      slider.closest("label").querySelector("b").textContent = texts[i];
    });

    let bars = "", live = "", count = 0;
    for (let block = 1; block <= blocks; block++) {
      const tenth = 10 * blocks - block * (10 - tenths);
      const left = 400 + Math.floor(4360 * (block - 1) / blocks) + gap, right = 400 + Math.floor(4360 * block / blocks);
      const height = Math.floor(100 * tenth / blocks);
      bars += `M${left} 1150v-${height}H${right}v${height}z`;
      if (+data.drawn[step].slice(3 * block - 3, 3 * block) * 10 * blocks < 1000 * tenth) {
        count += 1;
        live += `M${left} 1540H${right}v240H${left}z`;
      }
    }
    picture.innerHTML = `<path class="bar" d="${bars}"/><path class="wire" d="M340 1660H4780"/><path class="live" d="${live}"/>`;

    const facts = { ...data.facts[index][tenths], step: step + 1, live: count, blocks, gone: blocks - count };
    const words = [data.words[facts.gone ? "live" : "all"], data.words.mean];
    const text = words.join(" ").replace(/\{(\w+)\}/g, (_, name) => facts[name]);
    if (caption.textContent !== text) caption.textContent = text; // what did not change is not announced again
  }

  sliders.forEach((slider) => slider.addEventListener("input", update));
  update();
});
