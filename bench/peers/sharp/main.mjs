// Pictures to fit into 800x600 with sharp, one at a time on one thread.
import { appendFileSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { parseArgs } from "node:util";

const sharp = createRequire(new URL(".env/", import.meta.url))("sharp");

const names = ["bootstrap", "topic", "group", "count", "warmup", "mode", "report", "pictures", "results"];
const { values: task } = parseArgs({ options: Object.fromEntries(names.map((name) => [name, { type: "string" }])) });
const count = Number(task.count);
const warmup = Number(task.warmup);

sharp.concurrency(1);

const resize = (data) =>
  sharp(data)
    .autoOrient()
    .resize(800, 600, { fit: "inside", withoutEnlargement: true })
    .jpeg({ quality: 80 })
    .toBuffer();

const tell = (report) => appendFileSync(task.report, JSON.stringify(report) + "\n");

const files = readdirSync(task.pictures).sort();
const inputs = files.map((name) => readFileSync(join(task.pictures, name)));
for (let seen = 0; seen < count; ) {
  const result = await resize(inputs[seen % inputs.length]);
  if (seen < warmup) writeFileSync(join(task.results, files[seen % files.length]), result);
  seen += 1;
  if (seen === warmup) tell({ event: "warm", records: seen });
}
tell({ event: "done", records: count, hot: 0 });
