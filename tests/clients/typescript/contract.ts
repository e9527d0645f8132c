// The contract of the client, the same with the real service and with the fake.
import {
  AlreadyUsed,
  bindOf,
  CallRefused,
  type ConsumeTerms,
  type CreateTerms,
  Expired,
  LeaseEnded,
  Lost,
  Malformed,
  Mismatch,
  NotForCaller,
  RateLimited,
  Refused,
  Reserved,
  Revoked,
  type Tokens,
  TokensError,
  Unavailable,
  Unknown,
} from "token-service-client";

export interface World {
  backend: Tokens;
  gateway: Tokens;
  /** A caller with a key that is not valid. */
  intruder: Tokens;
  /** A caller over its limit. */
  limited: Tokens;
  /** A caller whose service certainly does nothing. */
  refused: Tokens;
  /** The accounts of the backend and of the gateway. */
  issuer: string;
  audience: string;
  /** Tokens that never existed, and that another term issued. */
  unknown: string;
  lost: string;
  /** Whether the first reply to each call is lost, so that success is the reply to a repeat. */
  losesReplies: boolean;
  /** Whether a connection that is refused can be told from a reply that is lost. */
  tellsRefusals: boolean;
  pass(seconds: number): Promise<void>;
}

export type Kind<Error> = new (...given: never[]) => Error;
type Case = (world: World, purpose: string) => Promise<void>;

export function equal(found: unknown, expected: unknown): void {
  const [one, other] = [JSON.stringify(found), JSON.stringify(expected)];
  if (one !== other) throw new Error(`${one} is not ${other}`);
}

/** The error of a call, which must be of a kind and show no secret. */
export async function fails<Found extends Error>(call: Promise<unknown>, kind: Kind<Found>): Promise<Found> {
  const error: unknown = await call.then(
    () => null,
    (found: unknown) => found,
  );
  if (!(error instanceof kind)) throw new Error(`${String(error)} is no ${kind.name}`);
  const { stack, cause } = error;
  const shown = [String(error), stack, String(cause), JSON.stringify({ ...error })].join();
  if (/(ott|otr|osk)_[0-9A-Za-z]/.test(shown)) throw new Error("the error shows a secret");
  return error;
}

const terms = (world: World, purpose: string, more: Partial<ConsumeTerms> = {}) => ({
  purpose,
  issuedBy: world.issuer,
  ...more,
});

const made = (world: World, purpose: string, more: Partial<CreateTerms> = {}) =>
  world.backend.create({ purpose, expiresIn: 60, ...more });

