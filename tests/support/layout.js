// Returns what is wrong with the layout of the page that is shown, each fault as a line of text.
() => {
  const faults = [];
  const describe = (element) => {
    const name = element.tagName.toLowerCase() + (element.id ? "#" + element.id : "") + [...element.classList].map((c) => "." + c).join("");
    return `${name} "${(element.textContent || element.getAttribute("aria-label") || element.name || "").trim().replace(/\s+/g, " ").slice(0, 60)}"`;
  };
  // A table's head is hidden in a narrow window, where each cell has its own label.
  const isShown = (element) => element.checkVisibility({ visibilityProperty: true, opacityProperty: true }) && !element.closest(".hidden, .skip") && !(element.closest("thead") && getComputedStyle(element.closest("thead")).clipPath !== "none");
  const style = (element) => getComputedStyle(element);

  if (document.documentElement.scrollWidth > innerWidth) {
    const wide = [...document.querySelectorAll("main *, header *, footer *")].filter((element) => isShown(element) && element.getBoundingClientRect().right > innerWidth + 0.5);
    faults.push(`the page is ${document.documentElement.scrollWidth} px wide: ${wide.slice(-1).map(describe)}`);
  }
  const titles = document.querySelectorAll("h1").length;
  if (titles !== 1 && location.pathname !== "/dev/components") faults.push(`${titles} h1`);

  // Content stays in its box. Text that is cut has an ellipsis and a title; what scrolls may be wider.
  const BOXES = "td, th, .chip, .button, button, .stat, .stat dd, .card, .notice, .flash, .field, .pills a, .page-tabs a, .bar nav a, summary, label, legend, dt, dd";
  const range = document.createRange();
  for (const box of document.querySelectorAll(BOXES)) {
    if (!isShown(box)) continue;
    const outer = box.getBoundingClientRect();
    if (outer.width <= 1) continue;
    const walker = document.createTreeWalker(box, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      if (!node.data.trim() || !isShown(node.parentElement) || node.parentElement.closest("svg")) continue;
      range.selectNodeContents(node);
      for (const rect of range.getClientRects()) {
        if (rect.width < 1) continue;
        let left = rect.left, right = rect.right, fault = "";
        for (let around = node.parentElement; ; around = around.parentElement) {
          const { overflowX, textOverflow, display } = style(around);
          if (display !== "inline" && overflowX !== "visible" && (around !== box || overflowX !== "hidden" || textOverflow === "ellipsis")) {
            const clip = around.getBoundingClientRect();
            if (overflowX === "hidden" && rect.right > clip.right + 1.5 && !around.closest(".id")) {
              if (textOverflow !== "ellipsis") fault = "is cut without an ellipsis";
              else if (!node.parentElement.closest("[title]") && !around.querySelector("[title]")) fault = "is cut without a title";
            }
            left = Math.max(left, clip.left); right = Math.min(right, clip.right);
          }
          if (around === box) break;
        }
        if (right > left && (right > outer.right + 1.5 || left < outer.left - 1.5)) fault = `leaves its box by ${Math.round(Math.max(right - outer.right, outer.left - left))} px`;
        if (fault) { faults.push(`"${node.data.trim().slice(0, 40)}" in ${describe(box)} ${fault}`); break; }
      }
    }
  }

  // Numbers never wrap.
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const parent = node.parentElement;
    if (!/\d/.test(node.data) || !isShown(parent) || parent.closest("pre, code, script, style, textarea, .name, .secret, svg")) continue;
    for (const match of node.data.matchAll(/(?<![\p{L}\d/_.:-])[−+$]?\d[\d,]*(?:\.\d+)?(?![\p{L}\d/_.:-])/gu)) {
      range.setStart(node, match.index);
      range.setEnd(node, match.index + match[0].length);
      const rects = [...range.getClientRects()].filter((rect) => rect.width > 0);
      if (rects.some((rect) => rect.top > rects[0].bottom - 2)) faults.push(`${match[0]} wraps in ${describe(parent)}`);
    }
  }

  // Controls are large enough to touch, and don't overlap. A link inside text is as high as its line, and one that
  // opens a table's row covers the row.
  const CONTROLS = "a[href]:not(svg a), button, input:not([type=hidden]), select, textarea, summary";
  const controls = [...document.querySelectorAll(CONTROLS)].filter((control) => isShown(control) && control.getBoundingClientRect().width > 0);
  const rects = controls.map((control) => {
    const target = control.matches("input[type=checkbox], input[type=radio]") ? control.closest("label") || control : control;
    return [...target.getClientRects()];
  });
  controls.forEach((control, index) => {
    const isInText = control.matches("a.row-link") || (control.tagName === "A" && style(control).display === "inline");
    const [rect] = rects[index];
    if (!isInText && (rect.height < 23.5 || rect.width < 23.5)) faults.push(`${describe(control)} is ${Math.round(rect.width)} × ${Math.round(rect.height)} px`);
    for (let other = index + 1; other < controls.length; other++) {
      const pair = controls[other];
      if (control.contains(pair) || pair.contains(control) || (control.closest("label") && control.closest("label") === pair.closest("label"))) continue;
      const overlap = rects[index].some((a) => rects[other].some((b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 2 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4));
      if (overlap) faults.push(`${describe(control)} overlaps ${describe(pair)}`);
    }
  });
  return [...new Set(faults)];
}
