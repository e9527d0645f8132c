/** Middleware for Hono. */
import type { MiddlewareHandler } from "hono";

import { gate, Refusal, type TicketTerms } from "./gate.js";
import type { Tokens } from "./tokens.js";
import type { Use } from "./values.js";

/** Middleware that passes a request on after it consumed its ticket: then `context.var.use`. */
export function oneTime(
  tokens: Pick<Tokens, "consume">,
  purpose: string,
  terms: TicketTerms,
): MiddlewareHandler<{ Variables: { use: Use } }> {
  const admit = gate(tokens, purpose, terms);
  return async (context, next) => {
    const outcome = await admit(context.req.raw.headers);
    if (outcome instanceof Refusal) {
      const { status, headers, body } = outcome;
      return new Response(body, { status, headers });
    }
    context.set("use", outcome);
    await next();
  };
}
