// Lost replies: each call that changes something loses its first reply, and succeeds once.
import { AlreadyUsed, Tokens } from "token-service-client";

import { hurried, type Place } from "./worlds.js";

export interface Tally {
  successes: number;
  /** Attempts after a success, all of which must be refused. */
  refusals: number;
  doubles: number;
  tokens: string[];
  /** Marks that no call carried. */
  unused: number;
}

/** Trials with five lost replies each: of two creates, a consume, a reserve and a commit. */
export async function trials(place: Place, purpose: string, atOnce: number): Promise<Tally> {
  const { url, keys, marks, issuer } = place;
  let left = Math.floor(marks.length / 5);
  const backend = new Tokens(url, { ...hurried(marks), key: keys.backend });
  const gateway = new Tokens(url, { ...hurried(marks), key: keys.gateway });
  const other = new Tokens(url, { retries: 50, deadline: 100, key: keys.gateway });
  const terms = { purpose, issuedBy: issuer };
  const tally: Tally = { successes: 0, refusals: 0, doubles: 0, tokens: [], unused: 0 };

  async function again(token: string): Promise<void> {
    try {
      await other.consume(token, terms);
      tally.doubles += 1;
    } catch (error) {
      if (!(error instanceof AlreadyUsed)) throw error;
      tally.refusals += 1;
    }
  }

  async function trial(): Promise<void> {
    const one = await backend.create({ purpose, expiresIn: 600 });
    const { replayed } = await gateway.consume(one.token, terms);
    if (one.replayed && replayed) tally.successes += 1;
    await again(one.token);
    const two = await backend.create({ purpose, expiresIn: 600 });
    await gateway.hold(two.token, { ...terms, lease: 60 }, () => undefined);
    if (two.replayed) tally.successes += 1;
    await again(two.token);
    tally.tokens.push(one.id, two.id);
  }

  const lane = async () => {
    while (left-- > 0) await trial();
  };
  await Promise.all(Array.from({ length: atOnce }, lane));
  return { ...tally, unused: marks.length };
}