const CASES: Record<string, Case> = {
  async "create shows what the token is bound to"(world, purpose) {
    const created = await made(world, purpose, { subject: "ana", audience: world.audience });
    const { state, subject, audience, replayed } = created;
    equal([created.purpose, state, subject], [purpose, "active", "ana"]);
    equal([audience?.length, replayed && !world.losesReplies], [1, false]);
    equal(created.expiresAt instanceof Date && created.serverTime instanceof Date, true);
    equal(/^ott_\w{56}$/.test(created.token), true);
    equal(JSON.stringify(created).includes(created.token), false);
  },

  async "consume returns the use"(world, purpose) {
    const data = { room: 7, nested: { snake_case: "2026-01-01" } };
    const { id, token } = await made(world, purpose, { subject: "ana", data });
    const use = await world.gateway.consume(token, terms(world, purpose, { subject: "ana" }));
    equal([use.id, use.subject, use.purpose, use.data], [id, "ana", purpose, data]);
    equal(use.replayed && !world.losesReplies, false);
    equal(use.consumedAt >= use.createdAt, true);
    equal(typeof use.issuedBy, "string");
  },

  async "a second consume is refused, and tells the time of the first"(world, purpose) {
    const { token } = await made(world, purpose);
    const { consumedAt } = await world.gateway.consume(token, terms(world, purpose));
    const error = await fails(world.gateway.consume(token, terms(world, purpose)), AlreadyUsed);
    equal(error.consumedAt, consumedAt);
    equal([error instanceof Refused, error.code, error.status], [true, "token_already_used", 409]);
  },

  async "of twenty at once, one succeeds"(world, purpose) {
    const { token } = await made(world, purpose);
    const calls = Array.from({ length: 20 }, () => world.gateway.consume(token, terms(world, purpose)));
    const outcomes = await Promise.allSettled(calls);
    const kinds = outcomes.map((each) =>
      each.status === "fulfilled" ? "Use" : (each.reason as TokensError).name,
    );
    equal(kinds.sort(), [...Array<string>(19).fill("AlreadyUsed"), "Use"]);
  },

  async "a repeat with the same key gets the same use"(world, purpose) {
    const { token } = await made(world, purpose);
    const again = terms(world, purpose, { idempotencyKey: `key of ${purpose}`.replaceAll(" ", "-") });
    const use = await world.gateway.consume(token, again);
    const repeated = await world.gateway.consume(token, again);
    equal([repeated.consumedAt, repeated.replayed], [use.consumedAt, true]);
  },

  async "a repeated create makes no second token"(world, purpose) {
    const idempotencyKey = `create-${purpose}`;
    const created = await made(world, purpose, { idempotencyKey });
    const repeated = await made(world, purpose, { idempotencyKey });
    equal([repeated.token, repeated.replayed], [created.token, true]);
    const other = made(world, purpose, { idempotencyKey, subject: "other" });
    equal((await fails(other, CallRefused)).code, "idempotency_mismatch");
  },

  async "a batch is as many tokens of the same terms"(world, purpose) {
    const batch = await world.backend.createMany(3, { purpose, expiresIn: 60, data: { of: 3 } });
    const uses = batch.map(({ token }) => world.gateway.consume(token, terms(world, purpose)));
    equal((await Promise.all(uses)).map(({ data }) => data), Array(3).fill({ of: 3 }));
  },

  async "a token expires"(world, purpose) {
    const { token } = await made(world, purpose, { expiresIn: 1 });
    await world.pass(1.3);
    await fails(world.gateway.consume(token, terms(world, purpose)), Expired);
  },

  async "a revoked token is refused, and is revoked again without harm"(world, purpose) {
    const one = await made(world, purpose);
    const other = await made(world, purpose);
    await world.backend.revoke(one.id);
    await world.backend.revoke(one.id);
    await world.gateway.revokeToken(other.token);
    for (const { token } of [one, other]) {
      await fails(world.gateway.consume(token, terms(world, purpose)), Revoked);
    }
  },

  async "a used token cannot be revoked"(world, purpose) {
    const { id, token } = await made(world, purpose);
    await world.gateway.consume(token, terms(world, purpose));
    await fails(world.backend.revoke(id), AlreadyUsed);
  },

  async "a token for another account is refused"(world, purpose) {
    const { token } = await made(world, purpose, { audience: [world.audience] });
    await fails(world.backend.consume(token, terms(world, purpose)), NotForCaller);
    await world.gateway.consume(token, terms(world, purpose));
  },

  async "a mismatch names the field, and consumes nothing"(world, purpose) {
    const bind = await bindOf({ amount: 1 });
    const { token } = await made(world, purpose, { subject: "ana", requireSubject: true, bind });
    const right = terms(world, purpose, { subject: "ana", bind });
    const wrong = [
      ["issuedBy", { ...right, issuedBy: world.audience }],
      ["purpose", { ...right, purpose: `${purpose}.other` }],
      ["subject", { ...right, subject: "luis" }],
      ["subject", { ...right, subject: undefined }],
      ["bind", { ...right, bind: await bindOf({ amount: 2 }) }],
      ["bind", { ...right, bind: undefined }],
    ] as const;
    for (const [field, given] of wrong) {
      equal((await fails(world.gateway.consume(token, given), Mismatch)).field, field);
    }
    const issuedBy = [world.audience, world.issuer];
    await world.gateway.consume(token, { ...right, issuedBy });
  },

  async "an unknown, a lost and a cut token are told apart"(world, purpose) {
    const { token } = await made(world, purpose);
    const given = terms(world, purpose);
    await fails(world.gateway.consume(world.unknown, given), Unknown);
    await fails(world.gateway.consume(world.lost, given), Lost);
    await fails(world.gateway.consume(token.slice(0, -1), given), Malformed);
  },

  async "hold consumes the token after the action"(world, purpose) {
    const { token } = await made(world, purpose, { data: { pay: 5 } });
    const result = await world.gateway.hold(token, terms(world, purpose), async (held) => {
      equal([held.data, held.leaseExpiresAt > held.createdAt], [{ pay: 5 }, true]);
      equal(JSON.stringify(held).includes("otr_"), false);
      const error = await fails(world.gateway.consume(token, terms(world, purpose)), Reserved);
      equal(error.retryAfter > 0 && error.retryAfter <= 30, true);
      return "paid";
    });
    equal(result, "paid");
    await fails(world.gateway.consume(token, terms(world, purpose)), AlreadyUsed);
  },

  async "hold releases the token where the action throws"(world, purpose) {
    const { token } = await made(world, purpose);
    const broken = world.gateway.hold(token, { ...terms(world, purpose), lease: 60 }, () => {
      throw new RangeError("broken");
    });
    equal((await fails(broken, RangeError)).message, "broken");
    await world.gateway.consume(token, terms(world, purpose));
  },

  async "an action that outlasts its lease is told so"(world, purpose) {
    const { token } = await made(world, purpose);
    const late = world.gateway.hold(token, { ...terms(world, purpose), lease: 2 }, () => world.pass(2.3));
    await fails(late, LeaseEnded);
    await world.gateway.consume(token, terms(world, purpose));
  },

  async "peek consumes nothing, and tells nothing of what is not good"(world, purpose) {
    const { id, token } = await made(world, purpose, { subject: "ana" });
    const seen = await world.gateway.peek(token, { issuedBy: world.issuer });
    equal([seen.active, seen.id, seen.state, seen.subject], [true, id, "active", "ana"]);
    equal(await world.gateway.peek(token, { issuedBy: world.audience }), { active: false });
    await world.gateway.consume(token, terms(world, purpose));
    equal(await world.gateway.peek(token, { issuedBy: [world.issuer] }), { active: false });
  },

  async "a receipt tells what became of a token"(world, purpose) {
    const { id, token } = await made(world, purpose);
    const before = await world.backend.receipt(id);
    equal([before.state, before.consumedAt, before.replays], ["active", null, 0]);
    const { consumedAt } = await world.gateway.consume(token, terms(world, purpose));
    const after = await world.backend.receipt(id);
    equal([after.state, after.consumedAt, after.purpose], ["consumed", consumedAt, purpose]);
    await fails(world.gateway.receipt(id), Unknown);
  },

  async "purpose and issuedBy are mandatory"(world, purpose) {
    const { id, token } = await made(world, purpose);
    const issuedBy = world.issuer;
    // @ts-expect-error purpose is missing
    await fails(world.backend.create({ expiresIn: 60 }), TypeError);
    // @ts-expect-error purpose is missing
    await fails(world.gateway.consume(token, { issuedBy }), TypeError);
    // @ts-expect-error issuedBy is missing
    await fails(world.gateway.consume(token, { purpose }), TypeError);
    // @ts-expect-error issuedBy is missing
    await fails(world.gateway.hold(token, { purpose }, () => undefined), TypeError);
    // @ts-expect-error issuedBy is missing
    await fails(world.gateway.peek(token, {}), TypeError);
    await fails(world.gateway.consume(token, { purpose, issuedBy: [] }), TypeError);
    equal((await world.backend.receipt(id)).state, "active");
  },

  async "the text of a token gets into no URL"(world, purpose) {
    const { token } = await made(world, purpose);
    await fails(world.backend.receipt(token), TypeError);
    await fails(world.backend.revoke(token), TypeError);
  },

  async "a mistake of the program is no refusal of a token"(world, purpose) {
    const { token } = await made(world, purpose);
    const wrong = await fails(made(world, "NOT A PURPOSE"), CallRefused);
    equal([wrong.code, Object.keys(wrong.problem["errors"] as object)], ["validation_failed", ["purpose"]]);
    const given = terms(world, purpose);
    equal((await fails(world.intruder.consume(token, given), CallRefused)).code, "key_invalid");
    // A member that nobody knows is not ignored.
    await fails(world.gateway.consume(token, { ...given, ...{ expires: 1 } }), CallRefused);
    await world.gateway.consume(token, given);
  },

  async "over a limit, the time to wait is told"(world, purpose) {
    // The limit is of one call in an hour.
    await world.limited.create({ purpose, expiresIn: 60 }).catch(() => undefined);
    const error = await fails(world.limited.create({ purpose, expiresIn: 60 }), RateLimited);
    equal([error.retryAfter > 0, error.status], [true, 429]);
  },

  async "where nothing was done, it is told"(world, purpose) {
    const error = await fails(world.refused.create({ purpose, expiresIn: 60 }), Unavailable);
    equal(error.outcomeUnknown, !world.tellsRefusals);
  },
};

/** What is wrong with each case, "" where nothing is. All run at once, each with a purpose. */
export async function tried(
  cases: Record<string, (purpose: string) => Promise<void>>,
): Promise<Record<string, string>> {
  const run = `contract-${Math.random().toString(36).slice(2)}`;
  const found = Object.entries(cases).map(async ([name, one], place) => {
    const wrong = await one(`${run}.${place}`).then(
      () => "",
      (error: unknown) => (error as Error).stack ?? String(error),
    );
    return [name, wrong] as const;
  });
  return Object.fromEntries(await Promise.all(found));
}

export function outcomes(world: World): Promise<Record<string, string>> {
  const cases = Object.entries(CASES).map(
    ([name, one]) => [name, (purpose: string) => one(world, purpose)] as const,
  );
  return tried(Object.fromEntries(cases));
}
