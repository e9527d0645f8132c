import { crypto } from "#crypto";
import type { components } from "./wire.js";

type Schemas = components["schemas"];
type Code = Schemas["Problem"]["code"];
type Terms = Schemas["CreateTokensRequest"];
type Presented = Schemas["ReserveRequest"];

interface Row {
  readonly token: string;
  readonly id: string;
  readonly owner: string;
  readonly terms: Terms;
  readonly created: number;
  readonly expires: number;
  /** The count of restarts before it was created. */
  readonly era: number;
  isRevoked: boolean;
  consumed: { at: number; by: string } | null;
  lease: { text: string; holder: string; ends: number } | null;
  replays: number;
}

/** A call that the memory refuses, or that it is told to fail. */
export class Fault {
  constructor(
    readonly code: Code,
    readonly members: object = {},
    readonly retryAfter?: number,
  ) {}
}

const ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const TOKEN = /^ott_[0-9A-Za-z]{56}$/;
const RESERVATION = /^otr_[0-9A-Za-z]{70}$/;

const isText = (most: number) => (value: unknown) =>
  typeof value === "string" && value.length >= 1 && value.length <= most;
const isInteger = (most: number) => (value: unknown) =>
  Number.isInteger(value) && Number(value) >= 1 && Number(value) <= most;
const isFlag = (value: unknown) => typeof value === "boolean";
const isMatch = (pattern: RegExp) => (value: unknown) =>
  typeof value === "string" && pattern.test(value);
const isMembers = (value: unknown) =>
  Array.isArray(value) && isInteger(16)(value.length) && value.every(isText(255));
const isData = (value: unknown) =>
  typeof value === "object" &&
  value !== null &&
  !Array.isArray(value) &&
  new TextEncoder().encode(JSON.stringify(value)).length <= 4096;

/** What the service takes in each field. */
const FIELDS = new Map<string, (value: unknown) => boolean>([
  ["allow_unregistered", isFlag],
  ["audience", isMembers],
  ["bind", isMatch(/^[0-9A-Fa-f]{64}$/)],
  ["count", isInteger(100)],
  ["data", isData],
  ["expires_in", isInteger(86_400)],
  ["issued_by", isMembers],
  ["lease_seconds", isInteger(60)],
  ["purpose", isMatch(/^(?!auth\.)[a-z0-9._:-]{1,64}$/)],
  ["require_subject", isFlag],
  ["reservation", isText(1000)],
  ["subject", isText(255)],
  ["token", isText(1000)],
]);

/** The tokens of a fake service, and its verdicts in the order of the real one. */
export class Memory {
  /** The seconds by which its clock was moved. */
  ahead = 0;
  era = 0;
  readonly #clock: () => number;
  readonly #rows: Row[] = [];
  /** By caller, verb and idempotency key: the request, and what it led to. */
  readonly #known = new Map<string, { request: string; rows: Row[]; lease: Row["lease"] }>();

  constructor(clock: () => number) {
    this.#clock = clock;
  }

