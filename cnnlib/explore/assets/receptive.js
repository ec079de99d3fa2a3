document.querySelectorAll("figure.cnn-field:not([data-live])").forEach((root) => {
  root.dataset.live = ""; // the same cell may be shown twice, and each copy brings this script
  const find = (query) => root.querySelector(query);
  const all = (query) => [...root.querySelectorAll(query)];
  const data = JSON.parse(find("script[type='application/json']").textContent);
  const sliders = all("input[type=range]"), presets = all("[data-set]");
  const stage = find(".stage"), svg = find(".stage svg");
  let net = "", size = 0, layers = []; // what is shown: a network by its name, or a stack of [k, s, p, d]
  let names, windows, rows, failed; // the same, from the input up; rows are {n, r, j, start}
  let at = { layer: 1, unit: 0 }, hover = null; // the chosen unit, and the one under the mouse

  const range = (low, high) => Array.from({ length: Math.max(0, high - low) }, (_, i) => low + i);
  const number = (value) => String(+value.toFixed(2));
  const text = (value) => (typeof value === "string" ? value : number(value).replace("-", "−"));
  const words = (keys, facts) => keys.map((key) => data.words[key].replace(/\{(\w+)\}/g, (_, name) => facts[name])).join(" ");
  const centre = (row, unit) => row.start + unit * row.j;
  const within = (value, low, high) => Math.max(low, Math.min(value, high));

  function build() {
    failed = 0;
    if (net) {
      names = data.nets[net].map((one) => one[0]);
      windows = data.nets[net].map((one) => one.slice(1, 5));
      rows = data.nets[net].map(([, , , , , n, r, j, start]) => ({ n, r, j, start }));
      return;
    }
    names = ["Input", ...layers.map((_, i) => `Layer ${i + 1}`)];
    windows = [[1, 1, 0, 1], ...layers];
    rows = [{ n: size, r: 1, j: 1, start: 0 }];
    layers.forEach(([k, s, p, d], i) => {
      const below = rows[i], free = below.n + 2 * p - d * (k - 1) - 1;
      rows.push({
        n: below.n && free >= 0 ? Math.floor(free / s) + 1 : 0,
        r: below.r + d * (k - 1) * below.j,
        j: below.j * s,
        start: below.start + (d * (k - 1) / 2 - p) * below.j,
      });
    });
    failed = rows.findIndex((row) => !row.n);
    if (failed < 0) failed = 0;
  }

  function taps(layer, unit) {
    const [k, s, p, d] = windows[layer];
    return range(0, k).map((tap) => unit * s - p + tap * d);
  }

  function paths(layer, unit) {
    const found = [new Map([[unit, 1]])];
    for (let above = layer; above > 0; above--) {
      const reached = new Map();
      found[0].forEach((count, position) => taps(above, position).forEach((tap) => {
        if (tap >= 0 && tap < rows[above - 1].n) reached.set(tap, (reached.get(tap) || 0) + count);
      }));
      found.unshift(reached);
    }
    return found;
  }

  function field(row, unit) {
    const middle = centre(row, unit), half = (row.r - 1) / 2;
    return [middle - half, middle + half];
  }

  function bounds() {
    const ends = [];
    rows.forEach((row, i) => {
      const [, , p] = layers[i] || [1, 1, 0, 1], half = (row.r - 1) / 2;
      if (!row.n) return;
      ends.push(row.start - half, centre(row, -p), centre(row, row.n - 1) + half, centre(row, row.n - 1 + p));
    });
    let low = Math.max(-data.margin, Math.min(...ends)), high = Math.min(size - 1 + data.margin, Math.max(...ends));
    if (failed) {
      const [k, , p, d] = layers[failed - 1], below = rows[failed - 1];
      low = Math.min(low, centre(below, -p));
      high = Math.max(high, centre(below, d * (k - 1) - p));
    }
    return [low - 0.7, high - low + 1.4];
  }

  const cell = (x, y) => `M${number(x - 0.4)} ${number(y + 0.28)}h.8v.44h-.8z`;
  const dot = (x, y) => `M${number(x)} ${number(y + 0.5)}h0`;

  function drawStack({ layer, unit }) {
    const top = layers.length, drawn = {};
    ["cone", "edge", "zero", "input", "unit", "top", "lit", "dot", "chosen", "window"].forEach((name) => { drawn[name] = ""; });
    rows.forEach((row, i) => {
      const y = top - i, padding = i < top ? layers[i][2] : 0, kind = i === 0 ? "input" : i === top ? "top" : "unit";
      drawn[kind] += range(0, row.n).map((unit) => cell(centre(row, unit), y)).join("");
      const zeros = row.n ? [...range(-padding, 0), ...range(row.n, row.n + padding)] : [];
      drawn.zero += zeros.map((unit) => cell(centre(row, unit), y)).join("");
    });
    if (failed) {
      const below = rows[failed - 1], [k, , p, d] = layers[failed - 1], length = number(d * (k - 1) * below.j + 1.1);
      drawn.window = `M${number(centre(below, -p) - 0.55)} ${number(top - failed + 1.18)}h${length}v.64h-${length}z`;
    }
    if (!rows[layer].n) return drawn;
    const found = paths(layer, unit), middle = centre(rows[layer], unit);
    let left = "", right = "";
    for (let i = layer; i >= 0; i--) {
      const y = top - i, half = (rows[layer].r - rows[i].r) / 2 + 0.5;
      left += `${left ? "L" : "M"}${number(middle - half)} ${number(y + 0.5)}`;
      right = `L${number(middle + half)} ${number(y + 0.5)}${right}`;
      found[i].forEach((_, position) => {
        const x = centre(rows[i], position);
        drawn.lit += cell(x, y);
        drawn.dot += dot(x, y);
        if (i) taps(i, position).forEach((tap) => {
          drawn.edge += `M${number(x)} ${number(y + 0.72)}L${number(centre(rows[i - 1], tap))} ${number(y + 1.28)}`;
        });
      });
    }
    drawn.cone = `${left}${right}z`;
    drawn.chosen = cell(middle, top - layer);
    const most = Math.max(1, ...found[0].values());
    drawn.count = [...found[0]].map(([pixel, count]) => {
      const height = number(0.72 * count / most);
      return `M${number(pixel - 0.3)} ${number(top + 1.85)}v-${height}h.6v${height}z`;
    }).join("");
    const [first, last] = field(rows[layer], unit);
    drawn.field = `M${number(first - 0.5)} ${number(top + 0.82)}v.12h${last - first + 1}v-.12`;
    return drawn;
  }

  const twin = () => (data.versions.includes(net) ? data.nets[data.versions[1 - data.versions.indexOf(net)]] : null);

  function drawNet({ layer }) {
    const top = rows.length - 1, steps = range(1, top + 1), other = twin();
    const bar = (x, y, width) => `M${x} ${number(y + 0.2)}h${width}v.6h-${width}z`;
    const drawn = {
      image: `M${rows[0].n} 0V${top + 1}`,
      input: bar(0, top, rows[0].n),
      known: steps.map((i) => bar(0, top - i, rows[i - 1].r)).join(""),
      grown: steps.map((i) => bar(rows[i - 1].r, top - i, rows[i].r - rows[i - 1].r)).join(""),
    };
    if (other) drawn.other = steps.map((i) => `M${other[i][6]} ${number(top - i + 0.08)}v.84`).join("");
    drawn.chosen = bar(0, top - layer, rows[layer].r);
    return drawn;
  }

  function draw() {
    const shown = hover || at;
    const [low, width] = net ? [-2, Math.max(rows[0].n, rows[rows.length - 1].r) + 4] : bounds();
    const height = number(rows.length + (net ? 0 : 0.9));
    svg.setAttribute("viewBox", `${number(low)} 0 ${number(width)} ${height}`);
    stage.style.cssText = `--w:${number(width)};--h:${height}`;
    stage.className = `stage ${net ? "net" : "stack"}`;
    const drawn = net ? drawNet(shown) : drawStack(shown);
    svg.firstElementChild.innerHTML = Object.entries(drawn).map(([name, d]) => `<path class="${name}" d="${d}"/>`).join("");
  }

  function result() {
    if (net) return data.notes[net];
    const last = rows[rows.length - 1];
    if (!failed) return words([(last.n === 1 ? "once" : "fits") + (last.r === 1 ? "1" : "")], last);
    const [k, , p, d] = layers[failed - 1];
    return words(["unfit"], { failed, span: d * (k - 1) + 1, padded: rows[failed - 1].n + 2 * p });
  }

  function position({ layer, unit }) {
    const row = rows[layer];
    if (net) return words(["net"], { ...row, name: names[layer], grown: row.r - rows[layer - 1].r });
    if (!row.n) return "";
    const [first, last] = field(row, unit), counts = [...paths(layer, unit)[0].values()];
    const outside = range(first, last + 1).filter((pixel) => pixel < 0 || pixel >= size).length;
    const keys = [row.r > 1 ? "unit" : "unit1"], most = Math.max(...counts), least = Math.min(...counts);
    if (outside) keys.push(outside === 1 ? "outside1" : "outside");
    if (!counts.length) keys.push("none");
    else {
      if (counts.length < row.r - outside) keys.push("holes");
      keys.push(least < most ? "paths" : most === 1 ? "path" : "same");
    }
    return words(keys, { unit, layer, first, last, outside, read: counts.length, most, least }).replaceAll("-", "−");
  }

  function say(query, text) {
    const element = find(query);
    if (element.textContent !== text) element.textContent = text; // what did not change is not announced again
  }

  const window_ = ([k, s, p, d]) => `k ${k} s ${s}${p ? ` p ${p}` : ""}${d > 1 ? ` d ${d}` : ""}`;

  function side() {
    const other = twin();
    const grown = (i) => other[i][6] - other[i - 1][6];
    const order = range(0, rows.length).reverse();
    const on = (i) => (i === at.layer ? ' class="on"' : "");
    find(".labels").innerHTML = order.map((i) => {
      const mark = other && i && grown(i) !== rows[i].r - rows[i - 1].r ? "▸ " : "";
      return `<div${on(i)}><b>${mark}${names[i]}</b> <small>${i ? window_(windows[i]) : `n ${rows[0].n}`}</small></div>`;
    }).join("") + (net ? "" : "<div><small>paths</small></div>");
    find(".values").innerHTML = order.map((i) => {
      const shown = i ? `<b class="v-r">r ${rows[i].r}</b> <b class="v-j">j ${rows[i].j}</b>` : "";
      return `<div${on(i)}>${rows[i].n ? shown : "<b>no units</b>"}</div>`;
    }).join("");
  }

  function tell() {
    say(".outcome", result());
    say(".position", position(hover || at));
    find(".outcome").classList.toggle("error", failed > 0);
    const row = rows[at.layer], values = { n1: row.n || "none" };
    windows[at.layer].forEach((value, i) => { values["kspd"[i]] = value; });
    Object.entries(rows[at.layer - 1]).forEach(([name, value]) => { values[`${name}0`] = value; });
    Object.entries(row).forEach(([name, value]) => { values[`${name}1`] ??= value; });
    all("[data-value]").forEach((element) => { element.textContent = text(values[element.dataset.value]); });
    find(".which b").textContent = names[at.layer];
    const code = net || [size, ...layers.map((layer) => layer.join(" "))].join(";");
    presets.forEach((button) => button.setAttribute("aria-pressed", button.dataset.set === code));
    find(".controls").hidden = !!net;
    all("[data-move=left],[data-move=right],[data-edit]").forEach((button) => { button.hidden = !!net; });
    const count = net ? 0 : layers.length;
    find("[data-edit=add]").setAttribute("aria-disabled", count === data.most);
    find("[data-edit=remove]").setAttribute("aria-disabled", count === 1);
    const kinds = [net ? "net" : "stack", twin() ? "version" : ""];
    all(".legend li").forEach((item) => { item.hidden = !kinds.includes(item.dataset.for); });
    if (net) return;
    [size, ...layers[at.layer - 1]].forEach((value, i) => {
      sliders[i].value = value;
      sliders[i].closest("label").querySelector("b").textContent = value;
    });
  }

  function update() {
    build();
    at.layer = within(at.layer, 1, rows.length - 1);
    at.unit = within(at.unit, 0, Math.max(0, rows[at.layer].n - 1));
    hover = null;
    draw();
    side();
    tell();
  }

  function choose(layer, unit) {
    at = { layer, unit };
    update();
  }

  function show(code) {
    net = data.nets[code] ? code : "";
    if (!net) {
      const [first, ...rest] = code.split(";");
      size = +first;
      layers = rest.map((layer) => layer.split(" ").map(Number));
    }
    build();
    choose(rows.length - 1, Math.floor(rows[rows.length - 1].n / 2));
  }

  function move(name) {
    if (net && (name === "left" || name === "right")) return;
    if (name === "left" || name === "right") return choose(at.layer, at.unit + (name === "left" ? -1 : 1));
    const layer = within(at.layer + (name === "up" ? 1 : -1), 1, rows.length - 1);
    if (layer !== at.layer) choose(layer, net ? 0 : nearest(layer, centre(rows[at.layer], at.unit))); // the unit above or below
  }

  const nearest = (layer, x) => within(Math.round((x - rows[layer].start) / rows[layer].j), 0, Math.max(0, rows[layer].n - 1));

  function under(event) {
    const box = svg.getBoundingClientRect(), view = svg.viewBox.baseVal;
    const y = Math.floor((event.clientY - box.top) / box.height * view.height);
    const x = (event.clientX - box.left) / box.width * view.width + view.x, layer = rows.length - 1 - y;
    return layer > 0 && layer < rows.length ? { layer, unit: net ? 0 : nearest(layer, x) } : null;
  }

  sliders.forEach((slider, i) => slider.addEventListener("input", () => {
    if (i) layers[at.layer - 1][i - 1] = +slider.value;
    else size = +slider.value;
    update();
  }));
  presets.forEach((button) => button.addEventListener("click", () => show(button.dataset.set)));
  all("[data-move]").forEach((button) => button.addEventListener("click", () => move(button.dataset.move)));
  find("[data-edit=add]").addEventListener("click", () => {
    if (layers.length === data.most) return;
    layers.push([3, 1, 0, 1]);
    show([size, ...layers.map((layer) => layer.join(" "))].join(";"));
  });
  find("[data-edit=remove]").addEventListener("click", () => {
    if (layers.length === 1) return;
    layers.splice(at.layer - 1, 1);
    update();
  });
  stage.addEventListener("click", (event) => {
    const unit = under(event);
    if (unit) choose(unit.layer, unit.unit);
  });
  svg.addEventListener("pointermove", (event) => {
    if (event.pointerType !== "mouse") return;
    hover = under(event);
    draw();
    say(".position", position(hover || at));
  });
  svg.addEventListener("pointerleave", () => {
    if (!hover) return;
    hover = null;
    draw();
    say(".position", position(at));
  });
  svg.addEventListener("keydown", (event) => {
    const name = { ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down" }[event.key];
    if (!name) return;
    event.preventDefault();
    move(name);
  });
  show(data.start);
});
