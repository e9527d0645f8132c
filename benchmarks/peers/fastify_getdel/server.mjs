// One-time tokens as people write them themselves: Fastify, ioredis and GETDEL. Each package as its
// documentation says for production. For comparison, not for use.

import { randomBytes } from "node:crypto";
import jwt from "@fastify/jwt";
import rateLimit from "@fastify/rate-limit";
import Fastify from "fastify";
import { Redis } from "ioredis";
import pino from "pino";

const { redis_url, secret_key, calls_per_minute, NODE_PORT } = process.env;
const text = { type: "string" };
const object = (properties) => ({ type: "object", properties, required: Object.keys(properties) });

const redis = new Redis(redis_url, { enableAutoPipelining: true });
const app = Fastify({ loggerInstance: pino(pino.destination({ minLength: 4096, sync: false })) });
await app.register(jwt, { secret: secret_key, verify: { algorithms: ["HS256"], cache: true } });
app.get("/readyz", async () => (await redis.ping()) && "ready");

await app.register(async (calls) => {
  calls.addHook("onRequest", (request) => request.jwtVerify());
  await calls.register(rateLimit, {
    redis,
    max: Number(calls_per_minute),
    timeWindow: "1 minute",
    hook: "preHandler",
    keyGenerator: (request) => request.user.sub,
  });

  const asked = object({ expires_in: { type: "integer", minimum: 1, maximum: 86400 } });
  const made = { body: asked, response: { 201: object({ token: text }) } };
  calls.post("/token/create", { schema: made }, async (request, reply) => {
    const token = randomBytes(32).toString("base64url");
    await redis.set(`token:${token}`, request.user.sub, "EX", request.body.expires_in);
    return reply.code(201).send({ token });
  });

  const used = { body: object({ token: text }), response: { 200: object({ issued_by: text }) } };
  calls.post("/token/validate", { schema: used }, async (request, reply) => {
    const issuer = await redis.getdel(`token:${request.body.token}`);
    return issuer ? { issued_by: issuer } : reply.code(404).send({ error: "unknown or used" });
  });
});
await app.listen({ port: Number(NODE_PORT), host: "127.0.0.1" });