  /**
   * The body of the response to a call; undefined for a 204.
   *
   * @throws Fault
   */
  answer(caller: string, call: string, body: object, key: string): object | undefined {
    const wrong = Object.entries(body).filter(([name, value]) => !FIELDS.get(name)?.(value));
    if (wrong.length) {
      const errors = Object.fromEntries(wrong.map(([name]) => [name, ["Not valid."]]));
      throw new Fault("validation_failed", { errors });
    }
    const [, verb = "", id = ""] = /^(\w+ \/token)\/(\w+)$/.exec(call) ?? [];
    if (verb === "GET /token") return this.#receipt(this.#ofId(id, caller, true));
    if (verb === "DELETE /token") return this.#revoke(this.#ofId(id, caller, false));
    const name = JSON.stringify([caller, id, key]);
    const recall = () => (key ? this.#recall(name, body) : null);
    const remember = (rows: Row[], lease: Row["lease"] = null) => {
      if (key) this.#known.set(name, { request: JSON.stringify(body), rows, lease });
    };
    const given = body as Presented & Terms;
    switch (id) {
      case "create":
      case "batch": {
        const known = recall()?.rows.filter((row) => row.era === this.era) ?? [];
        const count = id === "batch" ? given.count : 1;
        const rows = known.length
          ? known
          : Array.from({ length: count }, () => this.#add(caller, given));
        remember(rows);
        const tokens = rows.map((row) => this.#created(row, known.length > 0));
        return id === "batch" ? { tokens } : tokens[0];
      }
      case "consume": {
        const row = this.#admitted(given.token, caller);
        const isReplay = recall() !== null;
        if (!isReplay) {
          this.#refuseUnlessFree(row, given);
          row.consumed = { at: this.#now(), by: caller };
          row.lease = null;
          remember([row]);
        }
        return this.#used(row, isReplay);
      }
      case "reserve": {
        const row = this.#admitted(given.token, caller);
        const known = recall();
        if (known && (row.lease !== known.lease || this.#state(row) !== "reserved")) {
          throw new Fault("lease_ended");
        }
        if (!known) {
          this.#refuseUnlessFree(row, given);
          const ends = this.#now() + (given.lease_seconds ?? 30) * 1000;
          row.lease = { text: `otr_${random(70)}`, holder: caller, ends };
          remember([row], row.lease);
        }
        const { text, ends } = row.lease ?? { text: "", ends: 0 };
        return { ...this.#granted(row), reservation: text, lease_expires_at: time(ends) };
      }
      case "commit": {
        const row = this.#heldBy(caller, body as Schemas["ReservationRequest"]);
        const isReplay = recall() !== null;
        if (!isReplay) {
          this.#refuseUnlessHeld(row);
          row.consumed = { at: this.#now(), by: caller };
          remember([row]);
        }
        return this.#used(row, isReplay);
      }
      case "release": {
        const row = this.#heldBy(caller, body as Schemas["ReservationRequest"]);
        this.#refuseUnlessHeld(row);
        row.lease = null;
        return undefined;
      }
      case "introspect":
        return this.#peeked(given, caller);
      case "revoke": {
        const row = this.#ofText(given.token);
        if (row.owner !== caller) this.#admitted(given.token, caller);
        return this.#revoke(row);
      }
      default:
        throw new Fault("not_found");
    }
  }

  #now(): number {
    return this.#clock() + this.ahead * 1000;
  }

  #recall(name: string, body: object) {
    const known = this.#known.get(name);
    if (known && known.request !== JSON.stringify(body)) throw new Fault("idempotency_mismatch");
    return known ?? null;
  }

  #add(owner: string, terms: Terms): Row {
    const created = this.#now();
    const id = random(18);
    const row: Row = {
      ...{ token: `ott_${id}${random(38)}`, id, owner, terms, created, era: this.era },
      expires: created + (terms.expires_in ?? 10) * 1000,
      ...{ isRevoked: false, consumed: null, lease: null, replays: 0 },
    };
    this.#rows.push(row);
    return row;
  }

  #state(row: Row): Schemas["ReceiptResponse"]["state"] {
    const isHeld = row.lease !== null && this.#now() < row.lease.ends;
    if (row.consumed) return "consumed";
    if (row.isRevoked) return "revoked";
    if (!isHeld && this.#now() >= row.expires) return "expired";
    if (row.era !== this.era) return "lost";
    return isHeld ? "reserved" : "active";
  }

  #ofText(text: string): Row {
    if (!TOKEN.test(text)) throw new Fault("token_malformed");
    const row = this.#rows.find(({ token }) => token === text);
    if (!row) throw new Fault("token_unknown");
    return row;
  }

  #admitted(text: string, caller: string): Row {
    const row = this.#ofText(text);
    if (!(row.terms.audience ?? [caller]).includes(caller)) throw new Fault("token_not_for_caller");
    return row;
  }

  #ofId(id: string, caller: string, isAudienceToo: boolean): Row {
    const row = this.#rows.find((each) => each.id === id);
    const readers = [row?.owner, ...((isAudienceToo && row?.terms.audience) || [])];
    if (!row || !readers.includes(caller)) throw new Fault("token_unknown");
    return row;
  }

  #heldBy(caller: string, { reservation }: Schemas["ReservationRequest"]): Row {
    if (!RESERVATION.test(reservation)) throw new Fault("token_malformed");
    const row = this.#rows.find(({ lease }) => lease?.text === reservation);
    // That of another, a released or a replaced one: the fake does not tell them apart.
    if (row?.lease?.holder !== caller) throw new Fault("lease_ended");
    return row;
  }

