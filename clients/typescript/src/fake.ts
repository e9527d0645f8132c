import { Fault, Memory } from "./memory.js";
import { type Options, Tokens } from "./tokens.js";
import type { components } from "./wire.js";

type Code = components["schemas"]["Problem"]["code"];

export interface FakeOptions extends Omit<Options, "key" | "fetch"> {
  /** The account that calls, an e-mail address: `fake@example.com` without it. */
  account?: string;
  /** The present, in milliseconds: `Date.now` without it. */
  clock?: () => number;
}

/** The status of each problem that a fake can have, where it is not 409. */
const STATUS: Partial<Record<Code, number>> = {
  access_token_invalid: 401,
  busy: 503,
  database_unavailable: 503,
  idempotency_mismatch: 422,
  insufficient_scope: 403,
  internal_error: 500,
  key_invalid: 401,
  not_found: 404,
  purpose_not_allowed: 403,
  rate_limited: 429,
  store_unavailable: 503,
  token_expired: 410,
  token_lost: 410,
  token_malformed: 422,
  token_mismatch: 403,
  token_not_for_caller: 403,
  token_revoked: 410,
  token_unknown: 404,
  too_many_active: 429,
  validation_failed: 422,
};

/**
 * The token service in memory, for the tests of its users: the verbs and the errors of `Tokens`,
 * without a network and without repeats, and with a clock that a test moves.
 */
export class FakeTokens extends Tokens {
  readonly #options: FakeOptions;
  readonly #faults: Faults;
  readonly #memory: Memory;

  constructor(options: FakeOptions = {}, memory = new Memory(options.clock ?? Date.now)) {
    const { account = "fake@example.com", clock, ...rest } = options;
    const faults = new Faults();
    const fetch: Options["fetch"] = async (url, init) => faults.respond(memory, account, url, init);
    super("http://fake.test", { retries: 0, ...rest, key: account, fetch });
    this.#options = options;
    this.#faults = faults;
    this.#memory = memory;
  }

  /** The same service, called by another account. */
  as(account: string): FakeTokens {
    return new FakeTokens({ ...this.#options, account }, this.#memory);
  }

  /** Move the clock. */
  advance(seconds: number): void {
    this.#memory.ahead += seconds;
  }

  /** Restart the store: all outstanding tokens are lost. */
  restart(): void {
    this.#memory.era += 1;
  }

  /**
   * Fail the next calls of this account with a problem, before any work.
   *
   * @param code such as `store_unavailable`, `busy` or `rate_limited`
   */
  fail(code: Code, { times = 1, retryAfter }: { times?: number; retryAfter?: number } = {}): void {
    this.#faults.next = { fault: new Fault(code, {}, retryAfter), times };
  }

  /** Do the work of the next calls of this account, and lose the responses. */
  loseReplies(times = 1): void {
    this.#faults.next = { fault: null, times };
  }

  /** Take back what is left of `fail` and `loseReplies`. */
  mend(): void {
    this.#faults.next = null;
  }
}

/** What the next calls of one account meet. */
class Faults {
  /** A fault, or null for a response that is lost. */
  next: { fault: Fault | null; times: number } | null = null;

  respond(memory: Memory, account: string, url: unknown, init: RequestInit = {}): Response {
    const met = this.next && this.next.times-- > 0 ? this.next : null;
    const call = `${init.method} ${new URL(String(url)).pathname}`;
    const key = new Headers(init.headers).get("Idempotency-Key") ?? "";
    try {
      if (met?.fault) throw met.fault;
      const body = memory.answer(account, call, JSON.parse(String(init.body ?? "{}")), key);
      if (!met) return body ? Response.json(body) : new Response(null, { status: 204 });
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      if (!met || met.fault) return problem(error);
    }
    throw new TypeError("the response is lost");
  }
}

function problem({ code, members, retryAfter }: Fault): Response {
  const status = STATUS[code] ?? 409;
  const title = code.replaceAll("_", " ");
  const body = { type: `/problems/${code}`, title, status, detail: `${title}.`, code, ...members };
  const headers = { "Content-Type": "application/problem+json" };
  const waits = retryAfter === undefined ? {} : { "Retry-After": String(retryAfter) };
  return new Response(JSON.stringify(body), { status, headers: { ...headers, ...waits } });
}
