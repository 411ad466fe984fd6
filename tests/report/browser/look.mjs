// Opens a page in Chromium, light, dark and printed, and prints what is wrong with it as JSON.
// node look.mjs PAGE CHROMIUM [FOLDER of screenshots] [WORD to search for]
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const [page, executablePath, folder, word] = process.argv.slice(2);
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf-8");
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const found = { console: [], requests: [], violations: [], search: null, collections: null, copied: null, current: [], pages: 0 };

for (const colorScheme of ["light", "dark"]) {
  const context = await browser.newContext({ colorScheme, viewport: { width: 1280, height: 900 }, bypassCSP: true });
  const tab = await context.newPage();
  tab.on("console", (message) => found.console.push(message.text()));
  tab.on("pageerror", (error) => found.console.push(String(error)));
  tab.on("request", (request) => found.requests.push(request.url()));
  await tab.goto(pathToFileURL(page).href);
  if (folder) await tab.screenshot({ path: `${folder}/${colorScheme}.png`, fullPage: true });
  await tab.evaluate(axe);
  for (const open of [false, true]) {
    await tab.evaluate((state) => document.querySelectorAll("details").forEach((one) => (one.open = state)), open);
    const result = await tab.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
    for (const { id, help, nodes } of result.violations) {
      const elements = nodes.slice(0, 3).map((node) => `${node.html.slice(0, 300)} ${node.failureSummary}`);
      found.violations.push({ colorScheme, open, id, help, elements });
    }
  }
  await context.close();
}

const tab = await browser.newPage({ viewport: { width: 1280, height: 900 } });
tab.on("console", (message) => found.console.push(message.text()));
await tab.goto(pathToFileURL(page).href);
const box = tab.locator("#query");
if (word && (await box.count())) {
  const shown = () => tab.locator("#dictionary-rows tr:visible th").allTextContents();
  const all = (await shown()).length;
  // By keyboard alone: the link that skips the navigation comes first.
  await tab.keyboard.press("Tab");
  const first = await tab.evaluate(() => document.activeElement.textContent);
  await box.focus();
  await tab.keyboard.type(word);
  const names = await shown();
  const status = await tab.locator("form:has(#query) [role=status]").textContent();
  await tab.keyboard.press("Escape");
  await tab.locator("#collection-query").fill("lung cc by 3.0");
  found.collections = await tab.locator("#collection-rows tr:visible").allTextContents();
  await tab.locator("#collection-query").fill("");
  // The section that is read is marked, and a block of commands can be copied.
  const marked = async () => (await tab.locator("nav [aria-current]").allTextContents()).join();
  for (const section of ["growth", "dictionary"]) {
    await tab.locator(`#${section}`).evaluate((one) => one.scrollIntoView());
    await tab.waitForFunction((id) => document.querySelector(`nav a[href="#${id}"][aria-current]`), section);
    found.current.push(await marked());
  }
  await tab.context().grantPermissions(["clipboard-read", "clipboard-write"]);
  const button = tab.locator("button.copy").first();
  await button.click();
  await tab.waitForFunction(() => document.querySelector("button.copy").textContent === "Copied");
  const label = await button.getAttribute("aria-label");
  found.copied = { label, text: await tab.evaluate(() => navigator.clipboard.readText()) };
  found.search = { all, first, names, status, afterEscape: (await shown()).length };
}
const pdf = await tab.pdf({ path: folder ? `${folder}/print.pdf` : undefined, format: "A4" });
found.pages = pdf.toString("latin1").match(/\/Type\s*\/Page\b/g).length;
if (folder) {
  await tab.setViewportSize({ width: 390, height: 844 });
  await tab.screenshot({ path: `${folder}/narrow.png` });
}
await browser.close();
console.log(JSON.stringify(found, null, 1));
