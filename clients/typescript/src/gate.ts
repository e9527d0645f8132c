import { CallRefused, RateLimited, Refused, TokensError } from "./errors.js";
import { header, type RequestHeaders, websocketTicket } from "./tickets.js";
import { type ConsumeTerms, presentation, type Tokens } from "./tokens.js";
import type { Use } from "./values.js";

/** What a gate asks of a ticket beside its purpose. */
export type TicketTerms = Pick<ConsumeTerms, "issuedBy" | "subject" | "bind">;

/** The longest text that is taken for a ticket. */
const LONGEST = 256;

/** The response to a request that may not pass. */
export class Refusal {
  readonly headers: Record<string, string>;
  readonly body: string;

  constructor(
    readonly status: 401 | 403 | 503,
    code: string,
    retryAfter?: number,
  ) {
    this.headers = {
      "Cache-Control": "no-store",
      "Content-Type": "application/problem+json",
      "X-Token-Code": code,
      ...(retryAfter && { "Retry-After": String(Math.ceil(retryAfter)) }),
    };
    this.body = JSON.stringify({ status, code });
  }
}

/** The ticket of a request: `X-One-Time-Token`, or that of a WebSocket. */
function ticketOf(headers: RequestHeaders): string | null {
  return header(headers, "x-one-time-token") || websocketTicket(headers);
}

/**
 * A function that consumes the ticket of a request, and returns its use or a refusal.
 *
 * @throws TypeError purpose or issuedBy is missing
 */
export function gate(tokens: Pick<Tokens, "consume">, purpose: string, terms: TicketTerms) {
  presentation({ ...terms, purpose });
  return async (headers: RequestHeaders): Promise<Use | Refusal> => {
    const ticket = ticketOf(headers);
    if (!ticket) return new Refusal(401, "ticket_missing");
    if (ticket.length > LONGEST) return new Refusal(403, "token_malformed");
    try {
      return await tokens.consume(ticket, { ...terms, purpose });
    } catch (error) {
      if (error instanceof Refused) return new Refusal(403, error.code);
      if (!(error instanceof TokensError)) throw error;
      // The visitor cannot help it, and the owner of the program has to know.
      if (error instanceof CallRefused) console.error(`token-service-client: ${error.message}`);
      // As the gate of the service: whatever else went wrong is not about the ticket.
      return new Refusal(503, error.code, error instanceof RateLimited ? error.retryAfter : 1);
    }
  };
}
