// better-auth with its one-time-token plugin, set up as in its documentation: accounts in
// Postgres; sessions, one-time tokens and limits in Redis. For comparison, not for use.

import { createServer } from "node:http";
import { redisStorage } from "@better-auth/redis-storage";
import { betterAuth } from "better-auth";
import { getMigrations } from "better-auth/db/migration";
import { toNodeHandler } from "better-auth/node";
import { oneTimeToken } from "better-auth/plugins";
import { Redis } from "ioredis";
import pg from "pg";

const { database_url, redis_url, secret_key, calls_per_minute, NODE_PORT } = process.env;

const auth = betterAuth({
  baseURL: `http://127.0.0.1:${NODE_PORT}`,
  secret: secret_key,
  database: new pg.Pool({ connectionString: database_url }),
  secondaryStorage: redisStorage({ client: new Redis(redis_url) }),
  emailAndPassword: { enabled: true },
  rateLimit: {
    enabled: true,
    storage: "secondary-storage",
    window: 60,
    max: Number(calls_per_minute),
  },
  plugins: [oneTimeToken({ expiresIn: 10 })],
  telemetry: { enabled: false },
});
const { runMigrations } = await getMigrations(auth.options);
await runMigrations();

const handle = toNodeHandler(auth);
createServer((request, response) => {
  if (request.url === "/readyz") {
    response.end("ready");
  } else {
    handle(request, response);
  }
}).listen(Number(NODE_PORT), "127.0.0.1");
