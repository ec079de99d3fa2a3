document.querySelectorAll("figure.cnn-inception:not([data-live])").forEach((root) => {
  root.dataset.live = ""; // the same cell may be shown twice, and each copy brings this script
  const find = (query) => root.querySelector(query);
  const all = (query) => [...root.querySelectorAll(query)];
  const data = JSON.parse(find("script[type='application/json']").textContent);
  const sliders = all("[type=range]"), presets = all("[data-set]");
  const switchOf = (slider) => slider.closest(".line").querySelector("[role=switch]");
  const names = ["1×1", "3×3", "5×5", "Pool"];
  const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);
  const full = (count) => count.toLocaleString("en");

  function short(count) {
    let drop = String(count).length - 3;
    if (drop <= 0) return String(count);
    let digits = Math.round(count / 10 ** drop);
    if (digits === 1000) { digits = 100; drop += 1; }
    const group = Math.floor((drop + 2) / 3), decimals = 3 * group - drop;
    return (digits / 10 ** decimals).toFixed(decimals) + "kMG"[group - 1];
  }

  function build(s) {
    const branches = [[[1, s.n1x1]], [[1, s.reduce3x3], [3, s.n3x3]], [[1, s.reduce5x5], [5, s.n5x5]], [[1, s.pool_proj]]]
      .map((steps) => {
        let maps = s.in_channels;
        const layers = steps.filter(([, out]) => out).map(([kernel, out]) => {
          const layer = { kernel, maps, out, weights: out * kernel * kernel * maps };
          maps = out;
          return layer;
        });
        const weights = sum(layers.map((layer) => layer.weights));
        return { layers, cost: [s.size * s.size * weights, weights + sum(layers.map((layer) => layer.out)), maps] };
      });
    return { ...s, branches, total: [0, 1, 2].map((i) => sum(branches.map(({ cost }) => cost[i]))) };
  }

  const text = (x, y, content) => `<text x="${x}" y="${y}">${content}</text>`;

  function box(i, x, y, label) {
    const kind = label === "pool" ? "pool " : "";
    return `<rect class="${kind}b${i + 1}" x="${x - 46}" y="${y}" width="92" height="48" rx="9"/>` + text(x, y + 33, label);
  }

  function draw(m) {
    const flows = m.branches.map(({ layers, cost }) => [layers.length === 2 ? layers[0].out : m.in_channels, cost[2]]);
    const most = Math.max(m.in_channels, ...flows.flat()), total = m.total[2];
    const half = (maps) => Math.round(80 * maps / most);
    const wide = half(m.in_channels);
    let ribbons = "", boxes = "", bars = "", before = 0;
    m.branches.forEach(({ layers }, i) => {
      const x = 90 + 180 * i, [middle, last] = flows[i], h = half(middle), n = half(last);
      const left = Math.round(360 + 160 * (before - total / 2) / most);
      before += last;
      const right = Math.round(360 + 160 * (before - total / 2) / most);
      ribbons += `<path class="b${i + 1}" d="M${360 - wide} 64C${360 - wide} 107 ${x - wide} 107 ${x - wide} 150V190`
        + `L${x - h} 238V290L${x - n} 338V388C${x - n} 429 ${left} 429 ${left} 470H${right}`
        + `C${right} 429 ${x + n} 429 ${x + n} 388V338L${x + h} 290V238L${x + wide} 190V150`
        + `C${x + wide} 107 ${360 + wide} 107 ${360 + wide} 64z"/>`;
      const first = i === 3 ? "pool" : layers.length === 2 ? "1×1" : "";
      if (first) boxes += text(x, 177, m.in_channels) + box(i, x, 190, first);
      boxes += text(x, 273, middle);
      if (layers.length) {
        const { kernel } = layers[layers.length - 1];
        boxes += box(i, x, 290, `${kernel}×${kernel}`) + text(x, 371, last);
      }
      bars += `<path class="bar b${i + 1}" d="M${left} 470H${right}V488H${left}z"/>`;
    });
    return `${ribbons}<path class="bar" d="M${360 - wide} 46H${360 + wide}V64H${360 - wide}z"/>${bars}`
      + text(360, 32, `in: ${m.size} × ${m.size} × ${m.in_channels}`) + boxes
      + text(360, 524, `concatenated: ${m.size} × ${m.size} × ${total}`);
  }

  function describe(m) {
    const ways = m.branches.map(({ layers }) => layers.map(({ kernel, out }) => `${kernel}×${kernel} to ${out}`).join(", "));
    const pool = ["3×3 max pooling", ways.pop()].filter(Boolean).join(", ");
    return `${m.in_channels} maps go four ways: ${ways.join("; ")}; ${pool}. Side by side they are ${m.total[2]} maps.`;
  }

  function rows(m, naive) {
    const most = m.total.map((value, i) => Math.max(value, naive.total[i]));
    const row = (name, parts) => `<tr><th scope="row">${name}</th>` + most.map((largest, i) => {
      const bars = parts.map(([branch, { cost }]) =>
        `<i class="b${branch + 1}" style="--w:${Math.round(1000 * cost[i] / largest)}"></i>`);
      return `<td>${(i < 2 ? short : String)(sum(parts.map(([, { cost }]) => cost[i])))}<span>${bars.join("")}</span></td>`;
    }).join("") + "</tr>";
    return `<tbody>${m.branches.map((branch, i) => row(names[i], [[i, branch]])).join("")}</tbody>`
      + `<tfoot>${row("Module", [...m.branches.entries()])}${row("Naive", [...naive.branches.entries()])}</tfoot>`;
  }

  function result(m, naive, key) {
    const off = !m.reduce3x3 && !m.reduce5x5 && !m.pool_proj, here = m.total[0], there = naive.total[0];
    const keys = ["module", off ? "naive" : "compare"];
    if (!off && here >= there) keys.push("wide");
    if (!m.pool_proj) keys.push("grows");
    const facts = {
      ops: short(here), parameters: short(m.total[1]), maps: m.total[2], naive_maps: naive.total[2],
      in_channels: m.in_channels, ratio: (Math.floor((20 * there + here) / (2 * here)) / 10).toFixed(1),
    };
    const said = keys.map((name) => data.words[name].replace(/\{(\w+)\}/g, (_, fact) => facts[fact]));
    return [...said, ...(key in data.notes ? [data.notes[key]] : [])].join(" ");
  }

  function products(m) {
    return m.branches.map(({ layers, cost }, i) => {
      const terms = layers.map(({ kernel, maps, out }) => `${m.size}·${m.size}·${out}·${kernel}·${kernel}·${maps}`);
      return `<div><b class="b${i + 1}">${names[i]}</b> ${terms.join(" + ")}${terms.length ? " = " : ""}${full(cost[0])}</div>`;
    }).join("") + `<div><b>Module</b> ${full(m.total[0])}</div>`;
  }

  function update() {
    const setting = {};
    sliders.forEach((slider) => {
      const off = switchOf(slider)?.checked === false;
      slider.disabled = off;
      setting[slider.name] = off ? 0 : +slider.value;
      slider.closest("label").querySelector("b").textContent = setting[slider.name] || "off";
    });
    const key = Object.values(setting).join(" ");
    const module = build(setting), naive = build({ ...setting, reduce3x3: 0, reduce5x5: 0, pool_proj: 0 });
    find("svg").innerHTML = draw(module);
    find("svg").setAttribute("aria-label", describe(module));
    all("tbody,tfoot").forEach((part) => part.remove());
    find("table").insertAdjacentHTML("beforeend", rows(module, naive));
    find(".products").innerHTML = products(module);
    find("figcaption").textContent = result(module, naive, key);
    all("[data-value]").forEach((element) => { element.textContent = setting[element.dataset.value]; });
    presets.forEach((button) => button.setAttribute("aria-pressed", button.dataset.set === key));
  }

  root.addEventListener("input", update);
  presets.forEach((button) => button.addEventListener("click", () => {
    button.dataset.set.split(" ").forEach((value, i) => {
      const toggle = switchOf(sliders[i]);
      if (toggle) toggle.checked = value !== "0";
      if (value !== "0") sliders[i].value = value;
    });
    update();
  }));
  update();
});
