// What is wrong with the page as it is shown: a list of sentences.
(() => {
  const wrong = [];
  const box = element => element.getBoundingClientRect();
  const name = element => `"${element.textContent.slice(0, 60)}"`;
  // Two boxes have more than a hair in common.
  const covers = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 0.5
    && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 0.5;
  const apart = (elements, where) => elements.forEach((one, i) => {
    for (const other of elements.slice(i + 1))
      if (covers(box(one), box(other))) wrong.push(`${where}: ${name(one)} and ${name(other)} cover each other`);
  });
  const channels = colour => colour.match(/[\d.]+/g).slice(0, 3).map(Number);
  const light = colour => channels(colour).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const back = light(getComputedStyle(document.body).backgroundColor);
  const contrast = colour => (Math.max(light(colour), back) + 0.05) / (Math.min(light(colour), back) + 0.05);

  if (document.documentElement.scrollWidth > innerWidth) wrong.push("the page is wider than its window");
  apart([...document.querySelectorAll("h1, h2, p, pre, figure")], "page");
  for (const figure of document.querySelectorAll("figure")) {
    const svg = figure.querySelector("svg"), texts = [...svg.querySelectorAll("text")];
    const title = figure.querySelector("h3").textContent;
    apart([...texts, ...figure.querySelectorAll("h3, .legend span")], title);
    const frame = box(svg);
    for (const text of texts) {
      const { left, right, top, bottom } = box(text);
      if (left < frame.left - 0.5 || right > frame.right + 0.5 || top < frame.top - 0.5 || bottom > frame.bottom + 0.5)
        wrong.push(`${title}: ${name(text)} is cut off`);
      if (contrast(getComputedStyle(text).fill) < 4.5) wrong.push(`${title}: ${name(text)} is hard to read`);
      if (/NaN|Infinity|undefined|null/.test(text.textContent)) wrong.push(`${title}: ${name(text)}`);
    }
    for (const path of svg.querySelectorAll("path")) {
      if (contrast(getComputedStyle(path).stroke) < 3) wrong.push(`${title}: a line is hard to see`);
      if (/NaN|Infinity/.test(path.getAttribute("d"))) wrong.push(`${title}: a line leads nowhere`);
    }
  }
  return wrong;
})()
