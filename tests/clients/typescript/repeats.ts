// What is repeated, and what an answer in place of the service's leads to.
import {
  AlreadyUsed,
  bindOf,
  CallRefused,
  emailLink,
  type HttpOptions,
  RateLimited,
  Tokens,
  Unavailable,
  websocketTicket,
} from "token-service-client";

import { equal, fails, tried } from "./contract.js";
import type { Place } from "./worlds.js";

/** A person, and the hashes of actions by another program. */
export interface Known extends Place {
  email: string;
  password: string;
  actions: [action: unknown, hash: string][];
}

/** A fetch whose first tries of a token call get these answers of the proxy, and its record. */
class Answered {
  readonly keys: (string | null)[] = [];
  refreshes = 0;
  readonly #answers: string[];

  constructor(answers: string[]) {
    this.#answers = [...answers];
  }

  readonly fetch: typeof globalThis.fetch = async (url, init = {}) => {
    const headers = new Headers(init.headers);
    let isLast = false;
    if (String(url).includes("/auth/")) {
      this.refreshes += Number(String(url).endsWith("/auth/refresh"));
    } else {
      this.keys.push(headers.get("Idempotency-Key"));
      const answer = this.#answers.shift();
      if (answer) headers.set("X-Answer", `answer ${answer}`);
      isLast = answer !== undefined && this.#answers.length === 0;
    }
    const response = await fetch(url, { ...init, headers });
    // The last answer comes when the others have had their consequences.
    if (isLast) await new Promise((done) => setTimeout(done, 500));
    return response;
  };
}

