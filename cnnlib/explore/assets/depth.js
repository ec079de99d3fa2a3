document.querySelectorAll("figure.cnn-depth:not([data-live])").forEach((root) => {
  root.dataset.live = ""; // the same cell may be shown twice, and each copy brings this script
  const find = (query) => root.querySelector(query);
  const all = (query) => [...root.querySelectorAll(query)];
  const { words, states, settings } = JSON.parse(find("script[type='application/json']").textContent);
  const slider = find("[type=range]");
  const chosen = (name) => find(`[data-${name}][aria-pressed=true]`).dataset[name];
  const LEFT = 96, WIDTH = 620, TOP = 16, HEIGHT = 260, STRIP = 300;

  function draw(setting, state, kind, layer) {
    const { heights } = setting.nets[state][kind], bottom = TOP + HEIGHT;
    const x = (place) => LEFT + Math.floor(WIDTH * place / setting.depth);
    const grid = setting.grid.map(([y, label]) =>
      `<path class="grid" d="M${LEFT} ${y}H${LEFT + WIDTH}"/><text x="${LEFT - 10}" y="${y + 9}">${label}</text>`);
    const steps = heights.map((h, i) => `V${bottom - Math.floor(HEIGHT * h / 1000)}H${x(i + 1)}`);
    let blocks = "", arcs = "";
    setting.blocks.slice(0, -1).forEach((first, i) => {
      const end = setting.blocks[i + 1], left = x(first), wide = x(end) - left;
      const light = Math.max(...heights.slice(first, end)) / 1000;
      blocks += `<rect x="${left}" y="${STRIP}" width="${wide - 1}" height="26"/>`
        + `<rect class="lit" x="${left}" y="${STRIP}" width="${wide - 1}" height="26" fill-opacity="${light}"/>`;
      if (kind === "resnet" && first && end < setting.depth) {
        arcs += `<path class="arc" d="M${left} ${STRIP + 28}q${Math.floor(wide / 2)} 34 ${wide - 1} 0"/>`;
      }
    });
    return `${grid.join("")}<path class="area" d="M${LEFT} ${bottom}${steps.join("")}V${bottom}z"/>${blocks}${arcs}`
      + `<rect class="here" x="${x(layer)}" y="${TOP}" width="${Math.max(3, x(layer + 1) - x(layer))}"`
      + ` height="${STRIP + 26 - TOP}"/>`;
  }

  function update() {
    const setting = settings[chosen("depth")], state = chosen("state"), layer = slider.value - 1;
    const nets = setting.nets[state];
    slider.closest("label").querySelector("b").textContent = slider.value;
    ["plain", "resnet"].forEach((kind) => {
      const pane = find(`.pane.${kind}`);
      pane.querySelector(".depth").textContent = setting.depth;
      pane.querySelector(".error").textContent = setting.errors[kind];
      pane.querySelector("svg").innerHTML = draw(setting, state, kind, layer);
      pane.querySelector("svg").setAttribute("aria-label", nets[kind].told);
    });
    const facts = {
      layer: layer + 1, depth: setting.depth, name: setting.names[layer], state: states[state],
      plain: nets.plain.values[layer], resnet: nets.resnet.values[layer],
      plain_change: nets.plain.change, resnet_change: nets.resnet.change,
    };
    find("figcaption").textContent = words.replace(/\{(\w+)\}/g, (_, fact) => facts[fact]);
  }

  ["depth", "state"].forEach((name) => all(`[data-${name}]`).forEach((button) => button.addEventListener("click", () => {
    all(`[data-${name}]`).forEach((other) => other.setAttribute("aria-pressed", other === button));
    if (name === "depth") { // stay at the same place of the net
      const place = (slider.value - 1) / (slider.max - 1), layers = +button.dataset.depth;
      slider.max = layers;
      slider.value = 1 + Math.round(place * (layers - 1));
    }
    update();
  })));
  slider.addEventListener("input", update);
  update();
});
