// Builds the page that the window's process embeds. File names are fixed and nothing depends on the
// machine or the time, so that the same sources give the same bytes in `dist`.

import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vitest/config";

// Modules are read anew in many tests, which takes its time on a busy machine.
const PATIENCE_MS = 60_000;

export default defineConfig({
  test: { testTimeout: PATIENCE_MS, hookTimeout: PATIENCE_MS },
  plugins: [svelte()],
  base: "./",
  server: { host: "127.0.0.1", port: 5199 },
  build: {
    target: "safari16",
    cssCodeSplit: false,
    modulePreload: false,
    reportCompressedSize: false,
    rollupOptions: {
      output: {
        entryFileNames: "page.js",
        chunkFileNames: "[name].js",
        assetFileNames: "page[extname]",
      },
    },
  },
});