export function outcomes(known: Known): Promise<Record<string, string>> {
  const { url, keys, issuer, email, password } = known;
  const plain = new Tokens(url, { key: keys.backend });

  function meeting(answers: string[], options: HttpOptions = {}) {
    const record = new Answered(answers);
    const tokens = new Tokens(url, { ...options, key: keys.backend, fetch: record.fetch });
    return { record, tokens };
  }

  /** A call that always meets one answer: its error, the tries, and the seconds that it took. */
  async function always(answer: string, purpose: string, options: HttpOptions = {}) {
    const { record, tokens } = meeting(Array<string>(60).fill(answer), options);
    const began = performance.now();
    const error = await fails(tokens.create({ purpose, expiresIn: 60 }), Error);
    return { error, tries: record.keys.length, seconds: (performance.now() - began) / 1000 };
  }

  return tried({
    async "429, 502, 503, 504 and no response are repeated under the same key"(purpose) {
      for (const answer of ["busy", "bad-gateway", "late-gateway", "limited", "silence"]) {
        const hurried = { timeout: 0.3, retries: 50, deadline: 60 };
        const { record, tokens } = meeting([answer], answer === "silence" ? hurried : { timeout: 5 });
        const { token } = await tokens.create({ purpose, expiresIn: 60 });
        equal(record.keys.length > 1 && new Set(record.keys).size, 1);
        equal((await plain.consume(token, { purpose, issuedBy: issuer })).purpose, purpose);
      }
    },

    async "nothing else is repeated"(purpose) {
      const { token } = await plain.create({ purpose, expiresIn: 60 });
      const { record, tokens } = meeting([]);
      await tokens.consume(token, { purpose, issuedBy: issuer });
      await fails(tokens.consume(token, { purpose, issuedBy: issuer }), AlreadyUsed);
      equal(record.keys.length, 2);
      for (const [answer, code, kind] of [
        ["broken", "internal_error", Unavailable],
        ["foreign", "unexpected_response", CallRefused],
        ["moved", "unexpected_response", CallRefused],
      ] as const) {
        const { error, tries } = await always(answer, purpose);
        equal([error instanceof kind && error.code, tries], [code, 1]);
      }
    },

    async "after the repeats, it is told whether something may have been done"(purpose) {
      for (const [answer, isUnknown] of [
        ["store", true],
        ["bad-gateway", true],
        ["late-gateway", true],
        ["busy", false],
        ["database", false],
      ] as const) {
        const { error, tries } = await always(answer, purpose, { retries: 1 });
        equal([error instanceof Unavailable && error.outcomeUnknown, tries], [isUnknown, 2]);
      }
    },

    async "one try without a response makes the outcome unknown"(purpose) {
      for (const last of ["busy", "limited"]) {
        const { tokens } = meeting(["silence", last, last], { timeout: 0.3, retries: 2 });
        const error = await fails(tokens.create({ purpose, expiresIn: 60 }), Unavailable);
        equal(error.outcomeUnknown, true);
      }
    },

    async "the number of repeats is an option"(purpose) {
      const { tries } = await always("bad-gateway", purpose, { retries: 0 });
      equal(tries, 1);
      equal((await always("bad-gateway", purpose)).tries, 4);
    },

    async "Retry-After is waited for"(purpose) {
      const began = performance.now();
      await meeting(["later"]).tokens.create({ purpose, expiresIn: 60 });
      equal(performance.now() - began >= 1000, true);
    },

    async "a Retry-After beyond the deadline is not waited for"(purpose) {
      const { error, tries, seconds } = await always("much-later", purpose);
      equal([error instanceof RateLimited && error.retryAfter, tries, seconds < 9], [60, 1, true]);
    },

    async "a call ends at its deadline"(purpose) {
      const hurried = { timeout: 0.3, deadline: 3, retries: 50 };
      const { error, tries, seconds } = await always("silence", purpose, hurried);
      equal([error instanceof Unavailable && error.code, tries > 1], ["no_response", true]);
      equal(seconds < 9, true);
    },

    async "a person calls until the session ends, by one refresh for all calls"(purpose) {
      const record = new Answered(Array<string>(5).fill("stale"));
      const person = await Tokens.login(url, { email, password, fetch: record.fetch });
      const made = Array.from({ length: 5 }, () => person.create({ purpose, expiresIn: 60 }));
      equal(new Set((await Promise.all(made)).map(({ id }) => id)).size, 5);
      equal([record.refreshes, new Set(record.keys).size, record.keys.length], [1, 5, 10]);
      equal([JSON.stringify(person), Reflect.ownKeys(person).length], ["{}", 0]);
    },

    async "a wrong password is a mistake of the caller"() {
      const login = Tokens.login(url, { email, password: `not ${password}` });
      equal((await fails(login, CallRefused)).code, "invalid_credentials");
    },

    async "no secret is shown where it is not well formed"(purpose) {
      for (const key of ["osk_1234\n", "osk_123ñ", "", undefined]) {
        await fails((async () => new Tokens(url, { key: key as string }))(), TypeError);
      }
      const inUrl = async () => new Tokens("http://osk_1234:x@127.0.0.1", { key: "k" });
      await fails(inUrl(), TypeError);
      await fails(plain.create({ purpose, idempotencyKey: "dos palabras" }), TypeError);
    },

    async "the hash of an action is the same in every language"() {
      for (const [action, hash] of known.actions) equal(await bindOf(action), hash);
      equal(await bindOf({ b: -0, a: "ñ" }), await bindOf({ a: "ñ", b: 0 }));
      const wrong = [undefined, Number.NaN, 1n, new Date(), new Map(), "\ud800", { a: undefined }];
      for (const action of [...wrong, [, 1], () => 1]) await fails(bindOf(action), TypeError);
    },

    async "a ticket is behind ott, and a link holds it behind #"() {
      const ticketIn = (text: string) => {
        const headers = { "sec-websocket-protocol": text };
        equal(websocketTicket(headers), websocketTicket(new Headers(headers)));
        return websocketTicket(headers);
      };
      equal(ticketIn("ott, ott_7"), "ott_7");
      equal(ticketIn("chat,ott ,ott_7, more"), "ott_7");
      for (const text of ["", "ott", "ott,", "ott_7", "chat, ott_7"]) equal(ticketIn(text), null);
      equal(websocketTicket({}), null);
      equal(emailLink("https://site.example/confirm", { token: "t" }), "https://site.example/confirm#t");
      await fails((async () => emailLink("https://site.example/#a", { token: "t" }))(), TypeError);
    },
  });
}
