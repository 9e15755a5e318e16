// The committed page is what its sources build, byte for byte; so that building the product needs no
// Node. After a change: `npm run build`, and commit `dist`.

import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const folder = mkdtempSync(join(tmpdir(), "treeline-page-"));
try {
  execFileSync("npx", ["vite", "build", "--outDir", folder, "--emptyOutDir", "--logLevel", "error"], {
    stdio: "inherit",
  });
  const files = (of) => readdirSync(of, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(of.length + 1))
    .sort();
  const fresh = files(folder);
  const stale = files("dist");
  const differ = [...new Set([...fresh, ...stale])].filter(
    (name) =>
      !fresh.includes(name) ||
      !stale.includes(name) ||
      !readFileSync(join(folder, name)).equals(readFileSync(join("dist", name))),
  );
  if (differ.length > 0) {
    console.error(`dist is stale: ${differ.join(", ")}; run \`npm run build\` in endpoint-ui and commit dist`);
    process.exit(1);
  }
  console.log(`dist is what the sources build: ${fresh.join(", ")}`);
} finally {
  rmSync(folder, { recursive: true });
}
