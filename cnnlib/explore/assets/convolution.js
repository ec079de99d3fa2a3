document.querySelectorAll("figure.cnn-conv:not([data-live])").forEach((root) => {
  root.dataset.live = ""; // the same cell may be shown twice, and each copy brings this script
  const find = (query) => root.querySelector(query);
  const all = (query) => [...root.querySelectorAll(query)];
  const data = JSON.parse(find("script[type='application/json']").textContent);
  const sliders = all("input[type=range]"), presets = all("[data-set]"), play = find("[data-play]");
  const picture = { in: find("svg.in"), out: find("svg.out") };
  const at = { in: [0, 0], out: [0, 0] }; // row and column of the chosen input cell and output unit
  let chosen = "out", timer = null, now = {};

  const taps = (position) => Array.from({ length: now.kernel }, (_, tap) => position * now.stride + tap * now.dilation);
  const range = (length) => Array.from({ length }, (_, i) => i);
  const readers = (cell) => range(now.output).filter((i) => taps(i).includes(cell));
  const real = (i) => i >= now.padding && i < now.padding + now.size; // the rest is zeros

  function look() {
    let index = 0;
    sliders.forEach((slider, i) => {
      now[slider.name] = +slider.value;
      index = index * data.ranges[i][1] + now[slider.name] - data.ranges[i][0];
    });
    const entry = data.alphabet.indexOf(data.table[index]);
    now.output = entry >> 2;
    now.remainder = entry & 3;
    now.padded = now.size + 2 * now.padding;
    now.span = now.dilation * (now.kernel - 1) + 1;
    now.unseen = range(now.padded).filter((cell) => !readers(cell).length);
    now.gaps = now.unseen.length - now.remainder;
  }

  const square = (x, y, side) => `M${x} ${y}h${side}v${side}h-${side}z`;
  const unit = (x, y) => square(x, y, 1);
  const dot = (x, y) => `M${x + 0.5} ${y + 0.5}h0`;
  const grid = (side) => range(side + 1).map((i) => `M0 ${i}h${side}M${i} 0v${side}`).join("");
  const pairs = (rows, columns, draw) => rows.map((y) => columns.map((x) => draw(x, y)).join("")).join("");

  function show(kind, side, paths) {
    picture[kind].setAttribute("viewBox", `-.1 -.1 ${(side + 0.2).toFixed(1)} ${(side + 0.2).toFixed(1)}`);
    picture[kind].querySelector("g").innerHTML = paths.map(([name, d]) => {
      const fill = ["pad", "never"].includes(name) ? ` fill="url(#${root.id}-${name})"` : "";
      return `<path class="${name}" d="${d}"${fill}/>`;
    }).join("");
  }

  function draw() {
    const n = now.padded, fits = now.output > 0, byCell = fits && chosen === "in";
    const [y, x] = at.out, [row, column] = at.in, side = Math.max(now.output, 1);
    const never = now.unseen.map((i) => `M0 ${i}h${n}v1h-${n}zM${i} 0h1v${n}h-1z`).join("");
    show("in", Math.max(n, now.span), [
      ["pad", square(0, 0, n)], ["image", square(now.padding, now.padding, now.size)], ["lines", grid(n)],
      ["never", fits ? never : ""],
      ...(byCell ? [["chosen", unit(column, row)]] : [
        ["tap", fits ? pairs(taps(y), taps(x), unit) : ""],
        ["dot", fits ? pairs(taps(y).filter(real), taps(x).filter(real), dot) : ""],
        [fits ? "window" : "window unfit", square(x * now.stride, y * now.stride, now.span)],
      ]),
    ]);
    show("out", side, !fits ? [["none", "M0 0h1v1h-1zM.2 .2l.6 .6M.8 .2l-.6 .6"]] : [
      ["result", square(0, 0, side)], ["lines", grid(side)],
      ...(byCell
        ? [["tap", pairs(readers(row), readers(column), unit)], ["dot", pairs(readers(row), readers(column), dot)]]
        : [["unit", unit(x, y)], ["dot", dot(x, y)]]),
    ]);
    find(".panes").style.cssText = `--n:${Math.max(n, now.span)};--o:${side}`;
  }

  const words = (keys, facts) => keys.map((key) => data.words[key].replace(/\{(\w+)\}/g, (_, name) => facts[name])).join(" ");

  function result() {
    if (!now.output) return words(["unfit"], now);
    const keys = [now.output === 1 ? "once" : "fits", ["exact", "left1"][now.remainder] || "left"];
    if (now.remainder && now.remainder <= now.padding) keys.push("zeros");
    if (now.gaps) keys.push(now.gaps === 1 ? "gaps1" : "gaps");
    return words(keys, now);
  }

  function position() {
    if (!now.output) return "";
    if (chosen === "in") {
      const count = readers(at.in[0]).length * readers(at.in[1]).length;
      return words([["seen0", "seen1"][count] || "seen"], { row: at.in[0] + 1, column: at.in[1] + 1, count });
    }
    const [y, x] = at.out, keys = [now.span === 1 ? "unit1" : "unit"];
    if (now.kernel > 1 && now.dilation > 1) keys.push(`every${now.dilation}`);
    return words(keys, {
      row: y + 1, column: x + 1, top: y * now.stride + 1, bottom: y * now.stride + now.span,
      left: x * now.stride + 1, right: x * now.stride + now.span,
    });
  }

  function say(query, text) {
    const element = find(query);
    if (element.textContent !== text) element.textContent = text; // what did not change is not announced again
  }

  function tell() {
    say(".outcome", result());
    say(".position", position());
    find(".outcome").classList.toggle("error", !now.output);
    say("[data-size=in]", `${now.padded} × ${now.padded}`);
    say("[data-size=out]", now.output ? `${now.output} × ${now.output}` : "none");
    const numerator = String(now.padded - now.span).replace("-", "−");
    const values = { ...now, numerator, output: now.output || "no output" };
    all("[data-value]").forEach((element) => { element.textContent = values[element.dataset.value]; });
    sliders.forEach((slider) => { slider.closest("label").querySelector("b").textContent = slider.value; });
    const setting = sliders.map((slider) => slider.value).join(" ");
    presets.forEach((button) => button.setAttribute("aria-pressed", button.dataset.set === setting));
  }

  function update() {
    look();
    const within = (i, length) => Math.max(0, Math.min(i, length - 1));
    at.in = at.in.map((i) => within(i, now.padded));
    at.out = at.out.map((i) => within(i, now.output));
    draw();
    tell();
  }

  function choose(kind, row, column) {
    chosen = kind;
    at[kind] = [row, column];
    update();
  }

  const steps = { left: [0, -1], right: [0, 1], up: [-1, 0], down: [1, 0] };

  function move(kind, name) {
    stop();
    choose(kind, at[kind][0] + steps[name][0], at[kind][1] + steps[name][1]);
  }

  function stop() {
    clearInterval(timer);
    timer = null;
    play.textContent = "Play";
    find("figcaption").setAttribute("aria-live", "polite");
  }

  function start() {
    play.textContent = "Pause";
    find("figcaption").setAttribute("aria-live", "off"); // nobody wants to hear every step
    timer = setInterval(() => {
      if (!root.isConnected) return stop();
      if (!now.output) return; // no output, nothing to walk over
      const next = (at.out[0] * now.output + at.out[1] + 1) % (now.output * now.output || 1);
      choose("out", Math.floor(next / now.output), next % now.output);
    }, 600);
  }

  sliders.forEach((slider) => slider.addEventListener("input", update));
  presets.forEach((button) => button.addEventListener("click", () => {
    button.dataset.set.split(" ").forEach((value, i) => { sliders[i].value = value; });
    choose("out", 0, 0);
  }));
  all("[data-move]").forEach((button) => button.addEventListener("click", () => move("out", button.dataset.move)));
  play.addEventListener("click", () => (timer ? stop() : start()));
  Object.entries(picture).forEach(([kind, svg]) => {
    const pick = (event) => {
      const box = svg.getBoundingClientRect(), view = svg.viewBox.baseVal;
      stop();
      choose(kind, Math.floor((event.clientY - box.top) / box.height * view.height + view.y),
        Math.floor((event.clientX - box.left) / box.width * view.width + view.x));
    };
    svg.addEventListener("click", pick);
    svg.addEventListener("pointermove", (event) => { if (event.pointerType === "mouse" && event.buttons) pick(event); });
    svg.addEventListener("keydown", (event) => {
      const name = { ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down" }[event.key];
      if (!name) return;
      event.preventDefault();
      move(kind, name);
    });
  });
  update();
});
