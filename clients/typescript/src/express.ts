/** Middleware for Express, and the options with which `ws` guards a WebSocket. */
import { gate, Refusal, type TicketTerms } from "./gate.js";
import { PROTOCOL } from "./tickets.js";
import type { Tokens } from "./tokens.js";
import type { Use } from "./values.js";

interface Request {
  headers: Readonly<Record<string, string | string[] | undefined>>;
}

interface Response {
  writeHead(status: number, headers: Record<string, string>): { end(body: string): unknown };
}

const uses = new WeakMap<object, Use>();

/** The use of the ticket with which a request passed. */
export function useOf(request: object): Use {
  const use = uses.get(request);
  if (!use) throw new TypeError("this request did not pass a gate");
  return use;
}

/** Middleware that passes a request on after it consumed its ticket: then `useOf(request)`. */
export function oneTime(tokens: Pick<Tokens, "consume">, purpose: string, terms: TicketTerms) {
  const admit = gate(tokens, purpose, terms);
  return async (request: Request, response: Response, next: (error?: unknown) => void) => {
    try {
      const outcome = await admit(request.headers);
      if (outcome instanceof Refusal) {
        response.writeHead(outcome.status, outcome.headers).end(outcome.body);
        return;
      }
      uses.set(request, outcome);
    } catch (error) {
      next(error);
      return;
    }
    next();
  };
}

/** Options of a WebSocketServer of `ws`, which then opens no connection without a ticket. */
export function oneTimeSocket(
  tokens: Pick<Tokens, "consume">,
  purpose: string,
  terms: TicketTerms,
) {
  const admit = gate(tokens, purpose, terms);
  const verify = async ({ req }: { req: Request }, done: Done) => {
    try {
      const outcome = await admit(req.headers);
      if (outcome instanceof Refusal) {
        done(false, outcome.status, outcome.body, outcome.headers);
        return;
      }
      uses.set(req, outcome);
    } catch {
      done(false, 500);
      return;
    }
    done(true);
  };
  return {
    verifyClient: (info: { req: Request }, done: Done) => void verify(info, done),
    /** A browser fails where none of its protocols is selected; the ticket is one of them. */
    handleProtocols: (offered: Set<string>): string | false => offered.has(PROTOCOL) && PROTOCOL,
  };
}

type Done = (
  passes: boolean,
  status?: number,
  message?: string,
  headers?: Record<string, string>,
) => void;