  /** Refuse a token for its state alone. */
  #refuse(row: Row): void {
    const state = this.#state(row);
    if (state === "consumed") {
      throw new Fault("token_already_used", { consumed_at: time(row.consumed?.at ?? 0) });
    }
    if (state !== "active" && state !== "reserved") throw new Fault(`token_${state}`);
  }

  #refuseIfReserved(row: Row): void {
    if (this.#state(row) !== "reserved" || !row.lease) return;
    throw new Fault("token_reserved", {}, Math.ceil((row.lease.ends - this.#now()) / 1000));
  }

  #refuseUnlessFree(row: Row, given: Presented): void {
    if (row.consumed) row.replays += 1;
    this.#refuse(row);
    const { terms, owner } = row;
    const isSubject =
      given.subject === undefined ? !terms.require_subject : given.subject === subjectOf(row);
    const field = !(given.issued_by ?? [owner]).includes(owner)
      ? "issued_by"
      : given.purpose !== terms.purpose
        ? "purpose"
        : !isSubject
          ? "subject"
          : given.bind?.toLowerCase() !== terms.bind?.toLowerCase()
            ? "bind"
            : null;
    if (field) throw new Fault("token_mismatch", { field });
    this.#refuseIfReserved(row);
  }

  #refuseUnlessHeld(row: Row): void {
    const state = this.#state(row);
    if (state === "consumed" || state === "revoked" || state === "lost") this.#refuse(row);
    if (state !== "reserved") throw new Fault("lease_ended");
  }

  #revoke(row: Row): undefined {
    if (row.isRevoked) return;
    this.#refuse(row);
    this.#refuseIfReserved(row);
    row.isRevoked = true;
  }

  #created(row: Row, replayed: boolean): Schemas["CreateTokenResponse"] {
    const { id, token, terms, expires } = row;
    const state = this.#state(row);
    const isAlive = state === "active" || state === "reserved";
    return {
      ...{ id, token, state, replayed, subject: subjectOf(row) },
      expires_in: isAlive ? Math.max(0, Math.floor((expires - this.#now()) / 1000)) : 0,
      expires_at: time(expires),
      server_time: time(this.#now()),
      purpose: terms.purpose ?? null,
      audience: terms.audience ?? null,
    };
  }

  #granted(row: Row): Omit<Schemas["ReserveResponse"], "reservation" | "lease_expires_at"> {
    return {
      id: row.id,
      subject: subjectOf(row),
      purpose: row.terms.purpose ?? null,
      data: row.terms.data ?? null,
      issued_by: row.owner,
      issued_with: null,
      created_at: time(row.created),
    };
  }

  #used(row: Row, replayed: boolean): object {
    return { ...this.#granted(row), consumed_at: time(row.consumed?.at ?? 0), replayed };
  }

  #receipt(row: Row): Schemas["ReceiptResponse"] {
    return {
      id: row.id,
      state: this.#state(row),
      purpose: row.terms.purpose ?? null,
      subject: subjectOf(row),
      created_at: time(row.created),
      expires_at: time(row.expires),
      consumed_at: row.consumed && time(row.consumed.at),
      consumed_by: row.consumed && row.consumed.by,
      ...{ issued_with: null, consumed_with: null, replays: row.replays },
    };
  }

  #peeked(given: Presented, caller: string): Schemas["IntrospectResponse"] {
    const row = this.#rows.find(({ token }) => token === given.token);
    const readers = row && [row.owner, ...(row.terms.audience ?? [caller])];
    const isIssuer = row && (given.issued_by ?? [row.owner]).includes(row.owner);
    if (!row || !readers?.includes(caller) || !isIssuer) return { active: false };
    const state = this.#state(row);
    if (state !== "active" && state !== "reserved") return { active: false };
    const { data, ...granted } = this.#granted(row);
    return {
      ...granted,
      ...{ active: true, state, expires_at: time(row.expires) },
      expires_in: Math.max(0, (row.expires - this.#now()) / 1000),
      audience: row.terms.audience ?? null,
      bound: row.terms.bind !== undefined,
    };
  }
}

function subjectOf({ terms, owner }: Row): string {
  return terms.subject ?? owner;
}

function time(milliseconds: number): string {
  return new Date(milliseconds).toISOString();
}

function random(length: number): string {
  const bytes = crypto.getRandomValues(new Uint8Array(length));
  return Array.from(bytes, (byte) => ALPHABET[byte % 62]).join("");
}
