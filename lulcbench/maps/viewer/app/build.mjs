// Bundles the viewer into ../static: viewer.js, viewer.css, index.html and the licences of what is inside.
// The output depends on the sources and package-lock.json alone.
import { build } from "esbuild";
import { copyFile, mkdir, readFile, readdir, writeFile } from "node:fs/promises";
import path from "node:path";

const app = import.meta.dirname;
const out = path.resolve(process.argv[2] ?? path.join(app, "..", "static"));
await mkdir(out, { recursive: true });

const { metafile } = await build({
  absWorkingDir: app,
  entryPoints: { viewer: "src/main.ts" },
  outdir: out,
  bundle: true,
  minify: true,
  format: "iife", // a classic script: servers with an unusual MIME type for modules work too
  target: "es2022",
  charset: "utf8",
  legalComments: "none", // they are in LICENSES.txt
  metafile: true,
  logLevel: "warning",
});
await copyFile(path.join(app, "src", "index.html"), path.join(out, "index.html"));

const packages = new Set();
for (const input of Object.keys(metafile.inputs)) {
  const match = /^node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(input);
  if (match) packages.add(match[1]);
}
let text = "The viewer contains these libraries, whose licences follow.\n";
for (const name of [...packages].sort()) {
  const folder = path.join(app, "node_modules", name);
  const { version, license } = JSON.parse(await readFile(path.join(folder, "package.json"), "utf8"));
  const file = (await readdir(folder)).sort().find((entry) => /^licen[cs]e/i.test(entry));
  if (!file) throw new Error(`${name} has no licence file`);
  text += `\n${"=".repeat(80)}\n${name} ${version} (${license})\n\n`;
  text += (await readFile(path.join(folder, file), "utf8")).trim() + "\n";
}
await writeFile(path.join(out, "LICENSES.txt"), text);
