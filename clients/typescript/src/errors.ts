import type { components } from "./wire.js";

type Wire = components["schemas"]["Problem"];

/** The body of an error response (RFC 9457), or what stands for it where there was none. */
export interface Problem extends Pick<
  Wire,
  "type" | "title" | "status" | "detail" | "consumed_at" | "field"
> {
  code: Wire["code"] | "no_response" | "unexpected_response";
  [member: string]: unknown;
}

/** What an error tells beside its problem. */
export interface Facts {
  retryAfter?: number | undefined;
  outcomeUnknown?: boolean;
  cause?: unknown;
}

/** A call without success. Its text and its members hold neither a token nor a key. */
export class TokensError extends Error {
  readonly code: Problem["code"];
  readonly status: number;
  readonly title: string;
  readonly detail: string;
  readonly problem: Problem;

  constructor(problem: Problem, { cause }: Facts = {}) {
    const fields = problem.errors ? ` ${JSON.stringify(problem.errors)}` : "";
    super(`${problem.code}: ${problem.detail}${fields}`, cause === undefined ? {} : { cause });
    this.name = new.target.name;
    this.code = problem.code;
    this.status = problem.status;
    this.title = problem.title;
    this.detail = problem.detail;
    this.problem = problem;
  }
}

/** The token, or the reservation of it, is refused. The call consumed nothing. */
export class Refused extends TokensError {}

/** The token was consumed before, at `consumedAt`. */
export class AlreadyUsed extends Refused {
  readonly consumedAt = new Date(this.problem.consumed_at ?? Number.NaN);
}

/** The life of the token is over. */
export class Expired extends Refused {}

/** The token was revoked before a consume. */
export class Revoked extends Refused {}

/** The store restarted or failed over, and single use can no longer be proven. */
export class Lost extends Refused {}

/** Another reservation holds the token, for at most `retryAfter` seconds. */
export class Reserved extends Refused {
  readonly retryAfter: number;

  constructor(problem: Problem, facts: Facts = {}) {
    super(problem, facts);
    this.retryAfter = facts.retryAfter ?? 1;
  }
}

/** The caller is not in the audience of the token. */
export class NotForCaller extends Refused {}

/** `field` differs from that of the token: issuedBy, purpose, subject or bind. */
export class Mismatch extends Refused {
  readonly field = this.problem.field?.replace("issued_by", "issuedBy") as
    "issuedBy" | "purpose" | "subject" | "bind";
}

/** The token never existed, its secret is wrong, or no record of it is left. */
export class Unknown extends Refused {}

/** The text is not a whole token. */
export class Malformed extends Refused {}

/** The reservation is overdue, was released, or was replaced. */
export class LeaseEnded extends Refused {}

/**
 * No response tells the outcome, after all repeats. Where `outcomeUnknown` is false, certainly
 * nothing was done; where it is true, a call with the same `idempotencyKey` finds it out.
 */
export class Unavailable extends TokensError {
  readonly outcomeUnknown: boolean;

  constructor(problem: Problem, facts: Facts = {}) {
    super(problem, facts);
    this.outcomeUnknown = facts.outcomeUnknown ?? true;
  }
}

/** A limit is reached, after all repeats. There may be room in `retryAfter` seconds. */
export class RateLimited extends TokensError {
  readonly retryAfter: number;

  constructor(problem: Problem, facts: Facts = {}) {
    super(problem, facts);
    this.retryAfter = facts.retryAfter ?? 1;
  }
}

/** The call itself is wrong: its key, its scope, a field. A mistake of the program. */
export class CallRefused extends TokensError {}

const REFUSALS = new Map<string, typeof Refused>([
  ["token_already_used", AlreadyUsed],
  ["token_expired", Expired],
  ["token_revoked", Revoked],
  ["token_lost", Lost],
  ["token_reserved", Reserved],
  ["token_not_for_caller", NotForCaller],
  ["token_mismatch", Mismatch],
  ["token_unknown", Unknown],
  ["token_malformed", Malformed],
  ["lease_ended", LeaseEnded],
]);

/** The error of a problem that a repeat would not change. */
export function errorOf(problem: Problem, facts: Facts): TokensError {
  return new (REFUSALS.get(problem.code) ?? CallRefused)(problem, facts);
}
