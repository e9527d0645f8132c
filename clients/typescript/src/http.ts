import { errorOf, type Facts, type Problem, RateLimited, Unavailable } from "./errors.js";

export interface HttpOptions {
  /** The repeats after the first try: 3 without it. */
  retries?: number;
  /** The seconds that a call may take, all tries and waits together: 10 without it. */
  deadline?: number;
  /** The seconds that one try may take: 3 without it. */
  timeout?: number;
  /** That of `title` and `detail` in errors: "en" without it, or "es". */
  language?: "en" | "es";
  /** The function that sends each request, in place of the global one. */
  fetch?: typeof globalThis.fetch;
}

export interface Call {
  method: "GET" | "POST" | "DELETE";
  path: string;
  body?: object;
  headers?: Record<string, string>;
}

/** The body of a response, or a problem and its facts. */
interface Outcome extends Facts {
  body?: unknown;
  problem?: Problem;
}

/** The statuses after which a call is repeated; 0 stands for no response. */
const REPEATED = [0, 429, 502, 503, 504];
/** The codes of a 503 before any work. */
const BEFORE_WORK = ["busy", "database_unavailable", "not_ready"];
/** The codes of Node for a request that never left. */
const NEVER_SENT = ["EAI_AGAIN", "ECONNREFUSED", "ENOTFOUND", "UND_ERR_CONNECT_TIMEOUT"];
/** Seconds: the wait before the first repeat, which doubles, and the longest wait. */
const FIRST_WAIT = 0.1;
const LONGEST_WAIT = 2;

const now = () => performance.now() / 1000;
const sleep = (seconds: number) => new Promise((done) => setTimeout(done, seconds * 1000));

/** Sends calls, and repeats those without a response that tells the outcome. */
export class Http {
  readonly #url: string;
  readonly #retries: number;
  readonly #deadline: number;
  readonly #timeout: number;
  readonly #language: string;
  readonly #fetch: typeof globalThis.fetch;

  constructor(url: string, options: HttpOptions) {
    const { username, password, origin, pathname } = new URL(url);
    // In a URL they would end up in logs, and fetch refuses them.
    if (username || password) throw new TypeError("the url of the service holds credentials");
    this.#url = origin + pathname.replace(/\/$/, "");
    this.#retries = options.retries ?? 3;
    this.#deadline = options.deadline ?? 10;
    this.#timeout = options.timeout ?? 3;
    this.#language = options.language ?? "en";
    this.#fetch = options.fetch ?? globalThis.fetch;
  }

  /** The end of a call that begins now. */
  end(): number {
    return now() + this.#deadline;
  }

  /**
   * The body of the response to a call.
   *
   * @param end the latest time of its last try
   * @throws TokensError
   */
  async send<Body>(call: Call, end: number): Promise<Body> {
    let outcomeUnknown = false;
    for (let tries = 0; ; tries++) {
      const { body, problem, ...facts } = await this.#try(call, end);
      if (!problem) return body as Body;
      const isRepeated = REPEATED.includes(problem.status);
      if (!isRepeated && problem.status < 500) throw errorOf(problem, facts);
      outcomeUnknown ||= facts.outcomeUnknown ?? false;
      const wait = (facts.retryAfter ?? 0) + backoff(tries);
      if (!isRepeated || tries >= this.#retries || now() + wait >= end) {
        // One try without a response counts for more than a limit that the last one met.
        const isLimited = problem.status === 429 && !outcomeUnknown;
        throw new (isLimited ? RateLimited : Unavailable)(problem, { ...facts, outcomeUnknown });
      }
      await sleep(wait);
    }
  }

  async #try(call: Call, end: number): Promise<Outcome> {
    const { method, path, body, headers } = call;
    const fetch = this.#fetch; // A browser's fetch refuses to be called as a method.
    const timing = new AbortController();
    const seconds = Math.max(0, Math.min(this.#timeout, end - now()));
    const timer = setTimeout(() => timing.abort(), seconds * 1000);
    try {
      const response = await fetch(this.#url + path, {
        method,
        headers: {
          "Accept-Language": this.#language,
          ...headers,
          ...(body && { "Content-Type": "application/json" }),
        },
        ...(body && { body: JSON.stringify(body) }),
        redirect: "manual",
        signal: timing.signal,
      });
      return read(response, await response.text());
    } catch (cause) {
      return { problem: NO_RESPONSE, outcomeUnknown: !neverSent(cause), cause };
    } finally {
      clearTimeout(timer);
    }
  }
}

/** Seconds, drawn so that the callers that failed together do not repeat together. */
function backoff(tries: number): number {
  return Math.random() * Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** tries);
}

const NO_RESPONSE: Problem = {
  type: "about:blank",
  code: "no_response",
  status: 0,
  title: "No response",
  detail: "The service did not respond in time, or the connection failed.",
};

/** What a response says. */
function read(response: Response, text: string): Outcome {
  const { ok, status } = response;
  if (status === 204) return {};
  const body = parsed(text);
  if (ok && body) return { body };
  const problem = body && typeof body.code === "string" ? (body as Problem) : unexpected(status);
  return {
    problem: { ...problem, status },
    outcomeUnknown: status >= 500 && !(status === 503 && BEFORE_WORK.includes(problem.code)),
    retryAfter: secondsOf(response.headers.get("Retry-After")),
  };
}

function parsed(text: string): Record<string, unknown> | null {
  try {
    const found: unknown = JSON.parse(text);
    return typeof found === "object" ? (found as Record<string, unknown> | null) : null;
  } catch {
    return null;
  }
}

/** What stands for the problem of a response that is not of the service. */
function unexpected(status: number): Problem {
  return {
    type: "about:blank",
    code: "unexpected_response",
    status,
    title: "Unexpected response",
    detail: `A response of status ${status} is not of the token service: check its url.`,
  };
}

/** The seconds of a header Retry-After, which is a number or a date. */
function secondsOf(header: string | null): number | undefined {
  if (!header) return undefined;
  const seconds = /^\d+$/.test(header) ? Number(header) : (Date.parse(header) - Date.now()) / 1000;
  return Number.isNaN(seconds) ? undefined : Math.max(0, seconds);
}

/** Whether a request certainly did not reach the service. Only Node tells. */
function neverSent(cause: unknown): boolean {
  const reason = (cause as { cause?: { code?: unknown } } | null)?.cause;
  return NEVER_SENT.includes(String(reason?.code));
}
