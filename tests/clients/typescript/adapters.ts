// Compiled, and not run: the adapters fit the types of the frameworks.
import { createServer } from "node:http";

import express from "express";
import { Hono } from "hono";
import { Tokens, websocketTicket } from "token-service-client";
import { oneTime, oneTimeSocket, useOf } from "token-service-client/express";
import { FakeTokens } from "token-service-client/fake";
import { oneTime as oneTimeHono } from "token-service-client/hono";
import { WebSocketServer } from "ws";

const tokens = new Tokens("http://127.0.0.1:1", { key: "osk_0" });
const terms = { issuedBy: ["backend@example.com"] };

const app = express();
app.get("/report", oneTime(tokens, "app.open", terms), (request, response) => {
  response.send(useOf(request).subject);
});

const server = createServer(app);
const guard = oneTimeSocket(new FakeTokens(), "ws.connect", terms);
new WebSocketServer({ server, ...guard }).on("connection", (socket, request) => {
  socket.send(`${useOf(request).subject} ${websocketTicket(request.headers)}`);
});

const hono = new Hono();
hono.get("/report", oneTimeHono(tokens, "app.open", terms), (context) =>
  context.text(context.var.use.subject),
);

// @ts-expect-error issuedBy is missing
oneTime(tokens, "app.open", {});
