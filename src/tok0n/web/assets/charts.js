// The value of a bar, by mouse, touch and keyboard. Without this script, the table below a chart has all values.
(() => {
  const number = new Intl.NumberFormat("en-US");
  const line = (className, name, value) => {
    const row = document.createElement("p");
    if (className) row.append(Object.assign(document.createElement("i"), { className }));
    row.append(Object.assign(document.createElement("span"), { textContent: name }), " ");
    if (value !== undefined) row.append(Object.assign(document.createElement("b"), { textContent: value }));
    return row;
  };
  const barsOf = (plot) => [...plot.querySelectorAll(".bar")];
  const hide = (plot) => {
    plot.querySelector(".bar.current")?.classList.remove("current");
    plot.querySelector(".tip").hidden = true;
  };
  const show = (plot, bar) => {
    if (bar.classList.contains("current")) return;
    plot.querySelector(".bar.current")?.classList.remove("current");
    bar.classList.add("current");
    const names = JSON.parse(plot.dataset.series);
    const values = bar.dataset.values.split(" ").map(Number);
    const tip = plot.querySelector(".tip");
    const { unit } = plot.dataset;
    const isSum = "total" in plot.dataset;
    const total = values.reduce((sum, value) => sum + value, 0);
    const text = (value) => (isSum ? number.format(value) : `${number.format(value)} ${unit}`);
    const parts = names.map((name, index) => [name, index]).filter(([, index]) => values[index]);
    tip.replaceChildren(
      line("", bar.dataset.title),
      ...parts.map(([name, index]) => line(`series-${index}`, name, text(values[index]))),
      ...(isSum ? [line("", "Total", `${number.format(total)} ${unit}`)] : []),
    );
    tip.hidden = false;
    const box = plot.getBoundingClientRect();
    const at = bar.querySelector(".hit").getBoundingClientRect();
    const right = at.right - box.left + 8;
    const fits = right + tip.offsetWidth <= box.width;
    const left = fits ? right : at.left - box.left - tip.offsetWidth - 8;
    tip.style.left = `${Math.max(0, Math.min(left, box.width - tip.offsetWidth))}px`;
  };
  const under = (plot, event) => {
    const bars = barsOf(plot);
    const box = plot.querySelector(".bars").getBoundingClientRect();
    const index = Math.floor(((event.clientX - box.left) / box.width) * bars.length);
    return bars[Math.max(0, Math.min(index, bars.length - 1))];
  };
  const plotOf = (event) => event.target.closest?.(".plot");
  const onPoint = (event) => {
    const plot = plotOf(event);
    if (plot) show(plot, under(plot, event));
  };
  document.addEventListener("pointermove", onPoint);
  document.addEventListener("pointerdown", onPoint);
  document.addEventListener("pointerout", (event) => {
    const plot = plotOf(event);
    if (plot && event.pointerType === "mouse" && !plot.contains(event.relatedTarget)) hide(plot);
  });
  document.addEventListener("focusout", (event) => event.target.matches?.(".plot") && hide(event.target));
  document.addEventListener("click", (event) => {
    const plot = plotOf(event);
    if (plot && event.pointerType === "mouse") location.assign(under(plot, event).dataset.href);
  });
  document.addEventListener("keydown", (event) => {
    const plot = event.target.matches?.(".plot") && event.target;
    if (!plot) return;
    const bars = barsOf(plot);
    const current = bars.findIndex((bar) => bar.classList.contains("current"));
    const last = bars.length - 1;
    const from = current < 0 ? last + 1 : current;
    const moves = { ArrowLeft: from - 1, ArrowRight: current + 1 || last, Home: 0, End: last };
    if (event.key === "Escape") hide(plot);
    else if (event.key === "Enter" && current >= 0) location.assign(bars[current].dataset.href);
    else if (event.key in moves) {
      event.preventDefault();
      show(plot, bars[Math.max(0, Math.min(moves[event.key], last))]);
    }
  });
})();
