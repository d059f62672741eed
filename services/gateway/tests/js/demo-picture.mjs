// Not a test: takes the picture of the demo that the README shows (docs/images/demo.png).
//
//   GATEWAY_URL=http://127.0.0.1:9000 node demo-picture.mjs OUT.png
//
// The people are drawn, since the browser's fake camera shows everybody the same test picture.

import { randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { Browser, ORIGIN, videoPlays } from "./chromium.mjs";

const OUT = process.argv[2] ?? "demo.png";
const VIEWPORT = { width: 1400, height: 900 };

const PEOPLE = [
  { name: "Ada Lovelace", wall: ["#f3dcc7", "#e3b996"], skin: "#f0c5a3", hair: "#4a2d20", shirt: "#275d8c", style: "bun", mic: true },
  { name: "Alan Turing", wall: ["#cfe3ea", "#9fc3d2"], skin: "#f2cfb4", hair: "#3a2a1e", shirt: "#6b4f3a", style: "short", mic: true },
  { name: "Grace Hopper", wall: ["#dfe6d3", "#b7c7a0"], skin: "#efc9ac", hair: "#b9b4ad", shirt: "#2b3a55", style: "wavy", glasses: true },
  { name: "Katherine Johnson", wall: ["#f4e3b5", "#e0bd72"], skin: "#8d5a3b", hair: "#201713", shirt: "#a23e48", style: "wavy", glasses: true },
  { name: "Edith Clarke", wall: ["#e4d9ee", "#bda7d4"], skin: "#f1cdb0", hair: "#7a4a2b", shirt: "#2f6f5e", style: "long" },
  { name: "Hedy Lamarr" },
];

/** Runs in the page before its scripts: the camera becomes a drawing of `person`. */
function drawnCamera(person) {
  const canvas = document.createElement("canvas");
  const paint = canvas.getContext("2d");
  const fill = (colour, draw) => { paint.fillStyle = colour; paint.beginPath(); draw(); paint.fill(); };
  const stroke = (colour, width, draw) => { paint.strokeStyle = colour; paint.lineWidth = width; paint.lineCap = "round"; paint.beginPath(); draw(); paint.stroke(); };
  canvas.width = 640;
  canvas.height = 400;

  const hairBehind = {
    long: () => { paint.ellipse(320, 196, 88, 104, 0, 0, 7); paint.roundRect(232, 190, 176, 140, 50); },
    wavy: () => { for (const [x, y] of [[246, 170], [236, 214], [394, 170], [404, 214], [282, 116], [358, 116], [320, 104]]) { paint.moveTo(x, y); paint.arc(x, y, 44, 0, 7); } },
    bun: () => { paint.ellipse(320, 70, 36, 32, 0, 0, 7); paint.ellipse(320, 164, 84, 84, 0, 0, 7); },
    short: () => paint.ellipse(320, 150, 78, 72, 0, 0, 7),
  };

  function draw(time) {
    const sway = Math.sin(time / 900) * 4;
    const wall = paint.createLinearGradient(0, 0, 640, 400);
    person.wall.forEach((colour, i) => wall.addColorStop(i, colour));
    fill(wall, () => paint.rect(0, 0, 640, 400));
    fill("rgb(255 255 255 / 30%)", () => paint.roundRect(40, 40, 120, 150, 10));
    fill("rgb(255 255 255 / 22%)", () => paint.rect(470, 96, 150, 8));
    ["#6f8f7b", "#c98a4b", "#8a6f9c", "#5f7fa0"].forEach((colour, i) => fill(colour, () => paint.rect(490 + i * 22, 96 - 44 - (i % 3) * 8, 16, 44 + (i % 3) * 8)));
    paint.save();
    paint.translate(sway, Math.cos(time / 1100) * 2);
    fill(person.hair, hairBehind[person.style]);
    fill(person.shirt, () => { paint.moveTo(130, 410); paint.bezierCurveTo(150, 290, 250, 292, 320, 290); paint.bezierCurveTo(390, 292, 490, 290, 510, 410); });
    fill(person.skin, () => paint.roundRect(288, 230, 64, 84, 30));
    fill("rgb(0 0 0 / 10%)", () => paint.ellipse(320, 254, 32, 20, 0, 0, 7));
    fill(person.skin, () => paint.ellipse(320, 180, 66, 80, 0, 0, 7));
    fill(person.hair, () => { paint.moveTo(252, 168); paint.bezierCurveTo(262, 84, 378, 84, 388, 168); paint.bezierCurveTo(370, 118, 330, 128, 300, 128); paint.bezierCurveTo(276, 128, 262, 140, 252, 168); });
    const blink = time % 3600 < 130 ? 0.8 : 6;
    for (const x of [294, 346]) fill("#2a2320", () => paint.ellipse(x, 180, 5.5, blink, 0, 0, 7));
    if (person.glasses) stroke("#2a2f38", 4, () => { paint.roundRect(272, 164, 42, 32, 12); paint.roundRect(326, 164, 42, 32, 12); paint.moveTo(314, 178); paint.lineTo(326, 178); });
    fill("rgb(214 96 80 / 22%)", () => { paint.ellipse(280, 208, 13, 8, 0, 0, 7); paint.ellipse(360, 208, 13, 8, 0, 0, 7); });
    stroke("#8f4338", 4.5, () => paint.arc(320, 206, 20, 0.35, Math.PI - 0.35));
    paint.restore();
    requestAnimationFrame(draw);
  }

  const real = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = async (constraints) => {
    if (!constraints.video) return real(constraints);
    requestAnimationFrame(draw);
    return canvas.captureStream(12);
  };
}

const LETTERS = {
  P: [[0, 8, 0, 0, 4, 0, 5, 2, 4, 4, 0, 4]], L: [[0, 0, 0, 8, 5, 8]], A: [[0, 8, 2.5, 0, 5, 8], [1, 5, 4, 5]], T: [[0, 0, 5, 0], [2.5, 0, 2.5, 8]],
  F: [[5, 0, 0, 0, 0, 8], [0, 4, 4, 4]], O: [[2.5, 0, 0, 2, 0, 6, 2.5, 8, 5, 6, 5, 2, 2.5, 0]], R: [[0, 8, 0, 0, 4, 0, 5, 2, 4, 4, 0, 4], [2, 4, 5, 8]],
  M: [[0, 8, 0, 0, 2.5, 4, 5, 0, 5, 8]], 2: [[0, 2, 1, 0, 4, 0, 5, 2, 0, 8, 5, 8]], " ": [],
};
const write = (text, x, y, size) => [...text].flatMap((letter, i) => LETTERS[letter].map((line) => line.map((v, k) => (k % 2 ? y + v * size : x + i * size * 7.4 + v * size))));
const circle = (x, y, radius) => Array.from({ length: 25 }, (_, i) => [x + radius * Math.cos((i * Math.PI) / 12), y + radius * Math.sin((i * Math.PI) / 12)]).flat();
const box = (x, y, w, h) => [x, y, x + w, y, x + w, y + h, x, y + h, x, y];

/** The sketch, by who draws it, in which ink and with which pen: lines in pixels of the surface. */
const SKETCH = [
  [0, "ink", 0, [[40, 212, 930, 212], [40, 236, 930, 236], ...Array.from({ length: 23 }, (_, i) => [60 + i * 38, 204, 54 + i * 38, 244])]],
  [1, "blue", 1, [[300, 212, 380, 150, 470, 122, 930, 122], [316, 216, 396, 164, 476, 142, 930, 142]]],
  [2, "ink", 1, [[210, 204, 210, 96], box(190, 26, 40, 72)]],
  [2, "green", 1, [circle(210, 46, 11)]],
  [2, "red", 1, [circle(210, 78, 11)]],
  [3, "amber", 1, [[270, 60, 430, 60, 500, 92], [484, 78, 502, 94, 480, 98]]],
  [4, "green", 1, [...write("PLATFORM 2", 560, 48, 4.2), [556, 92, 880, 96]]],
];

async function sketch(pages) {
  for (const [who, ink, nib, lines] of SKETCH) {
    const page = pages[who];
    const surface = await page.locator("#surface").boundingBox();
    await page.locator(`#board-tools .tool:has(.ink-${ink})`).click();
    await page.locator(`#board-tools .tool:has(.nib-${nib})`).click();
    for (const line of lines) {
      for (let i = 0; i < line.length; i += 2) {
        await page.mouse.move(surface.x + line[i], surface.y + line[i + 1], { steps: i ? 4 : 1 });
        if (i === 0) await page.mouse.down();
      }
      await page.mouse.up();
    }
  }
}

async function share(page, folder, name, bytes) {
  const file = path.join(folder, name);
  await writeFile(file, randomBytes(bytes));
  await page.setInputFiles("#file-input", file);
}

const browser = await Browser.launch();
const folder = await mkdtemp(path.join(tmpdir(), "signalbox-picture-"));
try {
  const pages = [];
  for (const person of PEOPLE) {
    const page = await browser.page({ viewport: VIEWPORT, prepare: (page) => person.wall && page.addInitScript(drawnCamera, person) });
    await page.goto(`${ORIGIN}/demo/?name=${encodeURIComponent(person.name)}#platform%202`);
    await page.click("#enter-button");
    await Browser.until(page, () => signalboxDemo.view === "room");
    pages.push(page);
  }
  for (const page of pages) await Browser.until(page, () => signalboxDemo.members.length === 5 && signalboxDemo.members.every(({ link }) => link === "open"));
  const [ada, alan, grace] = pages;
  await sketch(pages);
  for (const [i, { wall, mic }] of PEOPLE.entries()) {
    if (wall) await pages[i].click("#toggle-camera");
    if (mic) await pages[i].click("#toggle-mic");
  }
  await Browser.until(ada, () => document.querySelectorAll('.tile[data-video="camera"]').length === 5);
  for (const tile of await ada.locator('.tile[data-video="camera"]:not(.mine)').all()) await videoPlays(ada, `.tile[data-peer="${await tile.getAttribute("data-peer")}"] video`);
  for (const [page, text] of [
    [alan, "Morning! Is the second platform in?"],
    [ada, "Grace just drew it, with the crossover."],
    [grace, "Signal goes before the points."],
    [alan, "Agreed. The plans are in Files."],
    [ada, "Taking them now."],
  ]) {
    await page.fill("#chat-text", text);
    await page.press("#chat-text", "Enter");
    await Browser.until(ada, (said) => signalboxDemo.chat.at(-1)?.text === said, text);
  }
  await share(alan, folder, "signal-plan.pdf", 2_400_000);
  await ada.locator(".file button").click();
  await Browser.until(ada, () => signalboxDemo.files[0].state === "verified");
  await share(grace, folder, "walkthrough.mp4", 24_000_000);
  await ada.locator(".file button").first().click();
  for (const [i, [x, y]] of [[1, [640, 182]], [2, [250, 120]], [4, [884, 86]]]) {
    const surface = await pages[i].locator("#surface").boundingBox();
    await pages[i].mouse.move(surface.x + x, surface.y + y);
  }
  await Browser.until(ada, () => signalboxDemo.files[1].done > 9_000_000, null, "half of the file", 60_000);
  await ada.screenshot({ path: OUT });
} finally {
  await browser.close();
  await rm(folder, { recursive: true });
}
