// The places where the contract is tried, as tests describe them.
import { type HttpOptions, Tokens } from "token-service-client";
import { FakeTokens } from "token-service-client/fake";

import { outcomes, type World } from "./contract.js";

/** A service, and what only a test of it can make. */
export interface Place extends Pick<World, "issuer" | "audience" | "unknown" | "lost"> {
  url: string;
  /** An address where connections are refused. */
  nowhere: string;
  keys: { backend: string; gateway: string; limited: string };
  tellsRefusals: boolean;
  /** The marks of replies that a proxy loses: each of one reply, and of one kind in turn. */
  marks: string[];
}

/** Less than half of the time after which the proxy passes a delayed reply on. */
const HURRIED = { timeout: 0.5, retries: 50, deadline: 100 };

/** A fetch that has the reply to the first try of each call lost, while there are marks. */
export function losing(marks: string[]): typeof globalThis.fetch {
  const tried = new Set<string>();
  return (url, init = {}) => {
    const headers = new Headers(init.headers);
    const call = [init.method, url, headers.get("Idempotency-Key"), init.body].join(" ");
    const mark = tried.has(call) ? undefined : marks.pop();
    tried.add(call);
    if (mark) headers.set("X-Lost", mark);
    return fetch(url, { ...init, headers });
  };
}

export function hurried(marks: string[]): HttpOptions {
  return { ...HURRIED, fetch: losing(marks) };
}

export function worldOf(place: Place): World {
  const { url, keys, marks, nowhere, ...rest } = place;
  const options = marks.length ? hurried(marks) : {};
  const caller = (key: string) => new Tokens(url, { ...options, key });
  return {
    ...rest,
    backend: caller(keys.backend),
    gateway: caller(keys.gateway),
    intruder: caller(`osk_${"0".repeat(40)}`),
    // After a lost reply a limit would not be the whole answer.
    limited: new Tokens(url, { key: keys.limited }),
    refused: new Tokens(nowhere, { key: keys.gateway, retries: 1 }),
    losesReplies: marks.length > 0,
    pass: (seconds) => new Promise((done) => setTimeout(done, seconds * 1000)),
  };
}

export async function worldOfFake(): Promise<World> {
  const issuer = "backend@example.com";
  const audience = "gateway@example.com";
  const backend = new FakeTokens({ account: issuer });
  const [intruder, limited, refused] = ["a@b", "c@d", "e@f"].map((name) => backend.as(name));
  if (!intruder || !limited || !refused) throw new Error("no fakes");
  const always = { times: Number.POSITIVE_INFINITY };
  intruder.fail("key_invalid", always);
  limited.fail("rate_limited", { ...always, retryAfter: 30 });
  refused.fail("busy", always);
  const { token: lost } = await backend.create({ purpose: "lost", expiresIn: 60 });
  backend.restart();
  return {
    ...{ backend, gateway: backend.as(audience), intruder, limited, refused, issuer, audience, lost },
    unknown: `ott_${"0".repeat(56)}`,
    losesReplies: false,
    tellsRefusals: true,
    pass: async (seconds) => backend.advance(seconds),
  };
}

export const ofService = (place: Place) => outcomes(worldOf(place));
export const ofFake = async () => outcomes(await worldOfFake());
