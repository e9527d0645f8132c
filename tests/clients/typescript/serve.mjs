// Serves the guarded apps of the README until stdin ends: node serve.mjs ./guard.mjs …
import { serve } from "@hono/node-server";

import { server } from "./existing.mjs";

const found = await Promise.all(process.argv.slice(2).map((module) => import(module)));
const { fetch } = found.find((module) => module.default).default;
serve({ fetch, port: 0, hostname: "127.0.0.1" }, ({ port }) => {
  console.log(JSON.stringify({ express: server.address().port, hono: port }));
});
process.stdin.resume().on("end", () => process.exit());
